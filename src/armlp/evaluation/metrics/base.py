"""The base class of metrics, and the forecasts that they score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from torchmetrics import Metric

from armlp.arguments import check_arguments
from armlp.errors import check_bounds
from armlp.evaluation.quantiles import path_quantiles
from armlp.model.families.base import Predictive
from armlp.registry import Registry


class Paths:
    """A forecast by sampled paths, which are sorted once for all metrics that share the object.

    Args:
        values: `[B, P, H, V]`, data units. One path is a point forecast.
        even: Whether the paths divide the distribution evenly, as those of `rollout` do; scores of independent draws
            are corrected for their finite number.
        whole: Whether the values are counts, so that a quantile is one of them.
    """

    def __init__(self, values: Tensor, even: bool = False, whole: bool = False) -> None:
        self.values, self.even, self.whole = values, even, whole

    @cached_property
    def ranked(self) -> Tensor:
        """The values sorted along the paths, `[B, P, H, V]`; nan comes last."""
        return self.values if self.values.shape[1] == 1 else self.values.sort(1).values

    @cached_property
    def _median(self) -> Tensor:
        return self.quantiles([0.5])[0]

    def median(self) -> Tensor:
        """Return the point forecast, `[B, H, V]`, data units."""
        return self._median

    def quantiles(self, probabilities: Sequence[float]) -> Tensor:
        """Return `[Q, B, H, V]`, data units, as `path_quantiles` defines them."""
        return path_quantiles(self.ranked, probabilities, self.whole).movedim(1, 0)

    def crps(self, truth: Tensor) -> Tensor:
        """Return the continuous ranked probability score, `[B, H, V]`, data units."""
        return _ranked_crps(self.ranked - truth[:, None], self.even)

    def between(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities between which the truth lies among the paths, `[B, H, V]` each."""
        truth, count = truth[:, None], self.values.shape[1]
        below, upto = (self.values < truth).sum(1), (self.values <= truth).sum(1)
        if not self.even:  # the rank among independent draws
            return below / (count + 1), (upto + 1) / (count + 1)
        return ((below - 0.5) / count).clamp(min=0), ((upto + 0.5) / count).clamp(max=1)

    @cached_property
    def finite(self) -> Tensor:
        """Where every path is finite, `[B, H, V]` bool."""
        return self.ranked[:, 0].isfinite() & self.ranked[:, -1].isfinite()


class ClosedForm:
    """A forecast by the distribution of each value `[B, H, V]`, data units; its methods are those of `Paths`."""

    def __init__(self, distribution: Predictive) -> None:
        self.distribution: Any = distribution  # Any, because not every distribution has `crps`

    def median(self) -> Tensor:
        """Return the point forecast, `[B, H, V]`, data units."""
        return self.quantiles([0.5])[0]

    def quantiles(self, probabilities: Sequence[float]) -> Tensor:
        """Return `[Q, B, H, V]`, data units."""
        like = self.distribution.mean
        return torch.stack([self.distribution.icdf(torch.full_like(like, one)) for one in probabilities])

    def crps(self, truth: Tensor) -> Tensor:
        """Return `[B, H, V]`, data units; a mixture of members has no CRPS in closed form and raises a TypeError."""
        if not hasattr(self.distribution, "crps"):
            raise TypeError(f"{type(self.distribution).__name__} has no CRPS in closed form: give sampled paths.")
        return self.distribution.crps(truth)

    def between(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distribution function just below the truth and at it, which differ for counts."""
        highest = self.distribution.cdf(truth)
        return (self.distribution.cdf(truth - 1) if self.distribution.discrete else highest), highest

    @property
    def finite(self) -> Tensor:
        """Where the mean is finite, `[B, H, V]` bool."""
        return self.distribution.mean.isfinite()


Forecast: TypeAlias = Paths | ClosedForm


def as_forecast(forecast: Tensor | Predictive | Forecast) -> Forecast:
    """Convert paths `[B, P, H, V]` or a distribution of values `[B, H, V]` to a forecast."""
    if isinstance(forecast, Paths | ClosedForm):
        return forecast
    return Paths(forecast) if isinstance(forecast, Tensor) else ClosedForm(forecast)


def crps(paths: Tensor, truth: Tensor) -> Tensor:
    """Return the CRPS of each value, `[B, T, V]`, from independent draws `[B, P, T, V]`, unbiased for any `P`."""
    return _ranked_crps((paths - truth[:, None]).sort(1).values)


def _ranked_crps(errors: Tensor, even: bool = False) -> Tensor:
    """Return the CRPS from errors `[B, P, T, V]`, ascending along the paths; without the correction if `even`.

    Errors, unlike values, keep their digits where the values are large.
    """
    count = errors.shape[1]
    accuracy = errors.abs().mean(1)
    if count == 1:
        return accuracy
    rank = torch.arange(1 - count, count, 2, dtype=errors.dtype, device=errors.device)
    return accuracy - torch.einsum("bp...,p->b...", errors, rank / (count * (count if even else count - 1)))


def covered(truth: Any, low: Any, high: Any) -> Any:
    """Return which values lie in the interval `[low, high]`, ends included; missing values do not."""
    return (low <= truth) & (truth <= high)


class LeadMetric(Metric, ABC):
    """The mean of a score over observed values by lead, synchronized across processes.

    To a metric of a single channel one may give all shapes without the axis `V`.

    A registered metric is computed, logged and printed by its name:

        @METRICS.register("mae")
        class MeanAbsoluteError(LeadMetric): ...

    Args:
        horizon: `H`.
        num_series: `S`, to keep means by series too; 0 keeps none.

    Attributes:
        default: Whether every scoreboard includes it; otherwise it must be asked for.
        needs: What it scores: any forecast, also a single `point`; a `distribution`; or at least two sampled `paths`.
        numeric: Whether it scores numbers; False for codes, None for either.
        unit: Error of the seasonal naive that `update` receives as the unit: `mae` or `rmse`.
        curve: Whether its values by lead are logged and drawn.
        heading: Name in tables; the registered name if empty.
        order: Position among the columns of a table, ascending.
        rank: Rank in importance, from 1: the last are left out first if a table is too wide; None is in no table.
        format: Format specification of its values.
        higher_is_better: Which value is the best; None if neither end is.
    """

    default: ClassVar[bool] = True
    needs: ClassVar[Literal["point", "distribution", "paths"]] = "point"
    numeric: ClassVar[bool | None] = True
    unit: ClassVar[Literal["mae", "rmse"]] = "mae"
    curve: ClassVar[bool] = False
    heading: ClassVar[str] = ""
    order: ClassVar[float] = 105
    rank: ClassVar[float | None] = 90
    format: ClassVar[str] = ",.4g"
    higher_is_better: bool | None = False
    full_state_update = False
    total: Tensor
    count: Tensor
    series_total: Tensor
    series_count: Tensor

    def __init__(self, horizon: int, num_series: int = 0, **options: Any) -> None:
        super().__init__(**options)
        sizes = check_arguments(LeadMetric.__init__, {"horizon": horizon, "num_series": num_series})
        check_bounds("horizon", sizes["horizon"], 1)
        check_bounds("num_series", sizes["num_series"], 0)
        for name, size in {"": horizon, "series_": num_series}.items():
            for sums in ("total", "count"):
                self.add_state(name + sums, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return one score per value, `[B, H, V]`; nan where it is not defined or the truth was not observed."""

    def weight(self, truth: Tensor) -> Tensor:
        """Return the weight of each value in the mean, `[B, H, V]`."""
        return torch.ones_like(truth)

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """Return the metric from sums of scores and of weights."""
        return total / count

    def update(
        self,
        forecast: Tensor | Predictive | Forecast,
        truth: Tensor,
        observed: Tensor | None = None,
        unit: Tensor | None = None,
        series: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            forecast: Paths `[B, P, H, V]`, or a distribution of values `[B, H, V]`, data units.
            truth: `[B, H, V]`, data units.
            observed: `[B, H, V]` bool; other values do not count. By default, all values count.
            unit: `[B, 1, V]` error of the seasonal naive inside the series, data units, for scaled metrics.
            series: `[B]` int64 index of the series, for means by series.
        """
        if not len(truth):
            return  # the last batch of a process with fewer windows
        forecast = as_forecast(forecast)
        observed = torch.ones_like(truth, dtype=torch.bool) if observed is None else observed
        unit = torch.full_like(truth[:, :1], torch.nan) if unit is None else unit
        score = self.score(forecast, torch.where(observed, truth, torch.nan), unit)
        # A value without a score does not count, but one whose forecast diverged does: it makes the mean nan.
        counted = observed & (~score.isnan() | ~forecast.finite)
        others = [axis for axis in range(score.dim()) if axis != 1]
        for name, values in {"total": score, "count": self.weight(truth)}.items():
            part = torch.where(counted, values, 0.0).double()
            setattr(self, name, getattr(self, name) + part.sum(others))
            if series is not None and len(self.series_total):
                getattr(self, f"series_{name}").index_add_(0, series, part.flatten(1).sum(1))
        self.update_windows(score, observed, unit)

    def update_windows(self, score: Tensor, observed: Tensor, unit: Tensor) -> None:
        """Add a batch to sums over windows, for metrics that have such sums."""

    def compute(self) -> Tensor:
        """Return the mean over all observed values; nan without any."""
        return self.mean(self.total.sum(), self.count.sum())

    def by_lead(self) -> Tensor:
        """Return the mean at each lead, `[H]`."""
        return self.mean(self.total, self.count)

    def by_series(self) -> Tensor:
        """Return the mean of each series, `[S]`, nan where nothing was observed; needs `num_series`."""
        return self.mean(self.series_total, self.series_count)


METRICS: Registry[LeadMetric] = Registry("metrics", LeadMetric)
