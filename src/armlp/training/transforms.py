"""Transforms of sampled paths: towards the Theta method, and recalibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.loaders import OriginLoader
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.adaptive import AdaptiveFactors
from armlp.evaluation.baselines.theta import Theta
from armlp.evaluation.conformal import conformal_factors, conformal_scores, recalibrate
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.checks import warn_of_few_windows
from armlp.training.sampling import Sampling, from_all_ranks

if TYPE_CHECKING:
    from armlp.training.module import ForecastModule

# Of fewer rows, and fewer seasons, Theta makes a line of what is noise.
_MIN_ROWS, _MIN_SEASONS = 6, 4
# So many values of its forecasts are kept, for origins that are forecast again and again.
_MAX_KEPT = 1 << 22


class TowardsTheta:
    """Moves all paths of a series alike, so that their spread stays, and values that are given stay as they are.

    Networks and statistical methods err differently, so that their mean beats both, as in the M4 competition:
    Spyros Makridakis et al. (2020), https://doi.org/10.1016/j.ijforecast.2019.04.014

    Args:
        data: With all rows before the origins.
        share: How far the centre of the network's forecast moves to Theta's; at 1 it is Theta's. Series of less than
            four seasons, or six values, do not move.
    """

    def __init__(self, data: SeriesDataModule, share: float) -> None:
        self.share = share
        self.least = max(_MIN_ROWS, _MIN_SEASONS * data.season_length)
        self.theta = Theta(data.panel, data.season_length)
        self._kept: dict[tuple[bytes, bytes, int], Tensor] = {}
        self._room = _MAX_KEPT

    def __call__(
        self, network: AutoregressiveMLP, paths: Tensor, windows: Windows, given: Tensor | None = None
    ) -> Tensor:
        """Moves the paths of a batch.

        Args:
            network: That made the paths; what it has no values below 0 of still has none.
            paths: `[B, P, H, V]`, data units.
            windows: Which the paths go on from.
            given: `[B, H, V]` what was known of the future; nan elsewhere.

        Returns:
            `[B, P, H, V]`, data units.
        """
        share = (self.share * (windows.origin >= self.least))[:, None, None].cpu()
        if not bool(share.any()):
            return paths
        centre = Sampling().centre(network, self.theta.panel, windows, paths.shape[2])
        moved = paths + (share * (self._theta_of(windows, paths.shape[2]) - centre.cpu())).to(paths)[:, None]
        moved = moved.clamp(min=0) if network.non_negative else moved
        return moved if given is None else moved.where(given.isnan()[:, None].to(paths.device), paths)

    def _theta_of(self, windows: Windows, horizon: int) -> Tensor:
        """Theta's forecasts, `[B, H, V]`; those of a batch that was seen before are not made again."""
        series, origin = windows.series.cpu(), windows.origin.cpu()
        key = series.numpy().tobytes(), origin.numpy().tobytes(), horizon
        if key in self._kept:
            return self._kept[key]
        found = self.theta.forecast(series, origin, horizon)
        if found.numel() <= self._room:
            self._kept[key] = found
            self._room -= found.numel()
        return found


class OnlineRecalibration:
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
                "`conformal`: adaptive takes one origin after the other, which "
                f"{module.trainer.world_size} processes cannot share; say `devices` 1, or use split."
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
            step = data.settings.test_step or data.horizon
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
        """Recalibrates the paths `[B, P, H, V]` of windows that come in the order of time."""
        panel = self._module.datamodule.panel
        truth = panel.in_data_units(windows.series, windows.target).to(paths)
        series, origin = windows.series[:, None], windows.origin[:, None].cpu()
        cutoff = panel.times(series, origin - 1)[:, 0]
        due = panel.times(series, origin + torch.arange(truth.shape[1]))
        return self._adaptive.recalibrate(paths, truth, windows.target_observed.to(paths.device), cutoff, due)


# Of about so many series validation tells by how much forecasts are recalibrated; more would not fit.
_CALIBRATED = 1 << 14


class Recalibration:
    """How the forecasts of a model are recalibrated.

    Args:
        kind: `off`, `split` or `adaptive`.

    Attributes:
        factors: `[H, K]` of the last validation; None where there was none, or too little of it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.factors: Tensor | None = None
        self._scores: list[Tensor] = []
        self._stream: OnlineRecalibration | None = None  # of the test or the forecast that goes on
        self._learns = False  # whether the stream takes in the windows that are forecast, as those of a test

    def prepare(self, data: SeriesDataModule, stage: str) -> None:
        """Forget an earlier test, and warn of too few validation windows before a training."""
        self._stream = None
        if stage == "fit" and self.kind != "off":
            warn_of_few_windows(data, self.kind)

    def observe(self, data: SeriesDataModule, paths: Tensor, windows: Windows) -> None:
        """Takes in how well forecasts of a validation, `[B, P, H, V]` as the network gives them, have covered."""
        if self.kind != "off":
            truth = data.panel.in_data_units(windows.series, windows.target).to(paths)
            scores = conformal_scores(paths, truth, windows.target_observed.to(paths.device))
            self._scores.append(scores[:: 1 + len(data.panel) // _CALIBRATED].float().cpu())

    def settle(self, data: SeriesDataModule, world_size: int) -> None:
        """Settles the factors by what all processes have observed, if anything."""
        if self._scores:
            parts = from_all_ranks(self._scores, world_size)
            found = torch.cat([part for rank in parts for part in rank])
            self.factors = conformal_factors(found, data.split.val_windows)
            self._scores = []

    def follow(self, module: ForecastModule, part: str) -> None:
        """Brings a stream, where there is to be one, to where a `test` or a forecast (`predict`) begins."""
        if self.kind == "adaptive":
            self._stream, self._learns = OnlineRecalibration(module, part), part == "test"

    def rest(self) -> None:
        """Leaves the stream where the test has ended."""
        self._learns = False

    def __call__(self, network: AutoregressiveMLP, paths: Tensor, windows: Windows) -> Tensor:
        """Recalibrates paths, by the factors as they are now, or along the stream of a test.

        Args:
            network: That made the paths; what it has no values below 0 of still has none.
            paths: `[B, P, H, V]`, data units.
            windows: Which they go on from; of a test in the order of time, and their truth is taken in when it is due.

        Returns:
            `[B, P, H, V]`; the same where nothing is to be recalibrated.
        """
        factors = self.factors if self._stream is None else self._stream.factors
        if self.kind == "off" or factors is None:
            return paths
        if self._stream is not None and self._learns:
            paths = self._stream.recalibrate(windows, paths)
        else:
            paths = recalibrate(paths, factors)
        return paths.clamp(min=0) if network.non_negative else paths
