"""A distribution that is one value."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.model.distributions.predictive import Predictive


class Point(Predictive):
    """All mass on one value. It has no density, so no likelihood.

    Args:
        value: `[...]`, data units.
    """

    noise = 0

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """`[...]`, data units."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """`[...]` zeros."""
        return torch.zeros_like(self.value)

    def cdf(self, value: Tensor) -> Tensor:
        """A step from 0 to 1 at the one value."""
        return (value >= self.value).to(self.value.dtype)

    def icdf(self, value: Tensor) -> Tensor:
        """The one value, at every level."""
        return self.value.expand(torch.broadcast_shapes(self.value.shape, value.shape))

    def crps(self, value: Tensor) -> Tensor:
        """The continuous ranked probability score `[...]` at `value [...]`, data units: the absolute error."""
        return (value - self.value).abs()

    def draw(self, uniform: Tensor) -> Tensor:
        """The one value, whatever the noise."""
        return self.value.expand(uniform.shape[:-1])
