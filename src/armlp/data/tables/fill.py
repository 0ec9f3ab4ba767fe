"""Laying: rows into their places in the flat arrays of a panel, wherever in the table they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from armlp.data.calendar import spell_time
from armlp.data.covariates import ROLES
from armlp.data.storage import Store
from armlp.data.tables.layout import Layout, OffCalendar, duplicates
from armlp.data.tables.rows import Rows, TableRows
from armlp.data.tables.scan import Groups
from armlp.errors import UserError

# What `observed` holds of a value while rows are laid; a gap of the table is 0.
_SEEN, _MISSING, _CARRIED = 1, 2, 3
# A series keeps a level of its own where float32 would lose more than this share of its range.
_LOSS = 1e-4
_BLOCK = 1 << 18


class PanelFiller:
    """Lays rows into a store.

    Args:
        plan: Where they belong.
        store: `values`, `observed` (bytes), `known` and `past`.
    """

    def __init__(self, plan: Layout, store: Store) -> None:
        self.plan, self.store = plan, store
        shape = len(plan.ids), store["values"].shape[1]
        self._low, self._high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._loss = np.zeros(shape)
        # Values before the first row, in which all channels have been observed: the last one of each channel.
        self._carried = np.zeros(shape)
        self._carried_at = np.full(shape, np.iinfo(np.int64).min)

    def lay(self, table: TableRows, rows: Callable[[], Iterable[Rows]]) -> np.ndarray | None:
        """Lays all rows, fills gaps forward and marks what was observed.

        Args:
            table: That the rows are of.
            rows: Begins to go over them.

        Returns:
            `[S, V]` float64 levels to add to the values for data units; None where there is no need.

        Raises:
            OffCalendar: A row lies beside the calendar.
            UserError: There are rows of the same series and time.
        """
        for role in ("known", "past"):
            if role in self.store.arrays:
                self._fill(role, np.nan)
        self._lay(table, rows(), None)
        if table.symbols is None:
            self._refuse_tiny(table)
        levels = None if table.symbols is not None else self._levels()
        if levels is not None:
            self._fill("observed", 0)
            self._lay(table, rows(), levels)
        return levels

    def _lay(self, table: TableRows, parts: Iterable[Rows], levels: np.ndarray | None) -> None:
        twice: list[int] = []
        for rows in parts:
            twice += self._lay_rows(table.ranked(rows), levels).tolist()
            self.store.release()
        if twice:
            place = int(np.searchsorted(self.plan.offsets, twice[0], side="right")) - 1
            time = self.plan.calendar.shift(self.plan.starts[place], twice[0] - self.plan.offsets[place])
            label = spell_time(self.plan.calendar.wall_times(np.atleast_1d(time))[0])
            raise duplicates(table, self.plan.ids[place], label, len(twice))
        self._fill_forward(levels)

    def _lay_rows(self, rows: Rows, levels: np.ndarray | None) -> np.ndarray:
        """Lays some rows; `[duplicates]` where rows lie already."""
        plan = self.plan
        series = plan.places[rows.codes]
        counted = plan.calendar.count(rows.times)
        steps = plan.calendar.positions(plan.starts[series], counted)
        inside = (steps >= 0) & (series >= 0)
        if not inside.all():
            early = counted < plan.starts[series]
            beside = np.flatnonzero((steps < 0) & ~early & (series >= 0))
            if beside.size:
                raise OffCalendar(int(rows.codes[beside[0]]), int(rows.times[beside[0]].astype(np.int64)))
            self._carry(rows, series, early & (series >= 0))
        at = plan.offsets[series] + steps
        inside &= at < plan.offsets[series + 1]
        values = rows.values
        if not inside.all():
            at, series, values = at[inside], series[inside], values[inside]
            rows.covariates = {role: rows.covariates[role][inside] for role in ROLES}
        missing = np.isnan(values)
        if levels is None:
            self._watch(series, values)
        observed = self.store["observed"]
        taken = observed[at, 0] != 0
        if (np.diff(at) <= 0).any():
            order = np.argsort(at, kind="stable")
            again = np.zeros(len(at), dtype=bool)
            again[order[1:]] = at[order[1:]] == at[order[:-1]]
            taken |= again
        narrow = values if levels is None else values - levels[series]
        self.store["values"][at] = narrow.astype(np.float32)
        observed[at] = np.where(missing, _MISSING, _SEEN)
        for role in ("known", "past"):
            if role in self.store.arrays:
                self.store[role][at] = rows.covariates[role]
        return np.asarray(at[taken])

    def _carry(self, rows: Rows, series: np.ndarray, early: np.ndarray) -> None:
        """Remembers what vector series have shown before their first row."""
        if rows.values.shape[1] == 1 or not early.any():
            return
        order = np.flatnonzero(early)[np.argsort(rows.times[early], kind="stable")]
        for channel in range(rows.values.shape[1]):
            mine = order[~np.isnan(rows.values[order, channel])]
            times = rows.times[mine].astype(np.int64)
            later = times >= self._carried_at[series[mine], channel]
            at = series[mine][later], channel
            self._carried_at[at], self._carried[at] = times[later], rows.values[mine, channel][later]

    def _watch(self, series: np.ndarray, values: np.ndarray) -> None:
        """Takes in the range of every series, and what float32 loses of it."""
        if not len(series):
            return
        groups = Groups(series)
        loss = np.abs(values - values.astype(np.float32))
        for channel in range(values.shape[1]):
            column = values[:, channel]
            groups.reduce(np.fmin, self._low[:, channel], column)
            groups.reduce(np.fmax, self._high[:, channel], column)
            groups.reduce(np.fmax, self._loss[:, channel], loss[:, channel])

    def _refuse_tiny(self, table: TableRows) -> None:
        """Refuses series of values that float32 rounds to nothing."""
        size = np.maximum(np.abs(self._low), np.abs(self._high))
        tiny = np.argwhere((size > 0) & (size < np.finfo(np.float32).tiny))
        if len(tiny):
            series, channel = tiny[0]
            raise UserError(
                f"{table.table.name}: no value of series '{self.plan.ids[series]}' is larger than "
                f"{size[series, channel]:g}, which float32 does not hold ({len(tiny)} such series in all): give values "
                "in a smaller unit."
            )

    def _levels(self) -> np.ndarray | None:
        """`[S, V]` what is to be taken from the values so that float32 holds the rest: about the first one, or 0."""
        with np.errstate(invalid="ignore"):
            lost = self._loss > _LOSS * (self._high - self._low)
        if not lost.any():
            return None
        return np.where(lost, self.store["values"][self.plan.offsets[:-1]].astype(np.float64), 0.0)

    def _fill(self, name: str, value: float) -> None:
        for begin in range(0, len(self.store[name]), _BLOCK):
            self.store[name][begin : begin + _BLOCK] = value
            self.store.release()

    def _fill_forward(self, levels: np.ndarray | None) -> None:
        """Fills what is missing by the last value before it, block by block, and marks what was observed."""
        values, observed, first = self.store["values"], self.store["observed"], self.plan.offsets[:-1]
        if values.shape[1] > 1:
            series, channel = np.nonzero(observed[first] != _SEEN)
            carried = self._carried[series, channel]
            carried = carried if levels is None else carried - levels[series, channel]
            values[first[series], channel] = carried
            observed[first[series], channel] = _CARRIED
        for begin in range(0, len(values), _BLOCK):
            # With the row before the block, from which a gap may reach into it.
            block = slice(max(begin - 1, 0), begin + _BLOCK)
            there = (observed[block] == _SEEN) | (observed[block] == _CARRIED)
            if begin:
                there[0] = True  # it has been filled
            if not there.all():
                last = np.maximum.accumulate(np.where(there, np.arange(len(there))[:, None], 0), axis=0)
                values[block] = np.take_along_axis(values[block], last, axis=0)
            self.store.release()
        for begin in range(0, len(values), _BLOCK):
            block = slice(begin, begin + _BLOCK)
            observed[block] = observed[block] == _SEEN
            self.store.release()
