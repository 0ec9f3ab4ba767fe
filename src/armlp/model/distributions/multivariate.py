"""The joint normal distribution of a vector's channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from armlp.model.distributions.location_scale import Normal


class MultivariateNormal(Normal):
    """The normal distribution of V channels together, of any covariance.

    Draws and log-densities are joint; mean, variance, distribution function and quantiles are those of each channel.

    Args:
        loc: `[..., V]`, data units.
        factor: `[..., V, V]` lower triangular, its diagonal above 0, data units; the covariance is `factor factor^T`.
    """

    def __init__(self, loc: Tensor, factor: Tensor) -> None:
        self.factor = factor
        super().__init__(loc, torch.linalg.vector_norm(factor, dim=-1), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The terms of the chain rule, `[..., V]`: the log-density of each channel given those before it.

        Their sum over the channels is the joint log-density of `value [..., V]`, data units.
        """
        error = (value - self.loc)[..., None]
        whitened = torch.linalg.solve_triangular(self.factor, error, upper=False)[..., 0]
        return -(whitened**2) / 2 - self.factor.diagonal(dim1=-2, dim2=-1).log() - math.log(2 * math.pi) / 2

    def draw(self, uniform: Tensor) -> Tensor:
        """Values `[..., V]` for uniform noise `[..., V, 1]`, differentiable in the parameters."""
        return self.loc + (self.factor * torch.special.ndtri(uniform[..., None, :, 0])).sum(-1)
