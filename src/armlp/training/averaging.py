"""Weight averaging: the network that is validated and saved is a running mean of the one that is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

if TYPE_CHECKING:
    from armlp.training.module import ForecastModule


class ExponentialAverage(WeightAveraging):
    """Averages over about the last `share` of the training; before there are as many steps, over all of them.

    Validation sees the average, and checkpoints hold it, beside the weights that training goes on from.

    Tero Karras et al. (2024), Analyzing and Improving the Training Dynamics of Diffusion Models,
    https://arxiv.org/abs/2312.02696

    Args:
        share: Of all steps.
    """

    def __init__(self, share: float) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.share = share
        self._steps = 1.0
        self._trained: dict[str, Tensor] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Sees to it that there is a network to average; what comes after training takes the weights it is given."""
        self._average_model = self._trained = None
        if stage == "fit":
            module = cast("ForecastModule", pl_module)
            module.settle(module.datamodule)
        super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on with the average and the weights beside it, in training."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Knows how long training will take."""
        self._steps = max(1.0, self.share * cast("ForecastModule", pl_module).total_steps)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hands over the average, and remembers the weights that a longer training would go on from."""
        self._trained = {name: value.clone() for name, value in pl_module.state_dict().items()}
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Saves both, after the end too."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._trained is not None:
            checkpoint["current_model_state"] = self._trained

    @torch.no_grad()
    def _average(self, averages: list[Tensor], weights: list[Tensor], count: Tensor | int) -> None:
        rate = max(1 / self._steps, 1 / (int(count) + 1))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, rate)
