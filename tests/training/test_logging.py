"""Tests of what `Trainer.validate` and `Trainer.test` hand back and log, when a user calls them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from armlp.data.datamodule import SeriesDataModule
from armlp.training.module import ForecastModule

MakeTable = Callable[..., pd.DataFrame]
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}  # fmt: skip


class Errors(Callback):
    """Collects the absolute errors of the median of every forecast."""

    def __init__(self) -> None:
        self.errors: list[torch.Tensor] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        self.errors.append((outputs.quantile(0.5, dim=1) - batch.target).abs())


def fitted(table: pd.DataFrame, logger: Logger | bool, *callbacks: Callback) -> tuple[Trainer, ForecastModule, Any]:
    """A trainer that has trained a little, its module and its data."""
    trainer = Trainer(max_steps=2, logger=logger, callbacks=list(callbacks), **QUIET)
    module, data = ForecastModule(hidden_sizes=[4], residual_blocks=0), SeriesDataModule(table, horizon=6)
    trainer.fit(module, datamodule=data)
    return trainer, module, data


def test_a_test_hands_back_and_logs_every_metric(make_table: MakeTable, tmp_path: Path):
    errors = Errors()
    trainer, module, data = fitted(make_table(), CSVLogger(tmp_path), errors)
    (validated,) = trainer.validate(module, datamodule=data, verbose=False)
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert tested["test/mae"] == pytest.approx(torch.cat(errors.errors).mean().item(), rel=1e-5)
    assert set(tested) == {f"test/{name}" for name, value in module.scores["armlp"].items() if not math.isnan(value)}
    # The same metrics as those of a validation, which also has what the best checkpoint is chosen by.
    assert {name.replace("test/", "val/") for name in tested} == set(validated) - {"val/monitor"}
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == tested
    logged = pd.read_csv(next(tmp_path.rglob("metrics.csv"))).filter(like="test/").dropna()
    assert logged.to_dict("records") == [pytest.approx(tested)]


def test_tensorboard_holds_each_metric_of_a_test_once(make_table: MakeTable, tmp_path: Path):
    trainer, module, data = fitted(make_table(), TensorBoardLogger(tmp_path, default_hp_metric=False))
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert "test/mae" in tested
    (run,) = (tmp_path / "lightning_logs").iterdir()
    events = EventAccumulator(str(run)).Reload()
    assert {tag for tag in events.Tags()["scalars"] if tag.startswith("test/")} == set(tested)
    for tag, value in tested.items():
        assert [event.value for event in events.Scalars(tag)] == [pytest.approx(value)]


def test_what_the_data_do_not_define_is_not_logged(make_table: MakeTable):
    with pytest.warns(UserWarning, match="never changes"):
        trainer, module, data = fitted(make_table().assign(y=5.0), False)
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert "test/mase" not in tested
    assert math.isfinite(tested["test/crps"])


def test_a_forecast_logs_nothing(make_table: MakeTable, tmp_path: Path):
    trainer, module, data = fitted(make_table(), CSVLogger(tmp_path))
    before = next(tmp_path.rglob("metrics.csv")).read_bytes()
    trainer.predict(module, datamodule=data)
    assert not trainer.callback_metrics
    assert next(tmp_path.rglob("metrics.csv")).read_bytes() == before


def test_the_command_adds_one_point_of_each_metric_to_the_run_of_its_checkpoint(program: Any, trained: Any):
    run = program.fit(trained.source, "--data.horizon=6", "--data.test_windows=2", logs=True)
    program("test", "--ckpt_path", run / "checkpoints" / "best.ckpt")
    assert [folder.name for folder in Path("lightning_logs").iterdir()] == ["version_0"]
    events = EventAccumulator(str(run)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("test/") and "lead" not in tag]
    assert "test/mae" in tags
    assert [len(events.Scalars(tag)) for tag in tags] == [1] * len(tags)
    assert "hp_metric" not in events.Tags()["scalars"]
