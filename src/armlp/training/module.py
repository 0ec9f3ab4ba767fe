"""The LightningModule: the four steps and the optimizer around the autoregressive MLP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule, plain
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.backtest import MODEL, Scoreboard
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout
from armlp.training.checkpoint import FORMAT
from armlp.training.defaults import MONITOR, log_interval
from armlp.training.objective import FEEDS, LOSS_UNITS, one_step_nll, unrolled_objective
from armlp.training.recipe import Choice, recipe

SCHEDULES = ("cosine", "constant")
OPTIMIZERS = ("adamw", "adam")

# What of the options below shapes the network itself.
NETWORK_OPTIONS = (
    "context_length", "patch_length", "hidden_sizes", "residual_blocks", "block_size", "activation", "dropout", "head",
    "point_loss", "scaler", "level_input", "mask_input", "linear_skip", "seasonal_skip", "season_length", "channels",
)  # fmt: skip


class ForecastModule(LightningModule):
    """Trains an `AutoregressiveMLP`, validates and tests its rollouts, and forecasts.

    Everything left out is chosen from the data when training starts, and saved in the checkpoint as chosen.

    Args:
        context_length: `L`, the past values that the network sees.
        patch_length: `U`, the values that one network call emits; 1 is the classic model.
        unroll: `K`, network calls chained in one training example, each fed by the ones before; 1 is teacher forcing.
        hidden_sizes: Widths of the plain layers.
        residual_blocks: How many residual blocks follow them.
        block_size: Width inside a residual block; as wide as the last plain layer where left out.
        activation: `relu`, `gelu`, `silu` or `tanh`.
        dropout: Share of inner units dropped in the residual blocks during training.
        head: `point`, `normal`, `student_t` or `quantile`.
        point_loss: What the point head minimises: `mse`, `mae` or `huber`.
        scaler: `none`, `mean_abs` or `standard`.
        level_input: Tell the network how large the window's spread is beside its level.
        mask_input: Tell the network which values of the context were observed.
        linear_skip: Add a linear map of the whole context to the location.
        seasonal_skip: Add the value one season ago to the location.
        season_length: Steps in a season of the seasonal skip; the data's where left out.
        channels: `V`, values per time step; the data's where left out.
        loss_units: Units of point and quantile losses: `relative` to the mean absolute value of the window,
            `network` units (scaled errors) or `data` units.
        feed: What an unrolled patch hands to the next in training: its `mean` or a `sample`.
        optimizer: `adamw` or `adam`.
        learning_rate: The highest one.
        weight_decay: Of the optimizer.
        schedule: `cosine` (after a warm-up) or `constant`.
        warmup: Share of the steps in which the learning rate rises.
        input_noise: Standard deviation of Gaussian noise on the context in training, network units; it steadies
            small data.
        val_paths: Paths per origin in validation.
    """

    network: AutoregressiveMLP | None
    scoreboard: Scoreboard
    scores: dict[str, dict[str, float]]  # of the last validation or test, by forecaster

    def __init__(
        self,
        context_length: int | None = None,
        patch_length: int | None = None,
        unroll: int | None = None,
        hidden_sizes: Sequence[int] | None = None,
        residual_blocks: int | None = None,
        block_size: int | None = None,
        activation: str = "gelu",
        dropout: float | None = None,
        head: str | None = None,
        point_loss: str = "mse",
        scaler: str | None = None,
        level_input: bool = True,
        mask_input: bool | None = None,
        linear_skip: bool = True,
        seasonal_skip: bool = True,
        season_length: int | None = None,
        channels: int | None = None,
        loss_units: str = "relative",
        feed: str = "sample",
        optimizer: str = "adamw",
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        schedule: str = "cosine",
        warmup: float = 0.1,
        input_noise: float | None = None,
        val_paths: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.hparams.update({name: plain(value) for name, value in self.hparams.items()})
        for name, choices in _CHOICES.items():
            if self.hparams[name] not in choices:
                raise UserError(
                    f"--model.{name}: {self.hparams[name]!r} is not known; use one of {', '.join(choices)}."
                )
        for name, least in _LEAST.items():
            value = self.hparams[name]
            if value is not None and value < least:
                raise UserError(f"--model.{name}: {value} is too small; it must be at least {least}.")
        self.num_paths = 200
        self.path_seed = 0
        self.chosen: dict[str, Choice] = {}
        self.network = None
        if None not in (self.hparams[name] for name in _CHOSEN):
            self._build()

    def _build(self) -> None:
        self.network = AutoregressiveMLP(**{name: self.hparams[name] for name in NETWORK_OPTIONS})

    @property
    def has_distribution(self) -> bool:
        """Whether forecasts spread, so that intervals mean something; a point head's do not."""
        assert self.network is not None
        return self.network.head.noise > 0

    @property
    def datamodule(self) -> SeriesDataModule:
        """The data that the trainer was given."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if not isinstance(datamodule, SeriesDataModule):
            raise UserError("ForecastModule needs its data as a SeriesDataModule: trainer.fit(module, datamodule).")
        return datamodule

    def settle(self, data: SeriesDataModule) -> dict[str, Choice]:
        """Settles what was left to the data, builds the network, and tells the data module its window.

        Doors do it before they make a run, so that a mistake leaves none behind.

        Returns:
            What the data would choose, of every option.
        """
        panel = data.panel
        given = {"season_length": data.season_length, "channels": panel.values.shape[1]}
        choices = recipe(panel, data.split, data.season_length)
        choices |= {name: Choice(value, "the data's") for name, value in given.items()}
        if self.network is None:
            if self.hparams["hidden_sizes"] == []:
                choices["residual_blocks"] = Choice(0, "no layer before them")
            self.chosen = {name: choices[name] for name in _CHOSEN if self.hparams[name] is None}
            self.hparams.update({name: choice.value for name, choice in self.chosen.items()})
            self._build()
        if self.hparams["channels"] != panel.values.shape[1]:
            raise UserError(
                f"The model was trained on {self.hparams['channels']} values per time step, but {panel.name} has "
                f"{panel.values.shape[1]} ({', '.join(panel.channels)}); choose as many with --data.target_columns."
            )
        data.shape_windows(self.hparams["context_length"], self.hparams["patch_length"] * self.hparams["unroll"])
        return choices

    def setup(self, stage: str) -> None:
        """Settles the model on the data, and how long it trains."""
        data = self.datamodule
        choices = self.settle(data)
        if stage == "fit" and self.trainer.max_steps == -1 and self.trainer.max_epochs == -1:
            self.chosen["max_steps"] = choices["max_steps"]
            self.trainer.fit_loop.epoch_loop.max_steps = choices["max_steps"].value
        if stage == "fit" and self.trainer.max_epochs == -1 and self.trainer.val_check_interval == 1.0:
            # Steps are the measure of training, so validation goes by steps too: ten times in all.
            self.trainer.check_val_every_n_epoch = None
            self.trainer.val_check_interval = max(1, self.trainer.max_steps // 10)
        if stage in ("fit", "validate", "test"):
            split = data.test_split if stage == "test" else data.split
            ends = split.train_ends(data.panel.lengths)
            self.scoreboard = Scoreboard(data.panel, ends, data.horizon, data.season_length)

    def forward(self, windows: Windows) -> Tensor:
        """Rolls the model forward from every window.

        Returns:
            `[B, P, H(, V)]`, data units.
        """
        return self.sample(windows, self.num_paths, self.path_seed)

    def sample(self, windows: Windows, num_paths: int, seed: int) -> Tensor:
        """Sampled futures, `[B, P, H(, V)]`, data units; a series' paths do not depend on its batch."""
        assert self.network is not None
        data = self.datamodule
        channels = windows.context.shape[2:]
        noise = path_noise(
            data.panel.keys[windows.series.cpu()],
            windows.origin.cpu(),
            num_paths,
            data.horizon,
            (*channels, self.network.head.noise),
            seed,
        )
        return rollout(
            self.network,
            windows.context,
            data.horizon,
            num_paths,
            windows.observed,
            noise.to(windows.context.device),
        )

    def on_train_batch_start(self, batch: Windows, batch_idx: int) -> None:
        """Draws dropout and fed-back samples from `(seed, step)`, so that a resumed run draws the same."""
        torch.manual_seed(hash((self.datamodule.seed, self.global_step, self.global_rank)) % 2**63)

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """The objective of one batch."""
        assert self.network is not None
        logged = (self.global_step + 1) % log_interval(self.trainer) == 0
        options = {name: self.hparams[name] for name in ("loss_units", "feed", "input_noise")}
        objective = unrolled_objective(self.network, batch, **options, with_nll=logged)
        if logged:
            self.log("train/loss", objective.loss, prog_bar=True)
            self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
            if objective.nll is not None:
                self.log("train/nll", objective.nll)
        return objective.loss

    def validation_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Rolls out from held-out origins; returns the paths `[B, P, H(, V)]`."""
        assert self.network is not None
        paths = self.sample(batch, self.hparams["val_paths"], seed=0)
        self.scoreboard.update(paths, batch)
        if self.network.head.has_density and self.datamodule.horizon >= self.network.patch_length:
            total, count = one_step_nll(self.network, batch)
            nll = total / count.clamp(min=1)
            self.log("val/nll", nll, batch_size=int(count), on_epoch=True, sync_dist=True)
        return paths

    def on_validation_epoch_end(self) -> None:
        """Logs the rollout metrics of all origins."""
        self.scores = self.scoreboard.summary(self.device)
        scores = self.scores[MODEL]
        for name, value in scores.items():
            self.log(f"val/{name}", value, prog_bar=name == "skill")
        self.log(MONITOR, scores["crps"] if math.isnan(scores["scaled_crps"]) else scores["scaled_crps"])
        self.scoreboard.reset()

    def test_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Rolls out from the test origins; returns the paths `[B, P, H(, V)]`."""
        paths = self.forward(batch)
        self.scoreboard.update(paths, batch)
        return paths

    def on_test_epoch_end(self) -> None:
        """Sums up the test origins."""
        self.scores = self.scoreboard.summary(self.device)

    def predict_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Rolls out from the end of every series; returns the paths `[B, P, H(, V)]`."""
        return self.forward(batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or Adam; warm-up then cosine, or constant, by steps."""
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[self.hparams["optimizer"]]
        optimizer = kind(self.parameters(), lr=self.hparams["learning_rate"], weight_decay=self.hparams["weight_decay"])
        if self.hparams["schedule"] == "constant":
            return optimizer
        steps = self.trainer.max_steps
        if steps == -1:
            steps = (self.trainer.max_epochs or 1) * len(self.datamodule.train_dataloader())
        rise = max(1, round(float(self.hparams["warmup"]) * steps))

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            done = min(1.0, (step - rise) / max(1, steps - rise))
            return 0.5 * (1 + math.cos(math.pi * done))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Marks the file as ours."""
        checkpoint["armlp_format"] = FORMAT


_CHOICES = {"loss_units": LOSS_UNITS, "feed": FEEDS, "schedule": SCHEDULES, "optimizer": OPTIMIZERS}
_LEAST = {"unroll": 1, "val_paths": 1, "learning_rate": 0, "weight_decay": 0, "warmup": 0, "input_noise": 0}
_CHOSEN = (
    "context_length", "patch_length", "unroll", "hidden_sizes", "residual_blocks", "dropout", "head", "scaler",
    "mask_input", "input_noise", "season_length", "channels",
)  # fmt: skip
