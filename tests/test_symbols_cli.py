"""Whole-program tests of symbols: from the command line and Python, from the checkpoint alone, and mistakes refused."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from armlp.cli import main
from armlp.forecaster import Forecaster

KINDS: dict[str, list[Any]] = {"text": ["a", "b", "c"], "integers": [0, 1, 5], "booleans": [False, True]}


def make(alphabet: list[Any], rows: int = 300) -> pd.DataFrame:
    return pd.DataFrame({"ds": np.arange(rows), "y": np.random.default_rng(0).choice(np.array(alphabet), rows)})


def fit(program: Any, table: pd.DataFrame, *options: str) -> Path:
    table.to_parquet("table.parquet")
    run = program.fit("table.parquet", "--config=symbols", "--data.horizon=5", "--model.residual_blocks=0", *options)
    return Path(run / "checkpoints" / "best.ckpt")


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a short training on the symbols a, b and c; write nothing beside it."""
    folder = tmp_path_factory.mktemp("symbols")
    make(["a", "b", "c"]).to_parquet(folder / "table.parquet")
    source = (f"--data.source={folder / 'table.parquet'}", f"--trainer.default_root_dir={folder}")
    with contextlib.redirect_stdout(io.StringIO()):
        main(
            [
                "fit",
                *source,
                "--config=symbols",
                "--data.horizon=5",
                "--trainer.max_steps=4",
                "--model.hidden_sizes=[8]",
            ]
        )
    return folder / "lightning_logs" / "version_0" / "checkpoints" / "best.ckpt"


def predict(program: Any, best: Path, *options: str) -> pd.DataFrame:
    program("predict", "--ckpt_path", best, "--forecast.output=f.parquet", "--forecast.paths=p.parquet", *options)
    return pd.read_parquet("f.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_symbols_of_any_type_go_through_fit_test_and_predict(kind: str, program: Any):
    alphabet = KINDS[kind]
    best = fit(program, make(alphabet), "--data.test_windows=1")
    program("validate", "--ckpt_path", best)
    assert "perplexity" in program("test", "--ckpt_path", best, "--forecast.output=b.parquet")
    assert pd.read_parquet("b.parquet")["y"].tolist() == make(alphabet)["y"].tolist()[-5:]
    forecast = predict(program, best)
    assert forecast.columns.tolist() == ["unique_id", "ds", "armlp", "armlp-share"]
    assert set(forecast["armlp"]) <= set(alphabet)
    paths = pd.read_parquet("p.parquet")
    assert set(paths["y"]) == set(alphabet)
    share = paths.merge(forecast, on="ds").assign(same=lambda both: both["y"] == both["armlp"]).groupby("ds")["same"]
    np.testing.assert_allclose(share.mean(), forecast["armlp-share"], atol=1e-6)


def test_both_doors_give_the_same_symbols(program: Any):
    best = fit(program, make(["a", "b", "c"]), "--model.members=2")
    predict(program, best, "--forecast.num_paths=8", "--forecast.temperature=0.7", "--forecast.top_k=2")
    ours = pd.read_parquet("p.parquet").sort_values(["path", "ds"])["y"].to_numpy().reshape(1, 8, 5)
    forecaster = Forecaster.load(best, enable_progress_bar=False)
    assert (forecaster.sample(num_paths=8, temperature=0.7, top_k=2) == ours).all()


def test_the_single_likeliest_symbol_leaves_nothing_to_chance(program: Any, best: Path):
    assert (predict(program, best, "--forecast.top_k=1")["armlp-share"] == 1).all()


def test_symbols_keep_the_codes_of_the_training_where_a_table_lacks_some(program: Any, best: Path):
    table = make(["b", "c"])
    table.to_parquet("some.parquet")
    plain = predict(program, best, "--data.source=some.parquet")
    for option in ("--config=symbols", "--data.symbols=true"):
        pd.testing.assert_frame_equal(predict(program, best, "--data.source=some.parquet", option), plain)


@pytest.mark.parametrize(
    "options",
    [["--model.patch_length=20"], pytest.param(["--model.patch_length=3"], marks=pytest.mark.exhaustive)],
)
def test_symbols_train_to_the_end_whatever_the_patch(options: list[str], program: Any):
    best = fit(program, make(["a", "b", "c"]), *options)
    assert best.exists()
    assert set(predict(program, best)["armlp"]) <= {"a", "b", "c"}


def test_mistakes_with_symbols_are_refused_in_one_sentence(program: Any, best: Path):
    make(["a"]).to_parquet("one.parquet")
    said = program.refuses("fit", "--config=symbols", "--data.source=one.parquet")
    assert "holds only 'a'" in said
    make(["a", "b", "z"]).to_parquet("more.parquet")
    said = program.refuses("predict", "--ckpt_path", best, "--data.source=more.parquet")
    assert "holds 'z'" in said
    assert "('a', 'b', 'c')" in said
    for option, sentence in {
        "--forecast.temperature=0": "0.0 is not above 0",
        "--forecast.top_k=0": "0 is too small",
        "--forecast.plot=f.png": "no scale to draw a chart on",
    }.items():
        assert sentence in program.refuses("predict", "--ckpt_path", best, option)


def test_a_model_of_numbers_reads_integers_as_numbers(program: Any):
    table = make([0, 1, 5])
    table.to_parquet("numbers.parquet")
    run = program.fit("numbers.parquet", "--data.horizon=5")
    best = run / "checkpoints" / "best.ckpt"
    plain = predict(program, best)
    pd.testing.assert_frame_equal(predict(program, best, "--data.symbols=true"), plain)
