"""Transforms of sampled paths: towards the Theta method, and recalibrated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
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

# On fewer rows or seasons, Theta fits a line to noise.
_MIN_ROWS, _MIN_SEASONS = 6, 4
# So many values of Theta's forecasts are kept, for origins that are forecast again.
_MAX_KEPT = 1 << 22


class PathTransform(ABC):
    """Transforms the sampled paths of a batch."""

    @abstractmethod
    def __call__(
        self, network: AutoregressiveMLP, paths: Tensor, windows: Windows, known: Tensor | None = None
    ) -> Tensor:
        """Return transformed paths.

        Args:
            network: The network that made the paths. If it has no values below 0, the result has none either.
            paths: `[B, P, H, V]`, data units.
            windows: The windows that the paths go on from.
            known: `[B, H, V]` known values of the future; nan elsewhere.

        Returns:
            `[B, P, H, V]`, data units; the same tensor where nothing changes.
        """


class TowardsTheta(PathTransform):
    """Moves all paths of a series alike towards the Theta method: their spread and known values stay.

    Networks and statistical methods err differently, so that their mean beats both, as in the M4 competition:
    Spyros Makridakis et al. (2020), https://doi.org/10.1016/j.ijforecast.2019.04.014

    Args:
        data: The data.
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
        self, network: AutoregressiveMLP, paths: Tensor, windows: Windows, known: Tensor | None = None
    ) -> Tensor:
        """Return the moved paths of a batch."""
        share = (self.share * (windows.origin >= self.least))[:, None, None].cpu()
        if not bool(share.any()):
            return paths
        centre = Sampling().centre(network, self.theta.panel, windows, paths.shape[2])
        moved = paths + (share * (self._theta_of(windows, paths.shape[2]) - centre.cpu())).to(paths)[:, None]
        moved = moved.clamp(min=0) if network.non_negative else moved
        return moved if known is None else moved.where(known.isnan()[:, None].to(paths.device), paths)

    def _theta_of(self, windows: Windows, horizon: int) -> Tensor:
        """Return Theta's forecasts `[B, H, V]`; those of an earlier batch are kept."""
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
    """Factors of recalibration that take in every value that a table knows before a test or a forecast begins.

    They start from those of the checkpoint and go through the rows after its training, forecast from origins `H` apart.
    Nothing is kept from one table to the next: the same checkpoint and table give the same forecast.

    Args:
        data: The data.
        part: `test` or `predict`.
        factors: `[H, K]` of the checkpoint; None where there are none.
        forecast: From windows to paths `[B, P, H, V]`, data units, without recalibration.
    """

    def __init__(
        self, data: SeriesDataModule, part: str, factors: Tensor | None, forecast: Callable[[Windows], Tensor]
    ) -> None:
        self._panel = data.panel
        newer = data.newer_dataloader(part)
        self._adaptive = self._following(newer, factors, data.horizon, data.horizon)
        for windows in newer:
            self.recalibrate(windows, forecast(windows))
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
        """Return the recalibrated paths `[B, P, H, V]` of windows that come in the order of time."""
        panel = self._panel
        truth = panel.in_data_units(windows.series, windows.target).to(paths)
        series, origin = windows.series[:, None], windows.origin[:, None].cpu()
        cutoff = panel.times(series, origin - 1)[:, 0]
        due = panel.times(series, origin + torch.arange(truth.shape[1]))
        return self._adaptive.recalibrate(paths, truth, windows.target_observed.to(paths.device), cutoff, due)


# Factors are fitted to about this many series; the scores of more would not fit into memory.
_CALIBRATED = 1 << 14


class Recalibration(PathTransform):
    """Recalibrates paths by lead, so that intervals cover what they should at the validation origins.

    Args:
        kind: `off`, `split` or `adaptive`.

    Attributes:
        factors: `[H, K]` of the last validation; None where it had too few windows.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.factors: Tensor | None = None
        self._scores: list[Tensor] = []
        self._online: OnlineRecalibration | None = None  # of the current test or forecast
        self._learns = False  # whether it takes in the windows of this test

    def prepare(self, data: SeriesDataModule, stage: str) -> None:
        """Forget an earlier test; before a training, warn of too few validation windows."""
        self._online = None
        if stage == "fit" and self.kind != "off":
            warn_of_few_windows(data, self.kind)

    def observe(self, data: SeriesDataModule, paths: Tensor, windows: Windows) -> None:
        """Note how well validation forecasts `[B, P, H, V]`, not recalibrated, cover the truth."""
        if self.kind != "off":
            truth = data.panel.in_data_units(windows.series, windows.target).to(paths)
            scores = conformal_scores(paths, truth, windows.target_observed.to(paths.device))
            self._scores.append(scores[:: 1 + len(data.panel) // _CALIBRATED].float().cpu())

    def settle(self, data: SeriesDataModule, world_size: int) -> None:
        """Fit the factors to what all processes have observed, if anything."""
        if self._scores:
            parts = from_all_ranks(self._scores, world_size)
            found = torch.cat([part for rank in parts for part in rank])
            self.factors = conformal_factors(found, data.split.val_windows)
            self._scores = []

    def follow(self, data: SeriesDataModule, part: str, forecast: Callable[[Windows], Tensor], world_size: int) -> None:
        """Bring an adaptive recalibration to where a `test` or a forecast (`predict`) begins.

        Raises:
            UserError: Several processes share the origins.
        """
        if self.kind != "adaptive":
            return
        if world_size > 1:
            raise UserError(
                f"`conformal`: adaptive takes one origin after the other, which {world_size} processes cannot share; "
                "give `devices` 1, or use split."
            )
        self._online, self._learns = OnlineRecalibration(data, part, self.factors, forecast), part == "test"

    def rest(self) -> None:
        """Stop at the end of a test."""
        self._learns = False

    def __call__(
        self, network: AutoregressiveMLP, paths: Tensor, windows: Windows, known: Tensor | None = None
    ) -> Tensor:
        """Return recalibrated paths; those of a test in the order of time also update the factors.

        The truth of a test window is taken in when it is due, not before.
        """
        factors = self.factors if self._online is None else self._online.factors
        if self.kind == "off" or factors is None:
            return paths
        if self._online is not None and self._learns:
            paths = self._online.recalibrate(windows, paths)
        else:
            paths = recalibrate(paths, factors)
        return paths.clamp(min=0) if network.non_negative else paths
