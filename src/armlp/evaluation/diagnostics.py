"""Calibration, diverged paths, exemplary forecasts and residuals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from armlp.data.covariates import Covariates
from armlp.data.panel import Panel
from armlp.data.windows import Windows, gather
from armlp.evaluation.metrics.base import Paths
from armlp.evaluation.metrics.calibration import Coverage, PITHistogram, SumCoverage
from armlp.model.mlp import AutoregressiveMLP

M = TypeVar("M", bound=nn.Module)
# A path further from its context than this many times the range of the context has diverged.
_MAX_RANGES = 10
_MAX_SERIES, _MAX_ROWS, _BATCH = 16, 512, 1024  # for residuals: series, rows per series, rows at a time
_MAX_LAGS = 24  # of the correlation of paths
_LEVELS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)  # of the intervals whose coverage is measured, in percent


def diverged(paths: Tensor, windows: Windows, panel: Panel) -> Tensor:
    """Return which paths are not finite, or further from the context than ten times its range, `[B, P]` bool.

    Paths are `[B, P, H, V]`, data units. A constant context has no range, so its paths only need to be finite.
    """
    ends = [
        panel.in_data_units(windows.series, torch.where(windows.observed, windows.context, far)).to(paths)
        for far in (math.inf, -math.inf)
    ]
    low, high = ends[0].amin(1, keepdim=True), ends[1].amax(1, keepdim=True)  # [B, 1, V]
    reach = _MAX_RANGES * (high - low)
    limit = torch.finfo(paths.dtype).max
    bounded = reach.isfinite() & (reach > 0)
    low, high = torch.where(bounded, low - reach, -limit), torch.where(bounded, high + reach, limit)
    inside = (paths.amin(2) >= low) & (paths.amax(2) <= high)  # False for nan
    return ~inside.all(2)


@contextmanager
def on_device(metric: M, device: torch.device | str) -> Iterator[M]:
    """Move a metric, or a collection, to the device on which processes exchange sums, and then back to the CPU."""
    yield metric.to(device)
    metric.to("cpu")


def _value(metric: Metric, device: torch.device | str) -> float:
    """Return the value over all processes; nan before the first batch."""
    if not metric.update_called:
        return math.nan
    with on_device(metric, device):
        return metric.compute().item()


class Exemplar(NamedTuple):
    """The best, the median or the worst forecast."""

    rank: str  # `best`, `median` or `worst`
    num_ranked: int  # number of ranked forecasts
    error: float  # mean absolute error, relative to that of the seasonal naive if it is known
    series: int  # index of the series
    origin: int  # row of the first value


class PathCorrelation(Metric):
    """Correlation of the deviations of two leads, by their distance: of sampled paths, and of the truth.

    Deviations are from the mean of the paths, in units of their standard deviation. Where both curves agree, the paths
    hold together as the data do.
    """

    full_state_update = False
    products: Tensor
    pairs: Tensor

    def __init__(self, horizon: int, **options: Any) -> None:
        super().__init__(**options)
        for name in ("products", "pairs"):
            zeros = torch.zeros(2, min(horizon, 1 + _MAX_LAGS), dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, paths: Tensor, truth: Tensor, observed: Tensor) -> None:
        """Add a batch: paths `[B, P, H, V]`, truth and observed `[B, H, V]`."""
        mean = paths.mean(1, keepdim=True)
        deviation = (paths - mean).square().mean(1, keepdim=True).sqrt()
        known = (deviation > 0) & deviation.isfinite()
        for row, (values, mask) in enumerate(((paths, known), (truth[:, None], known & observed[:, None]))):
            scores = torch.where(mask, (values - mean) / deviation, 0.0).double()
            for lag in range(self.products.shape[1]):
                length = scores.shape[2] - lag
                self.products[row, lag] += (scores[:, :, lag:] * scores[:, :, :length]).sum()
                self.pairs[row, lag] += (mask[:, :, lag:] & mask[:, :, :length]).sum() * scores.shape[1]

    def compute(self) -> Tensor:
        """Return the correlations at distances 1, 2, ..., `[2, lags]`: of the paths, and of the truth."""
        means = self.products / self.pairs
        return means[:, 1:] / means[:, :1]


class Diagnostics:
    """Calibration, divergence and exemplary forecasts of one pass over the origins.

    Sums are synchronized across processes, on the `device` of the model; exemplary forecasts are those of this process.
    The `unit [S, V]` is the error of the seasonal naive inside each series, data units; nan where it is not defined.
    """

    def __init__(self, panel: Panel, unit: Tensor, horizon: int) -> None:
        self.panel = panel
        self.unit = unit
        self.pit = PITHistogram(horizon, compute_with_cache=False)
        self._coverage, self._sum_coverage = (
            {level: kind(horizon, level, compute_with_cache=False) for level in _LEVELS}
            for kind in (Coverage, SumCoverage)
        )
        self._correlation = PathCorrelation(horizon, compute_with_cache=False)
        self.diverged = MeanMetric(compute_with_cache=False)
        self._windows: list[Tensor] = []  # [B, 4] series, origin, scaled error, error

    def update(self, paths: Tensor, windows: Windows, whole: bool = False) -> None:
        """Add the forecasts of a batch; see `Scoreboard.update`."""
        if not self.panel.is_numeric:
            return
        # The empty last batch of a process with fewer windows is an update too: all processes must exchange sums.
        share = diverged(paths, windows, self.panel).double().sum() / max(1, len(paths) * paths.shape[1])
        self.diverged.update(share.cpu(), weight=len(paths))
        paths, target, observed, series, origin = (part.cpu() for part in (paths, *windows[2:6]))
        target = self.panel.in_data_units(series, target)
        forecast = Paths(paths, even=True, whole=whole)
        if paths.shape[1] > 1 or not len(paths):
            for metric in (self.pit, *self._coverage.values(), *self._sum_coverage.values()):
                metric.update(forecast, target, observed)
            self._correlation.update(paths, target, observed)
        error = (forecast.median() - target).abs().double()
        scaled, plain = (
            torch.where(observed, part, torch.nan).flatten(1).nanmean(1)
            for part in (error / self.unit[series][:, None], error)
        )
        # A diverged forecast is the worst; one without an observed truth is not ranked.
        bad = observed.flatten(1).any(1) & ~plain.isfinite()
        scaled, plain = (torch.where(bad, math.inf, part) for part in (scaled, plain))
        self._windows.append(torch.stack([series, origin, scaled, plain], 1))

    def exemplars(self) -> list[Exemplar]:
        """Return the best, the median and the worst forecast, or fewer if there are fewer than three."""
        if not self._windows:
            return []
        windows = torch.cat(self._windows)
        error = windows[:, 2] if not windows[:, 2].isnan().all() else windows[:, 3]
        known = (~error.isnan()).nonzero()[:, 0]
        ranked = known[error[known].argsort(stable=True)]
        count = len(ranked)
        positions = {"best": 0, **({"median": count // 2} if count > 2 else {}), "worst": count - 1}
        rows = {rank: int(ranked[position]) for rank, position in list(positions.items())[:count]}
        return [
            Exemplar(rank, count, float(error[row]), *map(int, windows[row, :2].tolist())) for rank, row in rows.items()
        ]

    def calibration(self, device: torch.device | str = "cpu") -> Tensor | None:
        """Return the mass in each bin of the probability integral transform, `[bins]`; None without sampled paths."""
        if not self.pit.update_called:
            return None
        with on_device(self.pit, device) as pit, pit.sync_context():
            mass = pit.mass.sum(0).cpu()
        return mass if mass.sum() > 0 else None

    def coverage(self, device: torch.device | str = "cpu") -> Mapping[float, float]:
        """Return the share of the truth inside each interval, by level in percent; empty for single paths."""
        shares = {float(level): _value(metric, device) for level, metric in self._coverage.items()}
        return {level: share for level, share in shares.items() if not math.isnan(share)}

    def sum_coverage(self, device: torch.device | str = "cpu") -> Mapping[float, float]:
        """Return the share of sums over the horizon inside each interval, as `coverage`."""
        shares = {float(level): _value(metric, device) for level, metric in self._sum_coverage.items()}
        return {level: share for level, share in shares.items() if not math.isnan(share)}

    def correlations(self, device: torch.device | str = "cpu") -> Tensor | None:
        """Return the correlation of deviations by distance, `[2, lags]`; None if there is nothing to correlate."""
        if not self._correlation.update_called:
            return None
        with on_device(self._correlation, device):
            found: Tensor = self._correlation.compute().cpu()
        return found if found.numel() and found.isfinite().all() else None

    def share_diverged(self, device: torch.device | str = "cpu") -> float:
        """Return the share of diverged paths; nan before the first batch."""
        return _value(self.diverged, device)

    def reset(self) -> None:
        """Remove all batches."""
        for metric in (self.pit, *self._coverage.values(), *self._sum_coverage.values(), self._correlation):
            metric.reset()
        self.diverged.reset()
        self._windows = []


class Autocorrelation(NamedTuple):
    """The autocorrelation of residuals."""

    lags: Tensor  # [K] correlation at lags of 1 to K steps
    bound: float  # white noise stays below it at 95 of 100 lags


@torch.no_grad()
def residual_autocorrelation(
    network: AutoregressiveMLP, panel: Panel, series: Tensor, origins: Tensor, horizon: int
) -> Autocorrelation | None:
    """Return the autocorrelation of one-step errors, which is 0 where the model uses all of the past.

    It is the mean over at most 16 series, each scaled to the same mean square, on the rows from the first to the end of
    the last of the held-out windows, `series` and `origins` `[W]` int64; None if there are too few.
    """
    ids = series.unique()
    ids = ids[torch.linspace(0, len(ids) - 1, min(_MAX_SERIES, len(ids))).long()]
    pieces = []
    for one in ids:
        rows = origins[series == one]
        end = min(int(rows.max()) + horizon, int(panel.lengths[one]))
        pieces.append(_one_step_errors(network, panel, one, torch.arange(max(int(rows.min()), end - _MAX_ROWS), end)))
    lags = min(min(len(errors) for errors in pieces) // 2, _MAX_ROWS // 4)
    count = sum(int(errors.isfinite().sum()) for errors in pieces) // (pieces[0][0].numel() or 1)
    if lags < 3 or not count:
        return None
    total = torch.zeros(lags + 1, dtype=torch.float64)
    for errors in pieces:
        known = errors.isfinite()
        filled = torch.where(known, errors, 0.0)
        filled = filled / (filled.square().sum(0) / known.sum(0).clamp(min=1)).sqrt().clamp(min=1e-300)
        total += torch.stack([(filled[lag:] * filled[: len(filled) - lag]).sum() for lag in range(lags + 1)])
    if not total[0] > 0:
        return None
    return Autocorrelation(total[1:] / total[0], 1.96 / math.sqrt(count))


def _one_step_errors(network: AutoregressiveMLP, panel: Panel, series: Tensor, rows: Tensor) -> Tensor:
    """Return truth less forecast mean, `[T, V]` float64 data units, nan where nothing was observed."""
    device = next(network.parameters()).device
    errors = []
    for origins in rows.split(_BATCH):
        index = series.expand(len(origins))
        windows = gather(panel, index, origins, network.context_length, 1, covariate_span=network.patch_length)
        covariates = windows.covariates and Covariates(*(part.to(device) for part in windows.covariates))
        mean = network(windows.context.to(device), windows.observed.to(device), covariates).mean[:, 0].cpu().double()
        error = torch.where(windows.target_observed[:, 0].cpu(), windows.target[:, 0].cpu().double() - mean, torch.nan)
        errors.append(error)
    return torch.cat(errors)
