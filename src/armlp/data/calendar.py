"""The calendar: the step of time, and what lies how many steps ahead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from armlp.errors import UserError

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
_BEYOND = "No calendar goes beyond the years 1678 to 2261: give a smaller `horizon`."
# Aliases that pandas has renamed; many scripts and papers still spell them so.
_TODAYS_ALIAS = {
    "H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "d": "D", "b": "B", "w": "W", "M": "ME",
    "SM": "SME", "BM": "BME", "CBM": "CBME", "Q": "QE", "BQ": "BQE", "A": "YE", "Y": "YE", "AS": "YS",
    "BA": "BYE", "BY": "BYE", "BAS": "BYS",
}  # fmt: skip


@dataclass(frozen=True)
class Calendar:
    """The step of time of a data set; every series has its own start on it.

    Time is counted in int64: as it comes where times are integers, otherwise in nanoseconds since 1970,
    of UTC for steps that are a fixed time (`h`, `30min`), and of the local clock on the wall for days and
    longer ones, so that daylight saving moves no day.

    Attributes:
        freq: pandas alias of the step (`h`, `30min`, `B`, `W-SUN`, `MS`, `QS-OCT`, ...), or the step itself
            where times are integers.
        timezone: Name of the time zone, or None for naive times.
    """

    freq: str | int
    timezone: str | None = None

    def __post_init__(self) -> None:
        """Spell the step as pandas does today, and refuse what is none."""
        given = self.freq
        object.__setattr__(self, "freq", _spelled_today(given))
        if self.freq > 0 if isinstance(self.freq, int) else _is_step(self._offset):
            return
        raise UserError(
            f"`freq` {given!r} is not a step of time: give a pandas alias such as min, 15min, h, D, B, "
            "W-SUN, MS, ME, QS or YE, or a positive integer where the times are integers."
        )

    @property
    def is_integer(self) -> bool:
        """Whether times are integers."""
        return isinstance(self.freq, int)

    @cached_property
    def _offset(self) -> Any:
        try:
            return to_offset(str(self.freq))
        except (ValueError, AttributeError):
            return None

    @cached_property
    def on_wall_clock(self) -> bool:
        """Whether time is counted on the local clock: for days and longer steps."""
        return not self.is_integer and not _is_duration(self._offset)

    @cached_property
    def fixed_step(self) -> int | None:
        """The step in units of time, or None where steps differ in length (months, business days)."""
        if isinstance(self.freq, int):
            return self.freq
        if _is_duration(self._offset):
            return int(pd.Timedelta(self._offset).as_unit("ns").value)
        days = {"D": 1, "W": 7}.get(self._offset.rule_code[:2].rstrip("-"))
        return days and int(self._offset.n) * days * DAY

    def shift(self, times: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
        """The times that lie so many steps after (or, if negative, before) others.

        Args:
            times: int64, on the calendar.
            steps: int64, broadcast against `times`.

        Raises:
            UserError: A time lies beyond what int64 nanoseconds can hold.
        """
        if self.fixed_step is not None:
            # Floats, because int64 would wrap round in silence.
            reached = times + np.asarray(steps, dtype=np.float64) * self.fixed_step
            if not self.is_integer and (np.abs(reached) >= 2.0**63).any():
                raise UserError(_BEYOND)
            return np.asarray(times + np.asarray(steps, dtype=np.int64) * self.fixed_step)
        days, clock = np.divmod(times, DAY)
        moves = np.asarray(steps, dtype=np.int64) * self._offset.n
        if not days.size or not moves.size:
            return np.asarray(days + moves)
        sample = _dates(self._offset.rule_code, 2000, 2019)
        stride = 1.01 * (sample[-1] - sample[0]) / (len(sample) - 1)
        grid = self._grid(days.min() + min(0, moves.min()) * stride, days.max() + max(0, moves.max()) * stride)
        index = np.searchsorted(grid, days) + moves
        if index.min() < 0 or index.max() >= len(grid):
            raise UserError(_BEYOND)
        return np.asarray(grid[index] * DAY + clock)

    def positions(self, starts: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The steps from starts to times, the inverse of `shift`; -1 before the start or off the calendar.

        Args:
            starts: int64, broadcast against `times`.
            times: int64.
        """
        if self.fixed_step is not None:
            steps, rest = np.divmod(times - starts, self.fixed_step)
            return np.where((rest == 0) & (steps >= 0), steps, -1)
        if not times.size or not starts.size:
            return np.asarray(times - starts)
        grid = self._grid(min(times.min(), starts.min()) // DAY, max(times.max(), starts.max()) // DAY)
        # The place of every day on the grid, -1 between; a look-up is far quicker than a search.
        places = np.full(grid[-1] - grid[0] + 3, -1, dtype=np.int32)
        places[grid - grid[0] + 1] = np.arange(len(grid))
        place, start = (places.take(some // DAY - grid[0] + 1, mode="clip") for some in (times, starts))
        ahead = (place >= start) & (start >= 0) & ((times - starts) % DAY == 0)
        steps, rest = np.divmod(place - start, self._offset.n, dtype=np.int64)
        return np.where(ahead & (rest == 0), steps, -1)

    def _grid(self, lowest: float, highest: float) -> np.ndarray:
        """All days on the calendar, ascending, from two years before one day to two years after another."""
        first, last = (1970 + day / 365.2425 + margin for day, margin in ((lowest, -2), (highest, 2)))
        # Whole decades, so that few different grids are made; the ends are what int64 nanoseconds can hold.
        first_year, last_year = max(1678, int(first // 10 * 10)), min(2261, int(last // 10 * 10 + 9))
        return _dates(self._offset.rule_code, first_year, last_year)

    def count(self, times: np.ndarray) -> np.ndarray:
        """Times as the calendar counts them, int64, from integers or datetime64[ns] of UTC."""
        if self.on_wall_clock and self.timezone:
            return calendar_clock(times, self.timezone).astype(np.int64)
        return times.astype(np.int64)

    def instants(self, times: np.ndarray) -> np.ndarray:
        """The inverse of `count`: integers, or datetime64[ns] of UTC (of the wall where there is no zone)."""
        if self.is_integer:
            return times
        if not (self.on_wall_clock and self.timezone):
            return times.astype("datetime64[ns]")
        return _localised(times.astype("datetime64[ns]"), self.timezone)

    def wall_times(self, times: np.ndarray) -> np.ndarray:
        """What local clocks show at counted times, datetime64[ns]; integers stay integers."""
        if self.is_integer:
            return times
        instants = times.astype("datetime64[ns]")
        return instants if self.on_wall_clock or not self.timezone else wall_clock(instants, self.timezone)

    @property
    def season_length(self) -> int:
        """The number of steps after which most data of this frequency repeat; 1 where none is known."""
        unit, multiple = self.unit
        if unit == "integer":
            return 1
        if unit == "nanosecond":
            # The longest of day, hour, minute and second that a context of a few hundred steps can show.
            whole = (length // multiple for length in (DAY, DAY // 24, 60 * SECOND, SECOND)
                     if length % multiple == 0 and length // multiple <= 400)  # fmt: skip
            return int(next(whole, 1))
        season = {"day": 7, "business day": 5, "week": 52, "month": 12}[unit]
        return int(season / multiple) if season % multiple == 0 else 1

    @property
    def horizon(self) -> int:
        """How far people usually forecast at this frequency."""
        unit, multiple = self.unit
        if unit == "integer":
            return 12
        if unit == "nanosecond":
            return int(2 * DAY // multiple) if multiple > DAY // 48 else max(self.season_length, 12)
        if unit == "month":
            return 6 if multiple >= 12 else int((24 if multiple >= 3 else 18) / multiple)
        return max(1, int({"day": 14, "business day": 10, "week": 13}[unit] / multiple))

    def steps_like(self, other: Calendar) -> bool:
        """Whether a step lasts as long as one of another calendar (`60min` and `h`), as far as one can know.

        What an integer counts, nobody says, so it may be any step of dates; another integer is another step.
        """
        if self.is_integer or other.is_integer:
            return self.is_integer != other.is_integer or self.freq == other.freq
        return self.unit == other.unit

    @property
    def unit(self) -> tuple[str, float]:
        """What the step counts and how many of it."""
        if self.is_integer:
            return "integer", 1
        if self.fixed_step is not None:
            days, rest = divmod(self.fixed_step, DAY)
            if days == 0 or rest:
                return "nanosecond", self.fixed_step
            return ("week", days // 7) if days % 7 == 0 else ("day", days)
        code, multiple = self._offset.rule_code.split("-")[0], self._offset.n
        if code in ("B", "C"):
            return "business day", multiple
        months = 0.5 if code.startswith("SM") else 3 if "Q" in code else 12 if "Y" in code else 1
        return "month", months * multiple


def spell_time(time: Any) -> str:
    """A time (datetime64 or integer) as text for people."""
    return str(pd.Timestamp(time)) if isinstance(time, np.datetime64) else str(time)


def wall_clock(instants: np.ndarray, timezone: str) -> np.ndarray:
    """What clocks in a time zone show at datetime64[ns] of UTC."""
    local = pd.DatetimeIndex(instants, tz="UTC").tz_convert(timezone).tz_localize(None)
    return np.asarray(local.as_unit("ns").to_numpy())


def calendar_clock(instants: np.ndarray, timezone: str | None) -> np.ndarray:
    """What clocks show, but midnight for the first instant of days whose midnight summer time skips."""
    if timezone is None:
        return instants
    clock = wall_clock(instants, timezone)
    midnight = clock.astype("datetime64[D]").astype(clock.dtype)
    late = np.flatnonzero((clock > midnight) & (clock - midnight <= np.timedelta64(1, "h")))
    first = _localised(midnight[late], timezone)
    begun = late[first == instants[late]]
    if begun.size:
        clock = clock.copy()
        clock[begun] = midnight[begun]
    return clock


def _localised(clock: np.ndarray, timezone: str) -> np.ndarray:
    """The instants at which clocks show datetime64[ns]; the first of two, or what comes after a time skipped."""
    local = pd.DatetimeIndex(clock).tz_localize(
        timezone, ambiguous=np.ones(len(clock), dtype=bool), nonexistent="shift_forward"
    )
    return np.asarray(local.tz_convert(None).as_unit("ns").to_numpy())


def _spelled_today(freq: str | int) -> str | int:
    """A step in today's spelling; a number that came as text becomes one."""
    text = str(freq).strip()
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-\w+)?", text)
    if match is None:
        return text
    multiple, alias, anchor = match.groups(default="")
    return multiple + _TODAYS_ALIAS.get(alias, alias) + anchor


def _is_duration(offset: Any) -> bool:
    """Whether a pandas offset is a fixed time; a day was one until pandas 3, but is not one here."""
    return isinstance(offset, pd.offsets.Tick) and not isinstance(offset, pd.offsets.Day)


def _is_step(offset: Any) -> bool:
    """Whether a pandas offset goes forward, and by whole days if it is not a fixed time."""
    return offset is not None and offset.n > 0 and not isinstance(offset, pd.offsets.BusinessHour)


@lru_cache(maxsize=64)
def _dates(code: str, first_year: int, last_year: int) -> np.ndarray:
    """Days since 1970 that lie on an anchored calendar, from January of one year to December of another."""
    dates = pd.date_range(f"{first_year}-01-01", f"{last_year}-12-31", freq=code)
    return dates.to_numpy().astype("datetime64[D]").astype(np.int64)
