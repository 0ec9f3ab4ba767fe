"""The global random generators of the program, which no call may change."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from armlp import Forecaster, ForecastModule, SeriesDataModule

MakeTable = Callable[..., pd.DataFrame]
SMALL: dict[str, Any] = {"max_steps": 3, "hidden_sizes": [8], "enable_progress_bar": False, "logger": False}
NETWORK: dict[str, Any] = {"hidden_sizes": [8], "residual_blocks": 1, "dropout": 0.3}

CALLS: dict[str, Callable[[Forecaster, pd.DataFrame], Any]] = {
    "fit": lambda _, table: Forecaster(6, **SMALL | NETWORK).fit(table),
    "fit that tries": lambda _, table: Forecaster(6, trials=1, refit=True, **SMALL).fit(table),
    "predict": lambda fitted, _: fitted.predict(),
    "sample": lambda fitted, table: fitted.sample(table),
    "score": lambda fitted, table: fitted.score(table),
    "backtest": lambda fitted, table: fitted.backtest(table, windows=2),
    "backtest that refits": lambda fitted, table: fitted.backtest(table, windows=2, refit=True),
    "save and load": lambda fitted, _: (fitted.save("m.ckpt"), Forecaster.load("m.ckpt")),
    "prior-free construction": lambda *_: Forecaster(6),
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> Forecaster:
    """A forecaster with H=6."""
    return Forecaster(6, **SMALL, default_root_dir=str(tmp_path_factory.mktemp("runs"))).fit(make_table())


def draws() -> tuple[float, float, float]:
    """One number of each generator."""
    legacy = float(np.random.rand())  # noqa: NPY002 (numpy's global generator is the legacy one)
    return random.random(), legacy, torch.rand(()).item()


@pytest.mark.filterwarnings("ignore:.*Caution")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_generators_and_the_environment_as_they_were(
    name: str, fitted: Forecaster, make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.setenv("PL_SEED_WORKERS", "1")
    environment = dict(os.environ)
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(17)
    expected = [draws() for _ in range(2)]
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(17)
    first = draws()
    CALLS[name](fitted, make_table())
    assert [first, draws()] == expected
    assert dict(os.environ) == environment


def test_a_fit_that_fails_leaves_the_generators_as_they_were(make_table: MakeTable, tmp_path: Path):
    class Stops(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            raise RuntimeError("enough")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="enough"):
        Forecaster(6, callbacks=Stops(), default_root_dir=str(tmp_path), **SMALL).fit(make_table())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_by_hand_does_not_seed_what_comes_after_it(make_table: MakeTable, tmp_path: Path):
    """Two trainings after two seeds are followed by different numbers."""

    def follows(seed: int) -> float:
        seed_everything(seed, verbose=False)
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(max_steps=2, default_root_dir=tmp_path, enable_model_summary=False, **options)
        trainer.fit(ForecastModule(**NETWORK), datamodule=SeriesDataModule(make_table(), horizon=6))
        return torch.rand(()).item()

    assert follows(1) == follows(1)
    assert follows(1) != follows(2)
