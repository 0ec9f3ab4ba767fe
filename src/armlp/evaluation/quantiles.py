"""Quantiles of sampled paths, and the levels of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from armlp.arguments import check_argument, to_builtin
from armlp.errors import UserError
from armlp.evaluation.metrics.base import Paths


def forecast_columns(
    paths: Tensor, levels: Sequence[float], name: str = "armlp", whole: bool = False
) -> dict[str, Tensor]:
    """The median of the paths, and per level the ends of the central interval.

    Args:
        paths: `[B, P, H]`, data units.
        levels: Central coverages in percent; 80 gives the quantiles at 10% and 90%.
        name: Of the median; the ends are called `name-lo-80` and `name-hi-80`.
        whole: Whether the values are counts, which have none between them.

    Returns:
        Columns `[B, H]`, data units.
    """
    check_levels(levels)
    sides = [(f"-{side}-{level:g}", 0.5 + sign * level / 200) for level in levels for side, sign in _SIDES]
    quantiles = Paths(paths, whole=whole).quantiles([0.5, *(probability for _, probability in sides)])
    return dict(zip([name, *(name + suffix for suffix, _ in sides)], quantiles, strict=True))


def symbol_columns(paths: Tensor) -> dict[str, Tensor]:
    """The most frequent symbol of the paths, and the share of the paths that have it.

    Args:
        paths: `[B, P, H]`, codes of symbols.

    Returns:
        Columns `[B, H]`.
    """
    symbol = paths.mode(1).values
    return {SYMBOL: symbol, f"{SYMBOL}-share": (paths == symbol[:, None]).to(paths.dtype).mean(1)}


SYMBOL = "armlp"
_SIDES = (("lo", -1), ("hi", 1))


def check_levels(levels: Sequence[float] | float, option: str = "levels") -> list[float]:
    """Return levels as a list, if they are percentages between 0 and 100, and none stands twice.

    Args:
        levels: Central coverages in percent, or one of them.
        option: What messages call them.

    Raises:
        UserError: Naming the level.
    """
    given = to_builtin(levels)
    found: list[Any] = given if isinstance(given, list) else [given]
    for level in found:
        if isinstance(level, int | float) and not 0 < level < 100:
            raise UserError(f"`{option}`: {level} is not a coverage in percent; give numbers like 80 or 95.")
    check_argument(option, levels, float | Sequence[float])
    if len({f"{level:g}" for level in found}) < len(found):  # as columns spell them
        raise UserError(f"`{option}`: {found} names a level twice.")
    return found
