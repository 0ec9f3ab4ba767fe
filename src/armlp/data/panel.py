"""The panel: every series of a data set, end to end, in one flat store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import ROLES, CovariateColumn

if TYPE_CHECKING:
    from armlp.data.calendar import Calendar
    from armlp.data.covariate_scaling import CovariateScaling
    from armlp.data.storage import Residency


_NO_COLUMNS = torch.empty(0, 0)
# So many ids are spelled at a time: as Python's strings they take more memory than their series may.
_MAX_NAMES = 1 << 16


@dataclass(frozen=True)
class TableStyle:
    """How the table that a panel came from spelled its ids and times, so that answers are spelled alike.

    Attributes:
        backend: Library of the table: `pandas`, `polars`, `polars-lazy` or `pyarrow` (as files are read).
        id_dtype: The narwhals dtype of the id column, or None where ids are column names.
        time_dtype: The narwhals dtype of the time column, or None where there was none.
    """

    backend: str = "pyarrow"
    id_dtype: Any = None
    time_dtype: Any = None


@dataclass(frozen=True, eq=False)
class Panel:
    """All series of a data set, flat: series `s` owns the rows `offsets[s] : offsets[s + 1]`.

    A row is one step of the calendar, so gaps in the table are rows too. A value that is missing is
    stored as the last observed one before it and marked in `observed`; every series starts with a row in
    which every channel has been observed at least once, so there is always one.

    Where covariates are known ahead, a series may go on after its history: future rows hold known covariates only.

    A float32 has 7 digits, too few for a series near 1e9 that varies by 1. Such a series is stored less a level of its
    own, which `in_data_units` adds again. Windows, the network and its likelihood take what is stored for data units:
    they would lose the variation otherwise, and a shift changes neither a spread nor a density nor an error.

    Everything is on the processor, but for what windows are gathered from: `near` takes that to a device.

    Attributes:
        values: `[N, V]` float32, data units; of a series with a level, less the level.
        observed: `[N, V]` bool, False where a value was missing.
        offsets: `[S + 1]` int64.
        ids: `[S]` ids in the type in which they came, ascending.
        starts: `[S]` int64 time of each series' first row, as `calendar` counts time.
        calendar: The step of time.
        channels: `V` names of the target columns.
        style: How the source table spelled ids and times.
        name: What to call the data set in messages.
        future: `[S]` int64 number of future rows of each series; None where there are none.
        known: `[N, C]` float32 covariates known ahead, numbers or codes of categories; nan where missing.
        past: `[N, C]` float32 covariates known up to the origin, alike.
        static: `[S, M]` float32 covariates of the series, alike.
        covariate_columns: What the columns of `known`, `past` and `static` are.
        covariate_scaling: How windows tell covariates; None tells them raw.
        calendar_cycles: The cycles of the calendar that windows carry features of.
        symbols: What the values are codes of, place by place, in the type in which it came; None where values are
            numbers.
        levels: `[S, V]` float64, what `values` lack of data units, 0 for most series; None where no series needs one.
        residency: Of a store that is memory-mapped, how much of it may lie in memory; None where it is all in memory.
    """

    values: Tensor
    observed: Tensor
    offsets: Tensor
    ids: np.ndarray
    starts: np.ndarray
    calendar: Calendar
    channels: tuple[str, ...] = ("y",)
    style: TableStyle = field(default_factory=TableStyle)
    name: str = "table"
    future: Tensor | None = None
    known: Tensor = _NO_COLUMNS
    past: Tensor = _NO_COLUMNS
    static: Tensor = _NO_COLUMNS
    covariate_columns: Mapping[str, tuple[CovariateColumn, ...]] = field(
        default_factory=lambda: dict.fromkeys(ROLES, ())
    )
    covariate_scaling: CovariateScaling | None = None
    calendar_cycles: tuple[str, ...] = ()
    symbols: tuple[str, ...] | tuple[int, ...] | tuple[bool, ...] | None = None
    levels: Tensor | None = None
    residency: Residency | None = None

    def __post_init__(self) -> None:
        """Give the roles without a column their width of 0."""
        for name, rows in {"known": len(self.values), "past": len(self.values), "static": len(self)}.items():
            if not getattr(self, name).shape[1]:
                object.__setattr__(self, name, self.values.new_empty(rows, 0))

    def __len__(self) -> int:
        """The number of series, `S`."""
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """`[S]` int64 number of rows of each series' history."""
        return self.stored_lengths if self.future is None else self.stored_lengths - self.future

    @cached_property
    def stored_lengths(self) -> Tensor:
        """`[S]` int64 number of rows of each series, future ones included."""
        return self.offsets.diff()

    @cached_property
    def keys(self) -> Tensor:
        """`[S]` int64 hash of each id, the same in every table, process and version of Python."""
        from pandas.util import hash_array

        keys = np.empty(len(self), dtype=np.uint64)
        for first in range(0, len(self), _MAX_NAMES):
            names = slice(first, first + _MAX_NAMES)
            keys[names] = hash_array(np.array([str(name) for name in self.ids[names]], dtype=object))
        return torch.from_numpy(keys.view(np.int64))

    @cached_property
    def missing(self) -> int:
        """How many values of the history are missing."""
        seen = sum(int(self.observed[rows].count_nonzero()) for rows in self.blocks())
        return int(self.lengths.sum()) * self.observed.shape[1] - seen

    @property
    def fully_observed(self) -> bool:
        """Whether no value of the history is missing."""
        return self.missing == 0

    @cached_property
    def constant(self) -> np.ndarray:
        """`[S, V]` bool, which channels of a series have the same value wherever they were observed."""
        offsets = self.offsets.numpy()
        low = np.full((len(self), self.values.shape[1]), np.inf, dtype=np.float32)
        high = -low
        for rows in self.blocks():
            values, observed = self.values[rows].numpy(), self.observed[rows].numpy()
            # The series that have rows in the block, and where in it each begins.
            inside = slice(offsets.searchsorted(rows.start, "right") - 1, offsets.searchsorted(rows.stop))
            begins = (offsets[inside] - rows.start).clip(min=0)
            lowest = np.minimum.reduceat(np.where(observed, values, np.float32(np.inf)), begins)
            highest = np.maximum.reduceat(np.where(observed, values, np.float32(-np.inf)), begins)
            low[inside], high[inside] = np.minimum(low[inside], lowest), np.maximum(high[inside], highest)
        return np.asarray(low >= high)

    @property
    def has_covariates(self) -> bool:
        """Whether windows carry covariates or features of the calendar."""
        return bool(self.calendar_cycles) or any(self.covariate_columns.values())

    def blocks(self, most: int = 1 << 17) -> Iterator[slice]:
        """Cuts the store into slices of rows, so that a pass over it takes bounded memory.

        Every row is in one slice, in order; a slice may begin and end in the midst of a series. Of a memory-mapped
        store no more than its budget stays resident.

        Args:
            most: Values in a slice, at most; a slice has one row at least.
        """
        rows = max(1, most // max(1, self.values.shape[1]))
        for first in range(0, len(self.values), rows):
            yield slice(first, min(first + rows, len(self.values)))
            if self.residency is not None:
                self.residency.settle()

    def locate(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Where the rows of a slice are.

        Args:
            rows: Slice of the store, such as one of `blocks`.

        Returns:
            `[n]` index of the series of each row, and `[n]` its place from the start of that series, both int64.
        """
        first = int(torch.searchsorted(self.offsets, rows.start, right=True)) - 1
        last = int(torch.searchsorted(self.offsets, rows.stop))
        lengths = self.offsets[first : last + 1].clamp(rows.start, rows.stop).diff()
        series = first + torch.repeat_interleave(lengths)
        return series, torch.arange(rows.start, rows.stop, device=series.device) - self.offsets[series]

    def times(self, series: Tensor, rows: Tensor) -> Tensor:
        """The int64 times of rows, which may lie past the end, of series that they are broadcast against."""
        return torch.from_numpy(self.calendar.shift(self.starts[series.cpu().numpy()], rows.cpu().numpy()))

    def rows_before(self, ends: Tensor, rows: slice | None = None) -> Tensor:
        """Which rows lie before the row `ends [S]` of their series.

        Args:
            ends: `[S]` int64 rows, counted from the start of each series.
            rows: Slice of the rows to tell of, such as one of `blocks`; all of them where left out.

        Returns:
            `[n]` bool, one for each of the rows.
        """
        series, place = self.locate(rows or slice(0, len(self.values)))
        return place < ends[series]

    def gather_rows(self, store: Tensor, row: Tensor) -> Tensor:
        """Rows of one of the panel's tensors, a copy; of a memory-mapped one within the budget of its residency.

        Args:
            store: `[N, ...]`, such as `values`, or a view of it whose rows are rows of the panel.
            row: `[B]` or `[B, T]` int64.

        Returns:
            `[B, ...]` or `[B, T, ...]`.
        """
        if self.residency is not None:
            return torch.cat([store[part] for part in self.residency.parts(row)])
        row = self.to_store_device(row)
        return store.index_select(0, row) if row.dim() == 1 else store[row]  # the same, and several times as fast

    def to_store_device(self, part: Tensor) -> Tensor:
        """A tensor on the device of the store; if it is not there yet, nobody waits until it is."""
        return part.to(self.values.device, non_blocking=True)

    def on_device(self, device: torch.device) -> Panel:
        """The same panel, its rows on a device if they take a quarter at most of the memory that is free there."""
        stores = {name: getattr(self, name) for name in ("values", "observed", "known", "past", "static")}
        free = getattr(getattr(torch, device.type, None), "mem_get_info", None)  # the processor has none
        size = sum(part.nbytes for part in stores.values())
        if free is None or self.residency is not None or 4 * size > free(device)[0]:
            return self
        scaling = None if self.covariate_scaling is None else self.covariate_scaling.on(device)
        return replace(self, **{name: part.to(device) for name, part in stores.items()}, covariate_scaling=scaling)

    def release(self) -> None:
        """Lets go of the resident pages of a memory-mapped store; their values are read again when they are needed."""
        if self.residency is not None:
            self.residency.release()

    def series(self, index: int) -> Tensor:
        """`[n, V]` values of one series' history, data units; a view where the series are stored without levels."""
        first = self.offsets[index]
        values = self.values[first : first + self.lengths[index]]
        return self.in_data_units(torch.tensor([index]), values[None])[0]

    def observed_of(self, index: int) -> Tensor:
        """Return which values of one series' history were observed, `[n, V]` bool."""
        first = self.offsets[index]
        return self.observed[first : first + self.lengths[index]]

    def in_data_units(self, series: Tensor, values: Tensor) -> Tensor:
        """Adds the levels to values on the scale of the store.

        Args:
            series: `[B]` int64.
            values: `[B, ..., V]`.

        Returns:
            `[B, ..., V]` data units: the same values where no series has a level, otherwise float64, which not every
            accelerator has, on the processor.
        """
        if self.levels is None:
            return values
        channels = self.levels.shape[1]
        return values.cpu().double() + self.levels[series.cpu()].view(-1, *[1] * (values.dim() - 2), channels)
