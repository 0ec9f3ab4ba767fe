"""The LightningModule: the four steps and the optimizer around the autoregressive MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from armlp.arguments import check_arguments
from armlp.data.datamodule import SeriesDataModule
from armlp.data.loaders import TrainingLoader
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.scoreboard import MODEL, Evaluation
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.callbacks import BestScores, ExponentialAverage
from armlp.training.candidates import Trial
from armlp.training.checkpoint import FORMAT
from armlp.training.checks import (
    check_monitors,
    check_monitors_defined,
    check_options_agree,
    check_same_data,
    warn_of_other_frequency,
)
from armlp.training.objective import unrolled_objective
from armlp.training.optimizers import chain_length, make_optimizer, scheduled
from armlp.training.recipe import Choice
from armlp.training.requested import Requested
from armlp.training.sampling import Sampling
from armlp.training.settings import CHOSEN, NETWORK_OPTIONS, OPTIMIZATION, check_options, settle_options
from armlp.training.steps import is_logged, measure_by_steps, settle_length
from armlp.training.trainer import MONITOR, RestoredGenerators, check_precision, clip_gradients, without_autocast
from armlp.training.transforms import Blending, Recalibration
from armlp.training.warm_start import warm_start


class ForecastModule(LightningModule):
    """Trains an `AutoregressiveMLP`, validates and tests its rollouts, and forecasts.

    Everything left out is chosen from the data when training starts, and saved in the checkpoint as chosen.

    Args:
        context_length: `L`, the past values that the network sees.
        patch_length: `U`, the values that one network call emits; 1 is the classic model.
        unroll: `K`, network calls chained in one training example; 1 is teacher forcing of single patches.
        unroll_growth: Share of the steps in which the chain grows from 1 to `unroll`; 0 has it whole from the start.
        hidden_sizes: Widths of the plain layers.
        residual_blocks: How many residual blocks follow them.
        block_size: Width inside a residual block; as wide as the last plain layer where left out.
        activation: `relu`, `gelu`, `silu` or `tanh`.
        dropout: Share of inner units dropped in the residual blocks during training.
        head: What the next values are thought to follow: `point`, `normal`, `student_t`, `laplace`, `mixture` (of
            normals), `quantile`, `poisson`, `negative_binomial`, `categorical` (bins), `multivariate_normal` (channels
            that vary together) or `symbols`; by the kind of values where left out or `auto`.
        point_loss: What the point head minimises: `mse`, `mae` or `huber`.
        quantile_loss: What the quantile head minimises: `pinball` at its knots, or the exact `crps`.
        components: Of the mixture head.
        bins: Of the categorical head.
        symbols: Size of the alphabet where the values are symbols, 0 for numbers; the data's where left out.
        scaler: `none`, `mean_abs`, `standard`, `last`, `robust` (median and quartiles) or `seasonal` of each window, or
            `global`: by the mean and the standard deviation of each channel in training, for series that share their
            level and spread.
        level_input: Tell the network how large the window's spread is beside its level.
        mask_input: Tell the network which values of the context were observed.
        linear_skip: Add a linear map of the whole context to the location.
        ridge_init: Start the linear skip as the best linear autoregression, by ridge regression.
        seasonal_skip: Add the value one season ago to the location.
        season_length: Steps in a season of the seasonal skip and scaler; the data's where left out.
        channels: `V`, values per time step; the data's where left out.
        non_negative: Cut forecasts off at 0; where left out, if no training value is below.
        members: `E`, networks trained side by side as an ensemble; every path of a forecast is of one member. 1 where
            left out, unless `effort` says more.
        covariate_sizes: By role, for each column the number of its codes, or 0 for numbers; the data's where left out.
        objective: What is minimised: the `head`'s own loss (its likelihood, or the loss of point and quantile heads),
            or of sampled paths the `crps` of each value or the `energy` score of the whole future.
        loss_units: Units of losses that are no likelihoods: `relative` to the mean absolute value of the window,
            `network` units (scaled errors) or `data` units.
        feed: What an unrolled patch hands to the next in training: its `mean`, a `sample`, or the `truth` instead
            (teacher forcing under the scaling of the origin, as rollouts have it); a `sample` where only `unroll` was
            given.
        gradient: How far back it runs in an unrolled chain: `full`, `last` (each patch takes its input as it is: the
            pushforward trick), or chains of so many patches, cut off from each other.
        lead_weighting: What the leads of an unrolled chain count: `even`, `near` or `far` ones more.
        optimizer: `adamw`, `adam`, or `muon`, which gets closer where there is no noise.
        learning_rate: The highest one.
        weight_decay: Of the optimizer.
        schedule: `cosine` (after a warm-up) or `constant`.
        warmup: Share of the steps in which the learning rate rises.
        input_noise: Standard deviation of Gaussian noise on the context in training, network units; it steadies
            small data.
        averaging: Share of the steps over which weights are averaged for validation and the checkpoint; 0 is none.
        val_paths: Paths per origin in validation.
        conformal: Recalibrate the paths of forecasts: `split` stretches them around their median, by lead, until the
            intervals cover what they should at the validation origins; `adaptive` starts there and follows a stream:
            at every origin of a test, and before a forecast of a table that goes on past the training, it takes in what
            has become known since, and nothing later; `off` leaves them as the network gives them.
        trials: How many other settings `fit` tries on the validation origins before it trains with the best; 0 tries
            none. Where left out, as many as the data are worth, and none where the Trainer is told how long to train.
        refit: After training, train anew on the validation part too, to the end or for as many steps as were clearly
            best, and keep these weights in the best checkpoint; scores and recalibration stay those of before. Where
            left out, yes where validation holds a tenth of what training has, or too few windows to choose a step by,
            unless the Trainer is told how long to train.
        theta_share: How far forecasts move to those of the Theta method, which sees all of a series: 0 is the network
            alone, 1 Theta's with the network's spread. Series too short for Theta are forecast by the network alone.
            Where left out, 0.35 for short series of numbers without covariates, unless many of them are 0, the
            network was chosen by hand, or `fit` is told how long to train. Likelihoods and exports are the network's
            alone.
        effort: How many times the usual work training may be: so many members, unless their number is given, or, where
            series are without noise, so many times the steps, unless the Trainer is told how long to train.
    """

    network: AutoregressiveMLP | None
    blending: Blending | None
    judge: Evaluation  # of the validation or the test
    total_steps: int  # of the training
    _planned_rate: float  # that the optimizer was made for

    def __init__(
        self,
        context_length: int | None = None,
        patch_length: int | None = None,
        unroll: int | None = None,
        unroll_growth: float = 0.0,
        hidden_sizes: Sequence[int] | None = None,
        residual_blocks: int | None = None,
        block_size: int | None = None,
        activation: str = "gelu",
        dropout: float | None = None,
        head: str | None = None,
        point_loss: str = "mse",
        quantile_loss: str = "pinball",
        components: int = 3,
        bins: int = 64,
        symbols: int | None = None,
        scaler: str | None = None,
        level_input: bool = True,
        mask_input: bool | None = None,
        linear_skip: bool = True,
        ridge_init: bool = False,
        seasonal_skip: bool = True,
        season_length: int | None = None,
        channels: int | None = None,
        non_negative: bool | None = None,
        members: int | None = None,
        covariate_sizes: Mapping[str, Sequence[int]] | None = None,
        objective: str = "head",
        loss_units: str | None = None,
        feed: str | None = None,
        gradient: int | str = "full",
        lead_weighting: str = "even",
        optimizer: str | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        schedule: str = "cosine",
        warmup: float = 0.1,
        input_noise: float | None = None,
        averaging: float = 0.0,
        val_paths: int = 50,
        conformal: str = "off",
        trials: int | None = None,
        refit: bool | None = None,
        theta_share: float | None = None,
        effort: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.hparams.update(check_arguments(ForecastModule.__init__, self.hparams))
        if head == "auto":
            self.hparams["head"] = None
        check_options(self.hparams)
        if effort == 1 and members is None:
            self.hparams["members"] = 1  # no data say otherwise
        self.sampling = Sampling()
        self.recalibration = Recalibration(conformal)
        self.chosen: dict[str, Choice] = {}
        self.tried: list[Trial] = []  # before this training
        self.preferred: dict[str, Choice] = {}  # to what the recipe says, as trials have shown
        self.monitored = math.inf  # of the last validation
        self.best_scores: dict[str, dict[str, float]] | None = None
        self.refit_steps: int | None = None  # of a checkpoint that was trained on validation too
        self.requested: Requested | None = None  # of the training that these weights come from
        self.network = None
        if None not in (self.hparams[name] for name in CHOSEN if name not in OPTIMIZATION):
            self._build()

    def _build(self) -> None:
        self.network = AutoregressiveMLP(**{name: self.hparams[name] for name in NETWORK_OPTIONS})
        check_options_agree(self.hparams, self.network)

    @property
    def has_distribution(self) -> bool:
        """Whether forecasts spread, so that intervals mean something; a point head's do not."""
        assert self.network is not None
        return self.network.head.noise > 0

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Of the last validation or test, by forecaster and metric."""
        return self.judge.scores

    @property
    def conformal_factors(self) -> Tensor | None:
        """`[H, K]` by which paths are recalibrated; None where they are not."""
        return self.recalibration.factors

    @property
    def trainer(self) -> Trainer:
        """The trainer that the module is attached to."""
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            measure_by_steps(trainer)
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]  # mypy knows no setters of a class

    @property
    def datamodule(self) -> SeriesDataModule:
        """The data that the trainer was given."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if not isinstance(datamodule, SeriesDataModule):
            raise UserError("ForecastModule needs its data as a SeriesDataModule: trainer.fit(module, datamodule).")
        return datamodule

    def twin(self) -> ForecastModule:
        """Return a copy with the same weights in memory, and with everything else of its own.

        A Trainer changes the module that it is given, so that calls at the same time need a copy each.
        """
        weights = {id(weight): nn.Parameter(weight.detach(), weight.requires_grad) for weight in self.parameters()}
        return deepcopy(self, weights | {id(buffer): buffer.detach() for buffer in self.buffers()})

    def prefer(self, choices: Mapping[str, Choice]) -> None:
        """Takes options as if they had been given, and `max_steps` where the Trainer is not told how long to train."""
        self.preferred = dict(choices)
        self.hparams.update({name: choice.value for name, choice in choices.items() if name in self.hparams})

    def settle(self, data: SeriesDataModule) -> dict[str, Choice]:
        """Settles what was left to the data, builds the network, and tells the data module its window.

        Doors do it before they make a run, so that a mistake leaves none behind.

        Returns:
            What the data would choose, of every option.
        """
        choices, chosen = settle_options(self.hparams, data, self.preferred)
        self.chosen = chosen or self.chosen
        check_same_data(self.hparams, data, choices)
        if self.network is None:
            self._build()
        patch = self.hparams["patch_length"]
        data.shape_windows(self.hparams["context_length"], patch * self.hparams["unroll"], patch)
        return choices

    def setup(self, stage: str) -> None:
        """Settles the model on the data, and how long it trains."""
        check_precision(self.trainer)
        data = self.datamodule
        if stage == "fit" and self.requested is None:
            self.requested = Requested.of(self, data, self.trainer)
        choices = self.settle(data)
        if stage != "fit":
            warn_of_other_frequency(data)
        else:
            if type(self) is ForecastModule:  # others may log more
                check_monitors(self.trainer, data)
            self._settle_length(data, choices["max_steps"])
        self.blending = Blending(data, self.hparams["theta_share"]) if self.hparams["theta_share"] else None
        self.recalibration.prepare(data, stage)
        reach = data.test_split.test_reach if stage == "test" else data.horizon
        sampling = self.sampling if stage in ("test", "predict") else Sampling(self.hparams["val_paths"])
        assert self.network is not None
        data.origins_at_once = sampling.series_at_once(self.network, reach)
        if stage != "predict":
            self.judge = Evaluation(data, stage, reach)

    def _settle_length(self, data: SeriesDataModule, steps: Choice) -> None:
        """Settle how many optimizer steps the training takes."""
        data.settle_batch_size()
        self.total_steps, chosen = settle_length(self.trainer, steps.value, lambda: len(data.train_dataloader()))
        self._planned_rate = self.hparams["learning_rate"]
        if chosen:
            self.chosen["max_steps"] = steps

    def configure_callbacks(self) -> list[Callback]:
        """Return what a training needs: the generators as they were after it, and averaged weights where wanted."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return []
        averaging = self.hparams["averaging"]
        return [RestoredGenerators(), BestScores(), *([ExponentialAverage(averaging)] if averaging > 0 else [])]

    def forward(self, windows: Windows, given: Tensor | None = None) -> Tensor:
        """Rolls the model forward from every window, and recalibrates the paths where that is wanted.

        Args:
            windows: The windows.
            given: `[B, H(, V)]` what is known of the future, on the scale of the panel's store; nan elsewhere.

        Returns:
            `[B, P, H(, V)]`, data units.
        """
        assert self.network is not None
        return self.recalibration(self.network, self.sample(windows, self.sampling, given), windows)

    def sample(self, windows: Windows, sampling: Sampling, given: Tensor | None = None) -> Tensor:
        """Sampled futures as long as the targets, or `H`: `[B, P, H(, V)]`, data units.

        A series' paths do not depend on its batch.
        """
        assert self.network is not None
        steps = windows.target.shape[1] or self.datamodule.horizon
        data = self.datamodule
        paths = sampling.paths(self.network, data.panel, windows, steps, given)
        return paths if self.blending is None else self.blending(self.network, paths, windows, given)

    def on_fit_start(self) -> None:
        """Plan anew where a callback has found another batch size or learning rate."""
        planned = self.total_steps, self._planned_rate
        self._settle_length(self.datamodule, Choice(self.total_steps, ""))
        if planned != (self.total_steps, self._planned_rate):
            self.trainer.strategy.setup_optimizers(self.trainer)

    def on_train_start(self) -> None:
        """Sets what has a closed form, unless the training goes on from a checkpoint."""
        loader = self.trainer.train_dataloader
        if self.global_step == 0 and isinstance(loader, TrainingLoader):
            assert self.network is not None
            warm_start(self.network, loader, self.hparams["loss_units"], self.hparams["ridge_init"])

    def on_train_batch_start(self, batch: Windows, batch_idx: int) -> None:
        """Draws dropout and fed-back samples from `(seed, step)`, so that a resumed run draws the same."""
        part = batch_idx % self.trainer.accumulate_grad_batches
        seed = hash((self.datamodule.seed, self.global_step, self.global_rank, part)) % 2**63
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes many times as long
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    @without_autocast
    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """The objective of one batch."""
        assert self.network is not None
        logged = is_logged(self.trainer, self.global_step + 1)
        unroll, growth = self.hparams["unroll"], self.hparams["unroll_growth"]
        chain = chain_length(self.global_step, self.total_steps, unroll, growth)
        options = {name: self.hparams[name] for name in _OBJECTIVE}
        options |= {"with_nll": logged, "precision": self.trainer.precision_plugin.forward_context}
        windows = batch.shortened(chain * self.network.patch_length)
        objective = unrolled_objective(self.network, windows, **options)
        if logged:
            # Lightning then waits for the device at every step, which its own bars alone need.
            shown = isinstance(self.trainer.progress_bar_callback, (TQDMProgressBar, RichProgressBar))
            self.log("train/loss", objective.loss, prog_bar=shown)
            for rate in self._learning_rates()[:1]:
                self.log("train/learning_rate", rate)
            self.log("train/unroll", float(chain))
            if objective.nll is not None:
                self.log("train/nll", objective.nll)
        return objective.loss

    def _learning_rates(self) -> list[float]:
        """Return the rates of all optimizers, which need not have one where `configure_optimizers` is overridden."""
        groups = [group for optimizer in self.trainer.optimizers for group in optimizer.param_groups]
        return [group["lr"] for group in groups if "lr" in group]

    @without_autocast
    def validation_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Rolls out from held-out origins; returns the paths `[B, P, H(, V)]`, as the network gives them."""
        paths = self.sample(batch, Sampling(self.hparams["val_paths"]))
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.recalibration.observe(self.datamodule, paths, batch)
        return self._scored(batch, paths)

    @without_autocast
    def test_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Rolls out from the test origins; returns the paths `[B, P, H(, V)]`."""
        return self._scored(batch, self.forward(batch))

    def on_test_epoch_start(self) -> None:
        """Brings a stream to where the test begins."""
        self.recalibration.follow(self, "test")

    def on_predict_epoch_start(self) -> None:
        """Brings a stream to the end of the table."""
        self.recalibration.follow(self, "predict")

    def _scored(self, batch: Windows, paths: Tensor) -> Tensor:
        assert self.network is not None
        self.judge.update(self.network, paths, batch)
        return paths

    def on_validation_epoch_start(self) -> None:
        """Forgets the validation before."""
        self.judge.reset()

    def on_validation_epoch_end(self) -> None:
        """Logs the rollout metrics of all origins, and settles by how much forecasts are recalibrated."""
        self.recalibration.settle(self.datamodule, self.trainer.world_size)
        self.judge.sum_up(self.device)
        self._log_scores("val")
        if self.trainer.state.fn == TrainerFn.FITTING:
            logged = [MONITOR, *(f"val/{name}" for name, value in self.scores[MODEL].items() if not math.isnan(value))]
            check_monitors_defined(self.trainer, self.datamodule, logged)
        self.monitored = self.judge.monitored
        self.log(MONITOR, self.monitored, **_SAME_EVERYWHERE)

    def on_test_epoch_end(self) -> None:
        """Log the rollout metrics of all test origins."""
        self.recalibration.rest()
        self.judge.sum_up(self.device)
        self._log_scores("test")

    def _log_scores(self, group: str) -> None:
        """Log the scores of the model, except those that the data do not define."""
        for name, value in self.scores[MODEL].items():
            if not math.isnan(value):
                self.log(f"{group}/{name}", value, prog_bar=name == "skill", **_SAME_EVERYWHERE)

    @without_autocast
    def predict_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Rolls out from the end of every series, given what is known after it; the paths `[B, P, H(, V)]`."""
        known = self.datamodule.known_values
        given = None if known is None else known.of(batch.series.cpu(), self.datamodule.horizon)
        return self.forward(batch, given)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """An optimizer; its rate warms up and then falls like a cosine, or is constant, by steps."""
        assert self.network is not None
        rates = self.hparams["learning_rate"], self.hparams["weight_decay"]
        # A fused optimizer would take the scale off 16-bit gradients itself, after they are clipped.
        fused = self.device.type in ("cpu", "cuda") and self.trainer.precision != "16-mixed"
        optimizer = make_optimizer(self.hparams["optimizer"], self.network, *rates, fused=fused)
        scheduler = scheduled(optimizer, self.hparams["schedule"], self.total_steps, self.hparams["warmup"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips where Lightning would refuse to."""
        clip_gradients(self.trainer, optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Marks the file as ours, and adds what the validation of these weights has settled."""
        checkpoint["armlp_format"] = FORMAT
        checkpoint["monitored"] = self.monitored
        if self.requested is not None:
            checkpoint["requested"] = self.requested._asdict()
        if self.recalibration.factors is not None:
            checkpoint["conformal"] = {"factors": self.recalibration.factors}
        if self.preferred:
            checkpoint["preferred"] = {name: list(choice) for name, choice in self.preferred.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what validation has settled."""
        if self.network is None:  # of a class with other arguments, which Lightning has not given what was settled
            self.hparams.update(checkpoint["hyper_parameters"])
            self._build()
        self.recalibration.factors = checkpoint.get("conformal", {}).get("factors")
        self.preferred = {name: Choice(*choice) for name, choice in checkpoint.get("preferred", {}).items()}
        self.monitored = checkpoint.get("monitored", math.inf)
        self.refit_steps = checkpoint.get("refit", {}).get("steps")
        self.requested = Requested(**checkpoint["requested"]) if "requested" in checkpoint else None


# All processes hold the same scores: their maximum is exact, and Lightning does not warn that they are not reduced.
_SAME_EVERYWHERE: dict[str, Any] = {"sync_dist": True, "reduce_fx": "max"}
_OBJECTIVE = ("objective", "loss_units", "feed", "gradient", "lead_weighting", "input_noise")
