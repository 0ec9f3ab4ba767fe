"""Callbacks that log a training and a test to TensorBoard."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import Optimizer

from armlp.data.settings import DataSettings
from armlp.data.windows import Windows
from armlp.evaluation.labels import label
from armlp.evaluation.scoreboard import MODEL
from armlp.report.pages import ChartData, add_charts, add_layout, add_lead_curves
from armlp.report.runs import run_folder
from armlp.report.texts import (
    choice_table,
    compare_with_baselines,
    data_table,
    model_card,
    option_table,
    score_table,
    version_table,
)
from armlp.training.loop.callbacks import best_checkpoint
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.loop.steps import is_logged
from armlp.training.module import ForecastModule
from armlp.training.sampling import Sampling
from armlp.training.settings import ModelSettings


class Dashboard(Callback):
    """Log texts, gradient norms, windows per second, charts, and hyperparameters with the best scores.

    Drawing takes as long as many steps of a small model, so validations are drawn at least `seconds_between_charts`
    apart; the best one is drawn at the end.
    """

    seconds_between_charts = 20.0

    def __init__(self) -> None:
        self._windows = 0  # since the last log
        self._started = self._stopped = self._drawn = 0.0  # seconds
        self._best = ChartData()  # of the best validation

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the data, every option, the reasons of the chosen ones, and package versions."""
        logger = _logger(trainer)
        if logger is None:
            return
        assert isinstance(pl_module, ForecastModule)
        options = _options(trainer, pl_module)
        texts = {
            "data": data_table(pl_module),
            "settled": choice_table(pl_module),
            "options": option_table(options),
            "versions": version_table(pl_module),
        }
        for tag, text in texts.items():
            if text:
                logger.experiment.add_text(tag, text)
        # Lightning writes them to hparams.yaml once, after this hook.
        logger.hparams.update(options)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._windows = 0
        self._started = self._drawn = time.perf_counter()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the norm of the gradient before it is clipped."""
        if is_logged(trainer, trainer.global_step + 1):
            norms = [weight.grad.norm() for weight in pl_module.parameters() if weight.grad is not None]
            pl_module.log("train/gradient_norm", torch.stack(norms).norm())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Windows, batch_idx: int
    ) -> None:
        """Log the training windows per second since the last log."""
        self._windows += len(batch.series)
        if is_logged(trainer, trainer.global_step):
            now = time.perf_counter()
            pl_module.log("train/windows_per_second", self._windows / (now - self._started))
            self._windows, self._started = 0, now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._stopped = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Windows, batch_idx: int, *args: Any
    ) -> None:
        """Draw forecasts if the last ones are old, while the validated weights are still loaded."""
        if trainer.state.fn != "fit" or batch_idx + 1 < sum(trainer.num_val_batches):
            return
        logger = _logger(trainer)
        if logger is None or time.perf_counter() - self._drawn < self.seconds_between_charts:
            return
        assert isinstance(pl_module, ForecastModule)
        data = ChartData(pl_module.evaluation.diagnostics.exemplars())
        add_charts(logger.experiment, "val", trainer.global_step, pl_module, _sampler(pl_module), data)
        self._drawn = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again, and keep the chart data of the best validation."""
        self._started += time.perf_counter() - self._stopped
        assert isinstance(pl_module, ForecastModule)
        logger = _logger(trainer)
        if not self._best.curves and logger is not None and trainer.state.fn == "fit":
            add_layout(logger.experiment, pl_module.scores)
        if pl_module.scores is pl_module.best.scores:  # the last validation is the best
            self._best = ChartData.from_evaluation(pl_module.evaluation)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log charts, errors by lead and model card of the best validation, and the hyperparameters."""
        assert isinstance(pl_module, ForecastModule)
        logger, scores = _logger(trainer), pl_module.best_scores
        if logger is None or scores is None:
            return
        writer, step = logger.experiment, trainer.global_step
        add_lead_curves(writer, "val_best", self._best.curves)
        with _best_weights(trainer, pl_module):
            origins = pl_module.datamodule.val_dataloader()
            add_charts(writer, "val_best", step, pl_module, _sampler(pl_module), self._best, origins)
        writer.add_text("model_card", model_card(pl_module, scores, step), step)
        names = sorted(scores[MODEL], key=lambda name: label(name).rank or math.inf)
        metrics = {f"val_best/{name}": scores[MODEL][name] for name in names}
        options = _distinguishing(_options(trainer, pl_module), pl_module.reasons)
        logger.log_hyperparams(options, metrics, step=step)

    def state_dict(self) -> dict[str, Any]:
        """Return the chart data of the best validation so far."""
        return self._best.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the chart data of the best validation so far."""
        self._best = ChartData.from_state(state)


def _logger(trainer: Trainer) -> TensorBoardLogger | None:
    """Return the logger on the process that writes, None on others."""
    logger = trainer.logger
    return logger if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero else None


def _sampler(module: ForecastModule) -> partial[torch.Tensor]:
    """Return the function that samples the paths of a validation."""
    return partial(module.sample, sampling=Sampling(module.settings.val_paths))


@contextmanager
def _best_weights(trainer: Trainer, module: ForecastModule) -> Iterator[None]:
    """Load the weights of the best checkpoint, if there is one, within a block.

    Weights of an earlier refit were trained on the validation rows too, so they are not loaded.
    """
    callback = best_checkpoint(trainer)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    training = module.training
    module.eval()
    best = callback.checkpoint() if callback is not None and callback.best_model_path else {"refit": {}}
    if "refit" not in best:
        module.load_state_dict(best["state_dict"])
    try:
        yield
    finally:
        module.load_state_dict(weights)
        module.train(training)


def _options(trainer: Trainer, module: ForecastModule) -> dict[str, Any]:
    return {**module.settings.flat(), **module.datamodule.hparams, "max_steps": trainer.max_steps}


def _distinguishing(options: dict[str, Any], chosen: Iterable[str]) -> dict[str, Any]:
    """Return the options by which to compare runs: the main ones, and those that the user has set."""
    defaults = ModelSettings.defaults() | DataSettings.defaults()
    changed = {name for name, value in options.items() if name not in chosen and value != defaults.get(name, value)}
    return {name: value for name, value in options.items() if name in (_MAIN | changed) - _STATISTICS}


_MAIN = {
    "batch_size", "context_length", "head", "hidden_sizes", "horizon", "learning_rate", "max_steps", "patch_length",
    "residual_blocks", "scaler", "seed", "source", "unroll",
}  # fmt: skip
_STATISTICS = {"covariate_statistics", "covariate_sizes", "trained_freq", "channels", "mask_input", "non_negative"}
_EVENTS, _SUFFIX = "events.out.tfevents.*", ".test"


class TestDashboard(Callback):
    """Log a test in an event file beside that of the training, replacing that of an earlier test.

    If the checkpoint does not lie in a run folder, nothing is written.
    """

    __test__ = False  # pytest would collect it by its name

    def __init__(self, checkpoint: str | os.PathLike[str]) -> None:
        self.checkpoint = checkpoint

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log scores, lead curves and charts."""
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
        scores, data = pl_module.scores, ChartData.from_evaluation(pl_module.evaluation)
        with writer:
            for name, value in scores[MODEL].items():
                if not math.isnan(value):
                    writer.add_scalar(f"test/{name}", value, step)
            add_lead_curves(writer, "test", data.curves)
            add_charts(writer, "test", step, pl_module, pl_module, data, pl_module.datamodule.test_dataloader())
            paragraphs = [f"Tested on {pl_module.datamodule.panel.name}.", score_table(scores)]
            writer.add_text("test", "\n\n".join([*paragraphs, *compare_with_baselines(scores)]), step)
