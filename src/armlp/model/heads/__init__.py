"""Heads: from network outputs to a distribution in data units, one class per family."""

from __future__ import annotations

from typing import Any

from armlp.errors import UserError
from armlp.model.distributions import PiecewiseLinearQuantile, Predictive
from armlp.model.heads.categorical import CategoricalHead
from armlp.model.heads.counts import NegativeBinomialHead, PoissonHead
from armlp.model.heads.head import Head
from armlp.model.heads.location_scale import LaplaceHead, MultivariateNormalHead, NormalHead, StudentTHead
from armlp.model.heads.mixture import MixtureHead
from armlp.model.heads.point import PointHead
from armlp.model.heads.quantile import QuantileHead
from armlp.model.heads.symbols import SymbolsHead

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
        raise UserError(f"--model.head: {name!r} is not known; use one of {', '.join(HEADS)}.")
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
