"""How many optimizer steps a training takes, and when it validates, from what the Trainer was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from armlp.training.trainer import all_callbacks, log_interval


def measure_by_steps(trainer: Trainer) -> None:
    """Have a trainer that was given no number of epochs train and validate by steps.

    It has to know before it fits, because Lightning would set 1,000 epochs, and callbacks that monitor a metric look at
    the end of every epoch where validation goes by epochs. `settle_length` sets the numbers.
    """
    if trainer.max_epochs is None:
        trainer.fit_loop.max_epochs = -1
    if validates_ten_times(trainer):
        trainer.check_val_every_n_epoch = None


def validates_ten_times(trainer: Trainer) -> bool:
    """Return whether a training by steps was not told when to validate, and so does it ten times.

    The integer 1 tells it to validate after every batch.
    """
    interval = getattr(trainer, "val_check_interval", None)  # Lightning sets none where validation goes by the clock
    return trainer.max_epochs == -1 and isinstance(interval, float) and interval == 1.0


def settle_length(trainer: Trainer, steps: int, batches: Callable[[], int]) -> tuple[int, bool]:
    """Have a trainer that was not told how long to train take so many steps, and validate ten times in all.

    `max_time` does not count as told: it only ends the steps early.

    Args:
        trainer: The trainer, after `measure_by_steps`.
        steps: Optimizer steps to take.
        batches: Count the batches that the loader of this process has in an epoch.

    Returns:
        The optimizer steps that are planned, and whether the trainer was not told.
    """
    if chosen := trainer.max_steps == -1 and trainer.max_epochs == -1:
        trainer.fit_loop.epoch_loop.max_steps = steps
    by_steps = trainer.max_epochs == -1
    known = by_steps and set(_accumulation(trainer).values()) == {1}  # without a look at the loader
    count = 0 if known else batches_per_epoch(trainer, batches())
    if validates_ten_times(trainer):
        trainer.val_check_interval = validation_interval(trainer, count, trainer.max_steps)
    return planned_steps(trainer, count), chosen


def batches_per_epoch(trainer: Trainer, batches: int) -> int:
    """Return how many of the batches of an epoch are trained on, as `limit_train_batches` says.

    Args:
        trainer: The trainer, which writes `overfit_batches` and `fast_dev_run` into that option too.
        batches: Batches that the loader of this process has.
    """
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def planned_steps(trainer: Trainer, batches: int) -> int:
    """Return how many optimizer steps a training takes that neither early stopping nor `max_time` ends.

    Lightning steps once every `accumulate_grad_batches` batches and at the end of an epoch, and stops at `max_steps` or
    after `max_epochs`, whichever comes first. `Trainer.estimated_stepping_batches` would forget where a resumed loader
    stands.

    Args:
        trainer: The trainer, with a limit of steps or epochs.
        batches: Batches of an epoch, as `batches_per_epoch` returns them.
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
    """Return after how many batches to validate, so that a training validates ten times.

    Validations fall on batches after which the optimizer steps, so that a checkpoint holds all that was computed. Where
    the last group of an epoch is incomplete, those are the ends of epochs. Epochs longer than a tenth of the training
    have validations within groups then, and a training that resumes there lacks the first gradients of the group.

    Args:
        trainer: The trainer, which has no limit of epochs.
        batches: Batches of an epoch, as `batches_per_epoch` returns them.
        steps: Optimizer steps of the training.
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
    """Return whether the metrics of a training step are logged.

    To log takes long beside a step, so they are logged every `log_every_n_steps` only. They are also needed at the
    first step and before a validation, so that callbacks can monitor them; loggers do not get those.

    Args:
        trainer: The trainer, within a batch.
        step: The optimizer step that the batch is part of, from 1.
    """
    interval = log_interval(trainer)  # 0 logs nothing else
    return step == 1 or (interval > 0 and step % interval == 0) or _validates_after_this_batch(trainer)


def _accumulation(trainer: Trainer) -> dict[int, int]:
    """Return how many batches a step accumulates, by the first epoch from which it does."""
    schedulers = [one for one in all_callbacks(trainer) if isinstance(one, GradientAccumulationScheduler)]
    return schedulers[0].scheduling if schedulers else {0: trainer.accumulate_grad_batches}


def _validates_after_this_batch(trainer: Trainer) -> bool:
    """Return whether a validation follows; yes where that hangs on the clock."""
    every, interval, loop = trainer.check_val_every_n_epoch, trainer.val_check_batch, trainer.fit_loop
    if not trainer.enable_validation or (every is not None and (trainer.current_epoch + 1) % every):
        return False
    if interval is None or math.isinf(interval):
        return interval is None or trainer.is_last_batch
    return ((loop.total_batch_idx if every is None else loop.batch_idx) + 1) % interval == 0
