"""Memory: how much of it there is, and how much of that a panel may take."""

from __future__ import annotations

import os
import re
import sys

from armlp.arguments import check_argument
from armlp.errors import UserError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# A panel in memory takes up to so many times its bytes while it is trained on.
_TIMES = 3
# What training takes besides the panel.
_TRAINING = 256 << 20


def parse_bytes(text: str | int, option: str = "--data.memory_budget") -> int:
    """A number of bytes, such as `2GB`, `500 MiB` or 4000000000.

    Raises:
        UserError: It is none.
    """
    text = check_argument(option, text, str | int)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise UserError(f"{option}: {text!r} is no amount of memory; give one such as 2GB or 500MB.")
    return int(float(match[1]) * _UNITS[match[2]])


def resident() -> int:
    """Bytes of memory that this process takes now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        if sys.platform == "win32":
            return 0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def of_machine() -> int:
    """Bytes of memory that the machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8 << 30


def room_for_panel(budget: int | None) -> int:
    """Bytes that a panel in memory may have, so that the whole process stays within its budget.

    Args:
        budget: Bytes of the process; None is half of the machine's memory.

    Raises:
        UserError: The budget is too small for any training.
    """
    taken = resident()
    if budget is None:
        budget = max(of_machine() // 2, taken + 2 * _TRAINING)
    elif budget < taken + _TRAINING:
        raise UserError(
            f"--data.memory_budget: {budget // 10**6} MB is too small; the program itself takes {taken // 10**6} MB, "
            f"and {(taken + _TRAINING) // 10**6 + 1}MB is the smallest that works."
        )
    return (budget - taken - _TRAINING) // _TIMES
