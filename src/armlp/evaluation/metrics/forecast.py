"""What metrics ask of a forecast, whether it is sampled paths or a distribution in closed form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from armlp.evaluation.metrics.counts import counts_crps
from armlp.evaluation.metrics.scores import ranked_crps
from armlp.model.distributions import NegativeBinomial, Poisson, Predictive


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
        if isinstance(self.distribution, (Poisson, NegativeBinomial)):
            return counts_crps(self.distribution, truth)
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
