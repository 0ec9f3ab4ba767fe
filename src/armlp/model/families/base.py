"""The base classes of distributions and heads, and the registry of heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from armlp.errors import UserError
from armlp.registry import Registry


class Predictive(Distribution):
    """Base class of distributions that are drawn from uniform noise, so that a path is a function of its noise.

    It has `draw`, `log_prob`, `cdf`, `icdf`, `mean` and `variance`, all of shape `[...]` and in data units.

    Attributes:
        noise: Number of uniform numbers per drawn value.
        discrete: Whether the values are integers.
        numeric: Whether the values are numbers, with an order and a distance; otherwise they are codes.
        has_density: Whether there is a likelihood.
        chained: Whether the log-density of each value along the last axis is given those before it.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True
    noise: ClassVar[int] = 1
    discrete: ClassVar[bool] = False
    numeric: ClassVar[bool] = True
    has_density: ClassVar[bool] = True
    chained: ClassVar[bool] = False

    if TYPE_CHECKING:  # torch's methods have no types

        def log_prob(self, value: Tensor) -> Tensor:
            """Return the log-density, or log-probability, `[...]` at `value [...]`, data units."""

        def cdf(self, value: Tensor) -> Tensor:
            """Return the probability `[...]` of at most `value [...]`, data units."""

        def icdf(self, value: Tensor) -> Tensor:
            """Return the quantiles `[...]` at probabilities `value [...]` between 0 and 1, data units."""

    @property
    def median(self) -> Tensor:
        """`[...]`, data units."""
        return self.icdf(torch.full_like(self.mean, 0.5))

    def draw(self, uniform: Tensor) -> Tensor:
        """Return values `[...]` for uniform noise `[..., noise]` in (0, 1), differentiable in the parameters."""
        return self.icdf(uniform[..., 0])

    def normal_scores(self, value: Tensor, within: Tensor | None = None) -> Tensor:
        """Return the standard normal scores `[...]` of the noise whose draws are `value [...]`, data units.

        They are standard normal if the values follow this distribution. `within [...]` says, from 0 to 1, where the
        noise lies in the jump of a discrete distribution; in the middle if it is left out.
        """
        probability = self.cdf(value)
        if self.discrete:
            below = self.cdf(value - 1)
            share = torch.full_like(probability, 0.5) if within is None else within
            probability = torch.lerp(below, probability, share)
        return torch.special.ndtri(open_interval(probability))

    def _bisected(self, share: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the least values `[...]` between `low` and `high` whose `cdf` reaches `share`, without gradient."""
        with torch.no_grad():
            high = torch.where(self.cdf(low) < share, high, low)
            for _ in range(torch.finfo(low.dtype).bits):
                middle = (low + high) / 2
                below = self.cdf(middle) < share
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return values `[*sample_shape, ...]` from fresh noise, data units, differentiable like those of `draw`."""
        like = self.mean
        uniform = torch.rand(*sample_shape, *like.shape, self.noise, dtype=like.dtype, device=like.device)
        return self.draw(open_interval(uniform))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return values `[*sample_shape, ...]` from fresh noise, data units."""
        return self.rsample(sample_shape)

    def sharpened(self, temperature: float = 1.0, top_k: int | None = None) -> Predictive:
        """Return the distribution of the `top_k` likeliest values, probabilities to the power of `1 / temperature`.

        Raises:
            UserError: The distribution has no separate choices, or an argument is out of its range.
        """
        if temperature == 1 and top_k is None:
            return self
        able = (name for name, head in HEADS.items() if head.distribution.sharpened is not Predictive.sharpened)
        raise UserError(
            f"`{'temperature' if top_k is None else 'top_k'}`: this model's head has no separate choices to "
            f"sharpen; leave `temperature` and `top_k` out, or train with `head`={' or '.join(able)}."
        )


def open_interval(uniform: Tensor) -> Tensor:
    """Keep uniform numbers away from 0 and 1, where quantile functions are infinite."""
    return uniform.clamp(2**-25, 1 - 2**-24)


class Head(nn.Module, ABC):
    """Base class of heads, which turn raw network outputs into a distribution.

    A head maps `raw [..., outputs]` and the window's `shift` and `scale` to a distribution in data units. The affine
    map is part of the distribution, so that likelihoods of differently scaled series add up. `raw[..., 0]` is a
    location in network units, to which the skips are added, if the values are numbers.

    The arguments of `__init__` that have a default are the head's options. The command line shows their type, default
    and line in the class docstring; `__init__` checks their range.

    Attributes:
        distribution: The class of its distributions.
        outputs: Number of raw outputs per value.
        affine: Whether shift and scale only move and stretch the distribution, so that it can be drawn in network
            units.
        loss_in_units: Whether the loss has the units of the data; otherwise it is a likelihood.
        supplied: Arguments of `__init__` that the network sets, such as `channels`; they are no options.
    """

    distribution: ClassVar[type[Predictive]]
    outputs: int = 1
    affine: ClassVar[bool] = True
    loss_in_units: ClassVar[bool] = False
    supplied: ClassVar[tuple[str, ...]] = ()

    @property
    def noise(self) -> int:
        """Number of uniform numbers per drawn value."""
        return self.distribution.noise

    @property
    def discrete(self) -> bool:
        """Whether the values are integers."""
        return self.distribution.discrete

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.distribution.numeric

    @property
    def has_density(self) -> bool:
        """Whether there is a likelihood."""
        return self.distribution.has_density

    @abstractmethod
    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Return the distribution of values `[..., U, V]`, data units, for raw outputs `[..., U, V, outputs]`.

        `shift` (data units) and `scale` (data units per network unit) broadcast against the values.
        """

    def prepare_noise(self, uniform: Tensor) -> Tensor:
        """Return the part of `draw` that depends on noise `[..., noise]` alone, for many values at once."""
        return uniform

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """Return drawn values `[..., U, V]` in network units, if the head is `affine`.

        They equal those of `forward(raw, 0, 1)` for noise `[..., U, V, noise]` from `prepare_noise`; a head may
        override this with a faster way. `raw` is expanded to the noise, and may be overwritten.
        """
        raw = raw.expand(*noise.shape[:-1], -1)
        return self(raw, raw.new_zeros(()), raw.new_ones(())).draw(noise)

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """Return the training loss of each `value [...]`, data units; by default the negative log-likelihood.

        `distribution` is the result of `forward`; `unit [...]` divides a loss that has the units of the data.
        """
        return -distribution.log_prob(value)

    def score_mask(self, observed: Tensor) -> Tensor:
        """Return the mask of the values `[..., U, V]` that the likelihood counts; by default the observed ones."""
        return observed


HEADS: Registry[Head] = Registry("head", Head)

_MIN_SCALE = 1e-4


def positive(raw: Tensor, out: Tensor | None = None) -> Tensor:
    """Return softplus plus a floor that keeps densities finite; written to `out` it has no gradient."""
    if out is None:
        return F.softplus(raw) + _MIN_SCALE
    # torch.nn.functional.softplus takes no `out`, and new memory would take longer than the function.
    softplus: Tensor = torch.ops.aten.softplus.out(raw, out=out)
    return softplus.add_(_MIN_SCALE)


def sharpen(log_probs: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Return logits `[..., A]` of the `top_k` likeliest choices, probabilities to the power of `1 / temperature`."""
    if not temperature > 0:
        raise UserError(f"`temperature`: {temperature} is not above 0; near 0 only the likeliest choice is left.")
    if top_k is not None and top_k < 1:
        raise UserError(f"`top_k`: {top_k} is too small; at least 1 choice must stay.")
    best = log_probs.amax(-1, keepdim=True)
    logits = (log_probs - best) / max(temperature, torch.finfo(log_probs.dtype).tiny)
    if top_k is None or top_k >= log_probs.shape[-1]:
        return logits
    kept = log_probs.topk(top_k).indices
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, logits.gather(-1, kept))
