"""Tests of a backtest that trains anew: as the first training, on what lies before the origins only."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from armlp import Forecaster
from armlp.report.forecast_writer import ForecastWriter
from armlp.training.loop.listener import FitListener
from armlp.training.refit_backtest import backtest_refitting

MakeTable = Callable[..., pd.DataFrame]
EVERY_STEP = {"max_steps": 9, "val_check_interval": 1, "check_val_every_n_epoch": None}
SMALL = {"horizon": 6, "hidden_sizes": [4], "residual_blocks": 0, "enable_progress_bar": False, "logger": False}


def test_a_backtest_that_trains_anew_has_the_callbacks_of_the_user(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counter: Any
):
    monkeypatch.chdir(tmp_path)
    kept = ModelCheckpoint(dirpath=tmp_path / "own", save_top_k=-1)
    stop = EarlyStopping("val/monitor", patience=2, min_delta=1e9)
    options = SMALL | EVERY_STEP | {"refit": False}
    forecaster = Forecaster(**options, callbacks=[counter, stop, kept]).fit(make_table())
    assert (counter.trainings, counter.steps) == (1, 3)
    files = set(tmp_path.rglob("*"))
    forecaster.backtest(windows=3, refit=True)
    # Each training stops by itself after three steps, as the first one did, and writes no checkpoint.
    assert set(tmp_path.rglob("*")) == files
    assert (counter.trainings, counter.steps) == (4, 12)
    forecaster.fit(make_table(seed=1))
    assert (counter.trainings, counter.steps) == (5, 15)


def test_a_backtest_that_trains_anew_leaves_out_callbacks_that_need_a_logger(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counter: Any
):
    monkeypatch.chdir(tmp_path)
    forecaster = Forecaster(**SMALL | {"logger": True}, max_steps=2, callbacks=[LearningRateMonitor(), counter]).fit(
        make_table()
    )
    forecaster.backtest(windows=2, refit=True)
    assert counter.trainings == 3


def test_a_forecaster_that_clips_by_value_can_be_loaded_and_trains_anew_alike(
    make_table: Callable[..., pd.DataFrame], tmp_path: Path
):
    table = make_table()
    options = SMALL | {"max_steps": 2, "logger": False, "gradient_clip_val": 0.01}
    fitted = Forecaster(**options, gradient_clip_algorithm="value").fit(table)
    fitted.save(tmp_path / "model.ckpt")
    loaded = Forecaster.load(tmp_path / "model.ckpt")
    pd.testing.assert_frame_equal(loaded.predict(table), fitted.predict())
    again = loaded.backtest(table, windows=2, refit=True)
    pd.testing.assert_frame_equal(again, fitted.backtest(windows=2, refit=True))


def test_a_checkpoint_says_which_callbacks_it_does_not_hold(make_table: Callable[..., pd.DataFrame], tmp_path: Path):
    def stop() -> EarlyStopping:
        return EarlyStopping("val/monitor", patience=1, min_delta=1e9)

    table = make_table()
    forecaster = Forecaster(**SMALL | EVERY_STEP, callbacks=[stop()]).fit(table)
    forecaster.save(tmp_path / "model.ckpt")
    expected = forecaster.backtest(windows=2, refit=True)
    loaded = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False)
    with pytest.warns(UserWarning, match="had the callbacks EarlyStopping, which a checkpoint does not hold"):
        loaded.backtest(table, windows=2, refit=True)
    again = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False, callbacks=[stop()])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pd.testing.assert_frame_equal(again.backtest(table, windows=2, refit=True), expected)


def test_each_training_of_a_backtest_uses_only_values_before_its_origin(make_table: MakeTable, tmp_path: Path):
    """Neither a choice of a trial nor a row of the end may reach the model of an earlier origin."""
    small = {"max_steps": 2, "val_check_interval": 1, "check_val_every_n_epoch": None, "logger": False}
    small |= {"hidden_sizes": [4], "residual_blocks": 0, "context_length": 12}
    options = {"trials": 1, "refit": True, "enable_progress_bar": False, "default_root_dir": tmp_path, "val_paths": 10}
    table = make_table()
    forecaster = Forecaster(horizon=6, **options | small).fit(table)
    forecaster.save(tmp_path / "model.ckpt")
    loaded = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False)
    tables = [one.backtest(table, windows=2, refit=True) for one in (forecaster, loaded)]
    pd.testing.assert_frame_equal(*tables)
    poisoned = table.copy()
    poisoned.loc[table.groupby("unique_id").tail(12).index, "y"] = 1e3
    other = Forecaster(horizon=6, **options | small).fit(poisoned).backtest(windows=2, refit=True)
    names = [name for name in tables[0] if name.startswith("armlp")]
    first = tables[0]["cutoff"] == tables[0]["cutoff"].min()
    pd.testing.assert_frame_equal(tables[0].loc[first, names], other.loc[first, names])


def test_a_listener_of_a_backtest_is_called_with_its_scores_and_for_no_single_training(
    make_table: MakeTable, tmp_path: Path
):
    heard: list[Any] = []

    class Listener(FitListener):
        def trials_ended(self, trials: Any) -> None:
            heard.append([trial.name for trial in trials])

        def backtest_ended(
            self, scores: Mapping[str, Mapping[str, float]], num_origins: int, horizon: int, refit: int, table: Any
        ) -> None:
            heard.append((scores["armlp"]["mae"], num_origins, horizon, refit, len(table)))

    writer = ForecastWriter(None, (80,), 20, 0)
    data, model = {"horizon": 6, "test_windows": 2}, {"trials": 1, "val_paths": 10, "refit": False}
    trainer = {"max_steps": 2, "default_root_dir": tmp_path}
    scores = backtest_refitting(make_table(), data, model, trainer, writer, 1, Listener())
    assert heard == [(scores["armlp"]["mae"], 6, 6, 1, 36)]
