"""The time step of a data set, and arithmetic on its times."""

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
# Aliases that pandas has renamed.
_NEW_ALIASES = {
    "H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "d": "D", "b": "B", "w": "W", "M": "ME",
    "SM": "SME", "BM": "BME", "CBM": "CBME", "Q": "QE", "BQ": "BQE", "A": "YE", "Y": "YE", "AS": "YS",
    "BA": "BYE", "BY": "BYE", "BAS": "BYS",
}  # fmt: skip


@dataclass(frozen=True)
class Calendar:
    """The time step of a data set; every series may start at another time.

    Times are int64: integers as they are, dates as nanoseconds since 1970, in UTC for steps of a fixed duration (`h`,
    `30min`) and on the local wall clock for days and longer steps, so that daylight saving time does not move a day.
    """

    freq: str | int  # pandas alias (`h`, `B`, `W-SUN`, `QS-OCT`, ...), or an integer where times are integers
    timezone: str | None = None  # name of the time zone

    def __post_init__(self) -> None:
        """Replace old pandas aliases by the current ones, and check the step."""
        freq = self.freq
        object.__setattr__(self, "freq", _current_alias(freq))
        offset = self._offset
        # Forward, and by whole days unless it is a fixed duration.
        if (
            self.freq > 0
            if isinstance(self.freq, int)
            else (offset is not None and offset.n > 0 and not isinstance(offset, pd.offsets.BusinessHour))
        ):
            return
        raise UserError(
            f"`freq` {freq!r} is not a step of time: give a pandas alias such as min, 15min, h, D, B, "
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
        """Whether times are on the local wall clock: for days and longer steps."""
        return not self.is_integer and not _is_duration(self._offset)

    @cached_property
    def fixed_step(self) -> int | None:
        """The length of the step, or None where steps differ in length (months, business days)."""
        if isinstance(self.freq, int):
            return self.freq
        if _is_duration(self._offset):
            return int(pd.Timedelta(self._offset).as_unit("ns").value)
        days = {"D": 1, "W": 7}.get(self._offset.rule_code[:2].rstrip("-"))
        return days and int(self._offset.n) * days * DAY

    def shift(self, times: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
        """Return int64 times moved by a number of steps, which may be negative; raise a `UserError` beyond int64."""
        if self.fixed_step is not None:
            # In float64, because int64 would overflow silently.
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
        """Return the steps from starts to times, the inverse of `shift`; -1 before the start or off the calendar."""
        if self.fixed_step is not None:
            steps, rest = np.divmod(times - starts, self.fixed_step)
            return np.where((rest == 0) & (steps >= 0), steps, -1)
        if not times.size or not starts.size:
            return np.asarray(times - starts)
        grid = self._grid(min(times.min(), starts.min()) // DAY, max(times.max(), starts.max()) // DAY)
        # The index of every day in the grid, -1 between; a table is far faster than a binary search.
        table = np.full(grid[-1] - grid[0] + 3, -1, dtype=np.int32)
        table[grid - grid[0] + 1] = np.arange(len(grid))
        index, start = (table.take(each // DAY - grid[0] + 1, mode="clip") for each in (times, starts))
        ahead = (index >= start) & (start >= 0) & ((times - starts) % DAY == 0)
        steps, rest = np.divmod(index - start, self._offset.n, dtype=np.int64)
        return np.where(ahead & (rest == 0), steps, -1)

    def _grid(self, lowest: float, highest: float) -> np.ndarray:
        """Return all days on the calendar, ascending, from two years before `lowest` to two years after `highest`."""
        first, last = (1970 + day / 365.2425 + margin for day, margin in ((lowest, -2), (highest, 2)))
        # Whole decades, so that few grids are made, within the range of int64 nanoseconds.
        first_year, last_year = max(1678, int(first // 10 * 10)), min(2261, int(last // 10 * 10 + 9))
        return _dates(self._offset.rule_code, first_year, last_year)

    def count(self, times: np.ndarray) -> np.ndarray:
        """Return the int64 times of integers or of datetime64[ns] in UTC."""
        if self.on_wall_clock and self.timezone:
            return calendar_clock(times, self.timezone).astype(np.int64)
        return times.astype(np.int64)

    def instants(self, times: np.ndarray) -> np.ndarray:
        """Return the inverse of `count`: integers, or datetime64[ns] in UTC (wall clock if there is no zone)."""
        if self.is_integer:
            return times
        if not (self.on_wall_clock and self.timezone):
            return times.astype("datetime64[ns]")
        return _localised(times.astype("datetime64[ns]"), self.timezone)

    def wall_times(self, times: np.ndarray) -> np.ndarray:
        """Return datetime64[ns] on the local wall clock; integers stay integers."""
        if self.is_integer:
            return times
        instants = times.astype("datetime64[ns]")
        return instants if self.on_wall_clock or not self.timezone else wall_clock(instants, self.timezone)

    def spell(self, time: np.ndarray | int) -> str:
        """Return a time on the local wall clock as text for messages."""
        return spell_time(self.wall_times(np.atleast_1d(time))[0])

    @property
    def season_length(self) -> int:
        """The number of steps after which data of this frequency usually repeat; 1 where it is unknown."""
        unit, multiple = self.unit
        if unit == "integer":
            return 1
        if unit == "nanosecond":
            # The longest of day, hour, minute and second of at most 400 steps, which a context can hold.
            whole = (length // multiple for length in (DAY, DAY // 24, 60 * SECOND, SECOND)
                     if length % multiple == 0 and length // multiple <= 400)  # fmt: skip
            return int(next(whole, 1))
        season = {"day": 7, "business day": 5, "week": 52, "month": 12}[unit]
        return int(season / multiple) if season % multiple == 0 else 1

    @property
    def horizon(self) -> int:
        """The usual number of steps to forecast at this frequency."""
        unit, multiple = self.unit
        if unit == "integer":
            return 12
        if unit == "nanosecond":
            return int(2 * DAY // multiple) if multiple > DAY // 48 else max(self.season_length, 12)
        if unit == "month":
            return 6 if multiple >= 12 else int((24 if multiple >= 3 else 18) / multiple)
        return max(1, int({"day": 14, "business day": 10, "week": 13}[unit] / multiple))

    def steps_like(self, other: Calendar) -> bool:
        """Return whether the steps may be equally long, as `60min` and `h`; integers may count any step of dates."""
        if self.is_integer or other.is_integer:
            return self.is_integer != other.is_integer or self.freq == other.freq
        return self.unit == other.unit

    @property
    def unit(self) -> tuple[str, float]:
        """The unit of the step, and the number of units in it."""
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
    """Return a time (datetime64 or integer) as text for messages."""
    return str(pd.Timestamp(time)) if isinstance(time, np.datetime64) else str(time)


def wall_clock(instants: np.ndarray, timezone: str) -> np.ndarray:
    """Return the local wall clock of a time zone at datetime64[ns] in UTC."""
    local = pd.DatetimeIndex(instants, tz="UTC").tz_convert(timezone).tz_localize(None)
    return np.asarray(local.as_unit("ns").to_numpy())


def calendar_clock(instants: np.ndarray, timezone: str | None) -> np.ndarray:
    """Return the wall clock, with midnight for the first instant of a day whose midnight daylight saving skips."""
    if timezone is None:
        return instants
    clock = wall_clock(instants, timezone)
    midnight = clock.astype("datetime64[D]").astype(clock.dtype)
    late = np.flatnonzero((clock > midnight) & (clock - midnight <= np.timedelta64(1, "h")))
    first = _localised(midnight[late], timezone)
    skipped = late[first == instants[late]]
    if skipped.size:
        clock = clock.copy()
        clock[skipped] = midnight[skipped]
    return clock


def _localised(clock: np.ndarray, timezone: str) -> np.ndarray:
    """Return the instants at which clocks show datetime64[ns]: the first of two, or the next one if there is none."""
    local = pd.DatetimeIndex(clock).tz_localize(
        timezone, ambiguous=np.ones(len(clock), dtype=bool), nonexistent="shift_forward"
    )
    return np.asarray(local.tz_convert(None).as_unit("ns").to_numpy())


def _current_alias(freq: str | int) -> str | int:
    """Return a step with the current pandas alias; convert text that spells an integer."""
    text = str(freq).strip()
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-\w+)?", text)
    if match is None:
        return text
    multiple, alias, anchor = match.groups(default="")
    return multiple + _NEW_ALIASES.get(alias, alias) + anchor


def _is_duration(offset: Any) -> bool:
    """Return whether a pandas offset is a fixed duration; a day is not, although pandas 2 makes it a `Tick`."""
    return isinstance(offset, pd.offsets.Tick) and not isinstance(offset, pd.offsets.Day)


@lru_cache(maxsize=64)
def _dates(code: str, first_year: int, last_year: int) -> np.ndarray:
    """Return the days since 1970 on an anchored calendar, from January of `first_year` to December of `last_year`."""
    dates = pd.date_range(f"{first_year}-01-01", f"{last_year}-12-31", freq=code)
    return dates.to_numpy().astype("datetime64[D]").astype(np.int64)
