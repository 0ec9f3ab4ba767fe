"""Tests of what callbacks can monitor: every metric at every validation, and no other."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.forecaster import Forecaster
from armlp.training.module import ForecastModule

MakeTable = Callable[..., pd.DataFrame]
SMALL: dict[str, Any] = {
    "max_steps": 7, "hidden_sizes": [4], "residual_blocks": 0, "horizon": 6, "enable_progress_bar": False,
    "logger": False, "enable_checkpointing": False, "val_check_interval": 3, "check_val_every_n_epoch": None,
}  # fmt: skip


class Seen(Callback):
    """Writes down what early stopping could look at, at every validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seen: list[float] = []
        self.names: set[str] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
        self.losses.append(outputs["loss"].item())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(trainer.callback_metrics["train/loss"].item())
        self.names |= set(trainer.callback_metrics)


def test_the_training_loss_is_there_at_every_validation(make_table: MakeTable):
    seen = Seen()
    Forecaster(**SMALL, callbacks=seen).fit(make_table())
    assert seen.seen == [pytest.approx(seen.losses[2]), pytest.approx(seen.losses[5])]


def test_every_logged_metric_can_be_monitored(make_table: MakeTable):
    seen = Seen()
    Forecaster(**SMALL, callbacks=seen).fit(make_table())
    names = sorted(seen.names - {"val/monitor"})  # which the usual early stopping monitors already
    assert {"train/gradient_norm", "train/windows_per_second", "train/nll", "val/skill"} <= set(names)
    stopping = [EarlyStopping(name, patience=1000) for name in names]
    Forecaster(**SMALL, callbacks=stopping).fit(make_table())
    assert all(one.best_score.isfinite() for one in stopping)


def test_early_stopping_on_the_training_loss_from_the_command_line(program: Any, trained: Any):
    run = program.fit(trained.source, "--early_stopping.monitor=train/loss", "--trainer.log_every_n_steps=50")
    assert (run / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("option", ["early_stopping", "checkpoint"])
def test_an_unknown_metric_is_refused_before_a_run_is_made(program: Any, trained: Any, option: str):
    fit = ("fit", "--data.source", trained.source, "--trainer.max_steps=2", f"--{option}.monitor=nonsense")
    sentence = program.refuses(*fit)
    assert all(word in sentence for word in (f"--{option}.monitor", "'nonsense'", "val/monitor", "train/loss"))


def test_an_unknown_metric_of_a_callback_of_the_user_is_refused(make_table: MakeTable):
    with pytest.raises(UserError, match="'nonsense' is not logged"):
        Forecaster(**SMALL, callbacks=[EarlyStopping("nonsense")]).fit(make_table())
    Forecaster(**SMALL, callbacks=[EarlyStopping("nonsense", strict=False)]).fit(make_table())
    trainer = Trainer(max_steps=1, logger=False, callbacks=[ModelCheckpoint(monitor="nonsense")])
    with pytest.raises(UserError, match="'nonsense' is not logged"):
        trainer.fit(ForecastModule(), datamodule=SeriesDataModule(make_table()))


def test_a_metric_of_another_callback_can_be_monitored(make_table: MakeTable):
    class Own(Callback):
        def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pl_module.log("mine", 1.0)

    stopping = EarlyStopping("mine", patience=1000)
    Forecaster(**SMALL, callbacks=[Own(), stopping]).fit(make_table())
    assert stopping.best_score == 1


@pytest.mark.parametrize(("monitor", "head", "constant"), [("val/mase", None, True), ("val/nll", "point", False)])
@pytest.mark.filterwarnings("ignore:.*never changes")
def test_a_metric_that_is_not_defined_is_refused_in_one_sentence(
    make_table: MakeTable, monitor: str, head: str | None, constant: bool
):
    table = make_table().assign(y=5.0) if constant else make_table()
    with pytest.raises(UserError, match=f"'{monitor}' is not defined"):
        Forecaster(**SMALL, head=head, callbacks=[EarlyStopping(monitor)]).fit(table)
