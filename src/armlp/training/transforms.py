"""Transforms of sampled paths: the move towards the Theta method, and recalibration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.loaders import OriginLoader
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.baselines.theta import Theta
from armlp.evaluation.conformal import AdaptiveFactors, conformal_factors, conformal_scores, recalibrate
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.checks import warn_of_few_windows
from armlp.training.sampling import Sampling, from_all_ranks

# With fewer rows or seasons, Theta fits a line to noise.
_MIN_ROWS, _MIN_SEASONS = 6, 4
_MAX_KEPT = 1 << 22  # cached values of Theta's forecasts


class TowardsTheta:
    """Moves the centre of paths by `share` towards the Theta method; their spread and known values stay.

    Networks and statistical methods make different errors, so that their mean beats both, as in the M4 competition:
    Spyros Makridakis et al. (2020), https://doi.org/10.1016/j.ijforecast.2019.04.014
    Series of less than four seasons, or six values, do not move.
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
        """Return the moved paths `[B, P, H, V]`, data units; known values `[B, H, V]` (nan elsewhere) do not move."""
        share = (self.share * (windows.origin >= self.least))[:, None, None].cpu()
        if not bool(share.any()):
            return paths
        centre = Sampling().centre(network, self.theta.panel, windows, paths.shape[2])
        moved = paths + (share * (self._theta_of(windows, paths.shape[2]) - centre.cpu())).to(paths)[:, None]
        moved = moved.clamp(min=0) if network.non_negative else moved
        return moved if known is None else moved.where(known.isnan()[:, None].to(paths.device), paths)

    def _theta_of(self, windows: Windows, horizon: int) -> Tensor:
        """Return Theta's forecasts `[B, H, V]`, cached by batch."""
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
    """Factors of recalibration, updated by all values that a table holds before a test or a forecast begins.

    They start from `factors` of the checkpoint, `[H, K]` or None, and follow forecasts of the rows after its training,
    from origins `H` apart. No state passes from one table to the next: the same checkpoint and table give the same
    forecast. `part` is `test` or `predict`; `forecast` returns paths `[B, P, H, V]`, data units, without recalibration.
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
            self._adaptive.update(torch.iinfo(torch.int64).max)
        else:
            step = data.settings.test_step or data.horizon
            reach = data.test_split.test_span
            self._adaptive = self._following(data.test_dataloader(), self.factors, reach, step)

    @staticmethod
    def _following(loader: OriginLoader, factors: Tensor | None, horizon: int, step: int) -> AdaptiveFactors:
        return AdaptiveFactors(factors, horizon, step, max(1, len(loader.series.unique())))

    @property
    def factors(self) -> Tensor:
        """`[H, K]` at the last origin."""
        return self._adaptive.factors

    def recalibrate(self, windows: Windows, paths: Tensor) -> Tensor:
        """Return the recalibrated paths `[B, P, H, V]` of windows that come in the order of time."""
        panel = self._panel
        truth = panel.in_data_units(windows.series, windows.target).to(paths)
        series, origin = windows.series[:, None], windows.origin[:, None].cpu()
        cutoff = panel.times(series, origin - 1)[:, 0]
        due = panel.times(series, origin + torch.arange(truth.shape[1]))
        return self._adaptive.recalibrate(paths, truth, windows.target_observed.to(paths.device), cutoff, due)


_CALIBRATED = 1 << 14  # about the most series that factors are fitted to, to save memory


class Recalibration:
    """Recalibrates paths by lead, so that intervals have their nominal coverage at the validation origins.

    `kind` is `off`, `split` or `adaptive`; `factors` are `[H, K]`, or None after a validation of too few windows.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.factors: Tensor | None = None
        self._scores: list[Tensor] = []
        self._online: OnlineRecalibration | None = None  # of the current test or forecast
        self._learns = False  # whether it learns from the windows of this test

    def prepare(self, data: SeriesDataModule, stage: str) -> None:
        """Forget an earlier test; before a training, warn of too few validation windows."""
        self._online = None
        if stage == "fit" and self.kind != "off":
            warn_of_few_windows(data, self.kind)

    def observe(self, data: SeriesDataModule, paths: Tensor, windows: Windows) -> None:
        """Collect the conformal scores of validation forecasts `[B, P, H, V]` without recalibration."""
        if self.kind != "off":
            truth = data.panel.in_data_units(windows.series, windows.target).to(paths)
            scores = conformal_scores(paths, truth, windows.target_observed.to(paths.device))
            self._scores.append(scores[:: 1 + len(data.panel) // _CALIBRATED].float().cpu())

    def fit_factors(self, data: SeriesDataModule, world_size: int) -> None:
        """Fit the factors to the scores that all processes have collected."""
        if self._scores:
            parts = from_all_ranks(self._scores, world_size)
            found = torch.cat([part for rank in parts for part in rank])
            self.factors = conformal_factors(found, data.split.val_windows)
            self._scores = []

    def catch_up(
        self, data: SeriesDataModule, part: str, forecast: Callable[[Windows], Tensor], world_size: int
    ) -> None:
        """Update an adaptive recalibration up to the start of a `test` or a forecast (`predict`), in one process."""
        if self.kind != "adaptive":
            return
        if world_size > 1:
            raise UserError(
                f"`conformal`: adaptive takes one origin after the other, which {world_size} processes cannot share; "
                "give `devices` 1, or use split."
            )
        self._online, self._learns = OnlineRecalibration(data, part, self.factors, forecast), part == "test"

    def stop_updating(self) -> None:
        """Stop updating, at the end of a test."""
        self._learns = False

    def __call__(self, network: AutoregressiveMLP, paths: Tensor, windows: Windows) -> Tensor:
        """Return recalibrated paths; in an adaptive test, also update the factors by values that are known by then."""
        factors = self.factors if self._online is None else self._online.factors
        if self.kind == "off" or factors is None:
            return paths
        if self._online is not None and self._learns:
            paths = self._online.recalibrate(windows, paths)
        else:
            paths = recalibrate(paths, factors)
        return paths.clamp(min=0) if network.non_negative else paths
