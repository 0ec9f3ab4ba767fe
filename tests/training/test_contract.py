"""Tests of what Lightning lets its users do with a module and a data module: override, print, and tune them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.tuner import Tuner

from armlp.data.datamodule import SeriesDataModule
from armlp.training.module import ForecastModule

MakeTable = Callable[..., pd.DataFrame]
NETWORK: dict[str, Any] = {"hidden_sizes": [4], "residual_blocks": 0}


def a_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "num_sanity_val_steps": 0, "accelerator": "cpu", "default_root_dir": folder,
    }  # fmt: skip
    return Trainer(**{**quiet, "max_steps": 4, **options}, callbacks=list(callbacks))


class OneOptimizer(ForecastModule):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Scheduled(ForecastModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=self.total_steps + 1)]


class Plateau(ForecastModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/mae"}}


class ByHand(ForecastModule):
    """Two optimizers that are stepped by hand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        weights = list(self.parameters())
        return [torch.optim.SGD(part, lr=1e-3) for part in (weights[:1], weights[1:])]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        optimizers: Any = self.optimizers()
        self.manual_backward(loss)
        for optimizer in optimizers:
            self.clip_gradients(optimizer, 1.0, "norm")
            optimizer.step()
            optimizer.zero_grad()
        return loss


class Clipped(ForecastModule):
    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **options: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="value")


@pytest.mark.parametrize("kind", [OneOptimizer, Scheduled, Plateau, ByHand, Clipped])
@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_a_subclass_brings_its_own_optimization(
    kind: type[ForecastModule], averaging: float, make_table: MakeTable, tmp_path: Path
):
    module = kind(**NETWORK, averaging=averaging, unroll=2, unroll_growth=0.5)
    trainer = a_trainer(tmp_path)
    trainer.fit(module, datamodule=SeriesDataModule(make_table(), horizon=6))
    assert trainer.global_step in (4, 8)  # Lightning counts the steps of each optimizer where they are by hand
    assert math.isfinite(trainer.callback_metrics["val/mae"].item())


def test_a_data_module_is_printed_without_a_look_at_the_data(make_table: MakeTable, recwarn: Any):
    missing = SeriesDataModule("missing.csv", horizon=6)
    for text in (str(missing), repr(missing), f"{[missing]}"):
        assert "SeriesDataModule('missing.csv', " in text
        assert "horizon=6" in text
    table = SeriesDataModule(make_table(), horizon=6)
    assert "a table in memory" in str(table)
    assert "batch_size" not in str(table)
    table.setup()
    assert "season_length=24" in str(table)
    assert not recwarn


def test_a_fitted_module_and_its_data_are_printed(make_table: MakeTable, tmp_path: Path):
    module, data = ForecastModule(**NETWORK), SeriesDataModule(make_table(), horizon=6)
    assert repr(module) == "ForecastModule()"
    a_trainer(tmp_path).fit(module, datamodule=data)
    assert "AutoregressiveMLP" in repr(module)
    assert f"batch_size={data.hparams['batch_size']}" in repr(data)


@pytest.mark.parametrize("mode", ["power", pytest.param("binsearch", marks=pytest.mark.exhaustive)])
@pytest.mark.filterwarnings("ignore")
def test_the_tuner_finds_a_batch_size_where_none_was_given(make_table: MakeTable, tmp_path: Path, mode: str):
    module, data = ForecastModule(**NETWORK), SeriesDataModule(make_table(), horizon=6)
    found = Tuner(a_trainer(tmp_path)).scale_batch_size(module, datamodule=data, max_trials=2, mode=mode)
    assert found == data.hparams["batch_size"]


class Rates(Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.filterwarnings("ignore")
def test_steps_are_planned_for_the_batch_size_that_was_found(make_table: MakeTable, tmp_path: Path):
    module, data, rates = ForecastModule(**NETWORK), SeriesDataModule(make_table(), horizon=6), Rates()
    finder = BatchSizeFinder(max_trials=4, init_val=8)
    trainer = a_trainer(tmp_path, finder, rates, max_steps=-1, max_epochs=1)
    trainer.fit(module, datamodule=data)
    assert finder.optimal_batch_size == data.hparams["batch_size"]
    assert trainer.global_step == module.total_steps == len(data.train_dataloader())
    assert rates.rates[-1] == pytest.approx(0, abs=1e-9)  # after the last step


@pytest.mark.filterwarnings("ignore")
def test_the_schedule_begins_with_the_learning_rate_that_was_found(make_table: MakeTable, tmp_path: Path):
    module, data, rates = ForecastModule(**NETWORK, warmup=0.0), SeriesDataModule(make_table(), horizon=6), Rates()
    a_trainer(tmp_path, LearningRateFinder(num_training_steps=20), rates).fit(module, datamodule=data)
    factors = [0.5 * (1 + math.cos(math.pi * step / 3)) for step in range(4)]
    assert rates.rates == pytest.approx([module.hparams["learning_rate"] * factor for factor in factors], abs=1e-9)


class Narrow(ForecastModule):
    """Has an argument of its own, and gives the others values."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(hidden_sizes=[width], residual_blocks=0)


def test_a_subclass_with_arguments_of_its_own_is_loaded_from_its_checkpoint(make_table: MakeTable, tmp_path: Path):
    data, module = SeriesDataModule(make_table(), horizon=6), Narrow(width=3)
    trainer = a_trainer(tmp_path)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = Narrow.load_from_checkpoint(tmp_path / "model.ckpt")
    assert module.state_dict().keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in module.state_dict().items())
