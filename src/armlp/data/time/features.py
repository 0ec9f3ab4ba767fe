"""Calendar features: the time of day, the day of the week, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from armlp.data.time.calendar import DAY, SECOND, Calendar, wall_clock

# The cycles of each unit of a step.
_CYCLES = {
    "nanosecond": ("day", "week"),
    "day": ("week", "month", "year"),
    "business day": ("week", "month", "year"),
    "week": ("year",),
    "month": ("months",),
}
# For messages.
CYCLE_NAMES = {
    "day": "the time of day",
    "week": "the day of the week",
    "month": "the day of the month",
    "year": "the day of the year",
    "months": "the month of the year",
}
# In days: the length of a cycle, and of each unit of a step.
_CYCLE_LENGTHS = {"day": 1.0, "week": 7.0, "month": 365.2425 / 12, "year": 365.2425, "months": 365.2425}
_UNIT_LENGTHS = {"nanosecond": 1 / DAY, "day": 1.0, "business day": 7 / 5, "week": 7.0, "month": 365.2425 / 12}
# Zones change their offset from UTC at whole quarters of an hour.
_QUARTER = 900 * SECOND
_DECADE = 3653 * DAY
_FIRST_DAY, _LAST_DAY = (np.datetime64(day, "D").astype(np.int64) for day in ("1677-09-21", "2262-04-11"))


def feature_cycles(calendar: Calendar) -> tuple[str, ...]:
    """Return the cycles of a calendar; none where times are integers or steps are whole years."""
    unit, multiple = calendar.unit
    return () if unit == "month" and multiple % 12 == 0 else _CYCLES.get(unit, ())


def repeated_cycles(calendar: Calendar, rows: int) -> tuple[str, ...]:
    """Return the cycles that `rows` rows span at least twice; over one cycle a season looks like a trend."""
    unit, multiple = calendar.unit
    return tuple(
        cycle
        for cycle in feature_cycles(calendar)
        if rows * multiple * _UNIT_LENGTHS[unit] >= 2 * _CYCLE_LENGTHS[cycle]
    )


def spell_cycles(cycles: Sequence[str]) -> str:
    """Return cycles as text for messages."""
    *others, last = (CYCLE_NAMES[cycle] for cycle in cycles)
    return f"{', '.join(others)} and {last}" if others else last


def time_features(calendar: Calendar, cycles: Sequence[str], times: np.ndarray) -> np.ndarray:
    """Return `[..., F]` float32: a sine and a cosine of the position of times in every cycle, on the local wall clock.

    A month is one turn whatever its number of days, and so is a year. Each feature is contiguous, which is several
    times as fast as interleaving them.
    """
    if calendar.timezone and not calendar.on_wall_clock and times.size:
        first, last = int(times.min() // _DECADE), int(times.max() // _DECADE)
        times = times + _utc_offsets(calendar.timezone, first, last)[(times - first * _DECADE) // _QUARTER]
    day = times // DAY
    features = np.empty((2 * len(cycles), *times.shape), dtype=np.float32)
    for index, cycle in enumerate(cycles):
        pair = features[2 * index : 2 * index + 2]
        if cycle == "day":
            pair[:] = _circle((times - day * DAY).astype(np.float32) / DAY)
        else:
            _circle_of_days(cycle).take(day - _FIRST_DAY, axis=1, out=pair, mode="clip")
    return np.moveaxis(features, 0, -1)


def _circle(turns: np.ndarray) -> np.ndarray:
    """Return `[2, ...]` sine and cosine of turns."""
    angle = np.float32(2 * np.pi) * turns.astype(np.float32)
    return np.stack([np.sin(angle), np.cos(angle)])


@lru_cache
def _circle_of_days(cycle: str) -> np.ndarray:
    """Return `[2, days]` of all days in the range of int64 nanoseconds; a table is faster than calendar arithmetic."""
    days = pd.DatetimeIndex(np.arange(_FIRST_DAY, _LAST_DAY + 1).astype("datetime64[D]").astype("datetime64[s]"))
    turns = {
        "week": lambda: days.day_of_week / 7,
        "month": lambda: (days.day - 1) / days.days_in_month,
        "year": lambda: (days.day_of_year - 1) / (365 + days.is_leap_year),
        "months": lambda: (days.month - 1) / 12,
    }
    return _circle(np.asarray(turns[cycle]()))


@lru_cache(maxsize=8)
def _utc_offsets(timezone: str, first: int, last: int) -> np.ndarray:
    """Return how far a zone is ahead of UTC, in nanoseconds, in every quarter of an hour of decades since 1970."""
    instants = np.arange(first * _DECADE, (last + 1) * _DECADE, _QUARTER)
    return wall_clock(instants.astype("datetime64[ns]"), timezone).astype(np.int64) - instants
