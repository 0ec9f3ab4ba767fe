"""Levels: the central coverages of intervals, in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from armlp.arguments import check_argument, plain
from armlp.errors import UserError


def check_levels(levels: Sequence[float] | float, option: str = "--forecast.levels") -> list[float]:
    """Return levels as a list, if they are percentages between 0 and 100, and none stands twice.

    Args:
        levels: Central coverages in percent, or one of them.
        option: What messages call them.

    Raises:
        UserError: Naming the level.
    """
    given = plain(levels)
    found: list[Any] = given if isinstance(given, list) else [given]
    for level in found:
        if isinstance(level, int | float) and not 0 < level < 100:
            raise UserError(f"{option}: {level} is not a coverage in percent; give numbers like 80 or 95.")
    check_argument(option, levels, float | Sequence[float])
    if len({f"{level:g}" for level in found}) < len(found):  # as columns spell them
        raise UserError(f"{option}: {found} names a level twice.")
    return found
