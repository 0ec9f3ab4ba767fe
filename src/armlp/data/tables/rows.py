"""Rows: what a table of any layout says, part by part, as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from armlp.data.calendar import spell_time
from armlp.data.covariates import ROLES, CovariateColumn
from armlp.data.panel import TableStyle
from armlp.data.tables.columns import Column, Labels, as_integers, is_text, table_type
from armlp.data.tables.encoders import CovariateCoder, SymbolCoder
from armlp.data.tables.roles import ColumnRoles, first_part, require, resolve_roles
from armlp.data.tables.source import BATCH, Part, Source
from armlp.data.tables.time_text import SpelledTimes
from armlp.errors import UserError

# Tables of so many rows are kept as they were read, instead of being read twice.
_KEPT = 1 << 21


@dataclass
class Rows:
    """Some rows as numpy arrays, one row per series and time, in any order.

    Attributes:
        codes: `[rows]` int64 number of the row's series.
        times: `[rows]` integers or datetime64[ns] of UTC.
        values: `[rows, V]` float64, nan where missing; codes where they are symbols.
        covariates: `[rows, C]` float32 by role: numbers, or codes of categories; nan where missing.
    """

    codes: np.ndarray
    times: np.ndarray
    values: np.ndarray
    covariates: dict[str, np.ndarray]


class TableRows:
    """The rows of a table, as often as they are iterated over, in parts of bounded size.

    The first time they are numbered as they come: series, symbols and categories. What is known only when all have been
    seen (the attributes below, and `ranked`) is to be asked for afterwards.

    Args:
        table: The table.
        wanted: Which columns are what.
        layout: `long`, `wide` or `vector`.
        future: Another table, of ids, times and known covariates after the last value of every series.
    """

    def __init__(self, table: Source, wanted: ColumnRoles, layout: str, future: Source | None = None) -> None:
        self.table, self.layout, self.future = table, layout, future
        self.num_rows = 0
        self.timezone: str | None = None
        self._time_kind: str | None = None
        self._ids = Labels()
        self._symbols = None if wanted.symbols is False else SymbolCoder(
            None if wanted.symbols is True else wanted.symbols
        )  # fmt: skip
        self._kept: list[Rows] | None = []
        self._complete = False
        self._types: dict[str, Any] = {}
        self.wanted = resolve_roles(table, wanted, layout)
        if layout != "long":
            self._ids = Labels(self.wanted.targets if layout == "wide" else ["series"])
        if future is not None:
            require(future, self._columns_of_future(self.wanted), "`future`")
        self._coders = {role: [CovariateCoder(name, role) for name in self.wanted.covariates[role]] for role in ROLES}
        self._spelled = self._spelled_times()

    def __iter__(self) -> Iterator[Rows]:
        """From the first row to the last; from memory, if they were few."""
        if self._complete and self._kept is not None:
            yield from self._kept
            return
        first_time = not self._complete
        for rows in self._read():
            if first_time:
                self.num_rows += len(rows.codes)
                if self._kept is not None:
                    self._kept.append(rows)
                    if self.num_rows > _KEPT:
                        self._kept = None
            yield rows
        self._complete = True

    def ranked(self, rows: Rows) -> Rows:
        """The rows with series, symbols and categories numbered in ascending order."""
        covariates = {
            role: np.stack([coder.codes(values) for coder, values in zip(coders, rows.covariates[role].T, strict=True)],
                           axis=1) if coders else rows.covariates[role]
            for role, coders in self._coders.items()
        }  # fmt: skip
        values = rows.values if self._symbols is None else self._symbols.codes(rows.values)
        return replace(rows, values=values, covariates=covariates)

    @property
    def channels(self) -> tuple[str, ...]:
        """`V` names."""
        return ("y",) if self.layout == "wide" else self.wanted.targets

    @property
    def symbols(self) -> tuple[Any, ...] | None:
        """What the values are codes of, or None."""
        return None if self._symbols is None else self._symbols.alphabet

    @property
    def covariate_columns(self) -> dict[str, tuple[CovariateColumn, ...]]:
        """What the columns of the covariates are, by role."""
        return {role: tuple(coder.column for coder in coders) for role, coders in self._coders.items()}

    @property
    def numbers_as_categories(self) -> list[str]:
        """The covariates whose categories may be meant as numbers."""
        return [coder.name for coders in self._coders.values() for coder in coders if coder.may_be_numbers]

    @property
    def num_series(self) -> int:
        """How many series have come so far."""
        return len(self._ids)

    @property
    def has_dates(self) -> bool:
        """Whether times are datetimes rather than integers."""
        return self._time_kind != "integers"

    @property
    def types(self) -> dict[str, Any]:
        """Arrow types of `id` and `time` in the table; None where it has no column of ids."""
        names = {"id": self.wanted.id_column if self.layout == "long" else None, "time": self.wanted.time_column}
        return {what: None if name is None else self._types.get(name) for what, name in names.items()}

    def ranked_static(self, static: np.ndarray) -> np.ndarray:
        """`[numbers, M]` static covariates with categories numbered in ascending order."""
        coders = self._coders["static"]
        ranked = [coder.codes(values) for coder, values in zip(coders, static.T, strict=True)]
        return np.stack(ranked, axis=1) if ranked else static

    @property
    def style(self) -> TableStyle:
        """How the table spelled ids and times."""
        id_type, time_type = (None if kind is None else table_type(kind) for kind in self.types.values())
        return TableStyle(self.table.backend, id_type, time_type)

    def id_of(self, code: int) -> Any:
        """The id of a series by its number."""
        return self._ids.found[code]

    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """`[S]` ids in the type in which they came, ascending; and `[S]` the place among them of each number."""
        import pyarrow as pa

        if self.layout != "long":
            return np.array(self._ids.found, dtype=object), np.arange(len(self._ids))
        found: list[Any] = self._ids.found
        kind = self._types[self.wanted.id_column]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        integers = as_integers(found) if self.table.is_text and is_text(kind) else None
        labels = self._ids if integers is None else Labels(integers)
        ranks = labels.ranks()
        order = np.empty_like(ranks)
        order[ranks] = np.arange(len(ranks))
        try:
            ids = pa.array(labels.found, kind if integers is None else pa.int64())
        except pa.ArrowInvalid:
            ids = pa.array(labels.found)  # later files may have wider integers than the first one
        return ids.to_numpy(zero_copy_only=False)[order], ranks

    def _columns_of_future(self, wanted: ColumnRoles) -> tuple[str, ...]:
        ids = (wanted.id_column,) if self.layout == "long" else ()
        return (*ids, wanted.time_column, *wanted.covariates["known"])

    def _spelled_times(self) -> SpelledTimes | None:
        """What the text in the column of times means, if it is text: told by all of it, so that all is read alike."""
        name, option = self.wanted.time_column, "`time_column`"
        sources = [source for source in (self.table, self.future) if source is not None]
        if not any(Column(first_part(source, {name: option}), name, option).is_text for source in sources):
            return None
        spelled: dict[str, None] = {}
        for source in sources:
            for part in source.read({name: option}, BATCH):
                column = Column(part, name, option)
                if column.is_text:
                    spelled |= dict.fromkeys(text for text in column.arrow.unique().to_pylist() if text)
        return SpelledTimes(list(spelled))

    def _read(self) -> Iterator[Rows]:
        wanted = self.wanted
        columns = {wanted.id_column: "`id_column`"} if self.layout == "long" else {}
        columns |= {wanted.time_column: "`time_column`"}
        columns |= dict.fromkeys(wanted.targets, "`target_columns`")
        for role, names in wanted.covariates.items():
            columns |= dict.fromkeys(names, f"`{role}_covariates`")
        most = BATCH if self.layout != "wide" else max(1, BATCH // len(wanted.targets))
        for part in self.table.read(columns, most):
            if len(part.table):
                yield self._rows(part, columns)
        if self.future is not None:
            for part in self.future.read({name: columns[name] for name in self._columns_of_future(wanted)}, most):
                if len(part.table):
                    yield self._rows(part, columns, of_future=True)

    def _rows(self, part: Part, options: Mapping[str, str], of_future: bool = False) -> Rows:
        """One part as numpy arrays; what the table of the future lacks is missing."""
        wanted, count = self.wanted, len(part.table)
        codes: np.ndarray | None = None
        name_row: Callable[[int], str] | None = None
        if self.layout == "long":
            codes = self._codes(part, options, of_future)
            name_row = partial(self._name_row, part, codes)
        times, timezone = self._column(part, wanted.time_column, options, name_row).times(self._spelled)
        self._refuse_other_times(part.name, times, timezone)

        def row_at_time(row: int) -> str:
            at = f"at {spell_time(times[row])}"
            return at if codes is None else f"series '{self.id_of(codes[row])}' {at}"

        def read(name: str) -> np.ndarray:
            if name not in part.table.column_names:
                return np.full(count, np.nan)
            column = self._column(part, name, options, row_at_time)
            return column.values() if self._symbols is None else self._symbols.read(column)

        targets = [read(name) for name in wanted.targets]
        covariates = {}
        for role, coders in self._coders.items():
            covariates[role] = np.full((count, len(coders)), np.nan, dtype=np.float32)
            for place, coder in enumerate(coders):
                if coder.name in part.table.column_names:
                    covariates[role][:, place] = coder.read(self._column(part, coder.name, options, row_at_time))
        if self.layout == "wide":
            series = len(targets)
            return Rows(
                np.repeat(np.arange(series), count),
                np.tile(times, series),
                np.concatenate(targets)[:, None],
                {role: np.tile(values, (series, 1)) for role, values in covariates.items()},
            )
        codes = np.zeros(count, dtype=np.int64) if codes is None else codes
        return Rows(codes, times, np.stack(targets, axis=1), covariates)

    def _column(
        self, part: Part, name: str, options: Mapping[str, str], row: Callable[[int], str] | None = None
    ) -> Column:
        column = Column(part, name, options[name], row)
        self._types.setdefault(name, column.type)
        return column

    def _codes(self, part: Part, options: Mapping[str, str], of_future: bool) -> np.ndarray:
        """The numbers of the series of rows."""
        import pyarrow as pa

        column = self._column(part, self.wanted.id_column, options)
        labels = column.ids()
        known = self._types[self.wanted.id_column]
        known = known.value_type if pa.types.is_dictionary(known) else known
        if is_text(known) != column.is_text:
            # Of the table and that of the future one may be a file in which nobody knows.
            try:
                if not of_future:
                    raise pa.ArrowInvalid
                labels = labels.cast(known)
            except pa.ArrowInvalid as error:
                raise column.error(
                    f"holds {table_type(column.type)} after {table_type(known)}", "ids of one type"
                ) from error
        return self._ids.number(labels)

    def _name_row(self, part: Part, codes: np.ndarray, row: int) -> str:
        return f"row {part.first + row + 1}, series '{self.id_of(codes[row])}'"

    def _refuse_other_times(self, name: str, times: np.ndarray, timezone: str | None) -> None:
        """Refuses times of another kind or zone than those before."""
        kind = "integers" if times.dtype.kind != "M" else f"times in {timezone}" if timezone else "times without a zone"
        if self._time_kind is None:
            self._time_kind, self.timezone = kind, timezone
        elif kind != self._time_kind:
            raise UserError(
                f"{name}: column '{self.wanted.time_column}' holds {kind}, but before it came {self._time_kind}: "
                "convert them to one kind and one time zone."
            )
