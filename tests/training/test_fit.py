"""Tests of what both doors settle before a training, and of what they say after it."""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from armlp import Forecaster, UserError
from armlp.data.datamodule import SeriesDataModule
from armlp.training.callbacks import StopEarly
from armlp.training.checkpoint import read_checkpoint
from armlp.training.fit import before_fit
from armlp.training.module import ForecastModule
from armlp.training.trainer import TRAINER

VALIDATIONS = 10  # in a training whose length the recipe chooses


@pytest.mark.parametrize(
    ("series", "given", "stops"),
    [
        pytest.param(3, {}, False, id="few windows"),
        pytest.param(30, {}, True, id="many windows"),
        pytest.param(3, {"patience": 5}, True, id="told when to stop"),
        pytest.param(3, {"monitor": "train/loss"}, True, id="told what to stop by"),
    ],
)
def test_few_windows_do_not_end_a_training_before_its_learning_rate_has_come_down(
    make_table: Callable[..., pd.DataFrame], series: int, given: dict[str, Any], stops: bool
) -> None:
    callback = StopEarly(**given)
    trainer = Trainer(**TRAINER | {"logger": False, "callbacks": [callback]})
    data = SeriesDataModule(make_table(series=series), horizon=6)
    before_fit(trainer, ForecastModule(hidden_sizes=[4], residual_blocks=0, trials=0), data)
    assert (callback.patience < VALIDATIONS) == stops


STEPS = 9
EVERY_STEP = {"max_steps": STEPS, "val_check_interval": 1, "check_val_every_n_epoch": None}
SMALL = {"horizon": 6, "hidden_sizes": [4], "residual_blocks": 0, "enable_progress_bar": False, "logger": False}


class Counter(Callback):
    """Counts optimizer steps and trainings."""

    def __init__(self) -> None:
        self.steps = self.trainings = 0

    def on_train_start(self, *args: Any) -> None:
        self.trainings += 1

    def on_before_zero_grad(self, *args: Any) -> None:
        self.steps += 1


def arguments(**options: object) -> list[str]:
    """Options of the Trainer as the command line spells them."""
    return [f"--trainer.{name}={'null' if value is None else value}" for name, value in options.items()]


@pytest.mark.parametrize("patience", [None, 5])
def test_a_patience_that_is_given_is_kept_even_if_it_is_the_usual_one(
    program: Any, make_table: Callable[..., pd.DataFrame], patience: int | None
):
    make_table().to_parquet("table.parquet")
    given = [] if patience is None else [f"--early_stopping.patience={patience}"]
    never_better = ["--early_stopping.min_delta=1e9", *given]
    fit = ["fit", "--config=fast", "--data.source=table.parquet", "--data.horizon=6", *arguments(**EVERY_STEP)]
    program(*fit, *never_better)
    last = read_checkpoint("lightning_logs/version_0/checkpoints/last.ckpt")
    assert last["global_step"] == (STEPS if patience is None else 1 + patience)  # the first one is the best


def test_a_training_ends_after_five_validations_that_are_no_better(make_table: Callable[..., pd.DataFrame]):
    """The first validation is the best one: with a rate of 0 none is better."""
    options = {"learning_rate": 0.0, "refit": False, **EVERY_STEP, **SMALL}
    Forecaster(**options, callbacks=[counter := Counter()]).fit(make_table(series=30))
    assert counter.steps == 1 + 5


@pytest.mark.parametrize(("patience", "steps"), [(1, 2), (1000, STEPS)])
def test_an_early_stopping_of_the_user_takes_the_place_of_ours(
    program: Any, make_table: Callable[..., pd.DataFrame], patience: int, steps: int
):
    """Ours would end the training after six validations: with a rate of 0 none is better."""
    table = make_table(series=30)
    table.to_parquet("table.parquet")
    stop = EarlyStopping("val/monitor", patience=patience)
    options = {"learning_rate": 0.0, "refit": False, **EVERY_STEP, **SMALL}
    found = Forecaster(**options, callbacks=[stop, counter := Counter()]).fit(table)
    assert counter.steps == steps
    assert found._fitted()["global_step"] == 1
    callback = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/monitor"]
    model = ["--model.learning_rate=0", "--model.hidden_sizes=[4]", "--model.residual_blocks=0", "--model.refit=false"]
    fit = ["fit", "--data.source=table.parquet", "--data.horizon=6", *model, *arguments(**EVERY_STEP)]
    program(*fit, *callback, f"--trainer.callbacks.patience={patience}")
    assert read_checkpoint("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == steps


@pytest.mark.parametrize(
    ("options", "trained", "says"),
    [
        ({"max_steps": 0}, False, "nothing was trained"),
        ({"max_epochs": 0}, False, "nothing was trained"),
        ({"max_steps": 2, "limit_train_batches": 0}, False, "nothing was trained"),
        ({"max_steps": 2, "limit_val_batches": 0}, True, "nothing was validated"),
    ],
)
def test_a_training_that_leaves_no_best_checkpoint_says_why(
    options: dict[str, Any], trained: bool, says: str, program: Any, make_table: Callable[..., pd.DataFrame]
):
    make_table().to_parquet("table.parquet")
    fit = ["fit", "--config=fast", "--data.source=table.parquet", "--data.horizon=6", *arguments(**options)]
    expected = contextlib.nullcontext() if trained else pytest.warns(UserWarning, match=says)
    with expected:
        printed = program(*fit)
    if trained:
        last = "lightning_logs/version_0/checkpoints/last.ckpt"
        assert f"{says}, so there is no best checkpoint, only {last}" in printed
    else:
        assert "Chosen from the data" not in printed
        assert "best checkpoint" not in printed
    with contextlib.nullcontext() if trained else pytest.warns(UserWarning, match=says):
        found = Forecaster(**{**SMALL, **options}).fit("table.parquet")
    assert found._fitted()["global_step"] == (2 if trained else 0)


def test_a_backtest_that_trains_anew_has_the_callbacks_of_the_user(
    make_table: Callable[..., pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    counter, kept = Counter(), ModelCheckpoint(dirpath=tmp_path / "own", save_top_k=-1)
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
    make_table: Callable[..., pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    counter = Counter()
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


def test_a_training_that_writes_nothing_names_no_file(
    make_table: Callable[..., pd.DataFrame], capsys: pytest.CaptureFixture[str]
):
    Forecaster(**SMALL | {"max_steps": 2, "enable_progress_bar": True}).fit(make_table())
    printed = capsys.readouterr().out
    assert "Validation, best checkpoint" in printed
    assert ".ckpt" not in printed


@pytest.mark.parametrize(
    ("option", "value"),
    [("accumulate_grad_batches", 0), ("gradient_clip_val", -1.0), ("check_val_every_n_epoch", 0)],
)
def test_numbers_with_which_nothing_can_be_trained_are_refused(
    option: str, value: float, make_table: Callable[..., pd.DataFrame]
):
    with pytest.raises(UserError, match=rf"--trainer\.{option}: {value} is too small"):
        Forecaster(**SMALL | {"max_steps": 2, option: value}).fit(make_table())
