"""The base of all metrics, and the forecasts that they score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from armlp.arguments import check_arguments
from armlp.errors import check_bounds
from armlp.evaluation.metrics.functional import ranked_crps
from armlp.model.families.base import Predictive


class Forecast(ABC):
    """A predictive distribution of every value, `[B, H(, V)]`, data units."""

    @abstractmethod
    def quantiles(self, probabilities: Sequence[float]) -> Tensor:
        """`[Q, B, H(, V)]`, data units."""

    @abstractmethod
    def crps(self, truth: Tensor) -> Tensor:
        """The continuous ranked probability score, `[B, H(, V)]`, data units."""

    @abstractmethod
    def between(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities of less than the truth and of at most the truth, each `[B, H(, V)]`."""

    @property
    @abstractmethod
    def finite(self) -> Tensor:
        """`[B, H(, V)]` bool, False where the forecast diverged."""

    def median(self) -> Tensor:
        """The point forecast, `[B, H(, V)]`, data units."""
        return self.quantiles([0.5])[0]

    @staticmethod
    def of(forecast: Tensor | Predictive | Forecast) -> Forecast:
        """Paths `[B, P, H(, V)]`, or a distribution of values `[B, H(, V)]`, as a forecast."""
        if isinstance(forecast, Forecast):
            return forecast
        return Paths(forecast) if isinstance(forecast, Tensor) else ClosedForm(forecast)


class Paths(Forecast):
    """Sampled paths, which are sorted once for all metrics that take the same object.

    Args:
        values: `[B, P, H(, V)]`, data units. One path is a point forecast.
        even: The paths share the distribution evenly, as those of armlp do (`path_noise`), and are not drawn each by
            itself: to scores that are fair to few paths they would seem to spread too far.
        whole: The values are counts, so that a quantile is one of them and lies between none.
    """

    def __init__(self, values: Tensor, even: bool = False, whole: bool = False) -> None:
        self.values = values
        self.even = even
        self.whole = whole

    @cached_property
    def ranked(self) -> Tensor:
        """`[B, P, H(, V)]` the values of all paths, ascending at every lead; nan is above all."""
        return self.values if self.values.shape[1] == 1 else self.values.sort(1).values

    @cached_property
    def _middle(self) -> Tensor:
        return self.quantiles([0.5])[0]

    def median(self) -> Tensor:
        """`[B, H(, V)]`, data units."""
        return self._middle

    def quantiles(self, probabilities: Sequence[float]) -> Tensor:
        """`[Q, B, H(, V)]` as numpy has them, linear between the paths, of counts the nearest; nan where a path is."""
        place = torch.tensor(probabilities, dtype=torch.float64) * (self.ranked.shape[1] - 1)
        place = place.round() if self.whole else place
        lower = place.floor()
        share = (place - lower).to(self.ranked).view(-1, *[1] * (self.ranked.dim() - 1))
        low, high = (self.ranked[:, part.long()].movedim(1, 0) for part in (lower, place.ceil()))
        value = torch.where(low == high, low, low + share * (high - low))  # infinite ones have no difference
        return torch.where(self.ranked[:, -1].isnan(), torch.nan, value)

    def crps(self, truth: Tensor) -> Tensor:
        """`[B, H(, V)]`, data units, by the estimator that is fair to few paths, unless they are even."""
        return ranked_crps(self.ranked - truth[:, None], self.even)

    def between(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Between the ranks that the truth may have among the paths, each `[B, H(, V)]`."""
        truth, count = truth[:, None], self.values.shape[1] + 1
        return (self.values < truth).sum(1) / count, ((self.values <= truth).sum(1) + 1) / count

    @cached_property
    def finite(self) -> Tensor:
        """`[B, H(, V)]` bool, whether every path is finite there."""
        return self.ranked[:, 0].isfinite() & self.ranked[:, -1].isfinite()


class ClosedForm(Forecast):
    """A distribution in closed form.

    Args:
        distribution: Of values `[B, H(, V)]`, data units.
    """

    def __init__(self, distribution: Predictive) -> None:
        self.distribution: Any = distribution  # not every one has a CRPS in closed form

    def quantiles(self, probabilities: Sequence[float]) -> Tensor:
        """`[Q, B, H(, V)]`, data units."""
        like = self.distribution.mean
        return torch.stack([self.distribution.icdf(torch.full_like(like, level)) for level in probabilities])

    def crps(self, truth: Tensor) -> Tensor:
        """`[B, H(, V)]`, data units.

        Raises:
            TypeError: The distribution has none in closed form, as a pool of members.
        """
        if not hasattr(self.distribution, "crps"):
            raise TypeError(f"{type(self.distribution).__name__} has no CRPS in closed form: give sampled paths.")
        return self.distribution.crps(truth)

    def log_prob(self, truth: Tensor) -> Tensor:
        """The log-density or log-probability of the truth, `[B, H(, V)]`."""
        return self.distribution.log_prob(truth)

    def between(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The distribution function at the truth, and of counts below it too."""
        highest = self.distribution.cdf(truth)
        return (self.distribution.cdf(truth - 1) if self.distribution.discrete else highest), highest

    @property
    def finite(self) -> Tensor:
        """`[B, H(, V)]` bool, whether the mean is finite."""
        return self.distribution.mean.isfinite()


def covered(truth: Any, low: Any, high: Any) -> Any:
    """Return which values lie in the interval `[low, high]`, ends included: what every coverage is the mean of.

    Args:
        truth: A tensor, array or column of values; a missing one lies in no interval.
        low: The lower ends, alike.
        high: The upper ends, alike.
    """
    return (low <= truth) & (truth <= high)


class LeadMetric(Metric, ABC):
    """The mean of a score over observed values, kept by lead; sums are synchronised across processes.

    Args:
        horizon: `H`.
        num_series: `S`, where means are wanted by series too; 0 where they are not.
    """

    full_state_update = False
    higher_is_better = False
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
        """One score per value, `[B, H(, V)]`; nan where it is not defined, or the truth is nan: not observed."""

    def weight(self, truth: Tensor) -> Tensor:
        """What each value counts, `[B, H(, V)]`."""
        return torch.ones_like(truth)

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """From the sums of scores and of weights to the metric."""
        return total / count

    def update(
        self,
        forecast: Tensor | Predictive | Forecast,
        truth: Tensor,
        observed: Tensor | None = None,
        unit: Tensor | None = None,
        series: Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            forecast: Paths `[B, P, H(, V)]`, or a distribution of values `[B, H(, V)]`, data units.
            truth: `[B, H(, V)]`, data units.
            observed: `[B, H(, V)]` bool; what is not observed does not count. All of it where left out.
            unit: `[B, 1(, V)]` error of the seasonal naive inside the series, data units, for scaled metrics.
            series: `[B]` int64 index of the series, where means are wanted by series.
        """
        if not len(truth):
            return  # the last batch of a process that has fewer than the others
        forecast = Forecast.of(forecast)
        observed = torch.ones_like(truth, dtype=torch.bool) if observed is None else observed
        unit = torch.full_like(truth[:, :1], torch.nan) if unit is None else unit
        score = self.score(forecast, torch.where(observed, truth, torch.nan), unit)
        # What has no score of its own is left out, but a forecast that diverged is not: it makes the mean nan.
        counted = observed & (~score.isnan() | ~forecast.finite)
        others = [axis for axis in range(score.dim()) if axis != 1]
        for name, values in {"total": score, "count": self.weight(truth)}.items():
            part = torch.where(counted, values, 0.0).double()
            setattr(self, name, getattr(self, name) + part.sum(others))
            if series is not None and len(self.series_total):
                getattr(self, f"series_{name}").index_add_(0, series, part.flatten(1).sum(1))

    def compute(self) -> Tensor:
        """The mean over all observed values; nan where there was none."""
        return self.mean(self.total.sum(), self.count.sum())

    def by_lead(self) -> Tensor:
        """`[H]` the mean at each lead."""
        return self.mean(self.total, self.count)

    def by_series(self) -> Tensor:
        """`[S]` the mean of each series, nan where nothing of it was observed; of a metric made with `num_series`."""
        return self.mean(self.series_total, self.series_count)
