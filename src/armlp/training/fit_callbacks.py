"""Callbacks of a training: what it keeps, and when it ends."""

from __future__ import annotations

import io
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from armlp.training.checkpoint import read_checkpoint
from armlp.training.defaults import MONITOR, all_callbacks

# Validations in a row that are no better before a training stops.
PATIENCE = 5


class BestCheckpoint(ModelCheckpoint):
    """Saves the weights of the best validation in `best.ckpt`, and keeps them in memory too.

    What comes after the training reads them from memory, because another program may write to the same folder.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._saved: bytes | None = None
        self.is_temporary = False  # whether its folder is removed after the training

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch what the Trainer writes."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            trainer.strategy.checkpoint_io = _WatchedIO(trainer.strategy.checkpoint_io, self)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from the state of an older version too."""
        _load_older_state(self, checkpoint, ModelCheckpoint)

    def remember(self, checkpoint: dict[str, Any], path: str | Path) -> None:
        """Keep a checkpoint that is being written, if it is the best so far."""
        if os.fspath(path) == self.best_model_path:
            file = io.BytesIO()
            torch.save(checkpoint, file)
            self._saved = file.getvalue()

    def checkpoint(self) -> dict[str, Any]:
        """Return the best checkpoint, as `read_checkpoint` does."""
        if self._saved is None:  # a resumed training that found nothing better
            return read_checkpoint(self.best_model_path)
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(self._saved), map_location="cpu", weights_only=True)
        return checkpoint


class _WatchedIO(CheckpointIO):
    """Reads and writes checkpoints with another plugin, and shows what is written to a callback."""

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
    """Saves `last.ckpt` at every validation and at the end, so that a killed run can go on from there."""

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the end of the training too, where no validation fell on it."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class StopEarly(EarlyStopping):
    """Stops a training when its validations get no better.

    Args:
        monitor: The metric to watch.
        patience: Validations in a row that are no better before training stops. Where left out, 5, or no end where
            there are too few validation windows to judge by.
        check_on_train_epoch_end: Check at the end of an epoch, instead of at a validation.
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

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from the state of an older version too."""
        _load_older_state(self, checkpoint, EarlyStopping)


def best_checkpoint(trainer: Trainer) -> BestCheckpoint | None:
    """Return the callback that keeps the best weights; None where there is none, or nothing to judge them by."""
    return next((one for one in all_callbacks(trainer) if isinstance(one, BestCheckpoint) and one.monitor), None)


def _load_older_state(callback: Callback, checkpoint: dict[str, Any], older: type[Callback]) -> None:
    """Load the state that an earlier version of armlp saved under the name of Lightning's own class."""
    states = checkpoint["callbacks"]
    key = callback.state_key.replace(type(callback).__qualname__, older.__qualname__, 1)
    if callback.state_key not in states and key in states:
        callback.load_state_dict(deepcopy(states[key]))
