"""Compute how many optimizer steps a training takes and when it validates, from the options of the Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.trainer.states import TrainerFn

from armlp.training.loop.trainer import all_callbacks, log_interval


class ModuleTrainedBySteps(LightningModule):
    """A module whose Trainer trains and validates by steps, unless it was given a number of epochs."""

    @property
    def trainer(self) -> Trainer:
        """The Trainer of the module.

        Lightning attaches it before a fit, and would then set 1,000 epochs. Callbacks that monitor a metric would look
        at the end of every epoch.
        """
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            if trainer.max_epochs is None:
                trainer.fit_loop.max_epochs = -1
            if validates_ten_times(trainer):
                trainer.check_val_every_n_epoch = None
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]  # mypy knows no setters of a class


def validates_ten_times(trainer: Trainer) -> bool:
    """Return whether a Trainer without epochs leaves the times of validation open, so that it validates ten times.

    The integer 1 means a validation after every batch, the default 1.0 does not.
    """
    interval = getattr(trainer, "val_check_interval", None)  # missing if validation goes by the clock
    return trainer.max_epochs == -1 and isinstance(interval, float) and interval == 1.0


def set_default_length(trainer: Trainer, steps: int) -> bool:
    """Let a Trainer without a length take `steps` optimizer steps; return whether it had none.

    `max_time` is not a length: it only ends the steps early.
    """
    has_none = trainer.max_steps == -1 and trainer.max_epochs == -1
    if has_none:
        trainer.fit_loop.epoch_loop.max_steps = steps
    return has_none


def plan_steps(trainer: Trainer, batches: Callable[[], int]) -> int:
    """Return the number of optimizer steps of a Trainer with a length, and let it validate ten times in all.

    `batches` counts the batches of an epoch in this process.
    """
    by_steps = trainer.max_epochs == -1
    known = by_steps and set(_accumulation(trainer).values()) == {1}  # then the length of the loader is not needed
    count = 0 if known else batches_per_epoch(trainer, batches())
    if validates_ten_times(trainer):
        trainer.val_check_interval = validation_interval(trainer, count, trainer.max_steps)
    return planned_steps(trainer, count)


def batches_per_epoch(trainer: Trainer, batches: int) -> int:
    """Return how many batches of an epoch are trained on under `limit_train_batches`.

    Lightning also sets that option for `overfit_batches` and `fast_dev_run`.
    """
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def planned_steps(trainer: Trainer, batches: int) -> int:
    """Return the optimizer steps of a training that neither early stopping nor `max_time` ends.

    Lightning steps once every `accumulate_grad_batches` batches and at the end of an epoch, and stops at `max_steps` or
    after `max_epochs`, whichever comes first. `Trainer.estimated_stepping_batches` ignores the position of a resumed
    loader.
    """
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if epochs is None or epochs < 0:
        return steps
    starts = [*sorted(_accumulation(trainer)), math.inf]
    by_epochs = 0
    for first, after in pairwise(starts):
        count = max(0, int(min(after, epochs) - first))
        by_epochs += count * math.ceil(batches / _accumulation(trainer)[int(first)])
    return by_epochs if steps == -1 else min(steps, by_epochs)


def validation_interval(trainer: Trainer, batches: int, steps: int) -> int:
    """Return the batches between validations, so that a training of so many optimizer steps validates ten times.

    Validations follow batches after which the optimizer steps, so that a checkpoint holds all that was computed. If the
    last group of an epoch is incomplete, those are the ends of epochs. Epochs longer than a tenth of the training then
    have validations within groups, and a training that resumes there lacks the first gradients of the group.
    """
    group = math.lcm(*_accumulation(trainer).values())
    if group == 1 or not batches:
        return max(1, steps // 10)
    epochs, rest = divmod(steps, math.ceil(batches / group))
    total = epochs * batches + rest * group
    if batches % group == 0 or total <= batches:
        unit = group
    else:
        unit = 1 if group < batches and total < 10 * batches else batches
    return max(1, total // 10 // unit) * unit


def is_logged(trainer: Trainer, step: int) -> bool:
    """Return whether to log the metrics of a training step, counted from 1.

    Logging is slow, so it happens every `log_every_n_steps` steps. Callbacks that monitor a metric also need it at the
    first step and before a validation; loggers do not get those.
    """
    interval = log_interval(trainer)  # 0: only the steps below
    return step == 1 or (interval > 0 and step % interval == 0) or _validates_after_this_batch(trainer)


def _accumulation(trainer: Trainer) -> dict[int, int]:
    """Return the number of batches per step, by the epoch from which it holds."""
    schedulers = [one for one in all_callbacks(trainer) if isinstance(one, GradientAccumulationScheduler)]
    return schedulers[0].scheduling if schedulers else {0: trainer.accumulate_grad_batches}


def _validates_after_this_batch(trainer: Trainer) -> bool:
    """Return whether a validation follows; True if validation goes by the clock."""
    every, interval, loop = trainer.check_val_every_n_epoch, trainer.val_check_batch, trainer.fit_loop
    if not trainer.enable_validation or (every is not None and (trainer.current_epoch + 1) % every):
        return False
    if interval is None or math.isinf(interval):
        return interval is None or trainer.is_last_batch
    return ((loop.total_batch_idx if every is None else loop.batch_idx) + 1) % interval == 0
