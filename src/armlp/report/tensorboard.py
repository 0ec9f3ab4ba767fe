"""The TensorBoard pages of a training and of a test."""

from __future__ import annotations

import inspect
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer

from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.evaluation.diagnostics import Exemplar
from armlp.evaluation.scoreboard import MODEL
from armlp.report.comparison import compare_with_baselines
from armlp.report.pages import add_charts, add_layout, add_lead_curves
from armlp.report.runs import run_folder
from armlp.report.texts import configuration, data_report, model_card, options, score_table, versions
from armlp.training.callbacks import best_checkpoint
from armlp.training.checkpoint import read_checkpoint
from armlp.training.module import ForecastModule
from armlp.training.sampling import Sampling
from armlp.training.steps import is_logged
from armlp.training.trainer import MONITOR


class Dashboard(Callback):
    """Texts, a layout, windows per second, gradients, charts, and hyperparameters with the metrics of the best.

    Charts take as long to draw as many steps of a small model, so they are drawn at validations that are some time
    apart, and at the end of the best one.
    """

    seconds_between_charts = 20.0

    def __init__(self) -> None:
        self._windows = 0
        self._since = self._stopped = 0.0
        self._drawn = 0.0
        self.best: dict[str, dict[str, float]] | None = None
        self._lowest = float("inf")
        self._curves: dict[str, dict[str, Tensor]] = {}
        self._calibration: Tensor | None = None
        self._coverage: Mapping[float, float] = {}
        self._exemplars: list[Exemplar] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what the data are, what was chosen from them, and what it runs on."""
        logger = _logger(trainer)
        if logger is None:
            return
        assert isinstance(pl_module, ForecastModule)
        texts = {
            "data": data_report(pl_module),
            "options": options(pl_module),
            "settled": configuration(_options(trainer, pl_module)),
            "versions": versions(pl_module),
        }
        for tag, text in texts.items():
            if text:
                logger.experiment.add_text(tag, text)
        # Lightning writes hparams.yaml of them after this hook, and never again.
        logger.hparams.update(_options(trainer, pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._windows, self._since = 0, time.perf_counter()
        self._drawn = self._since

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Logs the norm of the gradient, before it is clipped."""
        if is_logged(trainer, trainer.global_step + 1):
            norms = [weight.grad.norm() for weight in pl_module.parameters() if weight.grad is not None]
            pl_module.log("train/gradient_norm", torch.stack(norms).norm())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Windows, batch_idx: int
    ) -> None:
        """Logs how many windows a second training took in since the last time."""
        self._windows += len(batch.series)
        if is_logged(trainer, trainer.global_step):
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
        """Draws the validation if that was long ago, while the weights are still those that were validated."""
        if trainer.state.fn != "fit" or batch_idx + 1 < sum(trainer.num_val_batches):
            return
        logger = _logger(trainer)
        if logger is None or time.perf_counter() - self._drawn < self.seconds_between_charts:
            return
        assert isinstance(pl_module, ForecastModule)
        exemplars = pl_module.evaluation.diagnostics.exemplars()
        forecast = partial(pl_module.sample, sampling=Sampling(pl_module.settings.val_paths))
        add_charts(logger.experiment, "val", trainer.global_step, pl_module, forecast, exemplars)
        self._drawn = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock again, and remembers the metrics of the best validation."""
        self._since += time.perf_counter() - self._stopped
        assert isinstance(pl_module, ForecastModule)
        monitored = trainer.callback_metrics[MONITOR].item()
        logger = _logger(trainer)
        if self.best is None and logger is not None and trainer.state.fn == "fit":
            add_layout(logger.experiment, pl_module.scores)
        if monitored < self._lowest:
            self._lowest, self.best = monitored, pl_module.scores
            judge = pl_module.evaluation
            self._curves, self._calibration, self._coverage = judge.curves, judge.calibration, judge.coverage
            self._exemplars = pl_module.evaluation.diagnostics.exemplars()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the best validation: its charts, its errors by lead, the model card, and hyperparameters once."""
        logger = _logger(trainer)
        if logger is None or self.best is None:
            return
        assert isinstance(pl_module, ForecastModule)
        writer, step = logger.experiment, trainer.global_step
        add_lead_curves(writer, "val_best", self._curves)
        with _best_weights(trainer, pl_module):
            forecast = partial(pl_module.sample, sampling=Sampling(pl_module.settings.val_paths))
            place = writer, "val_best", step, pl_module, forecast, self._exemplars
            measured = self._curves, self._calibration, self._coverage
            add_charts(*place, *measured, pl_module.datamodule.val_dataloader())
        writer.add_text("model_card", model_card(pl_module, self.best, step), step)
        own = self.best[MODEL]
        metrics = {f"val_best/{name}": own[name] for name in sorted(own, key=lambda name: name not in _FIRST)}
        logger.log_hyperparams(_telling(_options(trainer, pl_module), pl_module.reasons), metrics, step=step)

    def state_dict(self) -> dict[str, Any]:
        """What is known of the best validation so far."""
        return {
            "best": self.best,
            "lowest": self._lowest,
            "curves": self._curves,
            "calibration": self._calibration,
            "coverage": dict(self._coverage),
            "exemplars": [tuple(exemplar) for exemplar in self._exemplars],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores it; older checkpoints know the scores only."""
        self.best, self._lowest = state["best"], state["lowest"]
        self._curves, self._calibration = state.get("curves", {}), state.get("calibration")
        self._coverage = state.get("coverage", {})
        self._exemplars = [Exemplar(*exemplar) for exemplar in state.get("exemplars", [])]


def _logger(trainer: Trainer) -> TensorBoardLogger | None:
    """The logger of the process that writes."""
    logger = trainer.logger
    return logger if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero else None


@contextmanager
def _best_weights(trainer: Trainer, module: ForecastModule) -> Iterator[None]:
    """The module with the weights of the best checkpoint, if there is one; afterwards it has its own again.

    Those that an earlier run has trained on the validation rows too would flatter, and are left out.
    """
    callback = best_checkpoint(trainer)
    own = {name: value.clone() for name, value in module.state_dict().items()}
    training = module.training
    module.eval()
    best = callback.checkpoint() if callback is not None and callback.best_model_path else {"refit": {}}
    if "refit" not in best:
        module.load_state_dict(best["state_dict"])
    try:
        yield
    finally:
        module.load_state_dict(own)
        module.train(training)


def _options(trainer: Trainer, module: ForecastModule) -> dict[str, Any]:
    return {**vars(module.settings), **module.datamodule.hparams, "max_steps": trainer.max_steps}


def _telling(settled: dict[str, Any], chosen: Iterable[str]) -> dict[str, Any]:
    """What tells runs apart: the main options, and those that are not as they are by default."""
    usual = {
        name: parameter.default
        for kind in (ForecastModule, SeriesDataModule)
        for name, parameter in inspect.signature(kind).parameters.items()
    }
    given = [name for name, value in settled.items() if name not in chosen and value != usual.get(name, value)]
    return {name: value for name, value in settled.items() if name in {*_MAIN, *given} - _STATISTICS}


_FIRST = ("skill", "mase", "mae", "crps", "coverage_80", "nll", "error_rate", "perplexity")
_MAIN = {
    "batch_size", "context_length", "head", "hidden_sizes", "horizon", "learning_rate", "max_steps", "patch_length",
    "residual_blocks", "scaler", "seed", "source", "unroll",
}  # fmt: skip
_STATISTICS = {"covariate_statistics", "covariate_sizes", "trained_freq", "channels", "mask_input", "non_negative"}


_EVENTS, _SUFFIX = "events.out.tfevents.*", ".test"


class TestDashboard(Callback):
    """Writes an event file beside that of the training, in place of that of an earlier test.

    A checkpoint that was moved away from its run has none to write into, and nothing is made for it.

    Args:
        checkpoint: Path of the checkpoint that is tested.
    """

    __test__ = False  # the name is not one of a test

    def __init__(self, checkpoint: str | os.PathLike[str]) -> None:
        self.checkpoint = checkpoint

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows scores, lead curves and charts."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        run = run_folder(self.checkpoint)
        if not trainer.is_global_zero or not any(run.glob(_EVENTS)):
            return
        assert isinstance(pl_module, ForecastModule)
        step = read_checkpoint(self.checkpoint)["global_step"]
        try:
            for earlier in run.glob(_EVENTS + _SUFFIX):
                earlier.unlink()
            writer = SummaryWriter(run, filename_suffix=_SUFFIX)
        except OSError as error:
            sentence = f"{run} cannot be written ({error.strerror}), so TensorBoard will not show the test."
            warnings.warn(sentence, stacklevel=2)
            return
        with writer:
            for name, value in pl_module.scores[MODEL].items():
                if not math.isnan(value):
                    writer.add_scalar(f"test/{name}", value, step)
            judge = pl_module.evaluation
            add_lead_curves(writer, "test", judge.curves)
            place = writer, "test", step, pl_module, pl_module, judge.diagnostics.exemplars()
            measured = judge.curves, judge.calibration, judge.coverage
            add_charts(*place, *measured, pl_module.datamodule.test_dataloader())
            lines = [f"Tested on {pl_module.datamodule.panel.name}.", score_table(pl_module.scores)]
            writer.add_text("test", "\n\n".join([*lines, *compare_with_baselines(pl_module.scores)]), step)
