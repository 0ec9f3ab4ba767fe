"""Schedules: what changes in training, as functions of the step alone, so that a resumed run goes on as it was."""

from __future__ import annotations

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

SCHEDULES = ("cosine", "constant")


def learning_rate_factor(schedule: str, step: int, total_steps: int, warmup: float) -> float:
    """What the learning rate is multiplied by.

    Args:
        schedule: `constant`, or `cosine`: a linear rise, then half a wave down to 0.
        step: From 0.
        total_steps: Of the training.
        warmup: Share of the steps in which the rate rises.
    """
    if schedule == "constant":
        return 1.0
    rise = max(1, round(warmup * total_steps))
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, total_steps - rise))
    return 0.5 * (1 + math.cos(math.pi * done))


def scheduled(optimizer: Optimizer, schedule: str, total_steps: int, warmup: float) -> LambdaLR:
    """The learning rate of an optimizer, step by step; arguments as in `learning_rate_factor`."""
    # Not a lambda, which cannot be pickled.
    return LambdaLR(optimizer, partial(learning_rate_factor, schedule, total_steps=total_steps, warmup=warmup))


def chain_length(step: int, total_steps: int, unroll: int, growth: float) -> int:
    """How many patches are chained: from 1 evenly up to `unroll` within the first part of the training.

    Args:
        step: From 0.
        total_steps: Of the training.
        unroll: `K`, the longest chain.
        growth: Share of the steps in which it grows.
    """
    return unroll if growth <= 0 else int(min(unroll, 1 + unroll * step / (growth * total_steps)))
