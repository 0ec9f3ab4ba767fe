"""The panel: every series of a data set, end to end, in one flat store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import ROLES, CovariateColumn

if TYPE_CHECKING:
    from armlp.data.calendar import Calendar
    from armlp.data.covariate_scaling import CovariateScaling


_NO_COLUMNS = torch.empty(0, 0)


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

    Where covariates are known ahead, a series may go on after its history: future rows hold known covariates only.

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
        future: `[S]` int64 number of future rows of each series; None where there are none.
        known: `[N, C]` float32 covariates known ahead, numbers or codes of categories; nan where missing.
        past: `[N, C]` float32 covariates known up to the origin, alike.
        static: `[S, M]` float32 covariates of the series, alike.
        covariate_columns: What the columns of `known`, `past` and `static` are.
        covariate_scaling: How windows tell covariates; None tells them raw.
        calendar_cycles: The cycles of the calendar that windows carry features of.
        symbols: What the values are codes of, place by place, in the type in which it came; None where values are
            numbers.
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

        spelled = np.array([str(name) for name in self.ids], dtype=object)
        return torch.from_numpy(hash_array(spelled).view(np.int64).copy())

    @cached_property
    def fully_observed(self) -> bool:
        """Whether no value of the history is missing."""
        return int(self.observed.sum()) == int(self.lengths.sum()) * self.observed.shape[1]

    @property
    def has_covariates(self) -> bool:
        """Whether windows carry covariates or features of the calendar."""
        return bool(self.calendar_cycles) or any(self.covariate_columns.values())

    def before(self, ends: Tensor) -> Tensor:
        """`[N]` bool, which rows lie before the row `ends [S]` of their series."""
        row = torch.arange(len(self.values)) - self.offsets[:-1].repeat_interleave(self.stored_lengths)
        return row < ends.repeat_interleave(self.stored_lengths)

    def series(self, index: int) -> Tensor:
        """`[n, V]` values of one series' history, data units, a view."""
        first = self.offsets[index]
        return self.values[first : first + self.lengths[index]]
