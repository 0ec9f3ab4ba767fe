"""What a Forecaster, a Trainer and the command line return in each of several processes."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from armlp import Forecaster, ForecastModule, SeriesDataModule
from armlp.training.sampling import in_order

# As `devices=2` starts them, but both at once. One start for all tests: it takes longer than what is run.
SCRIPT = """
import json, os, pickle, sys, warnings
import pandas as pd
import torch
from lightning.pytorch import Trainer
from armlp import Forecaster, ForecastModule, SeriesDataModule
from armlp.cli import main
from test_processes import TRAINER, answers

rank = os.environ["LOCAL_RANK"]
two = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}

warnings.simplefilter("ignore")
forecaster = Forecaster.load("model.ckpt", enable_progress_bar=False, **two)
with open(f"rank{rank}.pkl", "wb") as file:
    pickle.dump(answers(forecaster, pd.read_parquet("table.parquet")), file)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    trainer = Trainer(max_steps=2, **two, **TRAINER)
    module, data = ForecastModule(hidden_sizes=[4], residual_blocks=0), SeriesDataModule("three.parquet", horizon=6)
    trainer.fit(module, datamodule=data)
    (validated,) = trainer.validate(module, datamodule=data, verbose=False)
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
module.trainer = None
if trainer.is_global_zero:
    torch.save(module.state_dict() | {"options": dict(module.hparams)}, "module.pt")
said = [str(warning.message) for warning in caught if "sync_dist" in str(warning.message)]
with open(f"rank{rank}.json", "w") as file:
    json.dump([validated, tested, said], file)

for command in sys.argv[1:]:
    main([*command.split(), *(f"--trainer.{name}={value}" for name, value in two.items())])
"""
TRAINER: dict[str, Any] = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}  # fmt: skip


def answers(forecaster: Forecaster, table: pd.DataFrame) -> dict[str, Any]:
    """What every method returns."""
    one = table[table["unique_id"] == "s00"]
    before = torch.get_rng_state()
    found = {
        "predict": forecaster.predict(table),
        "sample": forecaster.sample(table, num_paths=3),
        "sample of fewer series than processes": forecaster.sample(one, num_paths=3),
        "score": forecaster.score(table),
        "backtest": forecaster.backtest(table, windows=2),
        "scores": pd.DataFrame(forecaster.scores),
    }
    assert torch.equal(torch.get_rng_state(), before)
    return found


class Two(NamedTuple):
    """What two processes left in a folder and printed, and the forecaster that each of them loaded."""

    folder: Path
    printed: list[str]
    forecaster: Forecaster


@pytest.fixture(scope="module")
def two(
    make_table: Callable[..., pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
    trained: Any,
    two_processes: Callable[..., list[str]],
) -> Two:
    """Two processes that have run the script."""
    folder = tmp_path_factory.mktemp("two")
    make_table(series=5, rows=60).to_parquet(folder / "table.parquet")
    make_table().to_parquet(folder / "three.parquet")  # of three series, so that one process has two of the origins
    make_table(series=1).to_parquet(folder / "one.parquet")  # so that one of the two has nothing to validate on
    options = {"max_steps": 2, "hidden_sizes": [8], "enable_progress_bar": False, "default_root_dir": str(folder / "0")}
    forecaster = Forecaster(6, **options).fit(folder / "table.parquet")
    forecaster.save(folder / "model.ckpt")
    commands = (
        "fit --data.source=one.parquet --data.horizon=6 --trainer.max_steps=2 --model.hidden_sizes=[8]",
        f"predict --ckpt_path={trained.best} --forecast.output=two.parquet --forecast.paths=paths-two.parquet",
        f"test --ckpt_path={trained.best} --forecast.output=test-two.parquet",
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        printed = two_processes(SCRIPT, *commands, PL_GLOBAL_SEED="3", PYTHONPATH=path)
    return Two(folder, printed, forecaster)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Caution")
def test_every_process_returns_what_one_does(two: Two):
    expected = answers(two.forecaster, pd.read_parquet(two.folder / "table.parquet"))
    for rank in range(2):
        found = pickle.loads((two.folder / f"rank{rank}.pkl").read_bytes())
        assert found.keys() == expected.keys()
        for name, answer in found.items():
            if isinstance(answer, pd.DataFrame):
                pd.testing.assert_frame_equal(answer, expected[name], rtol=1e-5)
            else:
                np.testing.assert_allclose(answer, expected[name], rtol=1e-5)


@pytest.mark.slow
def test_two_processes_log_the_metrics_of_all_origins(two: Two):
    first, second = (json.loads((two.folder / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    state = torch.load(two.folder / "module.pt", weights_only=True)
    module = ForecastModule(**state.pop("options"))
    module.load_state_dict(state)
    data = SeriesDataModule(two.folder / "three.parquet", horizon=6)
    alone = Trainer(accelerator="cpu", **TRAINER)
    validated, tested, warned = first
    assert not warned
    assert alone.validate(module, datamodule=data, verbose=False) == [pytest.approx(validated, rel=1e-4, abs=1e-6)]
    assert alone.test(module, datamodule=data, verbose=False) == [pytest.approx(tested, rel=1e-4, abs=1e-6)]


@pytest.mark.slow
def test_two_processes_train_on_one_series_and_test_and_forecast_as_one_does(program: Any, trained: Any, two: Two):
    assert (two.folder / "lightning_logs/version_0/checkpoints/best.ckpt").exists()
    program(
        "predict", "--ckpt_path", trained.best, "--forecast.output=one.parquet", "--forecast.paths=paths-one.parquet"
    )
    printed = program("test", "--ckpt_path", trained.best, "--forecast.output=test-one.parquet")
    for name in ("{}", "paths-{}", "test-{}"):
        one, other = (
            pd.read_parquet(folder / f"{name.format(count)}.parquet")
            for folder, count in ((Path(), "one"), (two.folder, "two"))
        )
        pd.testing.assert_frame_equal(one, other, rtol=1e-5)
    # The scores are those of all origins, and said once.
    assert printed.partition(" backtest table")[0] in " ".join(two.printed[0].split())
    assert "skill" not in two.printed[1]
    assert "table:" not in two.printed[1]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_rows_of_all_processes_come_in_order(ranks: int):
    rows = torch.randn(7, 2, 3)
    # Each process has its stride of the rows, in batches of two.
    assert torch.equal(in_order([list(rows[rank::ranks].split(2)) for rank in range(ranks)]), rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Caution")
def test_strategies_whose_processes_end_leave_the_forecasts_to_one(
    make_table: Callable[..., pd.DataFrame], tmp_path: Path
):
    table = make_table(series=3, rows=60)
    options = {"max_steps": 2, "hidden_sizes": [8], "enable_progress_bar": False, "default_root_dir": str(tmp_path)}
    Forecaster(6, **options).fit(table).save(tmp_path / "model.ckpt")
    one, spawned = (
        Forecaster.load(tmp_path / "model.ckpt", accelerator="cpu", enable_progress_bar=False, **more)
        for more in ({}, {"devices": 2, "strategy": "ddp_spawn"})
    )
    for name, answer in answers(spawned, table).items():
        expected = answers(one, table)[name]
        assert np.array_equal(np.asarray(answer), np.asarray(expected), equal_nan=name == "scores")
