"""The distributions of one location and one scale."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy import special
from torch import Tensor

from armlp.model.distributions.predictive import Predictive


class Normal(Predictive, torch.distributions.Normal):
    """The normal distribution, drawn from one uniform number a value through its quantile function."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density `[...]` at `value [...]`, data units; whatever their size, no square of them leaves float32."""
        return -(((value - self.loc) / self.scale) ** 2) / 2 - self.scale.log() - math.log(2 * math.pi) / 2

    def cdf(self, value: Tensor) -> Tensor:
        """Probability `[...]` of at most `value [...]`, data units."""
        return torch.special.ndtr((value - self.loc) / self.scale)


class Laplace(Predictive, torch.distributions.Laplace):
    """The Laplace distribution, drawn from one uniform number a value through its quantile function."""


class StudentT(Predictive, torch.distributions.StudentT):
    """Student's t, drawn by Bailey's polar method from two uniform numbers a value.

    Ralph W. Bailey (1994), Polar Generation of Random Variates with the t-Distribution,
    https://doi.org/10.1090/S0025-5718-1994-1196000-9
    """

    noise = 2

    def draw(self, uniform: Tensor) -> Tensor:
        """Values `[...]` for uniform noise `[..., 2]`, differentiable in the parameters."""
        radius = (self.df * torch.expm1(-2 / self.df * uniform[..., 0].log())).sqrt()
        return self.loc + self.scale * radius * torch.cos(2 * math.pi * uniform[..., 1])

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of at most `value [...]`, data units, without gradient."""
        return self._by_scipy(special.stdtr, (value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles `[...]` at levels `value [...]`, data units, with gradient in location and scale only."""
        return self.loc + self.scale * self._by_scipy(special.stdtrit, value)

    def _by_scipy(self, function: Any, argument: Tensor) -> Tensor:
        """`function(df, argument)`, which torch lacks, on the processor and in float64."""
        arrays = (part.detach().double().cpu().numpy() for part in (self.df, argument))
        return torch.as_tensor(function(*arrays)).to(self.loc)
