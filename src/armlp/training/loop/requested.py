"""The options that a user set for a training, so that it can be repeated on other rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelSummary,
    ProgressBar,
    Timer,
)

from armlp.arguments import to_builtin
from armlp.data.datamodule import SeriesDataModule
from armlp.training.loop.steps import validates_ten_times
from armlp.training.loop.trainer import all_callbacks, is_length_given
from armlp.training.settings import ModelSettings

# Attributes of the Trainer, named as its options, that change the training.
_TRAINER = (
    "limit_train_batches", "limit_val_batches", "overfit_batches", "accumulate_grad_batches", "gradient_clip_val",
    "gradient_clip_algorithm", "precision",
)  # fmt: skip
# Callbacks that do not change a training; a Timer is saved as the option `max_time`.
_HARMLESS = (Checkpoint, DeviceStatsMonitor, LearningRateMonitor, ModelSummary, ProgressBar, Timer)
# Options that are set in training, or name the source of the rows.
_NOT_REQUESTED = ("source", "covariate_statistics", "trained_freq")


class Requested(NamedTuple):
    """The options that a user set for a training. All others are chosen from the data."""

    model: dict[str, Any]
    data: dict[str, Any]  # without the table
    trainer: dict[str, Any]  # those that change the training
    callbacks: Sequence[str] = ()  # names of callbacks that may change it too

    @classmethod
    def of(cls, given: ModelSettings, data: SeriesDataModule, trainer: Trainer) -> Requested:
        """Return the options of a training that has not begun."""
        options = {name: to_builtin(getattr(trainer, name)) for name in _TRAINER}
        interval = getattr(trainer, "val_check_interval", None)  # missing if validation goes by the clock
        if interval is not None and not validates_ten_times(trainer):
            options |= {"val_check_interval": interval, "check_val_every_n_epoch": trainer.check_val_every_n_epoch}
        if is_length_given(trainer):
            options |= {"max_steps": trainer.max_steps, "max_epochs": trainer.max_epochs}
        for callback in all_callbacks(trainer):
            if isinstance(callback, Timer) and (seconds := callback.time_remaining()) is not None:
                options["max_time"] = {"seconds": seconds}
        others = [one for one in all_callbacks(trainer) if not isinstance(one, _HARMLESS)]
        names = [type(one).__name__ for one in others if not type(one).__module__.startswith("armlp.")]
        of_data = {name: value for name, value in data.given.non_defaults().items() if name not in _NOT_REQUESTED}
        return cls(given.non_defaults(), of_data, options, names)


def warn_of_missing_callbacks(requested: Requested, callbacks: Sequence[Callback]) -> None:
    """Warn of callbacks of a training that its repetition lacks, because checkpoints do not hold them."""
    missing = [name for name in requested.callbacks if name not in [type(one).__name__ for one in callbacks]]
    if missing:
        warnings.warn(
            f"The training had the callbacks {', '.join(missing)}, which a checkpoint does not hold: it is repeated "
            "without them, unless they are given again as callbacks of the Trainer.",
            stacklevel=3,
        )
