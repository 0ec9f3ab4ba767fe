"""The LightningModule: training, validation, test and predict steps of the autoregressive MLP, and its optimizer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback
from lightning.pytorch.plugins import Precision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from armlp.data.windows import Windowing, Windows
from armlp.evaluation.scoreboard import MODEL, Evaluation
from armlp.options import pop_undeclared
from armlp.training.checks import (
    check_monitors,
    check_monitors_defined,
    warn_of_other_frequency,
)
from armlp.training.dependence import estimate_dependence
from armlp.training.loop.callbacks import ExponentialAverage, TrainingRoutine
from armlp.training.loop.checkpoint import FORMAT
from armlp.training.loop.requested import Requested
from armlp.training.loop.steps import is_logged, plan_steps, set_default_length
from armlp.training.loop.trainer import MONITOR, check_precision, without_autocast
from armlp.training.objective import unrolled_objective
from armlp.training.optimizers import chain_length, make_optimizer, scheduled
from armlp.training.recipe import Choice
from armlp.training.sampling import Sampling
from armlp.training.settings import ModelSettings
from armlp.training.settle import Settled, SettledModule
from armlp.training.transforms import AtLeastNaive, PathTransform, Recalibration, TowardsTheta


class BestValidation(NamedTuple):
    """The best validation so far."""

    monitored: float = math.inf  # the score that was compared, lower is better
    scores: dict[str, dict[str, float]] | None = None  # by forecaster and metric


class ForecastModule(SettledModule):
    """Trains an `AutoregressiveMLP`, validates and tests its rollouts, and forecasts.

    What is left out is chosen from the data. A module whose options are all given has its network at once; any other
    gets it when a Trainer sets it up with its data.

    Args:
        **options: The options of `ModelSettings`.

    Attributes:
        settled: The options; once the network exists, with all values that were chosen and their reasons.
        network: The network.
        monitored: The score of the last validation that selects the best checkpoint.
        best: The best validation.
        refit_steps: The steps of the refit on the validation part too, if there was one.
        requested: The options that the training of these weights was given.
    """

    evaluation: Evaluation  # of the validation or the test
    total_steps: int  # of the training

    def __init__(self, **options: Any) -> None:
        super().__init__()
        head_options = pop_undeclared(options, ModelSettings)
        self.settled = Settled(ModelSettings(head_options=head_options, **options))
        self.save_hyperparameters(logger=False)
        self.sampling = Sampling()
        self.transforms: list[PathTransform] = []
        self.recalibration = Recalibration(self.settings.conformal)
        self.monitored, self.best = math.inf, BestValidation()
        self.refit_steps: int | None = None
        self.requested: Requested | None = None
        self._series_at_once = Windowing().series_at_once  # `setup` sets how many series fit into memory
        self.apply_settled(self.settled)

    @property
    def best_scores(self) -> dict[str, dict[str, float]] | None:
        """The scores of the best validation, by forecaster and metric."""
        return self.best.scores

    @property
    def windowing(self) -> Windowing:
        """What the network needs of a window."""
        settings, patch = self.settings, self.network.patch_length
        span = patch * (settings.unroll or 1)
        calendar = "calendar" in (settings.covariate_sizes or {})
        by_time = settings.conformal == "adaptive"
        return Windowing(self.network.context_length, span, patch, calendar, self._series_at_once, by_time)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """The scores of the last validation or test, by forecaster and metric."""
        return self.evaluation.scores

    def setup(self, stage: str) -> None:
        """Settle the module on its data, and how long it trains."""
        check_precision(self.trainer)
        if stage == "fit" and self.has_other_loaders:
            set_default_length(self.trainer, _MAX_STEPS)
            return
        data = self.datamodule
        if stage == "fit" and self.requested is None:
            self.requested = Requested.of(self.settings, data, self.trainer)
        self.settle_on(data)
        if stage == "fit":
            if type(self) is ForecastModule:  # a subclass may log more
                check_monitors(self.trainer, data, self.settings.metrics or ())
            self.plan()
            self.best = BestValidation()
        else:
            warn_of_other_frequency(data)
        share = self.settings.theta_share
        self.transforms = [TowardsTheta(data, share)] if share else []
        if self.settings.min_spread:
            self.transforms.append(AtLeastNaive(data, self.settings.min_spread))
        self.recalibration.prepare(data, stage)
        forecast_length = data.test_split.test_span if stage == "test" else data.horizon
        sampling = self.sampling if stage in ("test", "predict") else Sampling(self.settings.val_paths)
        self._series_at_once = sampling.series_at_once(self.network, forecast_length)
        if stage != "predict":
            self.evaluation = Evaluation(data, stage, forecast_length, self.settings.metrics or ())

    def plan(self) -> None:
        """Plan the optimizer steps of the training; a Trainer without a length takes those of the data."""
        steps, loader = self.settled.max_steps, self.datamodule.train_dataloader
        if set_default_length(self.trainer, steps.value):
            self.settled = replace(self.settled, applied={**self.reasons, "max_steps": steps})
        self.total_steps = plan_steps(self.trainer, lambda: len(loader()))

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks of every training."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return []
        averaging = self.settings.averaging
        if averaging == 0:
            return [TrainingRoutine()]
        if not hasattr(self, "network"):
            self.settle_on(self.datamodule)  # to average its weights
        return [TrainingRoutine(), ExponentialAverage(averaging, lambda: self.total_steps)]

    def forward(self, windows: Windows, known: Tensor | None = None) -> Tensor:
        """Return the paths `[B, P, H, V]` of windows, data units, recalibrated if `conformal` says so.

        `known` are `[B, H, V]` known values of the future, on the scale of the panel's store; nan elsewhere.
        """
        return self.recalibration(self.network, self.sample(windows, self.sampling, known), windows)

    def sample(self, windows: Windows, sampling: Sampling, known: Tensor | None = None) -> Tensor:
        """Return paths without recalibration: `[B, P, T, V]`, data units.

        They are as long as the targets; `H` if there are none. A series' paths do not depend on its batch.
        """
        steps = windows.target.shape[1] or self.datamodule.horizon
        paths = sampling.paths(self.network, self.datamodule.panel, windows, steps, known)
        for transform in self.transforms:
            paths = transform(self.network, paths, windows, known)
        return paths

    @without_autocast
    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Return the objective of one batch."""
        settings, logged = self.settings, is_logged(self.trainer, self.global_step + 1)
        chain = chain_length(self.global_step, self.total_steps, settings.unroll or 1, settings.unroll_growth)
        objective = unrolled_objective(
            self.network,
            batch.shortened(chain * self.network.patch_length),
            **{name: getattr(settings, name) for name in _OBJECTIVE},
            with_nll=logged,
            precision=self.trainer.precision_plugin.forward_context,
        )
        if logged:
            # For a bar that shows the loss, Lightning waits for the device at every step. armlp's bar reads logged
            # metrics and needs no sync.
            bar = self.trainer.progress_bar_callback
            shown = bar is not None and not getattr(bar, "reads_logged_metrics", False)
            self.log("train/loss", objective.loss, prog_bar=shown)
            groups = [group for optimizer in self.trainer.optimizers for group in optimizer.param_groups]
            if rates := [group["lr"] for group in groups if "lr" in group]:
                self.log("train/learning_rate", rates[0])
            self.log("train/unroll", float(chain))
            if objective.nll is not None:
                self.log("train/nll", objective.nll)
        return objective.loss

    @without_autocast
    def validation_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Roll out from held-out origins; return the paths `[B, P, H, V]` without recalibration."""
        paths = self.sample(batch, Sampling(self.settings.val_paths))
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.recalibration.observe(self.datamodule, paths, batch)
        self.evaluation.update(self.network, paths, batch)
        return paths

    @without_autocast
    def test_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Roll out from the test origins; return the paths `[B, P, H, V]`."""
        paths = self.forward(batch)
        self.evaluation.update(self.network, paths, batch)
        return paths

    def _update_adaptive_recalibration(self) -> None:
        """Update an adaptive recalibration with all values before the test, or up to the end of the table."""

        def forecast(windows: Windows) -> Tensor:
            return self.sample(move_data_to_device(windows, self.device), self.sampling)

        part = "test" if self.trainer.state.fn == TrainerFn.TESTING else "predict"
        self.recalibration.catch_up(self.datamodule, part, forecast, self.trainer.world_size)

    on_test_epoch_start = on_predict_epoch_start = _update_adaptive_recalibration

    def on_validation_epoch_start(self) -> None:
        """Remove the scores of the previous validation, and estimate the dependence under the present weights."""
        self.evaluation.reset()
        if self.trainer.state.fn == TrainerFn.FITTING:
            estimate_dependence(self.network, self.trainer.train_dataloader)

    def on_train_end(self) -> None:
        """Estimate the dependence under the final weights."""
        estimate_dependence(self.network, self.trainer.train_dataloader)

    def on_validation_epoch_end(self) -> None:
        """Log the rollout metrics of all origins, and fit the recalibration."""
        self.recalibration.fit_factors(self.datamodule, self.trainer.world_size)
        self._log_scores("val")
        if self.trainer.state.fn == TrainerFn.FITTING:
            logged = [MONITOR, *(f"val/{name}" for name, value in self.scores[MODEL].items() if not math.isnan(value))]
            check_monitors_defined(self.trainer, self.datamodule, logged, self.settings.metrics or ())
        self.monitored = self.evaluation.monitored
        if self.trainer.state.fn == TrainerFn.FITTING and self.monitored < self.best.monitored:
            self.best = BestValidation(self.monitored, self.scores)
        self.log(MONITOR, self.monitored, **_SAME_EVERYWHERE)

    def on_test_epoch_end(self) -> None:
        """Log the rollout metrics of all test origins."""
        self.recalibration.stop_updating()
        self._log_scores("test")

    def _log_scores(self, group: str) -> None:
        """Compute all scores, and log those of the model that the data define."""
        self.evaluation.sum_up(self.device)
        for name, value in self.scores[MODEL].items():
            if not math.isnan(value):
                self.log(f"{group}/{name}", value, prog_bar=name == "skill", **_SAME_EVERYWHERE)

    @without_autocast
    def predict_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Roll out from the end of every series, with what is known after it; return the paths `[B, P, H, V]`."""
        known = self.datamodule.known_values
        return self.forward(batch, None if known is None else known.of(batch.series.cpu(), self.datamodule.horizon))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and its schedule by steps."""
        settings = self.settings
        if self.has_other_loaders:
            self.total_steps = int(self.trainer.estimated_stepping_batches)
        # Lightning's rate finder may have changed `hparams`.
        rates = self.hparams["learning_rate"], settings.weight_decay or 0.0
        # A fused optimizer would take the scale off 16-bit gradients itself, after they are clipped.
        fused = self.device.type in ("cpu", "cuda") and self.trainer.precision != "16-mixed"
        optimizer = make_optimizer(str(settings.optimizer), self.network, *rates, fused=fused)
        scheduler = scheduled(optimizer, settings.schedule, self.total_steps, settings.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients; Lightning refuses fused optimizers under bf16-mixed, where clipping works."""
        if gradient_clip_val:
            kind = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(self.trainer.precision_plugin, optimizer, gradient_clip_val, kind)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the format, and the scores and factors from validation."""
        checkpoint["armlp_format"] = FORMAT
        checkpoint["monitored"] = self.monitored
        checkpoint["best"] = self.best._asdict()
        if self.requested is not None:
            checkpoint["requested"] = self.requested._asdict()
        if self.recalibration.factors is not None:
            checkpoint["conformal"] = {"factors": self.recalibration.factors}
        if self.settled.from_trials:
            checkpoint["preferred"] = {name: list(choice) for name, choice in self.settled.from_trials.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the scores and factors from validation."""
        if not hasattr(self, "network"):  # of a subclass with other arguments, which Lightning has not passed on
            saved = checkpoint["hyper_parameters"]  # with those arguments
            known = ModelSettings(head=saved.get("head")).flat()
            self.apply_settled(ForecastModule(**{name: saved[name] for name in known if name in saved}).settled)
        self.recalibration.factors = checkpoint.get("conformal", {}).get("factors")
        from_trials = {name: Choice(*choice) for name, choice in checkpoint.get("preferred", {}).items()}
        self.settled = replace(self.settled, from_trials=from_trials)
        self.monitored = checkpoint.get("monitored", math.inf)
        self.best = BestValidation(**checkpoint.get("best", {}))
        self.refit_steps = checkpoint.get("refit", {}).get("steps")
        self.requested = Requested(**checkpoint["requested"]) if "requested" in checkpoint else None


# Steps of a training on other loaders than those of a `SeriesDataModule`, if the Trainer has no length.
_MAX_STEPS = 1000
# All processes hold the same scores: their maximum is exact, and Lightning does not warn that they are not reduced.
_SAME_EVERYWHERE: dict[str, Any] = {"sync_dist": True, "reduce_fx": "max"}
_OBJECTIVE = ("objective", "loss_units", "feed", "gradient", "lead_weighting", "input_noise")
