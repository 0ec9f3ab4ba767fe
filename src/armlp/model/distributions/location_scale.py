"""The distributions of one location and one scale."""

from __future__ import annotations

import math
from typing import Any

import scipy
import torch
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

    def crps(self, value: Tensor) -> Tensor:
        """The continuous ranked probability score `[...]` at `value [...]`, data units, in closed form.

        Tilmann Gneiting et al. (2005), Calibrated Probabilistic Forecasting Using Ensemble Model Output Statistics,
        https://doi.org/10.1175/MWR2904.1
        """
        return normal_distance(value - self.loc, self.scale) - self.scale / math.sqrt(math.pi)


class Laplace(Predictive, torch.distributions.Laplace):
    """The Laplace distribution, drawn from one uniform number a value through its quantile function."""

    def crps(self, value: Tensor) -> Tensor:
        """The continuous ranked probability score `[...]` at `value [...]`, data units, in closed form."""
        distance = (value - self.loc).abs() / self.scale
        return self.scale * (distance + (-distance).exp() - 0.75)


class StudentT(Predictive, torch.distributions.StudentT):
    """Student's t, drawn by Bailey's polar method from two uniform numbers a value.

    Ralph W. Bailey (1994), Polar Generation of Random Variates with the t-Distribution,
    https://doi.org/10.1090/S0025-5718-1994-1196000-9

    Args:
        df: `[...]` degrees of freedom, above 0.
        loc: `[...]` location, data units.
        scale: `[...]` above 0, data units.
    """

    noise = 2

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor) -> None:
        # Without the distribution that torch would draw from, which a graphics processor would have to wait for.
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        torch.distributions.Distribution.__init__(self, self.df.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """`[...]`, data units; nan where there is none."""
        return torch.where(self.df > 1, self.loc, torch.nan)

    def draw(self, uniform: Tensor) -> Tensor:
        """Values `[...]` for uniform noise `[..., 2]`, differentiable in the parameters."""
        return self.loc + self.scale * self.standard(self.df, self.polar(uniform))

    @staticmethod
    def polar(uniform: Tensor) -> Tensor:
        """What `standard` needs of uniform noise `[..., 2]`."""
        radius, angle = uniform.unbind(-1)
        return torch.stack([-2 * radius.log(), torch.cos(2 * math.pi * angle)], -1)

    @staticmethod
    def standard(df: Tensor, polar: Tensor) -> Tensor:
        """Values `[...]` of location 0 and scale 1, for noise `[..., 2]` from `polar`."""
        radius, cosine = polar.unbind(-1)
        return (df * torch.expm1(radius / df)).sqrt() * cosine

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of at most `value [...]`, data units, without gradient."""
        return self._by_scipy(scipy.special.stdtr, (value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles `[...]` at levels `value [...]`, data units, with gradient in location and scale only."""
        return self.loc + self.scale * self._by_scipy(scipy.special.stdtrit, value)

    def crps(self, value: Tensor) -> Tensor:
        """The continuous ranked probability score `[...]` at `value [...]`, data units, in closed form.

        Alexander Jordan, Fabian Krüger, Sebastian Lerch (2019), Evaluating Probabilistic Forecasts with scoringRules,
        https://doi.org/10.18637/jss.v090.i12
        """
        distance = (value - self.loc) / self.scale
        density = (self.log_prob(value) + self.scale.log()).exp()
        ratio = torch.exp(_log_beta(torch.tensor(0.5), self.df - 0.5) - 2 * _log_beta(torch.tensor(0.5), self.df / 2))
        spread = 2 * density * (self.df + distance**2) - 2 * self.df.sqrt() * ratio
        return self.scale * (distance * (2 * self.cdf(value) - 1) + spread / (self.df - 1))

    def _by_scipy(self, function: Any, argument: Tensor) -> Tensor:
        """`function(df, argument)`, which torch lacks, on the processor and in float64."""
        arrays = (part.detach().double().cpu().numpy() for part in (self.df, argument))
        return torch.as_tensor(function(*arrays)).to(self.loc)


def normal_distance(shift: Tensor, scale: Tensor) -> Tensor:
    """The mean distance `[...]` of a normal variable of mean 0 from `shift [...]`; `scale` is its deviation."""
    density = (-((shift / scale) ** 2) / 2).exp() / math.sqrt(2 * math.pi)
    return 2 * scale * density + shift * torch.special.erf(shift / scale / math.sqrt(2))


def _log_beta(first: Tensor, second: Tensor) -> Tensor:
    return first.lgamma() + second.lgamma() - (first + second).lgamma()
