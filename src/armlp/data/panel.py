"""The panel: every series of a data set, end to end, in one flat store."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from armlp.data.calendar import Calendar


@dataclass(frozen=True)
class TableStyle:
    """How the table that a panel came from spelled its ids and times, so that answers are spelled alike.

    Attributes:
        backend: Library of the table: `pandas`, `polars` or `pyarrow` (files are read as `pyarrow`).
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

    Attributes:
        values: `[N, V]` float32, data units.
        observed: `[N, V]` bool, False where a value was missing.
        offsets: `[S + 1]` int64.
        ids: `[S]` ids in the type in which they came, ascending.
        starts: `[S]` int64 time of each series' first row, as `calendar` counts time.
        calendar: The step of time.
        channels: `V` names of the target columns.
        style: How the source table spelled ids and times.
        name: What to call the data set in messages.
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

    def __len__(self) -> int:
        """The number of series, `S`."""
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """`[S]` int64 number of rows of each series."""
        return self.offsets.diff()

    @cached_property
    def keys(self) -> Tensor:
        """`[S]` int64 hash of each id, the same in every table, process and version of Python."""
        from pandas.util import hash_array

        spelled = np.array([str(name) for name in self.ids], dtype=object)
        return torch.from_numpy(hash_array(spelled).view(np.int64).copy())

    @cached_property
    def fully_observed(self) -> bool:
        """Whether no value is missing."""
        return bool(self.observed.all())

    def series(self, index: int) -> Tensor:
        """`[n, V]` values of one series, data units, a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]
