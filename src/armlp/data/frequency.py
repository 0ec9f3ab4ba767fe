"""The frequency: the step of time that explains the times of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from armlp.data.calendar import DAY, Calendar, calendar_clock, spell_time
from armlp.errors import UserError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
# Dates written as integers, by their number of digits.
_DATE_FORMATS = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M"}


def infer_calendar(
    times: np.ndarray,
    offsets: np.ndarray,
    ids: np.ndarray,
    timezone: str | None = None,
    name: str = "the table",
) -> Calendar:
    """Find the step in the times of a table, which may have gaps.

    Integers step by their greatest common divisor. Datetimes step by their most common step, or by a smaller one that
    is nearly as common, and every other one has to be a multiple of it. Where all times of a series are at one time of
    day, months, quarters, years, half months, the n-th weekday of months, weeks and business days are recognised.

    Few rows fit many calendars. The plainer one is taken: the first of months rather than their first business day, one
    week of business days as days, the ends of quarters as quarters even if months were meant, and days rather than 24
    hours where no clock was changed.

    Args:
        times: `[N]` integers or datetime64[ns] of UTC, ascending within each series, none twice.
        offsets: `[S + 1]` where each series' rows begin.
        ids: `[S]` names of the series.
        timezone: Name of the time zone, or None.
        name: What to call the table in messages.

    Raises:
        UserError: No step explains the times, or they are dates written as integers.
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
    found = _explained(times, before, timezone)
    if isinstance(found, Calendar):
        return found
    different, frequencies = found.different_steps
    steps, common = found.steps, int(different[frequencies.argmax()])
    usual, odd = before[np.argmax(steps == common)] + 1, before[np.argmax(steps % common != 0)] + 1
    known = f"({found.alias(common)}), the most common step"
    # The longest series may know a finer step that explains all others; if not, they disagree with it.
    longest = slice(*offsets[np.argmax(np.diff(offsets)) :][:2])
    model = _explained(times[longest], np.arange(longest.stop - longest.start - 1), timezone)
    if isinstance(model, Calendar):
        counted = model.count(times)
        off = np.flatnonzero(model.positions(np.repeat(counted[offsets[:-1]], np.diff(offsets)), counted) < 0)
        if not off.size:
            return model
        usual, odd, known = longest.start + 1, off[0], f"({model.freq})"
    clock = calendar_clock(times, timezone)

    def spelled(row: int) -> str:
        """A row's series and the step to the row, or from it if it is the first."""
        series = np.searchsorted(offsets, row, side="right") - 1
        first = max(row - 1, offsets[series])
        if first + 1 == offsets[series + 1]:
            return f"series '{ids[series]}' has {spell_time(clock[first])} only"
        step = found.alias(int(found.counts[first + 1] - found.counts[first]))
        stretch = f"goes from {spell_time(clock[first])} to {spell_time(clock[first + 1])}"
        return f"series '{ids[series]}' {stretch}" + (f" ({step})" if row == odd else "")

    filled = ((found.counts[offsets[1:] - 1] - found.counts[offsets[:-1]]) // found.divisor + 1).sum(dtype=float)
    raise UserError(
        f"{name} has no common step of time: {spelled(usual)} {known}, but {spelled(odd)}: correct or round the times, "
        f"or give `freq` {found.alias(found.divisor)}, with which {1 - len(times) / filled:.0%} of all values "
        "are missing."
    )


@dataclass(frozen=True)
class _Ruler:
    """A ruler that all times lie on.

    Attributes:
        counts: `[N]` int64 place of each row on the ruler.
        before: Rows that are followed by one of the same series.
        alias: The pandas alias of so many places.
    """

    counts: np.ndarray
    before: np.ndarray
    alias: Callable[[int], str]

    @property
    def steps(self) -> np.ndarray:
        """From each row of `before` to the next one."""
        return np.asarray(self.counts[self.before + 1] - self.counts[self.before])

    @cached_property
    def different_steps(self) -> tuple[np.ndarray, np.ndarray]:
        """The different ones of them, ascending, and how often each occurs."""
        found = pd.Series(self.steps).value_counts(sort=False).sort_index()  # far quicker than sorting all
        return np.asarray(found.index), found.to_numpy()

    @cached_property
    def usual(self) -> int:
        """The smallest of the steps that are at least half as common as the most common one."""
        steps, found = self.different_steps
        return int(steps[2 * found >= found.max()][0])

    @property
    def common(self) -> int | None:
        """The usual step if all are multiples of it."""
        return None if (self.different_steps[0] % self.usual).any() else self.usual

    @property
    def length(self) -> float:
        """How many common steps lie between the first and the last rows of all series."""
        steps, found = self.different_steps
        return float(steps @ found.astype(float)) / self.common if self.common else np.inf

    @property
    def divisor(self) -> int:
        """The largest step that explains all."""
        return int(np.gcd.reduce(self.different_steps[0]))


def _explained(times: np.ndarray, before: np.ndarray, timezone: str | None) -> Calendar | _Ruler:
    """The calendar of datetimes, or the likeliest ruler where they have no common step on any."""
    clock = calendar_clock(times, timezone)
    nanoseconds = clock.astype(np.int64)
    rulers: Iterable[_Ruler] = [_Ruler(times.astype(np.int64), before, _duration_alias)]
    if not ((nanoseconds[before + 1] - nanoseconds[before]) % DAY).any():
        # Series share their days, so there are few different ones.
        places, days = pd.factorize(nanoseconds // DAY)
        rulers = _rulers_of_days(days, places, before)
    first = None
    for ruler in rulers:
        if ruler.common:
            return Calendar(ruler.alias(ruler.common), timezone)
        first = first or ruler
    assert first is not None
    return first


def _rulers_of_days(days: np.ndarray, places: np.ndarray, before: np.ndarray) -> Iterator[_Ruler]:
    """The rulers that days since 1970 lie on, likelier ones first, given the place among them of each row's day."""

    def ruler(counts: np.ndarray, alias: Callable[[int], str] | str) -> _Ruler:
        return _Ruler(counts[places], before, partial(_multiple, alias=alias) if isinstance(alias, str) else alias)

    dates = days.astype("datetime64[D]")
    month = dates.astype("datetime64[M]")
    months = month.astype(np.int64)
    code = next((code for code, on_it in _MONTHLY_DATES.items() if on_it(dates, month)), None)
    if code is not None:
        yield ruler(months, lambda step: _monthly_alias(code, step, months))
        return
    week, weekday = np.divmod(days + 3, 7)  # 1970 began on a Thursday
    business, daily = ruler(5 * week + weekday, "B"), ruler(days, lambda step: _daily_alias(step, weekday))
    # Weeks are as many days as business days; other days pass weekends only if they are business days.
    passes_weekends = (weekday < 5).all() and (business.steps != daily.steps).any()
    whole_weeks = daily.common is not None and daily.common % 7 == 0
    if passes_weekends and not whole_weeks and business.length <= daily.length:
        yield business
    yield daily
    day = days - month.astype("datetime64[D]").astype(np.int64)  # 0 is the first one
    is_last = dates + 1 == month + 1
    for at_end, alias, later in ((day == 0, "SMS", day != 0), (is_last, "SME", is_last)):
        middle = np.unique(day[~at_end]) + 1
        if len(middle) == 1 and 2 <= middle[0] <= 27:
            yield ruler(2 * months + later, f"{alias}-{middle[0]}")
    if (weekday == weekday[0]).all():
        name = _WEEKDAYS[weekday[0]]
        if ((dates + 7).astype("datetime64[M]") != month).all():
            yield ruler(months, f"LWOM-{name}")
        elif (day // 7 == day[0] // 7).all():
            yield ruler(months, f"WOM-{day[0] // 7 + 1}{name}")


def _multiple(step: int, alias: str) -> str:
    return f"{step if step > 1 else ''}{alias}"


def _duration_alias(step: int) -> str:
    """The alias for a number of nanoseconds, in hours at most, because not every day has 24."""
    hours, rest = divmod(step, DAY // 24)
    return str(to_offset(pd.Timedelta(step, unit="ns")).freqstr) if rest else _multiple(hours, "h")


def _daily_alias(step: int, weekday: np.ndarray) -> str:
    """The alias for a number of days, as weeks where all times are on one day of it."""
    if step % 7 == 0 and (weekday == weekday[0]).all():
        return _multiple(step // 7, f"W-{_WEEKDAYS[weekday[0]]}")
    return _multiple(step, "D")


def _monthly_alias(code: str, step: int, months: np.ndarray) -> str:
    """The alias for a number of months, as quarters or years where all series share their phase."""
    month = int(months[0]) % 12
    if step % 12 == 0 and (months % 12 == month).all():
        unit, letter, anchor = 12, "Y", _MONTHS[month]
    elif step % 3 == 0 and (months % 3 == month % 3).all():
        unit, letter, anchor = 3, "Q", _MONTHS[month % 3 + (9 if code.endswith("E") else 0)]
    else:
        return _multiple(step, code)
    return _multiple(step // unit, f"{code.replace('M', letter)}-{anchor}")


def _business_day(month: np.ndarray, place: int) -> np.ndarray:
    """The first business day of months, place 0, or the last one before them, place -1."""
    return np.asarray(np.busday_offset(month.astype("datetime64[D]"), place, "forward"))


# How to tell, for the rows of a whole table, that they lie on a monthly calendar; likelier ones first.
_MONTHLY_DATES: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "MS": lambda dates, month: bool((dates == month).all()),
    "ME": lambda dates, month: bool((dates + 1 == month + 1).all()),
    "BMS": lambda dates, month: bool((dates == _business_day(month, 0)).all()),
    "BME": lambda dates, month: bool((dates == _business_day(month + 1, -1)).all()),
}


def _check_dates_as_integers(times: np.ndarray, steps: np.ndarray, name: str) -> None:
    """Refuse 20200131 and the like, between which steps mean nothing; what is no day and steps evenly may be counts."""
    digits = len(str(times.min()))
    if digits not in _DATE_FORMATS or digits != len(str(times.max())) or (digits != 8 and (steps == steps[0]).all()):
        return
    year, month, *rest = (times // 10 ** (digits - 4), *(times // 10**k % 100 for k in range(digits - 6, -1, -2)))
    if ((year < 1900) | (year > 2100) | (month < 1) | (month > 12)).any():
        return
    begin = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = ((begin + 1).astype("datetime64[D]") - begin.astype("datetime64[D]")).astype(np.int64)
    limits = ((1, days), (0, 23), (0, 59))
    if any(((part < least) | (part > most)).any() for part, (least, most) in zip(rest, limits, strict=False)):
        return
    raise UserError(
        f"{name}: the times are dates written as integers, such as {times[0]}: convert them (in pandas, "
        f"pandas.to_datetime(times, format='{_DATE_FORMATS[digits]}')), or give `freq` 1 if they only count."
    )
