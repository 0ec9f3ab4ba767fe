"""Callbacks of a training: the best and the last checkpoint, early stopping, averaged weights."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import Tensor

from armlp.data.loaders import TrainingLoader
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.loop.trainer import MONITOR, restored_generators
from armlp.training.warm_start import warm_start

PATIENCE = 5  # validations in a row that are no better before a training stops


class BestCheckpoint(ModelCheckpoint):
    """Saves the weights of the best validation in `best.ckpt`, and keeps them in memory too.

    Later steps read them from memory, because another program may write to the same folder.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._saved: bytes | None = None
        self.is_temporary = False  # whether its folder is removed after the training

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Observe the checkpoints that the Trainer writes."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            trainer.strategy.checkpoint_io = _WatchedIO(trainer.strategy.checkpoint_io, self)

    def remember(self, checkpoint: dict[str, Any], path: str | Path) -> None:
        """Keep a checkpoint that is being written if it is the best so far."""
        if os.fspath(path) == self.best_model_path:
            file = io.BytesIO()
            torch.save(checkpoint, file)
            self._saved = file.getvalue()

    def checkpoint(self) -> dict[str, Any]:
        """Return the best checkpoint, as `read_checkpoint` does."""
        if self._saved is None:  # a resumed training without a better validation
            return read_checkpoint(self.best_model_path)
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(self._saved), map_location="cpu", weights_only=True)
        return checkpoint


class _WatchedIO(CheckpointIO):
    """Wraps a checkpoint plugin and passes each written checkpoint to a callback."""

    def __init__(self, plugin: CheckpointIO, watcher: BestCheckpoint) -> None:
        self._plugin, self._watcher = plugin, watcher

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        self._plugin.save_checkpoint(checkpoint, path, storage_options)
        self._watcher.remember(checkpoint, path)

    def load_checkpoint(self, *args: Any, **options: Any) -> dict[str, Any]:
        return self._plugin.load_checkpoint(*args, **options)

    def remove_checkpoint(self, path: str | Path) -> None:
        self._plugin.remove_checkpoint(path)

    def teardown(self) -> None:
        self._plugin.teardown()


class LastCheckpoint(ModelCheckpoint):
    """Saves `last.ckpt` at every validation and at the end, so that a killed run can resume from it."""

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the training too; `ModelCheckpoint` has no public method for it."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class StopEarly(EarlyStopping):
    """Stops a training when its validations get no better.

    Args:
        monitor: The metric to watch.
        patience: Validations in a row that are no better before training stops; default: 5, or no limit if there are
            too few validation windows to judge by.
        check_on_train_epoch_end: Check at the end of an epoch instead of at a validation.
        **options: The other options of Lightning's `EarlyStopping`.
    """

    def __init__(
        self,
        monitor: str = MONITOR,
        patience: int | None = None,
        check_on_train_epoch_end: bool | None = False,
        **options: Any,
    ) -> None:
        steps = PATIENCE if patience is None else patience
        super().__init__(monitor, patience=steps, check_on_train_epoch_end=check_on_train_epoch_end, **options)
        self.is_patience_given = patience is not None


def best_checkpoint(trainer: Trainer) -> BestCheckpoint | None:
    """Return the callback that keeps the best weights; None if there is none, or no metric to compare them by."""
    return next((one for one in trainer.checkpoint_callbacks if isinstance(one, BestCheckpoint) and one.monitor), None)


class ExponentialAverage(WeightAveraging):
    """Averages the weights over about the last `share` of the training, or over all steps while there are fewer.

    Validation uses the average, and checkpoints hold both it and the current weights. `total_steps` returns the length
    of the training once it is planned.

    Tero Karras et al. (2024), Analyzing and Improving the Training Dynamics of Diffusion Models,
    https://arxiv.org/abs/2312.02696
    """

    def __init__(self, share: float, total_steps: Callable[[], int]) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.share, self.total_steps = share, total_steps
        self._steps = 1.0
        self._trained: dict[str, Tensor] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the weights to average; after a training there is no average."""
        self._average_model = self._trained = None
        super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average and the current weights, in training only."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the length of the average."""
        self._steps = max(1.0, self.share * self.total_steps())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Use the average from now on, but keep the current weights for a longer training."""
        self._trained = {name: value.clone() for name, value in pl_module.state_dict().items()}
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save both weights, also after the end."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._trained is not None:
            checkpoint["current_model_state"] = self._trained

    @torch.no_grad()
    def _average(self, averages: list[Tensor], weights: list[Tensor], count: Tensor | int) -> None:
        rate = max(1 / self._steps, 1 / (int(count) + 1))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, rate)


class TrainingRoutine(Callback):
    """Prepares a `ForecastModule` before its training, and seeds its steps.

    It restores the global random generators at the end, sets the weights that have a closed form before the first step,
    and seeds dropout and fed-back samples by the step, so that a resumed training draws the same.
    """

    def __init__(self) -> None:
        self._at_the_end = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plan the schedule again if another callback has changed the batch size or the learning rate."""
        module: Any = pl_module
        if module.has_other_loaders:
            return
        steps = module.total_steps
        module.plan()
        if (module.total_steps, module.hparams["learning_rate"]) != (steps, module.settings.learning_rate):
            trainer.strategy.setup_optimizers(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the state of the generators; set the weights that have a closed form, unless the training resumes."""
        self._at_the_end.enter_context(restored_generators())
        module, loader = cast(Any, pl_module), trainer.train_dataloader
        if trainer.global_step == 0 and isinstance(loader, TrainingLoader):
            settings = module.settings
            warm_start(module.network, loader, str(settings.loss_units), settings.ridge_init)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the generators by `(seed, step)`."""
        datamodule = getattr(trainer, "datamodule", None)
        seed = datamodule.settings.seed if datamodule is not None else 0
        part = batch_idx % trainer.accumulate_grad_batches
        number = hash((seed, trainer.global_step, trainer.global_rank, part)) % 2**63
        torch.default_generator.manual_seed(number)  # torch.manual_seed is much slower
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the generators."""
        self._at_the_end.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the generators."""
        self._at_the_end.close()
