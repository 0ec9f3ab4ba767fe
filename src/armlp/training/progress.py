"""The progress bar."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from armlp.training.trainer import log_interval

if TYPE_CHECKING:
    from armlp.training.module import ForecastModule


class StepBar(ProgressBar):
    """One bar a stage, counted in steps over the whole training, refreshed seldom.

    Args:
        training: What a training is called.
        steps: How many it will take, where that is not what the Trainer says.
    """

    def __init__(self, training: str = "training", steps: int | None = None) -> None:
        super().__init__()
        self.training, self.steps = training, steps
        self.bar: tqdm[Any] | None = None
        self.enabled = True
        self.reads_logged_metrics = True

    def disable(self) -> None:
        """Shows nothing, as Lightning asks on all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Shows bars again."""
        self.enabled = True

    def _open(self, what: str, total: float) -> None:
        length = int(total) if total not in (-1, float("inf")) else None
        # A terminal is refreshed twice a second, a log file gets a line every ten seconds.
        pace = 0.5 if sys.stderr.isatty() else 10
        self.bar = tqdm(desc=what, total=length, mininterval=pace, disable=not self.enabled, dynamic_ncols=True)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar where a resumed run stands."""
        self._open(self.training, self.steps or cast("ForecastModule", pl_module).total_steps)
        if self.bar is not None:
            self.bar.update(trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Moves on; loss and skill are shown when they are logged."""
        if self.bar is not None:
            if trainer.global_step % log_interval(trainer) == 0:
                shown = {"train/loss": "loss", "val/skill": "skill"}
                metrics = trainer.callback_metrics
                self.bar.set_postfix(
                    {name: f"{metrics[key].item():.3f}" for key, name in shown.items() if key in metrics},
                    refresh=False,
                )
            self.bar.update(trainer.global_step - self.bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar, so that the message stands on a line of its own."""
        self._close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        self._open("testing", sum(trainer.num_test_batches))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        self._open("forecasting", sum(trainer.num_predict_batches))

    def on_test_batch_end(self, *args: Any, **options: Any) -> None:
        """Moves on."""
        if self.bar is not None:
            self.bar.update()

    def on_predict_batch_end(self, *args: Any, **options: Any) -> None:
        """Moves on."""
        if self.bar is not None:
            self.bar.update()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._close()
