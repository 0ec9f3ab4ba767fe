"""Normal, Laplace, Student's t and multivariate normal distributions, with their heads."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import scipy
import torch
from torch import Tensor

from armlp.errors import check_bounds
from armlp.model.families.base import HEADS, Head, Predictive, positive


class Normal(Predictive, torch.distributions.Normal):
    """The normal distribution, drawn through its quantile function."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density `[...]` at `value [...]`, data units, by a formula that squares no large value."""
        return -(((value - self.loc) / self.scale) ** 2) / 2 - self.scale.log() - math.log(2 * math.pi) / 2

    def cdf(self, value: Tensor) -> Tensor:
        return torch.special.ndtr((value - self.loc) / self.scale)

    def crps(self, value: Tensor) -> Tensor:
        """Return the continuous ranked probability score `[...]` at `value [...]`, data units, in closed form.

        Tilmann Gneiting et al. (2005), Calibrated Probabilistic Forecasting Using Ensemble Model Output Statistics,
        https://doi.org/10.1175/MWR2904.1
        """
        return normal_distance(value - self.loc, self.scale) - self.scale / math.sqrt(math.pi)


class Laplace(Predictive, torch.distributions.Laplace):
    """The Laplace distribution, drawn through its quantile function."""

    def crps(self, value: Tensor) -> Tensor:
        distance = (value - self.loc).abs() / self.scale
        return self.scale * (distance + (-distance).exp() - 0.75)


class StudentT(Predictive, torch.distributions.StudentT):
    """Student's t distribution, drawn from two uniform numbers by Bailey's polar method.

    The two numbers give the coordinates of a point, both standard normal, whose radius is stretched. So a value rises
    with its first number, 0.5 of which gives the median, and dependent numbers give dependent values.

    Ralph W. Bailey (1994), Polar Generation of Random Variates with the t-Distribution,
    https://doi.org/10.1090/S0025-5718-1994-1196000-9
    """

    noise = 2

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor) -> None:
        # torch's constructor makes a Chi2 distribution, which nothing here needs, and waits for the device.
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        torch.distributions.Distribution.__init__(self, self.df.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """`[...]`, data units; nan where the mean is undefined."""
        return torch.where(self.df > 1, self.loc, torch.nan)

    @property
    def median(self) -> Tensor:
        """`[...]`, data units."""
        return self.loc

    def draw(self, uniform: Tensor) -> Tensor:
        return self.loc + self.scale * self.standard(self.df, self.polar(uniform))

    @staticmethod
    def polar(uniform: Tensor) -> Tensor:
        """Return the parts `[..., 2]` of a draw from uniform noise `[..., 2]` that do not depend on the parameters."""
        normal = torch.special.ndtri(uniform)
        radius = normal.square().sum(-1).clamp(min=1e-12)  # at 0 there is no direction, and no gradient
        return torch.stack([radius, normal[..., 0] / radius.sqrt()], -1)

    @staticmethod
    def standard(df: Tensor, polar: Tensor) -> Tensor:
        """Return values `[...]` of location 0 and scale 1, for noise `[..., 2]` from `polar`."""
        radius, cosine = polar.unbind(-1)
        return (df * torch.expm1(radius / df)).sqrt() * cosine

    def cdf(self, value: Tensor) -> Tensor:
        """Return the probability `[...]` of at most `value [...]`, data units, without gradient."""
        return self._by_scipy(scipy.special.stdtr, (value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        """Return quantiles `[...]` at probabilities `value`, data units, with gradient in location and scale only."""
        return self.loc + self.scale * self._by_scipy(scipy.special.stdtrit, value)

    def crps(self, value: Tensor) -> Tensor:
        """Return the continuous ranked probability score `[...]` at `value [...]`, data units, in closed form.

        Alexander Jordan, Fabian Krüger, Sebastian Lerch (2019), Evaluating Probabilistic Forecasts with scoringRules,
        https://doi.org/10.18637/jss.v090.i12
        """
        distance = (value - self.loc) / self.scale
        density = (self.log_prob(value) + self.scale.log()).exp()
        ratio = torch.exp(_log_beta(torch.tensor(0.5), self.df - 0.5) - 2 * _log_beta(torch.tensor(0.5), self.df / 2))
        spread = 2 * density * (self.df + distance**2) - 2 * self.df.sqrt() * ratio
        return self.scale * (distance * (2 * self.cdf(value) - 1) + spread / (self.df - 1))

    def _by_scipy(self, function: Any, argument: Tensor) -> Tensor:
        """Return `function(df, argument)`, computed on the CPU in float64."""
        arrays = (part.detach().double().cpu().numpy() for part in (self.df, argument))
        return torch.as_tensor(function(*arrays)).to(self.loc)


def normal_distance(shift: Tensor, scale: Tensor) -> Tensor:
    """Return the mean distance of a normal variable of mean 0 and deviation `scale [...]` from `shift [...]`."""
    density = (-((shift / scale) ** 2) / 2).exp() / math.sqrt(2 * math.pi)
    return 2 * scale * density + shift * torch.special.erf(shift / scale / math.sqrt(2))


def _log_beta(first: Tensor, second: Tensor) -> Tensor:
    """Return the logarithm of the beta function."""
    return first.lgamma() + second.lgamma() - (first + second).lgamma()


class MultivariateNormal(Normal):
    """The joint normal distribution of V channels with covariance `factor factor^T`, `factor` lower triangular.

    Draws and log-densities are joint; mean, variance, distribution function and quantiles are those of each channel.
    """

    chained = True

    def __init__(self, loc: Tensor, factor: Tensor) -> None:
        self.factor = factor
        super().__init__(loc, torch.linalg.vector_norm(factor, dim=-1), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density `[..., V]` of each channel given those before it; they add up to the joint one."""
        whitened = self.normal_scores(value)
        return -(whitened**2) / 2 - self.factor.diagonal(dim1=-2, dim2=-1).log() - math.log(2 * math.pi) / 2

    def normal_scores(self, value: Tensor, within: Tensor | None = None) -> Tensor:
        """Return the standard normal scores `[..., V]` of each channel given those before it."""
        error = (value - self.loc)[..., None]
        return torch.linalg.solve_triangular(self.factor, error, upper=False)[..., 0]

    def draw(self, uniform: Tensor) -> Tensor:
        """Return values `[..., V]` for uniform noise `[..., V, 1]`, differentiable in the parameters."""
        return self.loc + (self.factor * torch.special.ndtri(uniform[..., None, :, 0])).sum(-1)


@HEADS.register("normal")
class NormalHead(Head):
    """A normal distribution: mean and standard deviation."""

    distribution: ClassVar[type[Normal | Laplace]] = Normal
    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs as the location and, through softplus, the spread."""
        location, spread = raw.unbind(-1)
        return self.distribution(shift + scale * location, scale * positive(spread), validate_args=False)


@HEADS.register("laplace")
class LaplaceHead(NormalHead):
    """A Laplace distribution: sharp peak, exponential tails; its spread is the mean absolute deviation."""

    distribution = Laplace


@HEADS.register("student_t")
class StudentTHead(Head):
    """Student's t distribution: tails as heavy as those of the data, with a finite variance."""

    distribution = StudentT
    outputs = 3

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs as location and, through softplus, scale and degrees of freedom above 2."""
        location, spread, tail = raw.unbind(-1)
        return StudentT(2 + positive(tail + 4), shift + scale * location, scale * positive(spread))

    def prepare_noise(self, uniform: Tensor) -> Tensor:
        """Return the parts of a draw that do not depend on the degrees of freedom."""
        return StudentT.polar(uniform)

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """Draw without making the distribution, most of which only its likelihood needs."""
        location, spread, tail = raw.unbind(-1)
        return torch.addcmul(location, positive(spread), StudentT.standard(2 + positive(tail + 4), noise))


@HEADS.register("multivariate_normal")
class MultivariateNormalHead(NormalHead):
    """A joint normal distribution of channels that vary together.

    Args:
        channels: `V`; of one channel it is the normal head.
    """

    supplied = ("channels",)

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        check_bounds("channels", channels, 1)
        self.channels = channels
        self.outputs = 1 + channels

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs `[..., V, 1 + V]` as means and rows of the covariance's Cholesky factor.

        The diagonal, through softplus, is the standard deviation of a channel given the channels before it; the
        entries left of it are in multiples of it. Raw zeros mean independent channels.
        """
        if self.channels == 1:
            return super().forward(raw, shift, scale)
        location, rows = raw[..., 0], raw[..., 1:]
        diagonal = positive(rows.diagonal(dim1=-2, dim2=-1))
        factor = diagonal[..., None] * rows.tril(-1) + diagonal.diag_embed()
        return MultivariateNormal(shift + scale * location, scale[..., None] * factor)

    def score_mask(self, observed: Tensor) -> Tensor:
        """Return the steps at which all channels were observed: each is scored given the channels before it."""
        return observed if self.channels == 1 else observed.all(-1, keepdim=True).expand_as(observed)
