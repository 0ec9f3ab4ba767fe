"""Poisson and negative binomial counts, and their heads."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from armlp.model.families.base import HEADS, Head, Predictive, positive
from armlp.model.families.count_quantiles import Array, Recursion, least_count, traced_least_count

# From this many successes on, a series in their reciprocal is more exact than the hypergeometric function.
_MANY_SUCCESSES = 4e3


class Counts(Predictive):
    """A distribution over 0, 1, 2, ... given by its mean and perhaps a second parameter.

    Draws are counts; they have the gradient of the mean (straight through), because counts have none.
    Probabilities are computed in float64, distribution function and quantiles by scipy on the CPU.
    """

    discrete = True

    def __init__(self, mean: Tensor, *more: Tensor) -> None:
        self.rate, *self.more = torch.broadcast_tensors(mean, *more)
        super().__init__(self.rate.shape, validate_args=False)

    @staticmethod
    @abstractmethod
    def _probability(count: Array, mean: Array, *more: Array) -> Any:
        """Return the distribution function at integers."""

    @staticmethod
    @abstractmethod
    def _recursion(mean: Array, *more: Array) -> Recursion:
        """Return the recursion of the probabilities."""

    @staticmethod
    @abstractmethod
    def _crps_parts(mean: Tensor, variance: Tensor) -> tuple[Counts, Counts, Tensor]:
        """Return the distribution, that of `count - 1` weighted by the count, and the mean distance of two counts.

        All are float64; the distance is halved, and in multiples of the variance.
        """

    @property
    def mean(self) -> Tensor:
        return self.rate

    def cdf(self, value: Tensor) -> Tensor:
        """Return the probability `[...]` of at most `value [...]`, without gradient."""
        count, *parts = _arrays(value.floor(), self.rate, *self.more)
        probability = self._probability(count.clip(0), *parts)
        return torch.as_tensor(np.where(count < 0, 0, probability)).to(self.rate)

    def icdf(self, value: Tensor) -> Tensor:
        """Return the least count `[...]` whose distribution function reaches `value [...]`."""
        if torch.compiler.is_compiling():  # a graph cannot call scipy
            share, mean, *more = torch.broadcast_tensors(*(part.double() for part in (value, self.rate, *self.more)))
            exact = type(self)(mean, *more)
            excess = more[0] if more else None
            return traced_least_count(share, mean, excess, exact.variance.sqrt(), exact.log_prob).to(self.rate)
        share, *parts = (part.ravel() for part in np.broadcast_arrays(*_arrays(value, self.rate, *self.more)))
        counts = least_count(share, self._probability, self._recursion(*parts), *parts)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        drawn = torch.as_tensor(counts).to(self.rate).view(shape)
        return drawn + (self.rate - self.rate.detach()) if torch.is_grad_enabled() else drawn

    def crps(self, value: Tensor) -> Tensor:
        """Return the continuous ranked probability score `[...]` at `value [...]`, data units, without gradient.

        Wei Wei, Leonhard Held (2014), Calibration tests for count data, https://doi.org/10.1007/s11749-014-0380-8
        Alexander Jordan, Fabian Krüger, Sebastian Lerch (2019), Evaluating Probabilistic Forecasts with scoringRules,
        https://doi.org/10.18637/jss.v090.i12
        """
        mean, variance, value = (part.detach().double().cpu() for part in (self.mean, self.variance, value))
        exact, weighted, distance = self._crps_parts(mean, variance)
        below, less = 2 * exact.cdf(value) - 1, 2 * weighted.cdf(value - 1) - 1
        return (value * below - mean * less - variance * distance).to(self.mean)


class Poisson(Counts):
    """The Poisson distribution of `mean [...]` above 0, data units."""

    @property
    def variance(self) -> Tensor:
        return self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        count, mean = value.double().clamp(min=0), self.rate.double()
        return _where_count(count.xlogy(mean) - mean - (count + 1).lgamma(), value).to(self.rate)

    @staticmethod
    def _probability(count: Array, mean: Array, *more: Array) -> Any:
        return scipy.special.gammaincc(count + 1, mean)

    @staticmethod
    def _recursion(mean: Array, *more: Array) -> Recursion:
        return Recursion(np.exp(-mean), mean, np.zeros_like(mean), variance=mean, skewness=mean**-0.5)

    @staticmethod
    def _crps_parts(mean: Tensor, variance: Tensor) -> tuple[Counts, Counts, Tensor]:
        even, odd = _scaled_bessel(variance)
        exact = Poisson(mean)
        return exact, exact, torch.as_tensor(even + odd)


class NegativeBinomial(Counts):
    """The negative binomial distribution with variance `mean + excess²`, which has `mean² / excess²` successes.

    As the excess goes to 0 it becomes the Poisson distribution.
    """

    @property
    def variance(self) -> Tensor:
        return self.rate + self.more[0] ** 2

    def log_prob(self, value: Tensor) -> Tensor:
        count, mean, excess = value.double().clamp(min=0), self.rate.double(), self.more[0].double()
        successes = (mean / excess) ** 2
        # For many successes the difference of two large log-gammas loses all digits; Stirling's series gives it with an
        # error below 3e-12. The clamps keep the branch that is not used finite.
        many = successes > 1e3
        large, small = successes.clamp(min=1e3), successes.clamp(max=1e3)
        series = (large + count) * ((count - mean) / (large + mean)).log1p() - count + count.xlogy(mean)
        series = series - (count / large).log1p() / 2 + (1 / (large + count) - 1 / large) / 12
        direct = (small + count).lgamma() - small.lgamma() - small * (mean / small).log1p()
        direct = direct - count * (small / mean).log1p()
        return _where_count(torch.where(many, series, direct) - (count + 1).lgamma(), value).to(self.rate)

    @staticmethod
    def _probability(count: Array, mean: Array, *more: Array) -> Any:
        successes = (mean / more[0]) ** 2
        # The smaller of the probabilities of success and failure is exact.
        success, failure = successes / (successes + mean), mean / (successes + mean)
        rare = success < failure
        first, second = np.where(rare, successes, count + 1), np.where(rare, count + 1, successes)
        part = scipy.special.betainc(first, second, np.minimum(success, failure))
        return np.where(rare, part, 1 - part)

    @staticmethod
    def _recursion(mean: Array, *more: Array) -> Recursion:
        successes = (mean / more[0]) ** 2
        failure = mean / (successes + mean)
        zero = np.exp(-successes * np.log1p(mean / successes))
        skewness = (1 + failure) / np.sqrt(successes * failure)
        return Recursion(zero, successes * failure, failure, variance=mean + more[0] ** 2, skewness=skewness)

    @staticmethod
    def _crps_parts(mean: Tensor, variance: Tensor) -> tuple[Counts, Counts, Tensor]:
        excess = (variance - mean).sqrt()
        successes = (mean / excess) ** 2
        # Weighted by the count, the distribution is that of one more success, shifted by one count.
        more = mean * (1 + 1 / successes)
        exact, weighted = NegativeBinomial(mean, excess), NegativeBinomial(more, more / (1 + successes).sqrt())
        few, many = successes.clamp(max=_MANY_SUCCESSES).numpy(), successes.clamp(min=_MANY_SUCCESSES).numpy()
        ratio = 4 * variance.numpy() / few
        closed = scipy.special.hyp2f1(1 - few, 0.5, 2, ratio / (1 + ratio)) / (1 + ratio) ** 0.5
        even, odd = _scaled_bessel(variance)
        series = even + odd - variance.numpy() / many * (even - odd)
        closed, series = torch.as_tensor(closed), torch.as_tensor(series)
        return exact, weighted, torch.where(successes < _MANY_SUCCESSES, closed, series)


def _arrays(*parts: Tensor) -> list[Array]:
    """Return tensors as float64 numpy arrays."""
    return [part.detach().double().cpu().numpy() for part in parts]


def _scaled_bessel(variance: Tensor) -> tuple[Array, Array]:
    """Return the modified Bessel functions of order 0 and 1 at twice the variance, exponentially scaled."""
    twice = 2 * variance.numpy()
    return scipy.special.ive(0, twice), scipy.special.ive(1, twice)


def _where_count(log_prob: Tensor, value: Tensor) -> Tensor:
    """Return the log-probability where the value is a count, minus infinity elsewhere."""
    return torch.where((value >= 0) & (value == value.floor()), log_prob, -math.inf)


@HEADS.register("poisson")
class PoissonHead(Head):
    """A Poisson distribution of counts: variance equal to the mean."""

    distribution: ClassVar[type[Predictive]] = Poisson
    affine = False

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw output as the rate in network units, mapped to a rate above 0 in data units."""
        return Poisson(_rate(raw[..., 0], shift, scale))

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """Return the negative log-likelihood of the nearest count, because that of other values is infinite."""
        return -distribution.log_prob(value.round().clamp(min=0))


@HEADS.register("negative_binomial")
class NegativeBinomialHead(PoissonHead):
    """A negative binomial distribution of counts: variance above the mean."""

    distribution = NegativeBinomial
    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs as the mean, as in `PoissonHead`, and through softplus the excess deviation."""
        return NegativeBinomial(_rate(raw[..., 0], shift, scale), scale * positive(raw[..., 1]))


def _rate(location: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return a smooth positive version of `shift + scale * location`."""
    return scale * F.softplus(location + shift / scale) + 1e-4
