"""Tests of how many optimizer steps a training takes: the schedule, the validations and Lightning count the same."""

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, Timer
from torch.optim import Optimizer

from armlp.data.datamodule import SeriesDataModule
from armlp.training.loop.callbacks import LastCheckpoint
from armlp.training.module import ForecastModule

MakeTable = Callable[..., pd.DataFrame]
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "num_sanity_val_steps": 0,
}  # fmt: skip
RATE, WARMUP = 1e-2, 0.1


class Counter(Callback):
    """Counts what Lightning does: batches, optimizer steps with their learning rate, and validations."""

    def __init__(self) -> None:
        self.batches = 0
        self.rates: list[float] = []
        self.validations: list[int] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.batches += 1

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations.append(len(self.rates))


class Light(ForecastModule):
    """A module whose validation takes no time."""

    def validation_step(self, *args: Any) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        pass


def trained(table: pd.DataFrame, *callbacks: Callback, batch_size: int = 20, **options: Any) -> tuple[Counter, Any]:
    """What a training of a tiny network did, and its module."""
    counter = Counter()
    module = Light(hidden_sizes=[2], residual_blocks=0, learning_rate=RATE, warmup=WARMUP, linear_skip=False)
    data = SeriesDataModule(table, horizon=6, batch_size=batch_size)
    Trainer(**QUIET | options, callbacks=[counter, *callbacks]).fit(module, datamodule=data)
    return counter, module


def cosine(steps: int) -> list[float]:
    """The learning rates of a whole training."""
    rise = max(1, round(WARMUP * steps))
    fall = [0.5 * (1 + math.cos(math.pi * step / max(1, steps - rise))) for step in range(steps - rise)]
    return [RATE * factor for factor in [*((step + 1) / rise for step in range(rise)), *fall]]


def batches_of(table: pd.DataFrame, batch_size: int = 20) -> int:
    """How many batches an epoch has."""
    counter, _ = trained(table, batch_size=batch_size, max_epochs=1)
    return counter.batches


LIMITS: dict[str, dict[str, Any]] = {
    "epochs": {"max_epochs": 4},
    "steps": {"max_steps": 23},
    "steps of more than an epoch": {"max_steps": 30, "limit_train_batches": 4},
    "fewer epochs than steps": {"max_epochs": 2, "max_steps": 1000},
    "fewer steps than epochs": {"max_epochs": 50, "max_steps": 7},
    "a number of batches": {"max_epochs": 4, "limit_train_batches": 5},
    "more batches than there are": {"max_epochs": 2, "limit_train_batches": 500},
    "a share of the batches": {"max_epochs": 3, "limit_train_batches": 0.5},
    "one batch": {"max_epochs": 5, "limit_train_batches": 1},
    "all of the batches": {"max_epochs": 2, "limit_train_batches": 1.0},
    "batches to overfit": {"max_epochs": 5, "overfit_batches": 3},
    "all of the batches to overfit": {"max_epochs": 3, "overfit_batches": 1.0},
    "a trial run": {"fast_dev_run": 3},
    "a time, which is not reached": {"max_epochs": 2, "max_time": "01:00:00:00"},
}


@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("limit", LIMITS)
def test_the_learning_rate_comes_down_by_the_last_step(make_table: MakeTable, limit: str, accumulated: int):
    counter, module = trained(make_table(), accumulate_grad_batches=accumulated, **LIMITS[limit])
    assert counter.batches > len(counter.rates) or accumulated == 1 or limit == "one batch"
    assert counter.rates == pytest.approx(cosine(len(counter.rates)))
    assert module.total_steps == len(counter.rates) == module.global_step


def test_an_incomplete_group_at_the_end_of_an_epoch_is_a_step(make_table: MakeTable):
    batches = batches_of(make_table())
    assert batches % 4
    counter, module = trained(make_table(), max_epochs=3, accumulate_grad_batches=4)
    assert module.total_steps == len(counter.rates) == 3 * (batches // 4 + 1)


def test_accumulation_may_change_between_epochs(make_table: MakeTable):
    batches = batches_of(make_table())
    scheduler = GradientAccumulationScheduler({1: 2, 3: 5})
    counter, module = trained(make_table(), scheduler, max_epochs=5)
    expected = batches + 2 * math.ceil(batches / 2) + 2 * math.ceil(batches / 5)
    assert module.total_steps == len(counter.rates) == expected
    assert counter.rates == pytest.approx(cosine(expected))


@pytest.mark.parametrize(
    ("limit", "accumulated"),
    [
        pytest.param(1.0, 1, id="every batch"),
        pytest.param(8, 4, id="whole groups"),
        pytest.param(5, 4, id="an incomplete group in short epochs"),
        pytest.param(3, 4, id="a group longer than an epoch"),
    ],
)
def test_steps_have_ten_validations_each_after_a_step(make_table: MakeTable, limit: float, accumulated: int):
    options = {"limit_train_batches": limit, "accumulate_grad_batches": accumulated}
    left_over: list[bool] = []

    class Within(Callback):
        """Notes whether a batch is part of a group that is not complete yet."""

        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            left_over.append(bool((trainer.fit_loop.batch_idx + 1) % accumulated) and not trainer.is_last_batch)

    counter, module = trained(make_table(), Within(), max_steps=20, **options)
    assert module.total_steps == len(counter.rates) == 20
    assert counter.validations == list(range(2, 21, 2))
    assert not any(left_over)


def test_a_long_epoch_with_an_incomplete_group_has_ten_validations_too(make_table: MakeTable):
    counter, _ = trained(make_table(), max_steps=40, limit_train_batches=30, accumulate_grad_batches=4, batch_size=4)
    assert len(counter.validations) == 10
    assert counter.validations[-1] >= 39


@pytest.mark.parametrize("interval", [1, 3])
def test_validations_come_when_the_user_wants_them(make_table: MakeTable, interval: int):
    options = {"val_check_interval": interval, "check_val_every_n_epoch": None}
    counter, _ = trained(make_table(), max_steps=20, **options)
    assert counter.validations == list(range(interval, 21, interval))


def test_a_trainer_that_is_told_nothing_takes_the_settled_steps(make_table: MakeTable, recwarn: Any):
    counter, module = trained(make_table(rows=40))
    steps = module.reasons["max_steps"].value
    assert module.total_steps == len(counter.rates) == steps < 1000
    assert len(counter.validations) == 10
    assert not [warning for warning in recwarn if "max_epochs" in str(warning.message)]


def test_a_thousand_epochs_are_a_thousand_where_they_are_asked_for(make_table: MakeTable):
    class StopAtOnce(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = True

    _, module = trained(make_table(rows=40), StopAtOnce(), max_epochs=1000, limit_train_batches=1)
    assert module.total_steps == module.trainer.max_epochs == 1000
    assert "max_steps" not in module.reasons


def test_a_time_ends_the_settled_steps_early(make_table: MakeTable):
    timer = Timer(duration=timedelta(0))
    counter, module = trained(make_table(rows=40), timer)
    assert not counter.rates
    assert module.total_steps == module.reasons["max_steps"].value


def test_no_batches_are_no_steps(make_table: MakeTable):
    counter, module = trained(make_table(), max_epochs=2, limit_train_batches=0)
    assert module.total_steps == counter.batches == 0


def test_epochs_that_are_cut_short_are_all_as_long(make_table: MakeTable):
    batches = batches_of(make_table())
    limit = batches - 1  # so that the data's own epochs end within Lightning's
    counter, module = trained(make_table(), max_epochs=4, limit_train_batches=limit)
    assert module.total_steps == len(counter.rates) == 4 * limit


def test_a_callback_that_monitors_a_metric_waits_for_a_validation(make_table: MakeTable):
    module = ForecastModule(hidden_sizes=[2], residual_blocks=0)
    data = SeriesDataModule(make_table(), horizon=6, batch_size=200)
    stopping = EarlyStopping("val/mae", patience=1000)
    trainer = Trainer(**QUIET, max_steps=20, callbacks=[stopping])
    trainer.fit(module, datamodule=data)  # epochs end before the first validation
    assert math.isfinite(stopping.best_score)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the other training has a folder of its own
@pytest.mark.parametrize("options", [{"max_epochs": 6, "limit_train_batches": 5}, {"max_steps": 18}])
def test_a_resumed_training_ends_in_the_same_weights(make_table: MakeTable, tmp_path: Path, options: dict[str, Any]):
    """The loader goes on where it stood, and the schedule with it, with steps of several batches too."""
    table = make_table()

    def training(stop: int | None, resumed: Path | None, folder: Path) -> ForecastModule:
        class Stop(Callback):
            def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
                trainer.should_stop = trainer.should_stop or trainer.global_step == stop

        torch.manual_seed(0)
        module = Light(hidden_sizes=[2], residual_blocks=0, dropout=0.0, learning_rate=RATE)
        own = QUIET | options | {"enable_checkpointing": True, "default_root_dir": folder, "accumulate_grad_batches": 2}
        trainer = Trainer(**own, callbacks=[LastCheckpoint(), Stop()])
        trainer.fit(module, datamodule=SeriesDataModule(table, horizon=6, batch_size=20), ckpt_path=resumed)
        return module

    whole = training(None, None, tmp_path / "whole")
    training(10, None, tmp_path / "cut")
    (last,) = (tmp_path / "cut").rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 10
    resumed = training(None, last, tmp_path / "rest")
    assert resumed.global_step == whole.global_step == whole.total_steps == resumed.total_steps
    expected = whole.state_dict()
    assert all(value.equal(expected[name]) for name, value in resumed.state_dict().items())
