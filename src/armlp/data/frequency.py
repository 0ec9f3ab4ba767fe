"""The frequency: the step of time that explains the times of a table."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import gcd
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from armlp.data.calendar import DAY, Calendar, spell_time, wall_clock
from armlp.errors import UserError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


def infer_calendar(
    times: np.ndarray,
    offsets: np.ndarray,
    ids: np.ndarray,
    timezone: str | None = None,
    name: str = "the table",
) -> Calendar:
    """Find the step in the times of a table, which may have gaps.

    Integers step by their greatest common divisor. Datetimes step by their most common step, and every
    other one has to be a multiple of it; months, quarters, years and business days are recognised.

    Args:
        times: `[N]` integers or datetime64[ns] of UTC, ascending within each series, none twice.
        offsets: `[S + 1]` where each series' rows begin.
        ids: `[S]` names of the series.
        timezone: Name of the time zone, or None.
        name: What to call the table in messages.

    Raises:
        UserError: No step explains the times.
    """
    before = np.delete(np.arange(len(times)), offsets[1:] - 1)
    if not before.size:
        raise UserError(
            f"{name} has one row per series, from which no step of time can be inferred: give it with "
            "--data.freq (such as h, D, MS, or 1 for integer times)."
        )
    if times.dtype.kind != "M":
        return Calendar(int(np.gcd.reduce(times[before + 1] - times[before])))
    local = wall_clock(times, timezone) if timezone else times

    def common(counts: np.ndarray, spell: Callable[[int], str]) -> int:
        """The most common step, which every step must be a multiple of."""
        steps = counts[before + 1] - counts[before]
        values, frequencies = np.unique(steps, return_counts=True)
        step = int(values[frequencies.argmax()])
        odd = np.flatnonzero(steps % step)
        if not odd.size:
            return step
        row = before[odd[0]]
        series = ids[np.searchsorted(offsets, row, side="right") - 1]
        raise UserError(
            f"{name} has no common step of time: the most common one is {spell(step)}, but series '{series}' "
            f"goes from {spell_time(local[row])} to {spell_time(local[row + 1])}; correct the times, or give "
            f"--data.freq, such as {spell(gcd(*(int(value) for value in values)))}."
        )

    nanoseconds = local.astype(np.int64)
    if ((nanoseconds[before + 1] - nanoseconds[before]) % DAY).any():
        return Calendar(_duration_alias(common(times.astype(np.int64), _duration_alias)), timezone)
    dates = local.astype("datetime64[D]")
    code = next((code for code, on_it in _MONTHLY_DATES.items() if on_it(dates)), None)
    if code is not None:
        months = dates.astype("datetime64[M]").astype(np.int64)
        return Calendar(_monthly_alias(code, common(months, lambda step: f"{step}{code}"), months), timezone)
    days = dates.astype(np.int64)
    weekdays = (days + 3) % 7  # 1970 began on a Thursday.
    if (weekdays < 5).all() and _skip_weekends(dates[before], dates[before + 1]):
        return Calendar("B", timezone)
    try:
        step = common(days, lambda step: f"{step}D")
    except UserError:
        # Rarer calendars, such as every second Tuesday of a month, are left to pandas.
        longest = np.argmax(np.diff(offsets))
        freq = _freq_of_pandas(local[offsets[longest] : offsets[longest + 1]][:1000])
        starts = np.repeat(nanoseconds[offsets[:-1]], np.diff(offsets))
        if freq and (Calendar(freq).positions(starts, nanoseconds) >= 0).all():
            return Calendar(freq, timezone)
        raise
    if step % 7 == 0 and (weekdays == weekdays[0]).all():
        return Calendar(f"{step // 7 if step > 7 else ''}W-{_WEEKDAYS[weekdays[0]]}", timezone)
    return Calendar(f"{step if step > 1 else ''}D", timezone)


def _freq_of_pandas(times: np.ndarray) -> str | None:
    """The alias that pandas finds, which it gives as text until version 4."""
    if len(times) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        freq: Any = pd.infer_freq(pd.DatetimeIndex(times))
    return freq and str(getattr(freq, "freqstr", freq))


def _duration_alias(step: int) -> str:
    """The pandas alias of a number of nanoseconds."""
    return str(to_offset(pd.Timedelta(step, unit="ns")).freqstr)


def _month_start(dates: np.ndarray, months_on: int = 0) -> np.ndarray:
    """The first day of the months of dates, or of months after them."""
    return (dates.astype("datetime64[M]") + months_on).astype("datetime64[D]")


# How to tell, for the rows of a whole table, that they lie on a monthly calendar; likelier ones first.
_MONTHLY_DATES: dict[str, Callable[[np.ndarray], bool]] = {
    "MS": lambda dates: bool((dates == _month_start(dates)).all()),
    "ME": lambda dates: bool((dates + 1 == _month_start(dates, 1)).all()),
    "BMS": lambda dates: bool((dates == np.busday_offset(_month_start(dates), 0, "forward")).all()),
    "BME": lambda dates: bool((dates == np.busday_offset(_month_start(dates, 1), -1, "forward")).all()),
}


def _monthly_alias(code: str, step: int, months: np.ndarray) -> str:
    """The alias for a number of months, as quarters or years where all series share their phase."""
    month = int(months[0]) % 12
    if step % 12 == 0 and (months % 12 == month).all():
        unit, letter, anchor = 12, "Y", _MONTHS[month]
    elif step % 3 == 0 and (months % 3 == month % 3).all():
        unit, letter, anchor = 3, "Q", _MONTHS[month % 3 + (9 if code.endswith("E") else 0)]
    else:
        return f"{step if step > 1 else ''}{code}"
    return f"{step // unit if step > unit else ''}{code.replace('M', letter)}-{anchor}"


def _skip_weekends(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether rows on weekdays are business days: the usual step is a day, and some pass a weekend."""
    steps = np.busday_count(before, after)
    return bool((steps == 1).mean() > 0.5 and (steps != (after - before).astype(np.int64)).any())
