"""What every family has: a distribution in data units, and the head that makes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from armlp.errors import UserError


class Predictive(Distribution):
    """A distribution that is drawn from uniform noise, so that a path is a function of its noise.

    Beside `draw` it has `log_prob`, `cdf`, `icdf`, `mean` and `variance`, all of shape `[...]` and in data units.

    Attributes:
        noise: How many uniform numbers a drawn value needs.
        discrete: Whether the values are integers.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True
    noise: ClassVar[int] = 1
    discrete: ClassVar[bool] = False

    if TYPE_CHECKING:  # torch's own are not typed

        def log_prob(self, value: Tensor) -> Tensor:
            """Log-density, or log-probability, `[...]` at `value [...]`, data units."""

        def cdf(self, value: Tensor) -> Tensor:
            """Probability `[...]` of at most `value [...]`, data units."""

        def icdf(self, value: Tensor) -> Tensor:
            """Quantiles `[...]` at levels `value [...]` between 0 and 1, data units."""

    def draw(self, uniform: Tensor) -> Tensor:
        """Values `[...]` for uniform noise `[..., noise]` in (0, 1), data units, differentiable in the parameters."""
        return self.icdf(uniform[..., 0])

    def _bisected(self, level: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The least values `[...]` between `low` and `high` whose `cdf` reaches `level`, without gradient."""
        with torch.no_grad():
            high = torch.where(self.cdf(low) < level, high, low)
            for _ in range(torch.finfo(low.dtype).bits):
                middle = (low + high) / 2
                below = self.cdf(middle) < level
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Values `[*sample_shape, ...]` from fresh noise, data units, differentiable as those of `draw` are."""
        like = self.mean
        uniform = torch.rand(*sample_shape, *like.shape, self.noise, dtype=like.dtype, device=like.device)
        return self.draw(open_interval(uniform))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Values `[*sample_shape, ...]` from fresh noise, data units."""
        return self.rsample(sample_shape)

    def sharpened(self, temperature: float = 1.0, top_k: int | None = None) -> Predictive:
        """The same choices, the likely ones made likelier: probabilities to the power of `1 / temperature`.

        Args:
            temperature: Above 0; below 1 sharpens, above 1 flattens.
            top_k: Only this many of the likeliest choices stay; all of them if left out.

        Raises:
            UserError: The distribution is not one over separate choices, or an option is out of its range.
        """
        if temperature == 1 and top_k is None:
            return self
        raise UserError(
            f"`{'temperature' if top_k is None else 'top_k'}`: this model's head has no separate choices to "
            "sharpen; leave `temperature` and `top_k` out, or train with `head`=symbols or "
            "`head`=categorical."
        )


def open_interval(uniform: Tensor) -> Tensor:
    """Keeps uniform numbers off 0 and 1, where quantile functions are infinite."""
    return uniform.clamp(2**-25, 1 - 2**-24)


_FLOOR = 1e-4


class Head(nn.Module, ABC):
    """How raw network outputs become a distribution.

    A head maps `raw [..., outputs]` and the window's `shift` and `scale` to a distribution whose values are in data
    units: the affine map is part of the distribution, so likelihoods of differently scaled series add up.
    `raw[..., 0]` is a location in network units in every head but that of symbols; that is where the skips go.

    Attributes:
        outputs: How many raw outputs a value needs.
        noise: How many uniform numbers a drawn value needs.
        has_density: Whether the distribution has a likelihood.
        discrete: Whether its values are integers.
        affine: Whether its law only moves and stretches with shift and scale, so that it can be drawn in network units.
        loss_in_units: Whether the loss has the units of the data; otherwise it is a likelihood.
    """

    outputs: int = 1
    noise: int = 1
    has_density: bool = True
    discrete: bool = False
    affine: bool = True
    loss_in_units: bool = False

    @abstractmethod
    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """The distribution of values `[..., U(, V)]` in data units.

        Args:
            raw: `[..., U(, V), outputs]`.
            shift: Broadcasts against the values, data units.
            scale: Broadcasts against the values, data units per network unit.
        """

    def prepare_noise(self, uniform: Tensor) -> Tensor:
        """What `draw` needs of noise `[..., noise]`, for many values at once."""
        return uniform

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """Values in network units of a head that is `affine`, what `forward` and `draw` with shift 0 and scale 1 give.

        Args:
            raw: `[..., U(, V), outputs]`; expands to the noise, and may be written over.
            noise: `[..., U(, V), noise]` from `prepare_noise`.
        """
        raw = raw.expand(*noise.shape[:-1], -1)
        return self(raw, raw.new_zeros(()), raw.new_ones(())).draw(noise)

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """What training minimises, per value `[...]`: here the negative log-likelihood of data units.

        Args:
            distribution: What `forward` returned.
            value: `[...]`, data units.
            unit: `[...]` data units; losses that have the units of the data are told in multiples of it.
        """
        return -distribution.log_prob(value)

    def score_mask(self, observed: Tensor) -> Tensor:
        """Which values of a target `[..., U(, V)]` the likelihood counts: those that were observed."""
        return observed


def positive(raw: Tensor, out: Tensor | None = None) -> Tensor:
    """Softplus with a floor that keeps densities finite; without gradient where it is written over `out`."""
    if out is None:
        return F.softplus(raw) + _FLOOR
    softplus: Tensor = torch.ops.aten.softplus.out(raw, out=out)
    return softplus.add_(_FLOOR)
