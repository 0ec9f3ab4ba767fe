"""Quantiles of sampled paths, and the levels of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from armlp.arguments import check_argument, to_builtin
from armlp.errors import UserError

SYMBOL = "armlp"


def interval(level: float) -> tuple[float, float]:
    """Return the probabilities of the two ends of a central interval, whose level is in percent."""
    return 0.5 - level / 200, 0.5 + level / 200


def between_ranks(ranked: Tensor, position: Tensor) -> Tensor:
    """Return values between sorted paths, by linear interpolation.

    Args:
        ranked: `[B, P, H, V]`, ascending along the paths.
        position: `[Q]` between 0, the lowest path, and `P - 1`, the highest.

    Returns:
        `[B, Q, H, V]`, in the units of the paths.
    """
    below = position.floor()
    share = (position - below).to(ranked).view(-1, *[1] * (ranked.dim() - 2))
    low, high = (ranked[:, index.long()] for index in (below, position.ceil()))
    return torch.where(low == high, low, low + share * (high - low))  # infinite values have no difference


def path_quantiles(ranked: Tensor, probabilities: Sequence[float], whole: bool = False) -> Tensor:
    """Return quantiles of sorted paths as numpy defines them; nan where a path is nan.

    Args:
        ranked: `[B, P, H, V]`, ascending along the paths, nan above all.
        probabilities: `Q` numbers between 0 and 1.
        whole: Whether the values are counts, so that a quantile is one of the paths, the nearest.

    Returns:
        `[B, Q, H, V]`, in the units of the paths.
    """
    position = torch.tensor(probabilities, dtype=torch.float64) * (ranked.shape[1] - 1)
    values = between_ranks(ranked, position.round() if whole else position)
    return torch.where(ranked[:, -1:].isnan(), torch.nan, values)


def interval_quantiles(paths: Tensor, levels: Sequence[float], whole: bool = False) -> Tensor:
    """Return the median of the paths, and per level the lower and the upper end of the central interval.

    Args:
        paths: `[B, P, H, V]`, data units, in any order.
        levels: Central coverages in percent; 80 gives the quantiles at 10% and 90%.
        whole: Whether the values are counts, as in `path_quantiles`.

    Returns:
        `[B, 1 + 2 levels, H, V]`, data units.
    """
    ends = [probability for level in levels for probability in interval(level)]
    return path_quantiles(paths.sort(1).values, [0.5, *ends], whole)


def forecast_columns(
    paths: Tensor, levels: Sequence[float], name: str = "armlp", whole: bool = False
) -> dict[str, Tensor]:
    """Return the columns of a forecast table: the values of `interval_quantiles` by name.

    Args:
        paths: `[B, P, H]`, data units.
        levels: Central coverages in percent.
        name: Column of the median; the ends are called `name-lo-80` and `name-hi-80`.
        whole: Whether the values are counts.

    Returns:
        Columns `[B, H]`, data units.
    """
    check_levels(levels)
    names = [name, *(f"{name}-{side}-{level:g}" for level in levels for side in ("lo", "hi"))]
    return dict(zip(names, interval_quantiles(paths, levels, whole).unbind(1), strict=True))


def symbol_columns(paths: Tensor) -> dict[str, Tensor]:
    """Return the most frequent symbol of the paths `[B, P, H]`, and the share of paths that have it, `[B, H]` each."""
    symbol = paths.mode(1).values
    return {SYMBOL: symbol, f"{SYMBOL}-share": (paths == symbol[:, None]).to(paths.dtype).mean(1)}


def check_levels(levels: Sequence[float] | float, option: str = "levels") -> list[float]:
    """Return levels as a list, if they are percentages between 0 and 100, and none is repeated.

    Args:
        levels: Central coverages in percent, or one of them.
        option: What messages call them.

    Raises:
        UserError: A level is out of range or repeated.
    """
    plain = to_builtin(levels)
    found: list[Any] = plain if isinstance(plain, list) else [plain]
    for level in found:
        if isinstance(level, int | float) and not 0 < level < 100:
            raise UserError(f"`{option}`: {level} is not a coverage in percent; give numbers like 80 or 95.")
    check_argument(option, levels, float | Sequence[float])
    if len({f"{level:g}" for level in found}) < len(found):  # as columns spell them
        raise UserError(f"`{option}`: {found} names a level twice.")
    return found
