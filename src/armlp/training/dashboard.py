"""Everything that TensorBoard shows besides the scalars that the module logs itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from armlp.data.windows import Windows
from armlp.evaluation.backtest import MODEL
from armlp.evaluation.charts import any_letters, fan_charts, series_fan
from armlp.training.defaults import MONITOR, log_interval
from armlp.training.module import ForecastModule
from armlp.training.recipe import explained

_CHARTS = 4


class Dashboard(Callback):
    """The data and the options as text, windows per second, fan charts, and hyperparameters with real metrics."""

    def __init__(self) -> None:
        self._windows = 0
        self._since = self._stopped = 0.0
        self.best: dict[str, dict[str, float]] | None = None
        self._lowest = float("inf")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what the data are and what was chosen from them."""
        logger = trainer.logger
        if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ForecastModule)
        summary = pl_module.datamodule.summary()
        texts = {"data": _markdown(("data", summary.name), summary.rows().items())}
        if chosen := explained(pl_module.chosen):
            texts["options"] = _markdown(("option", "chosen", "because"), chosen)
        for tag, text in texts.items():
            logger.experiment.add_text(tag, text)
        # Lightning writes hparams.yaml of them after this hook, and never again.
        logger.hparams.update(_options(trainer, pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._windows, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Windows, batch_idx: int
    ) -> None:
        """Logs how many windows a second training took in since the last time."""
        self._windows += len(batch.series)
        if trainer.global_step % log_interval(trainer) == 0:
            now = time.perf_counter()
            pl_module.log("train/windows_per_second", self._windows / (now - self._since))
            self._windows, self._since = 0, now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock: validation is no training."""
        self._stopped = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Windows,
        batch_idx: int,
        *args: Any,
    ) -> None:
        """Draws the first validation forecasts."""
        logger = trainer.logger
        if batch_idx > 0 or not isinstance(logger, TensorBoardLogger) or trainer.state.fn != "fit":
            return
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ForecastModule)
        data = pl_module.datamodule
        if data.panel.symbols:
            return  # they have no scale to draw on
        first = zip(
            batch.series[:_CHARTS].tolist(), batch.origin[:_CHARTS].tolist(), outputs[:_CHARTS].cpu(), strict=True
        )
        fans = [series_fan(data.panel, *forecast, data.season_length, 3 * data.horizon) for forecast in first]
        with any_letters():
            logger.experiment.add_figure("val/forecast", fan_charts(fans), trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock again, and remembers the metrics of the best validation."""
        self._since += time.perf_counter() - self._stopped
        assert isinstance(pl_module, ForecastModule)
        monitored = trainer.callback_metrics[MONITOR].item()
        if monitored < self._lowest:
            self._lowest, self.best = monitored, pl_module.scores

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the hyperparameters once, with the metrics of the best validation."""
        logger = trainer.logger
        if not isinstance(logger, TensorBoardLogger) or self.best is None:
            return
        assert isinstance(pl_module, ForecastModule)
        metrics = {f"val_best/{name}": value for name, value in self.best[MODEL].items()}
        logger.log_hyperparams(_options(trainer, pl_module), metrics, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """The best scores so far."""
        return {"best": self.best, "lowest": self._lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the best scores."""
        self.best, self._lowest = state["best"], state["lowest"]


def _options(trainer: Trainer, module: ForecastModule) -> dict[str, Any]:
    return {**module.hparams, **module.datamodule.hparams, "max_steps": trainer.max_steps}


def _markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown, which is what TensorBoard shows text as."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
