"""Tests of the LightningModule: what it settles from the data, its schedule, and its four steps."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.training.module import ForecastModule
from armlp.training.sampling import Sampling

MakeTable = Callable[..., pd.DataFrame]


class Diary(Callback):
    """Writes down learning rates and validations."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.validations: list[int] = []
        self.scores: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations.append(trainer.global_step)
        self.scores = {name: value.item() for name, value in trainer.callback_metrics.items()}


class StopAtOnce(Callback):
    """Ends training before its first step."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A maker of trainers that leave nothing behind."""

    def make(**options: Any) -> Trainer:
        quiet = {
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
        }
        return Trainer(**quiet, enable_model_summary=False, default_root_dir=tmp_path, **options)

    return make


def test_the_learning_rate_rises_then_falls_as_a_cosine(trainer: Any, make_table: MakeTable):
    diary = Diary()
    module = ForecastModule(hidden_sizes=[4], learning_rate=1e-2, warmup=0.2)
    trainer(max_steps=20, max_epochs=-1, callbacks=[diary]).fit(module, datamodule=SeriesDataModule(make_table()))
    rise = [1e-2 * (step + 1) / 4 for step in range(4)]
    fall = [1e-2 * 0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(16)]
    assert diary.rates == pytest.approx(rise + fall)
    # Steps are the measure of training: ten validations where none were asked for.
    assert diary.validations == list(range(2, 21, 2))


def test_epochs_can_be_the_measure_too(trainer: Any, make_table: MakeTable):
    diary = Diary()
    data = SeriesDataModule(make_table(), batch_size=64, horizon=6)
    trainer(max_epochs=3, callbacks=[diary]).fit(ForecastModule(hidden_sizes=[4]), datamodule=data)
    batches = len(data.train_dataloader())
    assert diary.validations == [batches, 2 * batches, 3 * batches]
    assert len(diary.rates) == 3 * batches
    assert diary.rates[-1] < 0.1 * max(diary.rates)


def test_a_constant_schedule_is_constant(trainer: Any, make_table: MakeTable):
    diary = Diary()
    module = ForecastModule(hidden_sizes=[4], schedule="constant", optimizer="adam", weight_decay=0.0)
    fitted = trainer(max_steps=3, max_epochs=-1, callbacks=[diary])
    fitted.fit(module, datamodule=SeriesDataModule(make_table()))
    assert diary.rates == [2e-3] * 3
    assert type(fitted.optimizers[0]) is torch.optim.Adam


def test_what_is_left_out_is_chosen_and_what_is_given_is_kept(trainer: Any, make_table: MakeTable):
    module = ForecastModule(hidden_sizes=[4, 5], patch_length=2, head="normal", dropout=0.0)
    fitted = trainer(max_epochs=-1, callbacks=[StopAtOnce()])
    fitted.fit(module, datamodule=SeriesDataModule(make_table(), horizon=6))
    given = {"hidden_sizes": [4, 5], "patch_length": 2, "head": "normal", "dropout": 0.0}
    assert {name: vars(module.settings)[name] for name in given} == given
    assert not set(module.reasons) & set(given)
    assert fitted.max_steps == module.reasons["max_steps"].value > 0
    open_ones = {name for name, value in vars(module.settings).items() if value is None}
    assert open_ones == {"block_size", "trials", "refit", "metrics"}  # trials and refit are settled by `fit`
    elsewhere = ("max_steps", "calendar_inputs")  # of the trainer, and of the data
    chosen = {name: choice.value for name, choice in module.reasons.items() if name not in elsewhere}
    assert {name: vars(module.settings)[name] for name in chosen} == chosen
    network = module.network
    assert (network.context_length, network.patch_length) == (vars(module.settings)["context_length"], 2)


def test_every_metric_is_there_to_be_monitored(trainer: Any, make_table: MakeTable):
    diary = Diary()
    module = ForecastModule(hidden_sizes=[4], val_paths=9)
    fitted = trainer(max_steps=2, max_epochs=-1, callbacks=[diary], log_every_n_steps=1)
    fitted.fit(module, datamodule=SeriesDataModule(make_table(), horizon=6))
    expected = ("mae", "mase", "smape", "crps", "coverage_80", "coverage_95", "skill", "nll", "monitor")
    assert {f"val/{name}" for name in expected} <= set(diary.scores)
    assert diary.scores["val/monitor"] == diary.scores["val/scaled_crps"]
    assert diary.scores["val/mae"] == pytest.approx(module.scores["armlp"]["mae"])
    assert {"train/loss", "train/nll", "train/learning_rate"} <= set(fitted.callback_metrics)


def test_series_that_never_change_are_monitored_by_their_error(trainer: Any, make_table: MakeTable):
    diary = Diary()
    table = make_table().assign(y=5.0)
    fitted = trainer(max_steps=2, max_epochs=-1, callbacks=[diary])
    with pytest.warns(UserWarning, match="never changes"):
        fitted.fit(ForecastModule(hidden_sizes=[4]), datamodule=SeriesDataModule(table, horizon=6))
    assert "val/mase" not in diary.scores
    assert diary.scores["val/monitor"] == diary.scores["val/crps"]
    assert math.isfinite(diary.scores["val/crps"])


def test_validation_and_dropout_do_not_disturb_each_other(trainer: Any, make_table: MakeTable):
    """Weights do not depend on how often is validated: what is drawn follows from the seed and the step."""
    weights = []
    for interval in (1, 3):
        torch.manual_seed(0)
        module = ForecastModule(hidden_sizes=[8], residual_blocks=1, dropout=0.5, input_noise=0.1)
        options = {"val_check_interval": interval, "check_val_every_n_epoch": None}
        data = SeriesDataModule(make_table(), horizon=6)
        trainer(max_steps=3, max_epochs=-1, **options).fit(module, datamodule=data)
        weights.append(module.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_test_and_predict_steps_are_the_same_rollout(trainer: Any, make_table: MakeTable):
    table = make_table()
    module = ForecastModule(hidden_sizes=[4])
    module.sampling = Sampling(num_paths=5, seed=3)
    fitted = trainer(max_steps=2, max_epochs=-1)
    fitted.fit(module, datamodule=SeriesDataModule(table, horizon=6))
    # A table cut at the test origin is forecast from there, as the test does.
    cut = table.groupby("unique_id").head(90)
    (forecast,) = fitted.predict(module, datamodule=SeriesDataModule(cut, horizon=6))
    tested: list[torch.Tensor] = []

    class Keep(Callback):
        def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
            tested.append(outputs)

    tester = trainer(callbacks=[Keep()])
    tester.test(module, datamodule=SeriesDataModule(table, horizon=6), verbose=False)
    assert torch.equal(torch.cat(tested), forecast)
    assert forecast.shape == (3, 5, 6, 1)


def test_a_module_needs_the_data_module(trainer: Any):
    batches: list[Any] = [None]
    with pytest.raises(UserError, match="needs its data as a SeriesDataModule"):
        trainer().predict(ForecastModule(), dataloaders=batches)


def test_a_model_is_not_put_on_series_of_other_channels(trainer: Any, make_table: MakeTable):
    module = ForecastModule(hidden_sizes=[4])
    fitted = trainer(max_steps=1, max_epochs=-1)
    fitted.fit(module, datamodule=SeriesDataModule(make_table(), horizon=6))
    two = SeriesDataModule(make_table().assign(z=1.0), target_columns=["y", "z"], horizon=6)
    with pytest.raises(UserError, match="trained on 1 values per time step, but the table has 2"):
        fitted.predict(module, datamodule=two)


def test_a_resumed_training_carries_on_its_best_scores(trainer: Any, make_table: MakeTable, tmp_path: Path):
    """With a learning rate of 0 no later validation is better."""
    data, options = SeriesDataModule(make_table(), horizon=6), {"max_epochs": -1, "val_check_interval": 1}
    first = trainer(max_steps=1, **options)
    first.fit(begun := ForecastModule(hidden_sizes=[4], learning_rate=0.0), datamodule=data)
    first.save_checkpoint(tmp_path / "begun.ckpt")
    resumed = ForecastModule(hidden_sizes=[4], learning_rate=0.0)
    trainer(max_steps=3, **options).fit(resumed, datamodule=data, ckpt_path=tmp_path / "begun.ckpt")
    assert resumed.best == begun.best
    assert resumed.best_scores is not None
