"""Transforms of sampled paths: the move towards the Theta method, and recalibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import scipy
import torch
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.loaders import OriginLoader
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.baselines.theta import Theta
from armlp.evaluation.conformal import AdaptiveFactors, conformal_factors, conformal_scores, recalibrate
from armlp.evaluation.quantiles import path_probabilities, path_quantiles
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.checks import warn_of_few_windows
from armlp.training.sampling import Sampling, from_all_ranks

# With fewer rows or seasons, Theta fits a line to noise.
_MIN_ROWS, _MIN_SEASONS = 6, 4
_MIN_ERRORS, _FREEDOM, _MAX_PAST = 4, 5, 1 << 14
_MAX_KEPT = 1 << 22  # cached values of Theta's forecasts


# A transform of the paths `[B, P, H, V]` of a network after windows, where values `[B, H, V]` may be known (else nan).
PathTransform: TypeAlias = Callable[[AutoregressiveMLP, Tensor, Windows, Tensor | None], Tensor]


class TowardsTheta:
    """Moves the centre of paths by `share` towards the Theta method; their spread and known values stay.

    Networks and statistical methods make different errors, so that their mean beats both, as in the M4 competition:
    Spyros Makridakis et al. (2020), https://doi.org/10.1016/j.ijforecast.2019.04.014
    Series of less than four seasons, or six values, do not move. From the first known value on nothing moves, because
    Theta does not use values known ahead.
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
        shift = (share * (self._theta_of(windows, paths.shape[2]) - centre.cpu())).to(paths)
        if known is not None:
            is_later = (~known.isnan()).any(-1, keepdim=True).cumsum(1) > 0
            shift = shift.masked_fill(is_later.to(paths.device), 0.0)
        moved = paths + shift[:, None]
        return moved.clamp(min=0) if network.non_negative else moved

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


class AtLeastNaive:
    """Widens paths to `factor` times the errors of a naive forecast in the same series, or leaves them wider.

    A network that few series have trained fits them so closely that its residuals say little about its errors. Those of
    a forecast without parameters are as large inside the series as beyond it. At each lead it is the last value, or
    that of the last season, whichever has had the smaller errors; these are taken as Student's t with 5 degrees of
    freedom, as there are few of them.

    The median and the order of the paths stay, and so does their dependence. Known values stay, and counts stay whole.
    """

    def __init__(self, data: SeriesDataModule, factor: float) -> None:
        self.factor, self.panel, self.season_length = factor, data.panel, data.season_length

    def __call__(
        self, network: AutoregressiveMLP, paths: Tensor, windows: Windows, known: Tensor | None = None
    ) -> Tensor:
        """Return the widened paths of a batch."""
        count, horizon = paths.shape[1:3]
        if not len(paths) or count == 1 or not network.head.noise:
            return paths
        pairs = zip(windows.series.cpu().tolist(), windows.origin.cpu().tolist(), strict=True)
        spread = torch.stack([self._spread(series, origin, horizon) for series, origin in pairs])
        quantiles = torch.as_tensor(scipy.special.stdtrit(_FREEDOM, path_probabilities(count).numpy()))[:, None, None]
        least = (self.factor * quantiles * spread[:, None]).to(paths)
        ranked, order = paths.sort(1)
        median = path_quantiles(ranked, [0.5])
        moved = ranked - median
        moved = torch.where(least > 0, torch.maximum(moved, least), torch.minimum(moved, least))
        widened = torch.empty_like(paths).scatter_(1, order, median + moved)
        widened = widened.round() if network.head.discrete else widened
        widened = widened.clamp(min=0) if network.non_negative else widened
        return widened if known is None else widened.where(known.isnan()[:, None].to(paths.device), paths)

    def _spread(self, series: int, origin: int, horizon: int) -> Tensor:
        """Return the root mean square error of the naive forecast at each lead, `[H, V]` float64, data units.

        Where there are less than four errors, it grows from lead to lead as that of a random walk.
        """
        first, begin = max(0, origin - _MAX_PAST), int(self.panel.offsets[series])
        observed = self.panel.observed[begin + first : begin + origin].cpu()
        values = self.panel.series(series)[first:origin].double().cpu().where(observed, torch.nan)
        season = self.season_length
        found: list[Tensor] = []
        for lead in range(1, horizon + 1):
            lags = {lead, season * -(-lead // season)}
            error = torch.stack([_error_at(values, lag) for lag in lags]).amin(0)
            before = found[-1] * (lead / (lead - 1)) ** 0.5 if found else values.nan_to_num().std(0, correction=0)
            found.append(error.where(error.isfinite(), before).maximum(found[-1] if found else error.new_zeros(())))
        return torch.stack(found)


def _error_at(values: Tensor, lag: int) -> Tensor:
    """Return the root mean square of differences `lag` steps apart, `[V]`; infinite where there are less than four."""
    changes = values[lag:] - values[:-lag]
    enough = (~changes.isnan()).sum(0) >= _MIN_ERRORS
    return torch.where(enough, changes.square().nanmean(0).sqrt(), torch.inf)


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
