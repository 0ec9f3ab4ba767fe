"""Streams: forecasts recalibrated by what has become known since training, origin after origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from armlp.data.loaders import OriginLoader
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.adaptive import AdaptiveFactors

if TYPE_CHECKING:
    from armlp.training.module import ForecastModule


class Stream:
    """Adaptive factors that have seen all that a table knows before a test or a forecast begins.

    They start from those of the checkpoint and are followed through the rows after its training, forecast from origins
    `H` apart. Nothing is kept from one table to the next: the same checkpoint and table give the same forecast.

    Args:
        module: Which forecasts; it stays as it is.
        part: `test` or `predict`.

    Raises:
        UserError: Several processes share the origins.
    """

    def __init__(self, module: ForecastModule, part: str) -> None:
        if module.trainer.world_size > 1:
            raise UserError(
                "--model.conformal: adaptive takes one origin after the other, which "
                f"{module.trainer.world_size} processes cannot share; say --trainer.devices 1, or use split."
            )
        self._module = module
        data = module.datamodule
        newer = data.newer_dataloader(part)
        self._adaptive = self._following(newer, module.conformal_factors, data.horizon, data.horizon)
        for windows in newer:
            windows = move_data_to_device(windows, module.device)
            self.recalibrate(windows, module.sample(windows, module.sampling))
        if part == "predict":
            self._adaptive.learn(torch.iinfo(torch.int64).max)
        else:
            step = data.hparams["test_step"] or data.horizon
            reach = data.test_split.test_reach
            self._adaptive = self._following(data.test_dataloader(), self.factors, reach, step)

    @staticmethod
    def _following(loader: OriginLoader, factors: Tensor | None, horizon: int, step: int) -> AdaptiveFactors:
        return AdaptiveFactors(factors, horizon, step, max(1, len(loader.series.unique())))

    @property
    def factors(self) -> Tensor:
        """`[H, K]`, as of the last origin."""
        return self._adaptive.factors

    def recalibrate(self, windows: Windows, paths: Tensor) -> Tensor:
        """Recalibrates the paths `[B, P, H(, V)]` of windows that come in the order of time."""
        panel = self._module.datamodule.panel
        truth = panel.in_data_units(windows.series, windows.target).to(paths)
        series, origin = windows.series[:, None], windows.origin[:, None].cpu()
        cutoff = panel.times(series, origin - 1)[:, 0]
        due = panel.times(series, origin + torch.arange(truth.shape[1]))
        return self._adaptive.recalibrate(paths, truth, windows.target_observed.to(paths.device), cutoff, due)
