"""What every head can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armlp.model.distributions import Predictive

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

    def prepared(self, uniform: Tensor) -> Tensor:
        """What `draw` needs of noise `[..., noise]`, for many values at once."""
        return uniform

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """Values in network units of a head that is `affine`, what `forward` and `draw` with shift 0 and scale 1 give.

        Args:
            raw: `[..., U(, V), outputs]`; expands to the noise, and may be written over.
            noise: `[..., U(, V), noise]` from `prepared`.
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

    def scored(self, observed: Tensor) -> Tensor:
        """Which values of a target `[..., U(, V)]` the likelihood counts: those that were observed."""
        return observed


def positive(raw: Tensor, out: Tensor | None = None) -> Tensor:
    """Softplus with a floor that keeps densities finite; without gradient where it is written over `out`."""
    if out is None:
        return F.softplus(raw) + _FLOOR
    softplus: Tensor = torch.ops.aten.softplus.out(raw, out=out)
    return softplus.add_(_FLOOR)
