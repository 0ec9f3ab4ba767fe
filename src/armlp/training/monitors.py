"""Monitored metrics: whether what early stopping and checkpoints look at will be there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.training.defaults import MONITOR, all_callbacks

_TRAINING = ("loss", "nll", "learning_rate", "unroll", "gradient_norm", "windows_per_second")
_ERRORS = (
    "mae", "rmse", "smape", "mase", "rmsse", "owa", "wql", "crps", "scaled_crps", "coverage_80", "coverage_95",
    "interval_80", "interval_95",
)  # fmt: skip
_BOTH = ("skill", "nll", "diverged")
_SYMBOLS = ("error_rate", "perplexity")


def refuse_unknown_monitors(trainer: Trainer, data: SeriesDataModule) -> None:
    """Refuse a monitored metric that nothing logs, before anything is trained.

    Where there are callbacks of others than Lightning and armlp, they may log it, so nothing is refused.

    Args:
        trainer: The trainer.
        data: The data, which say what is measured.

    Raises:
        UserError: Naming the metric, and those that there are.
    """
    if any(type(one).__module__.split(".")[0] not in ("armlp", "lightning") for one in all_callbacks(trainer)):
        return
    known = _known(data)
    for option, monitor in _monitored(trainer):
        # Checkpoints may count epochs and steps; LearningRateMonitor names what it logs by the optimizer.
        counted = option == "checkpoint" and monitor in ("epoch", "step")
        if monitor not in known and not counted and not monitor.startswith("lr-"):
            raise UserError(f"--{option}.monitor: {monitor!r} is not logged; use one of {', '.join(known)}.")


def refuse_undefined_monitors(trainer: Trainer, data: SeriesDataModule, logged: Collection[str]) -> None:
    """Refuse a monitored metric that these data or this model do not have, at the first validation.

    Args:
        trainer: The trainer, at the end of a validation.
        data: The data, which say what is measured.
        logged: Metrics that this validation has logged.

    Raises:
        UserError: Naming the metric.
    """
    known = _known(data)
    for option, monitor in _monitored(trainer):
        if monitor in known and monitor not in logged and monitor not in trainer.callback_metrics:
            raise UserError(
                f"--{option}.monitor: {monitor!r} is not defined for these data and this model; use {MONITOR}, which "
                "always is."
            )


def _known(data: SeriesDataModule) -> list[str]:
    """Return the metrics that a training of any model may log."""
    measured = _SYMBOLS if data.panel.symbols else _ERRORS
    return [MONITOR, *(f"val/{name}" for name in (*measured, *_BOTH)), *(f"train/{name}" for name in _TRAINING)]


def _monitored(trainer: Trainer) -> list[tuple[str, str]]:
    """Return the options and the metrics that callbacks need in order to go on."""
    found: list[tuple[str, str]] = []
    for callback in all_callbacks(trainer):
        one: Any = callback
        if isinstance(one, ModelCheckpoint) and one.monitor is not None:
            found.append(("checkpoint", one.monitor))
        elif isinstance(one, EarlyStopping) and one.strict:
            found.append(("early_stopping", one.monitor))
    return found
