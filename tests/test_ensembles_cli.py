"""Whole-program tests of ensembles, averages and the other options of training, from the command line and Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from armlp.forecaster import Forecaster

MakeTable = Callable[..., pd.DataFrame]
NUMBERS = ["armlp", "armlp-lo-80", "armlp-hi-80", "armlp-lo-95", "armlp-hi-95"]
OPTIONS = {
    "members": ["--model.members=3"],
    "members of skips alone": ["--model.members=2", "--model.hidden_sizes=[]", "--model.residual_blocks=0"],
    "average": ["--model.averaging=0.5"],
    "bins from a ridge start": ["--model.members=2", "--model.head=categorical", "--model.ridge_init=true"],
    "a growing chain cut in links": [
        "--model.patch_length=2", "--model.unroll=4", "--model.unroll_growth=0.5", "--model.gradient=2",
    ],
    "the last link of a chain": ["--model.patch_length=2", "--model.unroll=3", "--model.gradient=last"],
    "seasons": ["--model.scaler=seasonal", "--model.context_length=48"],
    "energy": ["--model.objective=energy", "--model.patch_length=1"],
}  # fmt: skip
MOST_AT_ONCE = ("bins from a ridge start", "a growing chain cut in links", "energy")


@pytest.mark.parametrize(
    "case", [case if case in MOST_AT_ONCE else pytest.param(case, marks=pytest.mark.exhaustive) for case in OPTIONS]
)
def test_a_checkpoint_alone_gives_the_forecast_of_every_option(case: str, program: Any, make_table: MakeTable):
    table = make_table(series=2)
    table.to_parquet("table.parquet")
    best = program.fit("table.parquet", "--data.horizon=6", *OPTIONS[case]) / "checkpoints" / "best.ckpt"
    torch.load(best, weights_only=True)
    program("test", "--ckpt_path", best, "--forecast.output=b.csv")
    program("validate", "--ckpt_path", best)
    program("predict", "--ckpt_path", best, "--forecast.output=f.parquet")
    forecast = pd.read_parquet("f.parquet")
    assert np.isfinite(forecast[NUMBERS].to_numpy()).all()
    answer = Forecaster.load(best, enable_progress_bar=False).predict(table)
    np.testing.assert_allclose(answer[NUMBERS], forecast[NUMBERS], rtol=1e-5)


def test_the_first_paths_of_an_ensemble_are_the_members_in_turn(make_table: MakeTable, tmp_path: Path):
    forecaster = Forecaster(
        6, members=3, head="point", max_steps=4, default_root_dir=tmp_path, enable_progress_bar=False
    ).fit(make_table(series=2))
    paths = forecaster.sample(num_paths=8)
    np.testing.assert_allclose(paths[:, :5], paths[:, 3:], rtol=1e-5)
    assert not np.allclose(paths[:, 0], paths[:, 1], rtol=1e-5)


def test_a_forecast_does_not_depend_on_what_is_forecast_beside_it(make_table: MakeTable, tmp_path: Path):
    table = make_table(series=3)
    forecaster = Forecaster(
        6, members=2, averaging=0.5, max_steps=4, default_root_dir=tmp_path, enable_progress_bar=False
    ).fit(table)
    alone = forecaster.sample(table[table["unique_id"] == "s01"], num_paths=9)[0]
    np.testing.assert_allclose(forecaster.sample(table, num_paths=9)[1], alone, rtol=1e-5)


def test_a_run_of_a_chosen_head_goes_on_with_the_same_options(program: Any, make_table: MakeTable):
    make_table(series=2).to_parquet("table.parquet")
    run = program.fit("table.parquet", "--data.horizon=6", "--model.head=auto")
    program("fit", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--model.head=auto", "--trainer.max_steps=6")


def test_a_count_that_turns_up_as_a_fraction_after_training_names_another_head(program: Any):
    values = np.random.default_rng(0).poisson(2, 80).astype(float)
    values[-1] = 0.5
    pd.DataFrame({"ds": np.arange(80), "y": values}).to_parquet("counts.parquet")
    said = program.refuses("fit", "--data.source=counts.parquet", "--data.horizon=5")
    assert "--model.head quantile" in said


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(("head", "unit"), [("normal", 1e-24), ("mixture", 1e24)])
def test_a_unit_however_small_or_large_only_scales_the_forecast(
    head: str, unit: float, make_table: MakeTable, tmp_path
):
    options = {"head": head, "max_steps": 3, "hidden_sizes": [8], "patch_length": 2, "unroll": 2, "level_input": False}
    paths = []
    for factor in (1.0, unit):
        table = make_table(series=2).assign(y=lambda frame, factor=factor: frame["y"] * factor)
        forecaster = Forecaster(4, default_root_dir=tmp_path, enable_progress_bar=False, **options)
        paths.append(forecaster.fit(table).sample(num_paths=4) / factor)
    np.testing.assert_allclose(*paths, rtol=0.02)


def test_a_training_that_diverges_says_so(program: Any, make_table: MakeTable):
    make_table(series=2).to_parquet("table.parquet")
    steps = ("--model.learning_rate=1e30", "--trainer.gradient_clip_val=1e30", "--model.head=normal")
    with pytest.raises(SystemExit) as end:
        program.fit("table.parquet", "--data.horizon=6", *steps)
    assert end.value.code == 2
    assert "forecasts are not finite: train with a lower --model.learning_rate" in program.capsys.readouterr().err
