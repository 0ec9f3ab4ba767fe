"""What a Forecaster returns in each of several processes."""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from armlp import Forecaster
from armlp.training.sampling import in_order

# As `devices=2` starts them, but both at once.
SCRIPT = """
import os, pickle, sys, warnings
import pandas as pd
from armlp import Forecaster
from test_processes import answers

warnings.simplefilter("ignore")
table = pd.read_parquet("table.parquet")
two = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "enable_progress_bar": False}
found = answers(Forecaster.load("model.ckpt", **two), table)
with open(f"rank{os.environ['LOCAL_RANK']}.pkl", "wb") as file:
    pickle.dump(found, file)
"""


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Caution")
def test_every_process_returns_what_one_does(
    make_table: Callable[..., pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_processes: Any
):
    monkeypatch.chdir(tmp_path)
    table = make_table(series=5, rows=60)
    table.to_parquet("table.parquet")
    options = {"max_steps": 2, "hidden_sizes": [8], "enable_progress_bar": False}
    forecaster = Forecaster(6, **options).fit(table)
    forecaster.save("model.ckpt")
    expected = answers(forecaster, table)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    two_processes(SCRIPT, PL_GLOBAL_SEED="3", PYTHONPATH=path)
    for rank in range(2):
        found = pickle.loads(Path(f"rank{rank}.pkl").read_bytes())
        assert found.keys() == expected.keys()
        for name, answer in found.items():
            if isinstance(answer, pd.DataFrame):
                pd.testing.assert_frame_equal(answer, expected[name], rtol=1e-5)
            else:
                np.testing.assert_allclose(answer, expected[name], rtol=1e-5)


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
