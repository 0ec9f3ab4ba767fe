"""Tests of parts from outside the package: a file of one's own is enough for a head, scaler, metric or baseline."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

import armlp
from armlp.data.windows import Windows, gather
from armlp.evaluation.baselines import BASELINES
from armlp.evaluation.metrics.base import METRICS
from armlp.model.families import HEADS
from armlp.model.scaling import SCALERS
from armlp.training.loop.checkpoint import read_checkpoint

MakeTable = Callable[..., pd.DataFrame]

PARTS = '''
import torch

from armlp.evaluation.baselines import BASELINES, Baseline
from armlp.evaluation.metrics.base import METRICS, LeadMetric
from armlp.model.families import HEADS
from armlp.model.families.location_scale import NormalHead
from armlp.model.scaling import SCALERS, Scaler, Scaling


@HEADS.register("wider")
class WiderHead(NormalHead):
    """The normal distribution, wider than the network says.

    Args:
        factor: How many times as wide the distribution is.
    """

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, raw, shift, scale):
        normal = super().forward(raw, shift, scale)
        normal.scale = normal.scale * self.factor
        return normal


@SCALERS.register("first")
class FirstScaler(Scaler):
    """Subtract the first value of the context."""

    def measure(self, context, observed, **statistics):
        first = context[:, :1]
        return Scaling(first, torch.ones_like(first), first.abs())


@METRICS.register("bias")
class Bias(LeadMetric):
    """How far the median lies above the truth, data units."""

    def score(self, forecast, truth, unit):
        return forecast.median() - truth


@BASELINES.register("nine")
class Nine(Baseline):
    """Forecast nine, whatever was before."""

    @classmethod
    def fit(cls, history):
        return cls(history.panel.values.shape[1])

    def __init__(self, channels):
        self.channels = channels

    def forecast(self, series, origin, horizon):
        return torch.full((len(series), horizon, self.channels), 9.0)
'''
REGISTERED = {"wider": HEADS, "first": SCALERS, "bias": METRICS, "nine": BASELINES}
NETWORK = {"hidden_sizes": [4], "residual_blocks": 0, "context_length": 8, "patch_length": 6, "unroll": 1}
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of a user that is imported, as long as the test runs."""
    (tmp_path / "extending_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("extending_parts")
    del sys.modules["extending_parts"]
    for name, registry in REGISTERED.items():
        if name in registry:
            registry.unregister(name)


def test_registered_parts_are_used_by_their_names_from_python(parts: Any, make_table: MakeTable):
    table, options = make_table(), NETWORK | QUIET | {"horizon": 6, "max_steps": 2}
    forecaster = armlp.Forecaster(head="wider", factor=3.0, scaler="first", **options).fit(table)
    assert set(forecaster.scores) >= {"armlp", "nine", "seasonal naive"}
    last = table.groupby("unique_id").tail(6)["y"]
    assert forecaster.scores["nine"]["bias"] == pytest.approx((9 - last).mean(), rel=1e-4)
    narrow = armlp.Forecaster(head="normal", scaler="first", **options).fit(table)
    assert narrow.scores["armlp"]["bias"] != forecaster.scores["armlp"]["bias"]
    assert forecaster.sample().std(1).mean() > 1.5 * narrow.sample().std(1).mean()


def test_the_option_of_a_registered_head_is_in_the_help(parts: Any, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        armlp.cli.main(["fit", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "--model.factor" in printed
    assert "How many times as wide the distribution is." in printed


CONFIGURATION = """
data:
  horizon: 6
model:
  head: extending_parts.WiderHead
  factor: 3.0
  scaler: extending_parts.FirstScaler
  hidden_sizes: [4]
  residual_blocks: 0
  val_paths: 10
trainer:
  max_steps: 2
checkpoint:
  monitor: val/bias
"""


def test_parts_are_used_by_their_class_paths_from_a_file_of_options(parts: Any, program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    Path("mine.yaml").write_text(CONFIGURATION)
    printed = program("fit", "--config=mine.yaml", "--data.source=table.parquet")
    assert "nine" in printed
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    options = read_checkpoint(best)["hyper_parameters"]
    assert (options["head"], options["factor"]) == ("extending_parts.WiderHead", 3.0)
    assert options["scaler"] == "extending_parts.FirstScaler"
    program("predict", "--ckpt_path", best, "--forecast.num_paths=20")
    assert len(pd.read_parquet("lightning_logs/version_0/forecast.parquet")) == 18


def test_a_file_of_options_is_a_preset_for_both_interfaces(program: Any, make_table: MakeTable):
    table = make_table()
    table.to_parquet("table.parquet")
    Path("mine.yaml").write_text("data: {horizon: 5}\nmodel: {hidden_sizes: [3]}\ntrainer: {max_steps: 1}\n")
    program("fit", "--config=mine.yaml", "--data.source=table.parquet")
    options = read_checkpoint("lightning_logs/version_0/checkpoints/best.ckpt")
    assert options["hyper_parameters"]["hidden_sizes"] == [3]
    forecaster = armlp.Forecaster(preset="mine.yaml", **QUIET).fit(table)
    assert len(forecaster.predict()) == 15


class Smooth(armlp.ForecastModule):
    """Has a loss and an optimizer of its own."""

    def training_step(self, batch: Windows, batch_idx: int) -> torch.Tensor:
        distribution = self.network(batch.context, batch.observed, batch.covariates)
        loss = (distribution.mean - batch.target).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Latest(armlp.SeriesDataModule):
    """Trains on the windows of the first series from row 60 on, in batches of torch's loader."""

    def train_dataloader(self) -> Any:
        return DataLoader(range(60, 80), batch_size=5, shuffle=True, collate_fn=self.windows)

    def windows(self, origins: list[int]) -> Windows:
        origin = torch.tensor(origins)
        return gather(self.panel, torch.zeros_like(origin), origin, 8, 6)


def test_a_subclass_trains_in_a_plain_trainer_with_batches_of_a_plain_loader(make_table: MakeTable):
    class Watched(Smooth):
        origins: ClassVar[set[int]] = set()

        def training_step(self, batch: Windows, batch_idx: int) -> torch.Tensor:
            assert batch.series.tolist() == [0] * 5
            self.origins.update(batch.origin.tolist())
            return super().training_step(batch, batch_idx)

    module, data = Watched(**NETWORK, head="normal"), Latest(make_table(), horizon=6)
    trainer = Trainer(**QUIET, max_steps=8, max_epochs=-1)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 8
    assert Watched.origins == set(range(60, 80))  # four batches an epoch
    assert type(trainer.optimizers[0]) is torch.optim.SGD
    assert module.network.dependence is not None
    assert not module.network.dependence.is_independent  # estimated from a batch
    assert module.scores["armlp"]["mae"] > 0
    (paths,) = trainer.predict(module, datamodule=data)
    assert paths.shape == (3, 200, 6, 1)
