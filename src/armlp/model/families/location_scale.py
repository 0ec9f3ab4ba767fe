"""Normal, Laplace and Student's t distributions, and the joint normal distribution of channels."""

from __future__ import annotations

import math
from typing import Any

import scipy
import torch
from torch import Tensor

from armlp.errors import check_bounds
from armlp.model.families.base import Head, Predictive, positive


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


class NormalHead(Head):
    """Mean and standard deviation."""

    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the mean and, through softplus, the standard deviation."""
        location, spread = raw.unbind(-1)
        return Normal(shift + scale * location, scale * positive(spread), validate_args=False)


class LaplaceHead(Head):
    """Median and mean absolute deviation of a Laplace distribution: sharp peak, exponential tails."""

    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the median and, through softplus, the mean absolute deviation."""
        location, spread = raw.unbind(-1)
        return Laplace(shift + scale * location, scale * positive(spread), validate_args=False)


class StudentTHead(Head):
    """Location, scale and degrees of freedom (above 2, so that the variance exists)."""

    outputs = 3
    noise = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the location and, through softplus, the scale and the degrees of freedom above 2."""
        location, spread, tail = raw.unbind(-1)
        return StudentT(2 + positive(tail + 4), shift + scale * location, scale * positive(spread))

    def prepare_noise(self, uniform: Tensor) -> Tensor:
        """The parts of the draw that do not hang on the degrees of freedom."""
        return StudentT.polar(uniform)

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """As in every head, without the parts of a Student's t that only its likelihood needs."""
        location, spread, tail = raw.unbind(-1)
        return torch.addcmul(location, positive(spread), StudentT.standard(2 + positive(tail + 4), noise))


class MultivariateNormalHead(NormalHead):
    """Means and full covariance of V channels; of a single one, the normal head.

    Args:
        channels: `V`.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        check_bounds("channels", channels, 1)
        self.channels = channels
        self.outputs = 1 + channels

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs of a channel are its mean and its row of the covariance's Cholesky factor.

        The factor's diagonal goes through softplus and is the standard deviation given the channels before; what is
        left of it counts in multiples of it, so that raw zeros are independent channels. `raw [..., V, 1 + V]`.
        """
        if self.channels == 1:
            return super().forward(raw, shift, scale)
        location, rows = raw[..., 0], raw[..., 1:]
        diagonal = positive(rows.diagonal(dim1=-2, dim2=-1))
        factor = diagonal[..., None] * rows.tril(-1) + diagonal.diag_embed()
        return MultivariateNormal(shift + scale * location, scale[..., None] * factor)

    def score_mask(self, observed: Tensor) -> Tensor:
        """Only steps of which all channels were observed, because each is judged given those before it."""
        return observed if self.channels == 1 else observed.all(-1, keepdim=True).expand_as(observed)
