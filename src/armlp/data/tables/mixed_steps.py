"""Detection of series with a longer time step than their table."""

from __future__ import annotations

import math

import numpy as np

from armlp.data.calendar import Calendar
from armlp.data.frequency import infer_calendar
from armlp.errors import UserError

# A series with a larger share of its rows is not checked; business days among days are 5 of 7.
DENSE = 0.6
# Significance level of a test against random gaps, over all series.
_CHANCE = 1e-4
# Number of series that are checked, those with most rows first.
MAX_SERIES = 50


def check_mixed_steps(
    times: np.ndarray, begins: np.ndarray, ids: np.ndarray, calendar: Calendar, name: str = "the table"
) -> None:
    """Raise a `UserError` if some series have a longer step than their table, such as weeks among days.

    Values that are missing at random leave some neighbours, as business days and hours do; values of a longer step
    never have any.

    Args:
        times: `[N]` integers or datetime64[ns] in UTC, strictly ascending within each series.
        begins: `[S + 1]` row where each series begins.
    """
    rows = np.diff(begins)
    counted = calendar.count(times)
    positions = calendar.positions(np.repeat(counted[begins[:-1]], rows), counted)
    steps = np.diff(positions, append=np.iinfo(np.int64).max)
    steps[begins[1:] - 1] = np.iinfo(np.int64).max
    spans = positions[begins[1:] - 1] + 1
    sparse = np.flatnonzero((np.minimum.reduceat(steps, begins[:-1]) > 1) & (rows > 2) & (rows <= DENSE * spans))
    for series in sparse[np.argsort(-rows[sparse], kind="stable")][:MAX_SERIES]:
        series_times = times[begins[series] : begins[series + 1]]
        try:
            step = infer_calendar(
                series_times, np.array([0, len(series_times)]), ids[[series]], calendar.timezone, name
            )
        except UserError:
            continue
        counted = step.count(series_times)
        ratio = (spans[series] - 1) / int(step.positions(counted[:1], counted[-1:])[0])
        share = rows[series] / spans[series]
        if ratio > 1 and (rows[series] - 1) * math.log(_probability_of_multiple(share, ratio)) < math.log(
            _CHANCE / len(rows)
        ):
            raise UserError(
                f"{name}: series '{ids[series]}' steps by {step.freq}, but the table by {calendar.freq}, so that "
                f"{1 - share:.0%} of its values would be missing: aggregate all series to {step.freq}, give series of "
                f"different steps in separate tables, or give `freq` {calendar.freq} to take what lies "
                "between for missing values."
            )


def _probability_of_multiple(share: float, ratio: float) -> float:
    """Return the probability that the next row is a multiple of `ratio` steps ahead, if rows are there at random."""
    missing = 1 - share
    return share * missing ** (ratio - 1) / (1 - missing**ratio)
