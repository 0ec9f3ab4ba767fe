"""Heads: from network outputs to a distribution in data units, one class per family.

A head maps `raw [..., parameters]` and the window's `shift` and `scale` to a distribution whose values are in
data units: the affine map is part of the distribution, so likelihoods of differently scaled series add up.
`raw[..., 0]` is a location in network units in every head; that is where the skips go.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from armlp.errors import UserError


class Predictive(Distribution):
    """A distribution that is drawn from uniform noise, so that a path is a function of its noise."""

    def draw(self, uniform: Tensor) -> Tensor:
        """Values `[...]` for uniform noise `[..., noise]` in (0, 1), data units, differentiable in the parameters."""
        return self.icdf(uniform[..., 0])


class Point(Predictive):
    """All mass on one value. It has no density, so no likelihood.

    Args:
        value: `[...]`, data units.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"value": constraints.real}

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """`[...]`, data units."""
        return self.value

    def icdf(self, value: Tensor) -> Tensor:
        """The one value, at every level."""
        return self.value.expand(torch.broadcast_shapes(self.value.shape, value.shape))

    def draw(self, uniform: Tensor) -> Tensor:
        """The one value, whatever the noise."""
        return self.value


class Normal(torch.distributions.Normal, Predictive):
    """The normal distribution, drawn from one uniform number a value through its quantile function."""


class StudentT(torch.distributions.StudentT, Predictive):
    """Student's t, drawn by Bailey's polar method from two uniform numbers a value.

    Ralph W. Bailey (1994), Polar Generation of Random Variates with the t-Distribution,
    https://doi.org/10.1090/S0025-5718-1994-1196000-9
    """

    def draw(self, uniform: Tensor) -> Tensor:
        """Values `[...]` for uniform noise `[..., 2]`, differentiable in the parameters."""
        radius = (self.df * torch.expm1(-2 / self.df * uniform[..., 0].log())).sqrt()
        return self.loc + self.scale * radius * torch.cos(2 * math.pi * uniform[..., 1])


class PiecewiseLinearQuantile(Predictive):
    """A distribution given by its quantile function: linear between knots, exponential tails beyond them.

    The density is a staircase between the outer knots and falls off exponentially outside, so likelihood,
    quantiles and samples are all exact.

    Youngsuk Park et al. (2022), Learning Quantile Functions without Quantile Crossing for Distribution-free
    Time Series Forecasting, https://arxiv.org/abs/2111.06581

    Args:
        levels: `[Q]` ascending probabilities of the knots.
        knots: `[..., Q]` ascending values there, data units.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    # The mean excess over the outer knot in units of the outer gap is 0.47 for a normal distribution and 0.62
    # for a Laplace distribution at levels 2% and 10%; between the two, nearer the normal.
    _TAIL = 0.5

    def __init__(self, levels: Tensor, knots: Tensor) -> None:
        self.levels = levels
        self.knots = knots
        super().__init__(knots.shape[:-1], validate_args=False)

    def _gaps(self) -> Tensor:
        """Distances between the knots, `[..., Q - 1]`; above 0 even where a nearly constant window rounds them away."""
        return self.knots.diff(dim=-1).clamp(min=torch.finfo(self.knots.dtype).tiny)

    def _tails(self) -> tuple[Tensor, Tensor]:
        """The mean excess below the first knot and above the last."""
        below, above = (self._TAIL * self._gaps()[..., [0, -1]]).unbind(-1)
        return below, above

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles `[...]` at levels `value [...]` between 0 and 1, data units."""
        lower = (torch.bucketize(value.contiguous(), self.levels) - 1).clamp(0, len(self.levels) - 2)
        knots = self.knots.expand(*torch.broadcast_shapes(lower.shape, self.batch_shape), -1)
        lower = lower.expand(knots.shape[:-1])
        left, right = (knots.gather(-1, (lower + side)[..., None])[..., 0] for side in (0, 1))
        share = (value - self.levels[lower]) / (self.levels[lower + 1] - self.levels[lower])
        below, above = self._tails()
        low, high = self.levels[0], self.levels[-1]
        # The clamps keep the branches not taken finite, and so their gradients.
        left_tail = self.knots[..., 0] + below * (value.clamp(max=low) / low).log()
        right_tail = self.knots[..., -1] - above * ((1 - value).clamp(max=1 - high) / (1 - high)).log()
        inner = left + share.clamp(0, 1) * (right - left)
        return torch.where(value < low, left_tail, torch.where(value > high, right_tail, inner))

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of at most `value [...]`, data units."""
        share = ((value[..., None] - self.knots[..., :-1]) / self._gaps()).clamp(0, 1)
        inner = self.levels[0] + (share * self.levels.diff()).sum(-1)
        below, above = self._tails()
        low, high = self.levels[0], self.levels[-1]
        left_tail = low * ((value - self.knots[..., 0]).clamp(max=0) / below).exp()
        right_tail = 1 - (1 - high) * ((self.knots[..., -1] - value).clamp(max=0) / above).exp()
        return torch.where(
            value < self.knots[..., 0], left_tail, torch.where(value > self.knots[..., -1], right_tail, inner)
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density `[...]` at `value [...]`, data units."""
        knots = self.knots.expand(*torch.broadcast_shapes(value.shape, self.batch_shape), -1)
        segment = torch.searchsorted(
            knots.detach().contiguous(), value.expand(knots.shape[:-1])[..., None].contiguous()
        )
        heights = self.levels.diff().log() - self._gaps().log()
        inner = heights.expand(*knots.shape[:-1], -1).gather(-1, (segment - 1).clamp(0, len(self.levels) - 2))[..., 0]
        below, above = self._tails()
        left_tail = (self.levels[0] / below).log() + (value - self.knots[..., 0]).clamp(max=0) / below
        right_tail = ((1 - self.levels[-1]) / above).log() + (self.knots[..., -1] - value).clamp(max=0) / above
        return torch.where(
            value < self.knots[..., 0], left_tail, torch.where(value > self.knots[..., -1], right_tail, inner)
        )

    @property
    def mean(self) -> Tensor:
        """`[...]`, data units: the integral of the quantile function."""
        middles = (self.knots[..., 1:] + self.knots[..., :-1]) / 2
        below, above = self._tails()
        low, high = self.levels[0], self.levels[-1]
        tails = low * (self.knots[..., 0] - below) + (1 - high) * (self.knots[..., -1] + above)
        return (middles * self.levels.diff()).sum(-1) + tails


class Head(ABC):
    """How raw network outputs become a distribution.

    Attributes:
        parameters: How many raw outputs a value needs.
        noise: How many uniform numbers a sampled value needs.
        has_density: Whether the distribution has a likelihood.
    """

    parameters: int = 1
    noise: int = 1
    has_density: bool = True

    @abstractmethod
    def __call__(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """The distribution of `[..., U]` values in data units from `raw [..., U, parameters]`."""

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """What training minimises, per value `[...]`: here the negative log-likelihood of data units.

        Args:
            distribution: What `__call__` returned.
            value: `[...]`, data units.
            unit: `[...]` data units; losses that have the units of the data are told in multiples of it.
        """
        return -distribution.log_prob(value)


class PointHead(Head):
    """One number per value, trained by a point loss.

    Args:
        point_loss: `mse`, `mae` or `huber` (which is quadratic up to one unit).
    """

    noise = 0
    has_density = False
    _LOSSES: ClassVar[dict[str, Callable[..., Tensor]]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

    def __init__(self, point_loss: str = "mse") -> None:
        if point_loss not in self._LOSSES:
            raise UserError(
                f"--model.point_loss: {point_loss!r} is not a point loss; use one of {', '.join(self._LOSSES)}."
            )
        self.point_loss = point_loss

    def __call__(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """All mass on `shift + scale * raw`."""
        return Point(shift + scale * raw[..., 0])

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """The point loss of errors in multiples of `unit`."""
        return self._LOSSES[self.point_loss](distribution.mean / unit, value / unit, reduction="none")


class NormalHead(Head):
    """Mean and standard deviation."""

    parameters = 2

    def __call__(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the mean and, through softplus, the standard deviation."""
        location, spread = raw.unbind(-1)
        return Normal(shift + scale * location, scale * _positive(spread), validate_args=False)


class StudentTHead(Head):
    """Location, scale and degrees of freedom (above 2, so that the variance exists)."""

    parameters = 3
    noise = 2

    def __call__(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the location and, through softplus, the scale and the degrees of freedom above 2."""
        location, spread, tail = raw.unbind(-1)
        return StudentT(
            2 + _positive(tail + 4), shift + scale * location, scale * _positive(spread), validate_args=False
        )


class QuantileHead(Head):
    """A monotone quantile function through knots, trained by the pinball loss at the knots.

    The mean pinball loss over levels spread evenly approximates half the continuous ranked probability score.
    """

    LEVELS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
    parameters = len(LEVELS)
    # Where raw outputs are 0 the gaps are those of a normal distribution with half the window's spread.
    offsets = (0.5 * torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).diff()).expm1().log()

    def __call__(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the median and, through softplus, the gaps between the knots from there outwards."""
        middle = self.parameters // 2
        gaps = _positive(raw[..., 1:] + self.offsets.to(raw))
        below = -gaps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., middle:].cumsum(-1)
        knots = raw[..., :1] + torch.cat([below, torch.zeros_like(raw[..., :1]), above], dim=-1)
        knots = shift[..., None] + scale[..., None] * knots
        levels = torch.tensor(self.LEVELS, dtype=knots.dtype, device=knots.device)
        return PiecewiseLinearQuantile(levels, knots)

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """Twice the mean pinball loss over the knots, in multiples of `unit`."""
        assert isinstance(distribution, PiecewiseLinearQuantile)
        error = (value[..., None] - distribution.knots) / unit[..., None]
        return 2 * torch.maximum(distribution.levels * error, (distribution.levels - 1) * error).mean(-1)


def _positive(raw: Tensor) -> Tensor:
    """Softplus with a floor that keeps densities finite."""
    return F.softplus(raw) + 1e-4


HEADS: dict[str, type[Head]] = {
    "point": PointHead,
    "normal": NormalHead,
    "student_t": StudentTHead,
    "quantile": QuantileHead,
}
