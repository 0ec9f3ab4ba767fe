"""Time features: where in the day, the week, the month and the year a time lies."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from armlp.data.calendar import DAY, SECOND, Calendar, wall_clock

# The cycles that are worth telling at each kind of step; each becomes a sine and a cosine.
_CYCLES = {
    "nanosecond": ("day", "week"),
    "day": ("week", "month", "year"),
    "business day": ("week", "month", "year"),
    "week": ("year",),
    "month": ("months",),
}
# Zones change their offset from UTC at whole quarters of an hour.
_QUARTER = 900 * SECOND
_FIRST_DAY, _LAST_DAY = (np.datetime64(day, "D").astype(np.int64) for day in ("1677-09-21", "2262-04-11"))


def feature_cycles(calendar: Calendar) -> tuple[str, ...]:
    """The cycles that features of a calendar tell; none where times are integers or steps are whole years."""
    unit, multiple = calendar.unit
    return () if unit == "month" and multiple % 12 == 0 else _CYCLES.get(unit, ())


def time_features(calendar: Calendar, times: np.ndarray) -> np.ndarray:
    """A sine and a cosine of the place in every cycle of the calendar, as local clocks on the wall show it.

    A month is a circle whatever its days, and so is a year; of steps of months only the month counts.

    Args:
        calendar: The step of time, and its zone.
        times: `[...]` int64, as the calendar counts time.

    Returns:
        `[..., F]` float32.
    """
    if calendar.timezone and not calendar.on_wall_clock and times.size:
        times = times + _offsets(calendar.timezone, times)
    cycles = feature_cycles(calendar)
    day = times // DAY
    features = _circles_of_days(tuple(cycle for cycle in cycles if cycle != "day")).take(day - _FIRST_DAY, axis=0)
    if "day" not in cycles:
        return features
    return np.concatenate([_circle((times - day * DAY).astype(np.float32) / DAY), features], axis=-1)


def _circle(turns: np.ndarray) -> np.ndarray:
    """`[..., 2]` the sine and the cosine after so many turns."""
    angle = np.float32(2 * np.pi) * turns.astype(np.float32)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


@lru_cache
def _circles_of_days(cycles: tuple[str, ...]) -> np.ndarray:
    """`[days, F]` of every day that int64 nanoseconds reach: a look-up is cheaper than calendar arithmetic."""
    days = pd.DatetimeIndex(np.arange(_FIRST_DAY, _LAST_DAY + 1).astype("datetime64[D]").astype("datetime64[s]"))
    turns = {
        "week": days.day_of_week / 7,
        "month": (days.day - 1) / days.days_in_month,
        "year": (days.day_of_year - 1) / (365 + days.is_leap_year),
        "months": (days.month - 1) / 12,
    }
    none = np.empty((len(days), 0), np.float32)
    return np.concatenate([none, *(_circle(np.asarray(turns[cycle])) for cycle in cycles)], axis=1)


def _offsets(timezone: str, times: np.ndarray) -> np.ndarray:
    """What clocks in a zone are ahead of UTC at some times, in nanoseconds, by a look-up too."""
    decade = 3653 * DAY
    first, last = int(times.min() // decade), int(times.max() // decade)
    return _offset_table(timezone, first, last)[(times - first * decade) // _QUARTER]


@lru_cache(maxsize=8)
def _offset_table(timezone: str, first: int, last: int) -> np.ndarray:
    """The offset in every quarter of an hour of some decades, counted from 1970."""
    decade = 3653 * DAY
    instants = np.arange(first * decade, (last + 1) * decade, _QUARTER)
    return wall_clock(instants.astype("datetime64[ns]"), timezone).astype(np.int64) - instants
