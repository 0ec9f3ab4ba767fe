"""Distributions in data units, each drawn from uniform noise: what the heads return."""

from armlp.model.distributions.bins import Binned
from armlp.model.distributions.counts import NegativeBinomial, Poisson
from armlp.model.distributions.location_scale import Laplace, Normal, StudentT
from armlp.model.distributions.mixture import NormalMixture
from armlp.model.distributions.multivariate import MultivariateNormal
from armlp.model.distributions.piecewise import PiecewiseLinearQuantile
from armlp.model.distributions.point import Point
from armlp.model.distributions.predictive import Predictive, open_interval
from armlp.model.distributions.symbols import Symbols

__all__ = [
    "Binned",
    "Laplace",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "NormalMixture",
    "PiecewiseLinearQuantile",
    "Point",
    "Poisson",
    "Predictive",
    "StudentT",
    "Symbols",
    "open_interval",
]
