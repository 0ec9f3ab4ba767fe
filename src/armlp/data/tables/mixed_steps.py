"""Mixed steps: series whose own step of time is a longer one than that of their table."""

from __future__ import annotations

import math

import numpy as np

from armlp.data.calendar import Calendar
from armlp.data.frequency import infer_calendar
from armlp.errors import UserError

# A series that has more than this share of its rows has no longer step; business days among days are 5 of 7.
DENSE = 0.6
# How likely gaps that come by chance may at most look like a longer step in any series of a table.
_CHANCE = 1e-4
# So many series are looked at, those of most rows first.
MAX_SERIES = 50


def check_mixed_steps(
    times: np.ndarray, begins: np.ndarray, ids: np.ndarray, calendar: Calendar, name: str = "the table"
) -> None:
    """Refuse a table some of whose series step by more than it does, such as weekly ones among daily ones.

    Most values of such a series would be missing. Values that are missing at random leave neighbours here and there,
    and rows that are business days or hours do too; those of a longer step never have any.

    Args:
        times: `[N]` integers or datetime64[ns] of UTC, ascending within each series, none twice.
        begins: `[S + 1]` where each series' rows begin.
        ids: `[S]` names of the series.
        calendar: The step that explains all times.
        name: What to call the table in messages.

    Raises:
        UserError: There is such a series; the message names it, its step and that of the table.
    """
    rows = np.diff(begins)
    counted = calendar.count(times)
    places = calendar.positions(np.repeat(counted[begins[:-1]], rows), counted)
    steps = np.diff(places, append=np.iinfo(np.int64).max)
    steps[begins[1:] - 1] = np.iinfo(np.int64).max
    spans = places[begins[1:] - 1] + 1
    sparse = np.flatnonzero((np.minimum.reduceat(steps, begins[:-1]) > 1) & (rows > 2) & (rows <= DENSE * spans))
    for series in sparse[np.argsort(-rows[sparse], kind="stable")][:MAX_SERIES]:
        own = times[begins[series] : begins[series + 1]]
        try:
            step = infer_calendar(own, np.array([0, len(own)]), ids[[series]], calendar.timezone, name)
        except UserError:
            continue
        counted = step.count(own)
        ratio = (spans[series] - 1) / int(step.positions(counted[:1], counted[-1:])[0])
        share = rows[series] / spans[series]
        if ratio > 1 and (rows[series] - 1) * math.log(_by_chance(share, ratio)) < math.log(_CHANCE / len(rows)):
            raise UserError(
                f"{name}: series '{ids[series]}' steps by {step.freq}, but the table by {calendar.freq}, so that "
                f"{1 - share:.0%} of its values would be missing: aggregate all series to {step.freq}, give series of "
                f"different steps as tables of their own, or give `freq` {calendar.freq} to take what lies "
                "between for missing values."
            )


def _by_chance(share: float, ratio: float) -> float:
    """The probability that the next row lies a multiple of `ratio` steps ahead, if each is there by chance."""
    missing = 1 - share
    return share * missing ** (ratio - 1) / (1 - missing**ratio)
