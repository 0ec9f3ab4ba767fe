"""Families of distributions, each with its head."""

from __future__ import annotations

from typing import Any

from armlp.errors import UserError
from armlp.model.families.base import Head, Predictive
from armlp.model.families.categorical import CategoricalHead
from armlp.model.families.counts import NegativeBinomialHead, PoissonHead
from armlp.model.families.location_scale import LaplaceHead, MultivariateNormalHead, NormalHead, StudentTHead
from armlp.model.families.mixture import MixtureHead
from armlp.model.families.point import PointHead
from armlp.model.families.quantile import PiecewiseLinearQuantile, QuantileHead
from armlp.model.families.symbols import SymbolsHead

__all__ = [
    "HEADS",
    "CategoricalHead",
    "Head",
    "LaplaceHead",
    "MixtureHead",
    "MultivariateNormalHead",
    "NegativeBinomialHead",
    "NormalHead",
    "PiecewiseLinearQuantile",
    "PointHead",
    "PoissonHead",
    "Predictive",
    "QuantileHead",
    "StudentTHead",
    "SymbolsHead",
    "make_head",
]

HEADS: dict[str, type[Head]] = {
    "point": PointHead,
    "normal": NormalHead,
    "student_t": StudentTHead,
    "laplace": LaplaceHead,
    "mixture": MixtureHead,
    "quantile": QuantileHead,
    "poisson": PoissonHead,
    "negative_binomial": NegativeBinomialHead,
    "categorical": CategoricalHead,
    "multivariate_normal": MultivariateNormalHead,
    "symbols": SymbolsHead,
}


def make_head(
    name: str,
    *,
    point_loss: str = "mse",
    quantile_loss: str = "pinball",
    components: int = 3,
    bins: int = 64,
    symbols: int = 0,
    channels: int = 1,
) -> Head:
    """The head of a name, with those of the options that concern it.

    Args:
        name: A key of `HEADS`.
        point_loss: What the point head minimises: `mse`, `mae` or `huber`.
        quantile_loss: What the quantile head minimises: `pinball` or `crps`.
        components: Normal distributions in the mixture.
        bins: Of the categorical head.
        symbols: `A`, the size of the alphabet; only for the symbols head.
        channels: `V`, which the multivariate normal head models jointly.

    Raises:
        UserError: The name is not known, or an option is out of its range, be it of this head or of another.
    """
    if name not in HEADS:
        raise UserError(f"`head`: {name!r} is not known; use one of {', '.join(HEADS)}.")
    options: dict[str, dict[str, Any]] = {
        name: {},
        "point": {"point_loss": point_loss},
        "quantile": {"quantile_loss": quantile_loss},
        "mixture": {"components": components},
        "categorical": {"bins": bins},
        "multivariate_normal": {"channels": channels},
    }
    if name == "symbols":
        options[name] = {"symbols": symbols}
    # All of those with options are made in any case, because each checks its own.
    return {key: HEADS[key](**chosen) for key, chosen in options.items()}[name]
