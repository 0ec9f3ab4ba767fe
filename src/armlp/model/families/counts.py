"""Poisson and negative binomial counts."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from armlp.model.families.base import Head, Predictive, positive
from armlp.model.families.count_quantiles import Array, Recursion, least_count
from armlp.model.families.traced_counts import traced_least_count


class Counts(Predictive):
    """A distribution over 0, 1, 2, ... given by its mean and more.

    Draws are exact counts. Their gradient is that of the mean (straight through), because counts have none.

    Probabilities are computed in float64, distribution function and quantiles by scipy on the processor.

    Args:
        mean: `[...]` above 0, data units.
        more: `[...]` each, other parameters.
    """

    discrete = True

    def __init__(self, mean: Tensor, *more: Tensor) -> None:
        self.rate, *self.more = torch.broadcast_tensors(mean, *more)
        super().__init__(self.rate.shape, validate_args=False)

    @staticmethod
    @abstractmethod
    def _probability(count: Array, mean: Array, *more: Array) -> Any:
        """The distribution function at whole counts."""

    @staticmethod
    @abstractmethod
    def _recursion(mean: Array, *more: Array) -> Recursion:
        """How the probabilities follow from one another."""

    @property
    def mean(self) -> Tensor:
        """`[...]`, data units."""
        return self.rate

    def cdf(self, value: Tensor) -> Tensor:
        """Probability `[...]` of at most `value [...]`, without gradient."""
        count, *parts = _arrays(value.floor(), self.rate, *self.more)
        probability = self._probability(count.clip(0), *parts)
        return torch.as_tensor(np.where(count < 0, 0, probability)).to(self.rate)

    def icdf(self, value: Tensor) -> Tensor:
        """The least count `[...]` whose distribution function reaches `value [...]`, with the gradient of the mean."""
        if torch.compiler.is_compiling():  # into a graph, which cannot hold scipy
            wide, *doubles = torch.broadcast_tensors(*(part.double() for part in (value, self.rate, *self.more)))
            return traced_least_count(wide, type(self)(*doubles)).to(self.rate)
        level, *parts = np.broadcast_arrays(*_arrays(value, self.rate, *self.more))
        level, *parts = (part.ravel() for part in (level, *parts))
        counts = least_count(level, self._probability, self._recursion(*parts), *parts)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        drawn = torch.as_tensor(counts).to(self.rate).view(shape)
        return drawn + (self.rate - self.rate.detach()) if torch.is_grad_enabled() else drawn


class Poisson(Counts):
    """The Poisson distribution.

    Args:
        mean: `[...]` above 0, data units.
    """

    @property
    def variance(self) -> Tensor:
        """`[...]`: that of a Poisson distribution is its mean."""
        return self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability `[...]` of the counts `value [...]`."""
        count, mean = value.double().clamp(min=0), self.rate.double()
        return _of_counts(count.xlogy(mean) - mean - (count + 1).lgamma(), value).to(self.rate)

    @staticmethod
    def _probability(count: Array, mean: Array, *more: Array) -> Any:
        return scipy.special.gammaincc(count + 1, mean)

    @staticmethod
    def _recursion(mean: Array, *more: Array) -> Recursion:
        return Recursion(np.exp(-mean), mean, np.zeros_like(mean), variance=mean, skewness=mean**-0.5)


class NegativeBinomial(Counts):
    """Counts that vary more than those of a Poisson distribution of the same mean.

    Its number of successes is `r = mean² / excess²`; as the excess goes to 0 it becomes the Poisson distribution.

    Args:
        mean: `[...]` above 0, data units.
        excess: `[...]` above 0: the variance is `mean + excess²`.
    """

    @property
    def variance(self) -> Tensor:
        """`[...]`, squared data units."""
        return self.rate + self.more[0] ** 2

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability `[...]` of the counts `value [...]`."""
        count, mean, excess = value.double().clamp(min=0), self.rate.double(), self.more[0].double()
        successes = (mean / excess) ** 2
        # Where there are many successes, the difference of two large log-gammas loses all digits: Stirling's series has
        # that difference in closed form, with an error below 3e-12. The clamps keep the branches not taken finite.
        many = successes > 1e3
        large, small = successes.clamp(min=1e3), successes.clamp(max=1e3)
        series = (large + count) * ((count - mean) / (large + mean)).log1p() - count + count.xlogy(mean)
        series = series - (count / large).log1p() / 2 + (1 / (large + count) - 1 / large) / 12
        direct = (small + count).lgamma() - small.lgamma() - small * (mean / small).log1p()
        direct = direct - count * (small / mean).log1p()
        return _of_counts(torch.where(many, series, direct) - (count + 1).lgamma(), value).to(self.rate)

    @staticmethod
    def _probability(count: Array, mean: Array, *more: Array) -> Any:
        successes = (mean / more[0]) ** 2
        # Of the chances of success and failure, the one below a half is exact.
        success, failure = successes / (successes + mean), mean / (successes + mean)
        rare = success < failure
        first, second = np.where(rare, successes, count + 1), np.where(rare, count + 1, successes)
        part = scipy.special.betainc(first, second, np.minimum(success, failure))
        return np.where(rare, part, 1 - part)

    @staticmethod
    def _recursion(mean: Array, *more: Array) -> Recursion:
        successes = (mean / more[0]) ** 2
        failure = mean / (successes + mean)
        variance = mean + more[0] ** 2
        return Recursion(
            zero=np.exp(-successes * np.log1p(mean / successes)),
            offset=successes * failure,
            slope=failure,
            variance=variance,
            skewness=(1 + failure) / np.sqrt(successes * failure),
        )


def _arrays(*parts: Tensor) -> list[Array]:
    return [part.detach().double().cpu().numpy() for part in parts]


def _of_counts(log_prob: Tensor, value: Tensor) -> Tensor:
    return torch.where((value >= 0) & (value == value.floor()), log_prob, -math.inf)


class PoissonHead(Head):
    """The rate of a Poisson distribution."""

    discrete = True
    affine = False

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """The raw output is the rate in network units, bent so that the rate in data units is above 0."""
        return Poisson(_rate(raw[..., 0], shift, scale))

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """The negative log-likelihood of the nearest count, so that a value that is none cannot make it infinite."""
        return -distribution.log_prob(value.round().clamp(min=0))


class NegativeBinomialHead(PoissonHead):
    """The mean of a negative binomial distribution, and what its variance has beyond that of a Poisson distribution."""

    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the mean as in the Poisson head and, through softplus, the excess standard deviation."""
        return NegativeBinomial(_rate(raw[..., 0], shift, scale), scale * positive(raw[..., 1]))


def _rate(location: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Close to `shift + scale * location` where that is some scales above 0, and above 0 everywhere."""
    return scale * F.softplus(location + shift / scale) + 1e-4
