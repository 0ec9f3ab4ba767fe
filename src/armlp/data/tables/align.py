"""The calendar of a table, and the row of the panel to which each of its rows belongs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from armlp.data.tables.rows import TableRows
from armlp.data.tables.scan import TableScan
from armlp.data.time.calendar import Calendar, spell_time
from armlp.data.time.frequency import check_mixed_steps, infer_calendar
from armlp.errors import UserError, first_names

# A panel that is this many times longer than its table, and this many rows more, is refused.
_MAX_GAPS = 20
_ROWS_ALWAYS_ALLOWED = 10_000_000
# A panel that is this many times longer, and this many rows more, gets a warning.
_MANY_GAPS = 2.5
_FEW_GAPS = 100


@dataclass(frozen=True)
class Alignment:
    """Where the rows of every series are in the panel."""

    ids: np.ndarray  # `[S]` ascending
    series: np.ndarray  # `[codes]` int64 index into `ids` of each code of `Rows.codes`; -1 if left out
    calendar: Calendar
    starts: np.ndarray  # `[S]` int64 time of the first row, as the calendar counts it
    offsets: np.ndarray  # `[S + 1]` int64 row of the panel where each series begins
    future: np.ndarray  # `[S]` int64 number of rows after the history


class OffCalendarError(Exception):
    """A row does not lie on the calendar: the code of its series, and its int64 time in the table."""

    def __init__(self, code: int, time: int) -> None:
        super().__init__(code, time)
        self.code, self.time = code, time


class Aligner:
    """Finds the calendar of a table and aligns its rows with those of a panel, with warnings in `warning_texts`.

    The step `freq` is inferred if None; it is `default_freq` if every series has one row, which shows no step.
    """

    def __init__(
        self, table: TableRows, scan: TableScan, freq: str | int | None, default_freq: str | int | None = None
    ) -> None:
        self.table, self.scan, self.name = table, scan, table.table.name
        self.is_integer = not table.has_dates
        self.ids, self.ranks = table.ids()
        self.warning_texts: list[str] = []
        if freq is None and table.num_rows == len(self.ids):
            freq = default_freq
        self._infers = freq is None
        self.calendar = self._infer() if freq is None else Calendar(freq, table.timezone)
        if self.calendar.is_integer != self.is_integer:
            holds, needs = ("integers", "an integer such as 1")
            if not self.is_integer:
                holds, needs = ("datetimes", "a pandas alias such as h or D")
            raise UserError(f"`freq` is {self.calendar.freq}, but the times of {self.name} are {holds}: give {needs}.")

    def align(self) -> Alignment:
        """Return the alignment, and collect `warning_texts`.

        Raises:
            UserError: There is no value, series have different steps, or the times leave too many gaps.
            OffCalendarError: A row does not lie on the calendar.
        """
        scan, calendar = self.scan, self.calendar
        self.warning_texts = []
        codes = np.argsort(self.ranks)
        codes = codes[scan.observed[codes]]
        self._note_unobserved(codes)
        if self._infers:
            check_mixed_steps(*self._sample(), calendar, self.name)
        if as_text := self.table.numbers_as_categories:
            self.warning_texts.append(
                f"{self.name}: covariates that hold numbers as text are taken for categories: {first_names(as_text)}; "
                "convert them if they are meant as numbers, written like 1234.5."
            )
        starts = calendar.count(self._as_times(scan.starts[codes]))
        lengths, histories = (self._num_rows(codes, starts, ends) for ends in (scan.ends, scan.history_ends))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if offsets[-1] > _MAX_GAPS * self.table.num_rows + _ROWS_ALWAYS_ALLOWED:
            raise UserError(
                f"{self.name} has {self.table.num_rows} rows, but with a step of {calendar.freq} its gaps make them "
                f"{offsets[-1]}: give the true step with `freq`, or times without such gaps."
            )
        self._note_gaps(int(offsets[-1]))
        series = np.full(len(self.ranks), -1)
        series[codes] = np.arange(len(codes))
        return Alignment(self.ids[self.ranks[codes]], series, calendar, starts, offsets, lengths - histories)

    def _num_rows(self, codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the `[S]` number of rows from the start of each series to its end."""
        steps = self.calendar.positions(starts, self.calendar.count(self._as_times(ends[codes])))
        if (steps < 0).any():
            code = codes[np.argmax(steps < 0)]
            raise OffCalendarError(int(code), int(ends[code]))
        return np.asarray(steps + 1)

    def static(self, alignment: Alignment) -> np.ndarray:
        """Return the `[S, M]` static covariates, nan where missing; refuse one that changes within a series."""
        columns = self.table.covariate_columns["static"]
        extremes = self.scan.static_min, self.scan.static_max
        lowest, highest = (self.table.ranked_covariates("static", part) for part in extremes)
        changing = np.argwhere((lowest != highest) & ~np.isnan(lowest))
        if len(changing):
            code, index = changing[0]
            categories = columns[index].categories
            low, high = (
                f"{value:g}" if categories is None else f"'{categories[int(value)]}'"
                for value in sorted((lowest[code, index], highest[code, index]))
            )
            raise UserError(
                f"{self.name}: `static_covariates`: column '{columns[index].name}' of series "
                f"'{self.table.series.found[code]}' is both {low} and {high}: give one value per series, or name the "
                "column in `past_covariates`."
            )
        codes = np.flatnonzero(alignment.series >= 0)
        static = np.empty((len(alignment.ids), len(columns)), np.float32)
        static[alignment.series[codes]] = lowest[codes]
        return static

    def widen_sample(self, row: OffCalendarError) -> None:
        """Infer the calendar again with a series that has a row off it; raise a `UserError` if it stays."""
        sample = self.scan.sample
        if self._infers and row.code not in sample:
            for rows in self.table:
                kept = rows.codes == row.code
                sample.include(rows.codes[kept], rows.times[kept].astype(np.int64))
            before, self.calendar = self.calendar, self._infer()
            if self.calendar != before:
                return
        raise self._off_calendar()

    def _as_times(self, times: np.ndarray) -> np.ndarray:
        """Return int64 as integers or datetime64[ns], as the table has them."""
        return times if self.is_integer else times.view("datetime64[ns]")

    def _infer(self) -> Calendar:
        return infer_calendar(*self._sample(), self.table.timezone, self.name)

    def _sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the times of the sample, where each of its series begins, and their ids."""
        codes, times, begins = self.scan.sample.sorted()
        repeated = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] == times[:-1])) + 1
        if repeated.size:
            time = self._as_times(times[repeated[:1]])[0]
            raise duplicates(self.table, self.table.series.found[codes[repeated[0]]], spell_time(time), repeated.size)
        return self._as_times(times), begins, self.ids[self.ranks[codes[begins[:-1]]]]

    def _off_calendar(self) -> UserError:
        """Return the error that names the first row off the calendar, and counts such rows."""
        calendar, scan, count = self.calendar, self.scan, 0
        first: tuple[int, int, int] | None = None  # rank of the series, time of the row and start of the series
        for rows in self.table:
            times = calendar.count(rows.times)
            starts = calendar.count(self._as_times(scan.starts[rows.codes]))
            off = (calendar.positions(starts, times) < 0) & (times >= starts) & scan.observed[rows.codes]
            count += int(off.sum())
            for row in np.flatnonzero(off)[:1]:
                found = int(self.ranks[rows.codes[row]]), int(times[row]), int(starts[row])
                first = found if first is None else min(first, found)
        assert first is not None
        series = self.ids[first[0]]
        time, start = map(calendar.spell, first[1:])
        where = "" if start == time else f", which starts at {start}"
        if self._infers:
            return UserError(
                f"{self.name} has no common step of time: most of it steps by {calendar.freq}, on which time {time} of "
                f"series '{series}'{where} does not lie ({count} such rows in all); correct the times, or "
                "give `freq`."
            )
        try:
            fix = f"`freq` {self._infer().freq} would fit"
        except UserError:
            fix = "correct the times, or give another `freq`"
        return UserError(
            f"{self.name}: time {time} of series '{series}'{where} does not lie on `freq` "
            f"{calendar.freq} ({count} such rows in all): {fix}."
        )

    def _note_gaps(self, rows: int) -> None:
        # Without an id column, all series share the rows of the table.
        tables = 1 if self.table.layout == "long" else len(self.ids)
        found, rows = self.table.num_rows // tables, rows // tables
        if rows > _MANY_GAPS * found and rows - found >= _FEW_GAPS:
            self.warning_texts.append(
                f"{self.name} has {found} rows, but its calendar has {rows} steps between their times, and those "
                "missing are taken for gaps: if that is not meant, correct the times, or give the step as `freq`."
            )

    def _note_unobserved(self, codes: np.ndarray) -> None:
        if not len(codes):
            raise UserError(
                f"{self.name}: no series has an observed value in every target column: give a table with values, or "
                "other `target_columns`."
            )
        if len(codes) < len(self.ids):
            left_out = np.setdiff1d(self.ranks, self.ranks[codes])
            self.warning_texts.append(
                f"{self.name}: {len(left_out)} of {len(self.ids)} series have no observed value and are left out: "
                f"{first_names(self.ids[left_out])}."
            )


def duplicates(table: TableRows, series: str, time: str, count: int) -> UserError:
    """Return the error about `count` rows that repeat a time of their series, the first of which is named."""
    fix = "keep one row of each"
    if table.layout != "long":
        fix += ", or name the column that says which series a row belongs to with `id_column`"
    if table.future is not None:
        fix += f", and leave out of `future` what {table.table.name} has"
    return UserError(
        f"{table.table.name}: series '{series}' has {time} more than once ({count} such rows in all): {fix}."
    )
