"""Metrics of calibration: intervals, the probability integral transform, and the log score."""

from __future__ import annotations

from functools import partialmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from armlp.arguments import check_arguments
from armlp.errors import check_bounds
from armlp.evaluation.metrics.base import METRICS, ClosedForm, Forecast, LeadMetric, Paths, as_forecast, covered
from armlp.evaluation.quantiles import check_levels, interval, path_quantiles
from armlp.model.families.base import Predictive


class _IntervalMetric(LeadMetric):
    """A metric of the central interval whose level is in percent."""

    needs = "distribution"

    def __init__(self, horizon: int, level: float, **options: Any) -> None:
        super().__init__(horizon, **options)
        (self.level,) = check_levels([level], "level")


class Coverage(_IntervalMetric):
    """Share of the truth inside the central interval; `level` is in percent."""

    format, curve = ".0%", True
    higher_is_better = None

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return 1 inside the interval and 0 outside."""
        low, high = forecast.quantiles(interval(self.level))
        return torch.where(truth.isnan(), torch.nan, covered(truth, low, high).double())


class SumCoverage(_IntervalMetric):
    """Share of windows whose sum over the observed values of the horizon is inside the interval of the paths' sums.

    It is right only if the values of a path depend on each other as the data do. Every value counts the result of its
    window and channel; by lead it says nothing. `level` is in percent.
    """

    format = ".0%"
    higher_is_better = None

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return 1 where the sum is inside the interval and 0 where it is outside."""
        if not isinstance(forecast, Paths):
            raise TypeError("SumCoverage needs sampled paths, and a distribution of single values came.")
        missing = truth.isnan()
        sums = forecast.values.masked_fill(missing[:, None], 0.0).sum(2, keepdim=True).sort(1).values
        low, high = path_quantiles(sums, interval(self.level)).unbind(1)
        inside = covered(truth.nan_to_num().sum(1, keepdim=True), low, high).double()
        return inside.expand_as(truth).masked_fill(missing, torch.nan)


class IntervalScore(_IntervalMetric):
    """Winkler's score of the central interval, data units: its width plus a penalty for truths outside.

    Tilmann Gneiting, Adrian E. Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation,
    https://doi.org/10.1198/016214506000001437
    """

    rank = None

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `high - low`, plus `2 / α` times the distance of a truth outside, at level `100 (1 - α)`."""
        low, high = forecast.quantiles(interval(self.level))
        missed = (low - truth).clamp(min=0) + (truth - high).clamp(min=0)
        return high - low + 2 / (1 - self.level / 100) * missed


@METRICS.register("coverage_80")
class _Coverage80(Coverage):
    heading, order, rank = "in 80%", 80, 70
    __init__ = partialmethod(Coverage.__init__, level=80)


@METRICS.register("coverage_95")
class _Coverage95(Coverage):
    heading, order, rank = "in 95%", 85, 75
    __init__ = partialmethod(Coverage.__init__, level=95)


@METRICS.register("sum_coverage_80")
class _SumCoverage80(SumCoverage):
    heading, order, rank = "sum in 80%", 87, 72
    __init__ = partialmethod(SumCoverage.__init__, level=80)


@METRICS.register("interval_80")
class _IntervalScore80(IntervalScore):
    order = 90
    __init__ = partialmethod(IntervalScore.__init__, level=80)


@METRICS.register("interval_95")
class _IntervalScore95(IntervalScore):
    order = 95
    __init__ = partialmethod(IntervalScore.__init__, level=95)


class LogScore(LeadMetric):
    """Negative log-likelihood of the truth under a distribution in closed form; paths have no density."""

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `-log p(truth)`, data units."""
        if not isinstance(forecast, ClosedForm):
            raise TypeError("LogScore needs a distribution with a density, and sampled paths came.")
        return -forecast.distribution.log_prob(truth)


class PITHistogram(Metric):
    """Histogram of the probability integral transform: flat where forecasts are calibrated.

    A U shape means that intervals are too narrow, a hump that they are too wide, a slope a bias. Where the truth has a
    range of probabilities (counts, ties, few paths), its mass is spread evenly over them, without random numbers.

    Claudia Czado, Tilmann Gneiting, Leonhard Held (2009), Predictive Model Assessment for Count Data,
    https://doi.org/10.1111/j.1541-0420.2009.01191.x
    """

    full_state_update = False
    mass: Tensor

    def __init__(self, horizon: int, bins: int = 20, **options: Any) -> None:
        super().__init__(**options)
        for name, size in check_arguments(PITHistogram.__init__, {"horizon": horizon, "bins": bins}).items():
            check_bounds(name, size, 1)
        self.add_state("mass", torch.zeros(horizon, bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        forecast: Tensor | Predictive | Forecast,
        truth: Tensor,
        observed: Tensor | None = None,
        unit: Tensor | None = None,
        series: Tensor | None = None,
    ) -> None:
        """Add a batch; see `LeadMetric.update`. Diverged forecasts do not count."""
        if not len(truth):
            return
        forecast = as_forecast(forecast)
        counted = forecast.finite & (~truth.isnan() if observed is None else observed)
        low, high = (bound.double() for bound in forecast.between(truth))
        others = [axis for axis in range(truth.dim()) if axis != 1]
        bins = self.mass.shape[1]
        below = []  # mass up to each edge, one edge at a time to save memory
        for edge in range(1, bins):
            share = torch.where(high > low, (edge / bins - low) / (high - low), (edge / bins >= high).double())
            below.append(torch.where(counted, share.clamp(0, 1), 0.0).sum(others))
        number = counted.sum(others).double()
        cumulative = torch.stack([torch.zeros_like(number), *below, number], 1)
        self.mass = self.mass + cumulative.diff(dim=1)

    def compute(self) -> Tensor:
        """Return the density in each bin, `[bins]`; 1 everywhere if forecasts are calibrated."""
        return self._density(self.mass.sum(0))

    def by_lead(self) -> Tensor:
        """Return the density at each lead, `[H, bins]`."""
        return self._density(self.mass)

    def _density(self, mass: Tensor) -> Tensor:
        return mass / mass.mean(-1, keepdim=True)
