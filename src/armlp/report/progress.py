"""The progress bar."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from armlp.training.loop.trainer import log_interval
from armlp.training.module import ForecastModule


class StepBar(ProgressBar):
    """Show one bar per stage, which counts the steps of the whole training.

    Lightning's `TQDMProgressBar` starts a new bar at every epoch and validation. The number of training steps is that
    of the module by default.
    """

    def __init__(self, description: str = "training", steps: int | None = None) -> None:
        super().__init__()
        self.description, self.steps = description, steps
        self.bar: tqdm[Any] | None = None
        self.enabled = True
        self.reads_logged_metrics = True

    def disable(self) -> None:
        """Hide bars; Lightning calls this on all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show bars again."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar at the current step, which is not 0 in a resumed run."""
        assert isinstance(pl_module, ForecastModule)
        self._open(self.description, self.steps or pl_module.total_steps)
        self._advance_to(trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Advance to the current step; update loss and skill when they are logged."""
        if trainer.global_step % log_interval(trainer) == 0:
            self._show_metrics(trainer)
        self._advance_to(trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the skill."""
        self._show_metrics(trainer)

    def _show_metrics(self, trainer: Trainer) -> None:
        if self.bar is not None:
            metrics = {"loss": "train/loss", "skill": "val/skill"}
            known = {name: trainer.callback_metrics.get(metric) for name, metric in metrics.items()}
            shown = {name: f"{value.item():.3f}" for name, value in known.items() if value is not None}
            self.bar.set_postfix(shown, refresh=False)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar that counts batches."""
        self._open("testing", sum(trainer.num_test_batches))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar that counts batches."""
        self._open("forecasting", sum(trainer.num_predict_batches))

    def _open(self, description: str, total: float) -> None:
        length = int(total) if total not in (-1, float("inf")) else None
        interval = 0.5 if sys.stderr.isatty() else 10  # seconds; a log file keeps every update
        self.bar = tqdm(
            desc=description, total=length, mininterval=interval, disable=not self.enabled, dynamic_ncols=True
        )

    def _advance_to(self, step: int) -> None:
        if self.bar is not None:
            self.bar.update(step - self.bar.n)

    def _advance(self, *args: Any, **options: Any) -> None:
        if self.bar is not None:
            self.bar.update()

    def _close(self, *args: Any, **options: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    on_test_batch_end = on_predict_batch_end = _advance
    # Also after an exception, so that its message starts on a new line.
    on_train_end = on_test_end = on_predict_end = on_exception = _close
