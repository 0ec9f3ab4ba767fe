"""The time step of a table: inferred, and checked against that of single series."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from armlp.data.time.calendar import DAY, Calendar, calendar_clock, spell_time
from armlp.errors import UserError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
# Dates written as integers, by their number of digits.
_DATE_FORMATS = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M"}
# A series with a larger share of its rows is not checked; business days among days are 5 of 7.
DENSE = 0.6
# Significance level of a test against random gaps, over all series.
_CHANCE = 1e-4
# Number of series that are checked, those with most rows first.
MAX_SERIES = 50


def infer_calendar(
    times: np.ndarray, offsets: np.ndarray, ids: np.ndarray, timezone: str | None = None, name: str = "the table"
) -> Calendar:
    """Return the calendar of the times of a table, which may have gaps.

    The step of integers is their greatest common divisor. The step of datetimes is the most common one, or a smaller
    one that is nearly as common; all others must be multiples of it. Months, quarters, years, half months, the n-th
    weekday of months, weeks and business days are recognised where a series has one time of day.

    Of the calendars that fit few rows, the simplest is taken: the first of months rather than their first business day,
    days for one week of business days, quarters for the ends of quarters even if months were meant, and days rather
    than 24 hours where clocks were not changed.

    Args:
        times: `[N]` integers or datetime64[ns] in UTC, strictly ascending within each series.
        offsets: `[S + 1]` row where each series begins.

    Raises:
        UserError: No step fits all times, or they are dates written as integers.
    """
    before = np.delete(np.arange(len(times)), offsets[1:] - 1)
    if not before.size:
        raise UserError(
            f"{name} has one row per series, from which no step of time can be inferred: give it with "
            "`freq` (such as h, D, MS, or 1 for integer times)."
        )
    if times.dtype.kind != "M":
        steps = times[before + 1] - times[before]
        _check_dates_as_integers(times, steps, name)
        return Calendar(int(np.gcd.reduce(steps)))
    found = _infer_datetimes(times, before, timezone)
    if isinstance(found, Calendar):
        return found
    # The most common step, and the first one that is not a multiple of it.
    different, frequencies = found.different_steps
    steps, common = found.steps, int(different[frequencies.argmax()])
    usual, odd = before[np.argmax(steps == common)] + 1, before[np.argmax(steps % common != 0)] + 1
    described = f"({found.alias(common)}), the most common step"
    # The longest series alone may have a finer step that fits all others; otherwise the first row off it is named.
    longest = slice(*offsets[np.argmax(np.diff(offsets)) :][:2])
    finer = _infer_datetimes(times[longest], np.arange(longest.stop - longest.start - 1), timezone)
    if isinstance(finer, Calendar):
        counted = finer.count(times)
        off = np.flatnonzero(finer.positions(np.repeat(counted[offsets[:-1]], np.diff(offsets)), counted) < 0)
        if not off.size:
            return finer
        usual, odd, described = longest.start + 1, off[0], f"({finer.freq})"
    clock = calendar_clock(times, timezone)

    def describe(row: int) -> str:
        """Return the series of a row and the step to it, or from it if it is the first."""
        series = np.searchsorted(offsets, row, side="right") - 1
        first = max(row - 1, offsets[series])
        if first + 1 == offsets[series + 1]:
            return f"series '{ids[series]}' has {spell_time(clock[first])} only"
        step = found.alias(int(found.counts[first + 1] - found.counts[first]))
        between = f"goes from {spell_time(clock[first])} to {spell_time(clock[first + 1])}"
        return f"series '{ids[series]}' {between}" + (f" ({step})" if row == odd else "")

    filled = ((found.counts[offsets[1:] - 1] - found.counts[offsets[:-1]]) // found.divisor + 1).sum(dtype=float)
    raise UserError(
        f"{name} has no common step of time: {describe(usual)} {described}, but {describe(odd)}: correct or round the "
        f"times, or give `freq` {found.alias(found.divisor)}, with which {1 - len(times) / filled:.0%} of all values "
        "are missing."
    )


@dataclass(frozen=True)
class _Unit:
    """A unit of time, such as days or months."""

    counts: np.ndarray  # `[N]` int64 time of each row in units
    before: np.ndarray  # rows that are followed by one of the same series
    alias: Callable[[int], str]  # returns the pandas alias of a number of units

    @property
    def steps(self) -> np.ndarray:
        """Units from each row of `before` to the next one."""
        return np.asarray(self.counts[self.before + 1] - self.counts[self.before])

    @cached_property
    def different_steps(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct steps, ascending, and how often each occurs."""
        found = pd.Series(self.steps).value_counts(sort=False).sort_index()  # far faster than sorting all
        return np.asarray(found.index), found.to_numpy()

    @cached_property
    def usual(self) -> int:
        """The smallest step that is at least half as common as the most common one."""
        steps, found = self.different_steps
        return int(steps[2 * found >= found.max()][0])

    @property
    def common(self) -> int | None:
        """The usual step if all others are multiples of it, otherwise None."""
        return None if (self.different_steps[0] % self.usual).any() else self.usual

    @property
    def length(self) -> float:
        """The number of common steps between the first and last rows of all series together."""
        steps, found = self.different_steps
        return float(steps @ found.astype(float)) / self.common if self.common else np.inf

    @property
    def divisor(self) -> int:
        """The largest step that fits all times."""
        return int(np.gcd.reduce(self.different_steps[0]))


def _infer_datetimes(times: np.ndarray, before: np.ndarray, timezone: str | None) -> Calendar | _Unit:
    """Return the calendar of datetimes, or the likeliest unit if no unit has a common step."""
    clock = calendar_clock(times, timezone)
    nanoseconds = clock.astype(np.int64)
    units: Iterable[_Unit] = [_Unit(times.astype(np.int64), before, _duration_alias)]
    if not ((nanoseconds[before + 1] - nanoseconds[before]) % DAY).any():
        # Series share their days, so there are few distinct ones.
        index, days = pd.factorize(nanoseconds // DAY)
        units = _units_of_days(days, index, before)
    first = None
    for unit in units:
        if unit.common:
            return Calendar(unit.alias(unit.common), timezone)
        first = first or unit
    assert first is not None
    return first


def _units_of_days(days: np.ndarray, index: np.ndarray, before: np.ndarray) -> Iterator[_Unit]:
    """Yield the units that fit distinct days since 1970, likelier ones first; `index [N]` is the day of each row."""

    def unit(counts: np.ndarray, alias: Callable[[int], str] | str) -> _Unit:
        return _Unit(counts[index], before, partial(_multiple, alias=alias) if isinstance(alias, str) else alias)

    dates = days.astype("datetime64[D]")
    month = dates.astype("datetime64[M]")
    months = month.astype(np.int64)
    code = next((code for code, on_it in _MONTHLY_DATES.items() if on_it(dates, month)), None)
    if code is not None:
        yield unit(months, lambda step: _monthly_alias(code, step, months))
        return
    week, weekday = np.divmod(days + 3, 7)  # 1970 began on a Thursday
    business, daily = unit(5 * week + weekday, "B"), unit(days, lambda step: _daily_alias(step, weekday))
    # Whole weeks fit both units; other steps skip weekends only in business days.
    skips_weekends = (weekday < 5).all() and (business.steps != daily.steps).any()
    whole_weeks = daily.common is not None and daily.common % 7 == 0
    if skips_weekends and not whole_weeks and business.length <= daily.length:
        yield business
    yield daily
    day = days - month.astype("datetime64[D]").astype(np.int64)  # 0 is the first one
    is_last = dates + 1 == month + 1
    for at_end, alias, later in ((day == 0, "SMS", day != 0), (is_last, "SME", is_last)):
        middle = np.unique(day[~at_end]) + 1
        if len(middle) == 1 and 2 <= middle[0] <= 27:
            yield unit(2 * months + later, f"{alias}-{middle[0]}")
    if (weekday == weekday[0]).all():
        name = _WEEKDAYS[weekday[0]]
        if ((dates + 7).astype("datetime64[M]") != month).all():
            yield unit(months, f"LWOM-{name}")
        elif (day // 7 == day[0] // 7).all():
            yield unit(months, f"WOM-{day[0] // 7 + 1}{name}")


def _multiple(step: int, alias: str) -> str:
    return f"{step if step > 1 else ''}{alias}"


def _duration_alias(step: int) -> str:
    """Return the alias of a number of nanoseconds, in hours at most, because not every day has 24."""
    hours, rest = divmod(step, DAY // 24)
    return str(to_offset(pd.Timedelta(step, unit="ns")).freqstr) if rest else _multiple(hours, "h")


def _daily_alias(step: int, weekday: np.ndarray) -> str:
    """Return the alias of a number of days, as weeks where all times are on one weekday."""
    if step % 7 == 0 and (weekday == weekday[0]).all():
        return _multiple(step // 7, f"W-{_WEEKDAYS[weekday[0]]}")
    return _multiple(step, "D")


def _monthly_alias(code: str, step: int, months: np.ndarray) -> str:
    """Return the alias of a number of months, as quarters or years where all series share their phase."""
    month = int(months[0]) % 12
    if step % 12 == 0 and (months % 12 == month).all():
        unit, letter, anchor = 12, "Y", _MONTHS[month]
    elif step % 3 == 0 and (months % 3 == month % 3).all():
        unit, letter, anchor = 3, "Q", _MONTHS[month % 3 + (9 if code.endswith("E") else 0)]
    else:
        return _multiple(step, code)
    return _multiple(step // unit, f"{code.replace('M', letter)}-{anchor}")


def _business_day(month: np.ndarray, offset: int) -> np.ndarray:
    """Return the first business day of months for offset 0, or the last one before them for offset -1."""
    return np.asarray(np.busday_offset(month.astype("datetime64[D]"), offset, "forward"))


# Whether all dates lie on a monthly calendar; likelier ones first.
_MONTHLY_DATES: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "MS": lambda dates, month: bool((dates == month).all()),
    "ME": lambda dates, month: bool((dates + 1 == month + 1).all()),
    "BMS": lambda dates, month: bool((dates == _business_day(month, 0)).all()),
    "BME": lambda dates, month: bool((dates == _business_day(month + 1, -1)).all()),
}


def _check_dates_as_integers(times: np.ndarray, steps: np.ndarray, name: str) -> None:
    """Refuse dates like 20200131, whose differences mean nothing; evenly spaced numbers may be counts."""
    digits = len(str(times.min()))
    if digits not in _DATE_FORMATS or digits != len(str(times.max())) or (digits != 8 and (steps == steps[0]).all()):
        return
    year, month, *rest = (times // 10 ** (digits - 4), *(times // 10**k % 100 for k in range(digits - 6, -1, -2)))
    if ((year < 1900) | (year > 2100) | (month < 1) | (month > 12)).any():
        return
    begin = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = ((begin + 1).astype("datetime64[D]") - begin.astype("datetime64[D]")).astype(np.int64)
    limits = ((1, days), (0, 23), (0, 59))
    if any(((part < low) | (part > high)).any() for part, (low, high) in zip(rest, limits, strict=False)):
        return
    raise UserError(
        f"{name}: the times are dates written as integers, such as {times[0]}: convert them (in pandas, "
        f"pandas.to_datetime(times, format='{_DATE_FORMATS[digits]}')), or give `freq` 1 if they only count."
    )


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
