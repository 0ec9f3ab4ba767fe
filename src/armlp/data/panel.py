"""The panel: all series of a data set, end to end, in one flat store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import ROLES, CovariateColumn, CovariateScaling
from armlp.data.storage import Residency
from armlp.data.time.calendar import Calendar

_NO_COLUMNS = torch.empty(0, 0)
# Ids converted to text at a time: Python strings may take more memory than their series.
_MAX_NAMES = 1 << 16


@dataclass(frozen=True)
class TableStyle:
    """The library and the column types of the source table, in which forecasts are returned."""

    backend: str = "pyarrow"  # `pandas`, `polars`, `polars-lazy` or `pyarrow` (as files are read)
    id_dtype: Any = None  # narwhals dtype; None where ids are column names
    time_dtype: Any = None  # narwhals dtype, or the arrow type of periods


@dataclass(frozen=True, eq=False)
class Panel:
    """All series of a data set, flat: series `s` has the rows `offsets[s] : offsets[s + 1]`.

    A row is one step of the calendar, so that gaps in the table are rows too. A missing value is stored as the last
    observed one before it and marked in `observed`; by the first row of a series, every channel has been observed.
    Future rows after the history of a series hold known covariates only.

    A float32 has 7 digits, too few for a series near 1e9 that varies by 1. Such a series is stored less a level, which
    `in_data_units` adds. Windows and the network take stored values for data units: a shift changes no spread, no
    density and no error.

    Everything is in main memory, except for the rows that `on_device` moves.
    """

    values: Tensor  # `[N, V]` float32, data units less the level
    observed: Tensor  # `[N, V]` bool, False where a value was missing
    offsets: Tensor  # `[S + 1]` int64
    ids: np.ndarray  # `[S]` in the type of the table, ascending
    starts: np.ndarray  # `[S]` int64 time of the first row of each series, as `calendar` counts time
    calendar: Calendar
    channels: tuple[str, ...] = ("y",)  # `V` names of the target columns
    style: TableStyle = field(default_factory=TableStyle)
    name: str = "table"  # of the data set, for messages
    future: Tensor | None = None  # `[S]` int64 number of future rows of each series; None where there are none
    known: Tensor = _NO_COLUMNS  # `[N, C]` float32 covariates, numbers or codes of categories; nan where missing
    past: Tensor = _NO_COLUMNS  # `[N, C]` float32
    static: Tensor = _NO_COLUMNS  # `[S, M]` float32
    covariate_columns: Mapping[str, tuple[CovariateColumn, ...]] = field(
        default_factory=lambda: dict.fromkeys(ROLES, ())
    )
    covariate_scaling: CovariateScaling | None = None  # applied to the covariates of windows; None leaves them raw
    calendar_cycles: tuple[str, ...] = ()  # those that windows have features of
    symbols: tuple[str, ...] | tuple[int, ...] | tuple[bool, ...] | None = None  # by code; None for numbers
    base_values: Tensor | None = None  # `[S, V]` float64, taken off the stored values; None if all are 0
    residency: Residency | None = None  # limits the resident memory of a memory-mapped store

    def __post_init__(self) -> None:
        """Give the roles without a column a width of 0."""
        for name, rows in {"known": len(self.values), "past": len(self.values), "static": len(self)}.items():
            if not getattr(self, name).shape[1]:
                object.__setattr__(self, name, self.values.new_empty(rows, 0))

    def __len__(self) -> int:
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
        """`[S]` int64 hash of each id, the same in every table and process."""
        from pandas.util import hash_array

        keys = np.empty(len(self), dtype=np.uint64)
        for first in range(0, len(self), _MAX_NAMES):
            names = slice(first, first + _MAX_NAMES)
            keys[names] = hash_array(np.array([str(name) for name in self.ids[names]], dtype=object))
        return torch.from_numpy(keys.view(np.int64))

    @cached_property
    def missing(self) -> int:
        """The number of missing values in the history."""
        observed = sum(int(self.observed[rows].count_nonzero()) for rows in self.blocks())
        return int(self.lengths.sum()) * self.observed.shape[1] - observed

    @property
    def fully_observed(self) -> bool:
        """Whether no value of the history is missing."""
        return self.missing == 0

    @cached_property
    def constant(self) -> np.ndarray:
        """`[S, V]` bool, whether all observed values of a channel are equal."""
        offsets = self.offsets.numpy()
        low = np.full((len(self), self.values.shape[1]), np.inf, dtype=np.float32)
        high = -low
        for rows in self.blocks():
            values, observed = self.values[rows].numpy(), self.observed[rows].numpy()
            # The series that have rows in the block, and where each begins in it.
            inside = slice(offsets.searchsorted(rows.start, "right") - 1, offsets.searchsorted(rows.stop))
            begins = (offsets[inside] - rows.start).clip(min=0)
            lowest = np.minimum.reduceat(np.where(observed, values, np.float32(np.inf)), begins)
            highest = np.maximum.reduceat(np.where(observed, values, np.float32(-np.inf)), begins)
            low[inside], high[inside] = np.minimum(low[inside], lowest), np.maximum(high[inside], highest)
        return np.asarray(low >= high)

    @property
    def is_numeric(self) -> bool:
        """Whether values are numbers, not codes without an order."""
        return self.symbols is None

    @property
    def has_covariates(self) -> bool:
        """Whether windows have covariates or calendar features."""
        return bool(self.calendar_cycles) or any(self.covariate_columns.values())

    def blocks(self, max_values: int = 1 << 17) -> Iterator[slice]:
        """Yield slices of rows of at most `max_values` values, so that a pass over the store takes bounded memory.

        Every row is in one slice, in order; a slice may begin and end within a series.
        """
        rows = max(1, max_values // max(1, self.values.shape[1]))
        for first in range(0, len(self.values), rows):
            yield slice(first, min(first + rows, len(self.values)))
            if self.residency is not None:
                self.residency.limit()

    def locate(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the `[n]` series of the rows of a slice, and their `[n]` row within it, both int64."""
        first = int(torch.searchsorted(self.offsets, rows.start, right=True)) - 1
        last = int(torch.searchsorted(self.offsets, rows.stop))
        lengths = self.offsets[first : last + 1].clamp(rows.start, rows.stop).diff()
        series = first + torch.repeat_interleave(lengths)
        return series, torch.arange(rows.start, rows.stop, device=series.device) - self.offsets[series]

    def times(self, series: Tensor, rows: Tensor) -> Tensor:
        """Return the int64 times of rows of series, which are broadcast; rows may lie past the end."""
        return torch.from_numpy(self.calendar.shift(self.starts[series.cpu().numpy()], rows.cpu().numpy()))

    def spell_time(self, series: int, row: int) -> str:
        """Return the time of a row of a series as text for messages."""
        return self.calendar.spell(self.calendar.shift(self.starts[series], int(row)))

    def rows_before(self, ends: Tensor, rows: slice | None = None) -> Tensor:
        """Return `[n]` bool, whether the rows of a slice (None: all) lie before the row `ends [S]` of their series."""
        series, row = self.locate(rows or slice(0, len(self.values)))
        return row < ends[series]

    def gather_rows(self, store: Tensor, row: Tensor) -> Tensor:
        """Return a copy of the rows `row`, `[B]` or `[B, T]` int64, of one of the panel's tensors.

        `store` may also be a view whose rows are rows of the panel. A memory-mapped one stays within its budget.
        """
        if self.residency is not None:
            return torch.cat([store[part] for part in self.residency.parts(row)])
        row = self.to_store_device(row)
        return store.index_select(0, row) if row.dim() == 1 else store[row]  # index_select is several times as fast

    def to_store_device(self, part: Tensor) -> Tensor:
        """Return a tensor on the device of the store, without waiting for the transfer."""
        return part.to(self.values.device, non_blocking=True)

    def on_device(self, device: torch.device) -> Panel:
        """Return the panel with its rows on a device if they take at most a quarter of its free memory."""
        stores = {name: getattr(self, name) for name in ("values", "observed", "known", "past", "static")}
        free = getattr(getattr(torch, device.type, None), "mem_get_info", None)  # a CPU has none
        size = sum(part.nbytes for part in stores.values())
        if free is None or self.residency is not None or 4 * size > free(device)[0]:
            return self
        scaling = None if self.covariate_scaling is None else self.covariate_scaling.on(device)
        return replace(self, **{name: part.to(device) for name, part in stores.items()}, covariate_scaling=scaling)

    def series(self, index: int) -> Tensor:
        """Return the `[n, V]` history of one series, data units; a view where the panel has no base values."""
        first = self.offsets[index]
        values = self.values[first : first + self.lengths[index]]
        return self.in_data_units(torch.tensor([index]), values[None])[0]

    def in_data_units(self, series: Tensor, values: Tensor) -> Tensor:
        """Return stored values `[B, ..., V]` of `series [B]` in data units.

        They are unchanged if the panel has no base values. Otherwise they are float64 in main memory, because not every
        accelerator has float64.
        """
        if self.base_values is None:
            return values
        channels = self.base_values.shape[1]
        return values.cpu().double() + self.base_values[series.cpu()].view(-1, *[1] * (values.dim() - 2), channels)
