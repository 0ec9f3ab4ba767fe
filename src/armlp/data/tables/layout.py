"""Planning: from a survey of a table to the place of every row in the panel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from armlp.data.calendar import Calendar, spell_time
from armlp.data.frequency import infer_calendar
from armlp.data.tables.mixed_steps import check_mixed_steps
from armlp.data.tables.roles import few
from armlp.data.tables.rows import TableRows
from armlp.data.tables.scan import TableScan
from armlp.errors import UserError

# A panel may be this many times longer than its table, and this much more, before it is taken for a mistake.
_MAX_GAPS = 20
_ROWS_ALWAYS_ALLOWED = 10_000_000
# So many times longer, and so much more, and the user is told.
_MANY_GAPS = 2.5
_GAPS_NEVER_TOLD = 100


@dataclass(frozen=True)
class Layout:
    """Where the rows of every series belong.

    Attributes:
        ids: `[S]` ids, ascending.
        places: `[numbers]` int64 place in `ids` of each number of `Rows.codes`; -1 where the series is left out.
        calendar: The step of time.
        starts: `[S]` int64 counted time of the first row.
        offsets: `[S + 1]` int64 where each series begins.
        future: `[S]` int64 rows after the history.
    """

    ids: np.ndarray
    places: np.ndarray
    calendar: Calendar
    starts: np.ndarray
    offsets: np.ndarray
    future: np.ndarray


class OffCalendar(Exception):
    """A row lies beside the calendar.

    Args:
        code: Number of its series.
        time: Its time, int64 as the table has it.
    """

    def __init__(self, code: int, time: int) -> None:
        super().__init__(code, time)
        self.code, self.time = code, time


class LayoutPlanner:
    """Finds the calendar of a table and the place of its rows.

    Args:
        table: The table, which has been gone over once.
        survey: What was seen.
        freq: The step of time that the user gave; None infers it.
        usual_freq: What it is where there is nothing to infer it from.
    """

    def __init__(
        self, table: TableRows, survey: TableScan, freq: str | int | None, usual_freq: str | int | None = None
    ) -> None:
        self.table, self.survey, self.name = table, survey, table.table.name
        self.is_integer = not table.has_dates
        self.ids, self.ranks = table.ids()
        self.notes: list[str] = []
        if freq is None and table.num_rows == len(self.ids):
            freq = usual_freq
        self._given = freq is not None
        self.calendar = self._inferred() if freq is None else self._checked(Calendar(freq, table.timezone))

    def plan(self) -> Layout:
        """Where the rows of every series belong; fills `notes` with what there is to warn of.

        Raises:
            UserError: There is no value at all, series step differently, or the times leave too many gaps.
            OffCalendar: A row lies beside the calendar.
        """
        survey, calendar = self.survey, self.calendar
        self.notes = []
        order = np.empty_like(self.ranks)
        order[self.ranks] = np.arange(len(order))
        numbers = order[survey.observed[order]]
        self._note_unobserved(numbers)
        if not self._given:
            check_mixed_steps(*self._sampled(), calendar, self.name)
        if as_text := self.table.numbers_as_categories:
            self.notes.append(
                f"{self.name}: covariates that hold numbers as text are taken for categories: {few(as_text)}; "
                "convert them if they are meant as numbers, written like 1234.5."
            )
        starts = calendar.count(self._times(survey.starts[numbers]))
        lengths, histories = (self._steps(numbers, starts, ends) for ends in (survey.ends, survey.history_ends))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if offsets[-1] > _MAX_GAPS * self.table.num_rows + _ROWS_ALWAYS_ALLOWED:
            raise UserError(
                f"{self.name} has {self.table.num_rows} rows, but with a step of {calendar.freq} its gaps make them "
                f"{offsets[-1]}: give the true step with `freq`, or times without such gaps."
            )
        self._note_gaps(int(offsets[-1]))
        places = np.full(len(order), -1)
        places[numbers] = np.arange(len(numbers))
        return Layout(self.ids[self.ranks[numbers]], places, calendar, starts, offsets, lengths - histories)

    def _steps(self, numbers: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """`[S]` rows from the start of each series to its end."""
        steps = self.calendar.positions(starts, self.calendar.count(self._times(ends[numbers])))
        if (steps < 0).any():
            number = numbers[np.argmax(steps < 0)]
            raise OffCalendar(int(number), int(ends[number]))
        return np.asarray(steps + 1)

    def static(self, plan: Layout) -> np.ndarray:
        """`[S, M]` what every series says all along; nan where it says nothing.

        Raises:
            UserError: A series says two things.
        """
        columns = self.table.covariate_columns["static"]
        least, most = (self.table.ranked_static(values) for values in (self.survey.least, self.survey.most))
        changing = np.argwhere((least != most) & ~np.isnan(least))
        if len(changing):
            number, place = changing[0]
            kinds = columns[place].categories
            low, high = (
                f"{value:g}" if kinds is None else f"'{kinds[int(value)]}'"
                for value in sorted((least[number, place], most[number, place]))
            )
            raise UserError(
                f"{self.name}: `static_covariates`: column '{columns[place].name}' of series "
                f"'{self.table.id_of(number)}' is both {low} and {high}: give one value per series, or name the column "
                "in `past_covariates`."
            )
        numbers = np.flatnonzero(plan.places >= 0)
        static = np.empty((len(plan.ids), len(columns)), np.float32)
        static[plan.places[numbers]] = least[numbers]
        return static

    def reconsider(self, row: OffCalendar) -> None:
        """Looks for another calendar, that a row lies on too.

        Raises:
            UserError: There is none.
        """
        sample = self.survey.sample
        if not self._given and row.code not in sample:
            for rows in self.table:
                mine = rows.codes == row.code
                sample.include(rows.codes[mine], rows.times[mine].astype(np.int64))
            before, self.calendar = self.calendar, self._inferred()
            if self.calendar != before:
                return
        raise self._misfit()

    def _times(self, times: np.ndarray) -> np.ndarray:
        """int64 as the table has them: integers or datetime64[ns]."""
        return times if self.is_integer else times.view("datetime64[ns]")

    def _checked(self, calendar: Calendar) -> Calendar:
        if calendar.is_integer == self.is_integer:
            return calendar
        holds, needs = ("datetimes", "a pandas alias such as h or D")
        if self.is_integer:
            holds, needs = ("integers", "an integer such as 1")
        raise UserError(f"`freq` is {calendar.freq}, but the times of {self.name} are {holds}: give {needs}.")

    def _inferred(self) -> Calendar:
        """The calendar that explains the sample."""
        return infer_calendar(*self._sampled(), self.table.timezone, self.name)

    def _sampled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times of the sample, where each of its series begins, and their ids."""
        codes, times, begins = self.survey.sample.sorted()
        again = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] == times[:-1])) + 1
        if again.size:
            time = self._times(times[again[:1]])[0]
            raise duplicates(self.table, self.table.id_of(codes[again[0]]), spell_time(time), again.size)
        return self._times(times), begins, self.ids[self.ranks[codes[begins[:-1]]]]

    def _misfit(self) -> UserError:
        """The sentence about the first row beside the calendar, and how many there are."""
        calendar, survey, count = self.calendar, self.survey, 0
        first: tuple[int, int, int] | None = None
        for rows in self.table:
            counted = calendar.count(rows.times)
            starts = calendar.count(self._times(survey.starts[rows.codes]))
            off = (calendar.positions(starts, counted) < 0) & (counted >= starts) & survey.observed[rows.codes]
            count += int(off.sum())
            for row in np.flatnonzero(off)[:1]:
                found = int(self.ranks[rows.codes[row]]), int(counted[row]), int(starts[row])
                first = found if first is None else min(first, found)
        assert first is not None
        place, *times = first
        time, start = (spell_time(calendar.wall_times(np.array([at]))[0]) for at in times)
        where = "" if start == time else f", which starts at {start}"
        if not self._given:
            return UserError(
                f"{self.name} has no common step of time: most of it steps by {calendar.freq}, on which time {time} of "
                f"series '{self.ids[place]}'{where} does not lie ({count} such rows in all); correct the times, or "
                "give `freq`."
            )
        try:
            likely = f"`freq` {self._inferred().freq} would fit"
        except UserError:
            likely = "correct the times, or give another `freq`"
        return UserError(
            f"{self.name}: time {time} of series '{self.ids[place]}'{where} does not lie on `freq` "
            f"{calendar.freq} ({count} such rows in all): {likely}."
        )

    def _note_gaps(self, steps: int) -> None:
        # Without an id column, all series share the rows of the table.
        tables = 1 if self.table.layout == "long" else len(self.ids)
        found, steps = self.table.num_rows // tables, steps // tables
        if steps > _MANY_GAPS * found and steps - found >= _GAPS_NEVER_TOLD:
            self.notes.append(
                f"{self.name} has {found} rows, but its calendar has {steps} steps between their times, and those "
                "missing are taken for gaps: if that is not meant, correct the times, or give the step as `freq`."
            )

    def _note_unobserved(self, numbers: np.ndarray) -> None:
        if not len(numbers):
            raise UserError(
                f"{self.name}: no series has an observed value in every target column: give a table with values, or "
                "other `target_columns`."
            )
        if len(numbers) < len(self.ids):
            left_out = np.sort(np.setdiff1d(self.ranks, self.ranks[numbers]))
            self.notes.append(
                f"{self.name}: {len(left_out)} of {len(self.ids)} series have no observed value and are left out: "
                f"{few(self.ids[left_out])}."
            )


def duplicates(table: TableRows, series: str, time: str, count: int) -> UserError:
    """The sentence about rows of the same series and time.

    Args:
        table: Where they are.
        series: Id of the first one.
        time: Time of the first one.
        count: How many there are.
    """
    fix = "keep one row of each"
    if table.layout != "long":
        fix += ", or name the column that says which series a row belongs to with `id_column`"
    if table.future is not None:
        fix += f", and leave out of `future` what {table.table.name} has"
    return UserError(
        f"{table.table.name}: series '{series}' has {time} more than once ({count} such rows in all): {fix}."
    )
