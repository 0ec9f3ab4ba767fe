"""The second pass over a table, which writes every value to its row of the panel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from armlp.data.covariates import ROLES
from armlp.data.panel import Panel
from armlp.data.storage import Residency, Shapes, Store
from armlp.data.tables.align import Alignment, OffCalendarError, duplicates
from armlp.data.tables.rows import Rows, TableRows
from armlp.data.tables.scan import Groups
from armlp.errors import UserError

# Values of `observed` while the panel is filled; 0 is a row that the table lacks.
_OBSERVED, _MISSING, _CARRIED = 1, 2, 3
# A series is stored less a level where float32 would lose more than this share of its range.
_MAX_LOSS = 1e-4
_BLOCK = 1 << 18


class PanelFiller:
    """Writes the rows of a table to a store of zeros with the `panel_shapes` of the table."""

    def __init__(self, alignment: Alignment, store: Store) -> None:
        self.alignment, self.store = alignment, store
        shape = len(alignment.ids), store["values"].shape[1]
        self._low, self._high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._loss = np.zeros(shape)
        # The last value of each channel before the first row, and its time.
        self._carried = np.zeros(shape)
        self._carried_times = np.full(shape, np.iinfo(np.int64).min)

    def fill(self, table: TableRows) -> np.ndarray | None:
        """Write all rows, fill gaps forward and mark observed values; return the `[S, V]` float64 base values or None.

        Raises:
            OffCalendarError: A row does not lie on the calendar.
            UserError: A series has a time twice, or values that float32 rounds to 0.
        """
        for rows in self._blocks():
            for role in ("known", "past"):
                if role in self.store.arrays:
                    self.store[role][rows] = np.nan
        self._fill(table, None)
        self._check_tiny(table)
        base_values = self._base_values()
        if base_values is not None:
            for rows in self._blocks():
                self.store["observed"][rows] = 0
            self._fill(table, base_values)
        return base_values

    def _fill(self, table: TableRows, base_values: np.ndarray | None) -> None:
        alignment = self.alignment
        repeated: list[int] = []
        for rows in table.with_progress("reading"):
            repeated += self._write(table.ranked(rows), base_values).tolist()
            self.store.pages.release()
        if repeated:
            series = int(np.searchsorted(alignment.offsets, repeated[0], side="right")) - 1
            time = alignment.calendar.shift(alignment.starts[series], repeated[0] - alignment.offsets[series])
            raise duplicates(table, alignment.ids[series], alignment.calendar.spell(time), len(repeated))
        self._fill_forward(base_values)

    def _write(self, rows: Rows, base_values: np.ndarray | None) -> np.ndarray:
        """Write some rows; return the rows of the panel that had been written before."""
        alignment = self.alignment
        series = alignment.series[rows.codes]
        times = alignment.calendar.count(rows.times)
        steps = alignment.calendar.positions(alignment.starts[series], times)
        inside = (steps >= 0) & (series >= 0)
        if not inside.all():
            early = times < alignment.starts[series]
            off = np.flatnonzero((steps < 0) & ~early & (series >= 0))
            if off.size:
                raise OffCalendarError(int(rows.codes[off[0]]), int(rows.times[off[0]].astype(np.int64)))
            self._carry(rows, series, early & (series >= 0))
        row = alignment.offsets[series] + steps
        inside &= row < alignment.offsets[series + 1]
        values = rows.values
        if not inside.all():
            row, series, values = row[inside], series[inside], values[inside]
            rows.covariates = {role: rows.covariates[role][inside] for role in ROLES}
        missing = np.isnan(values)
        if base_values is None:
            self._measure(series, values)
        observed = self.store["observed"]
        repeated = observed[row, 0] != 0
        if (np.diff(row) <= 0).any():
            order = np.argsort(row, kind="stable")
            repeated[order[1:]] |= row[order[1:]] == row[order[:-1]]
        self.store["values"][row] = (values if base_values is None else values - base_values[series]).astype(np.float32)
        observed[row] = np.where(missing, _MISSING, _OBSERVED)
        for role in ("known", "past"):
            if role in self.store.arrays:
                self.store[role][row] = rows.covariates[role]
        return np.asarray(row[repeated])

    def _carry(self, rows: Rows, series: np.ndarray, early: np.ndarray) -> None:
        """Keep the last value of each channel before the first row of vector series."""
        if rows.values.shape[1] == 1 or not early.any():
            return
        order = np.flatnonzero(early)[np.argsort(rows.times[early], kind="stable")]
        for channel in range(rows.values.shape[1]):
            observed = order[~np.isnan(rows.values[order, channel])]
            times = rows.times[observed].astype(np.int64)
            later = times >= self._carried_times[series[observed], channel]
            index = series[observed][later], channel
            self._carried_times[index], self._carried[index] = times[later], rows.values[observed, channel][later]

    def _measure(self, series: np.ndarray, values: np.ndarray) -> None:
        """Update the range of every series, and the largest rounding error of float32."""
        if not len(series):
            return
        groups = Groups(series)
        loss = np.abs(values - values.astype(np.float32))
        for channel in range(values.shape[1]):
            groups.reduce(np.fmin, self._low[:, channel], values[:, channel])
            groups.reduce(np.fmax, self._high[:, channel], values[:, channel])
            groups.reduce(np.fmax, self._loss[:, channel], loss[:, channel])

    def _check_tiny(self, table: TableRows) -> None:
        """Raise a `UserError` about series whose values float32 rounds to 0."""
        size = np.maximum(np.abs(self._low), np.abs(self._high))
        tiny = np.argwhere((size > 0) & (size < np.finfo(np.float32).tiny))
        if len(tiny):
            series, channel = tiny[0]
            raise UserError(
                f"{table.table.name}: no value of series '{self.alignment.ids[series]}' is larger than "
                f"{size[series, channel]:g}, which float32 does not hold ({len(tiny)} such series in all): give values "
                "in a smaller unit."
            )

    def _base_values(self) -> np.ndarray | None:
        """Return the `[S, V]` base values: about the first value where float32 needs it, or 0; None if all are 0."""
        with np.errstate(invalid="ignore"):
            needed = self._loss > _MAX_LOSS * (self._high - self._low)
        if not needed.any():
            return None
        return np.where(needed, self.store["values"][self.alignment.offsets[:-1]].astype(np.float64), 0.0)

    def _blocks(self) -> Iterator[slice]:
        """Yield slices of rows, and drop the pages of each."""
        for begin in range(0, len(self.store["values"]), _BLOCK):
            yield slice(begin, begin + _BLOCK)
            self.store.pages.release()

    def _fill_forward(self, base_values: np.ndarray | None) -> None:
        """Fill missing values with the last one before them, block by block, and mark observed values."""
        values, observed, first = self.store["values"], self.store["observed"], self.alignment.offsets[:-1]
        if values.shape[1] > 1:
            series, channel = np.nonzero(observed[first] != _OBSERVED)
            carried = self._carried[series, channel]
            values[first[series], channel] = carried if base_values is None else carried - base_values[series, channel]
            observed[first[series], channel] = _CARRIED
        for rows in self._blocks():
            # From the row before the block, to fill a gap at its start.
            block = slice(max(rows.start - 1, 0), rows.stop)
            filled = (observed[block] == _OBSERVED) | (observed[block] == _CARRIED)
            if rows.start:
                filled[0] = True
            if not filled.all():
                last = np.maximum.accumulate(np.where(filled, np.arange(len(filled))[:, None], 0), axis=0)
                values[block] = np.take_along_axis(values[block], last, axis=0)
        for rows in self._blocks():
            observed[rows] = observed[rows] == _OBSERVED


def panel_shapes(table: TableRows, alignment: Alignment) -> Shapes:
    """Return the shape and type of each array of a panel that has columns."""
    rows, covariates = int(alignment.offsets[-1]), table.roles.covariates
    arrays: Shapes = {
        "values": ((rows, len(table.channels)), np.float32),
        "observed": ((rows, len(table.channels)), np.uint8),
        "known": ((rows, len(covariates["known"])), np.float32),
        "past": ((rows, len(covariates["past"])), np.float32),
    }
    return {name: (shape, kind) for name, (shape, kind) in arrays.items() if shape[1]}


def make_panel(
    alignment: Alignment,
    store: Store,
    base_values: np.ndarray | None,
    static: np.ndarray,
    fields: Mapping[str, Any],
    residency: Residency | None = None,
) -> Panel:
    """Return the panel of a filled store; `fields` are `TableRows.panel_fields`."""
    covariates: dict[str, Any] = {
        role: torch.from_numpy(store[role]) for role in ("known", "past") if role in store.arrays
    }
    return Panel(
        values=torch.from_numpy(store["values"]),
        observed=torch.from_numpy(store["observed"].view(np.bool_)),
        offsets=torch.from_numpy(alignment.offsets),
        ids=alignment.ids,
        starts=alignment.starts,
        calendar=alignment.calendar,
        future=torch.from_numpy(alignment.future) if fields["covariate_columns"]["known"] else None,
        static=torch.from_numpy(static),
        residency=residency,
        base_values=None if base_values is None else torch.from_numpy(base_values),
        **covariates,
        **fields,
    )
