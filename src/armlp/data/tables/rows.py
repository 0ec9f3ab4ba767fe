"""The rows of a table of any layout, in parts, as numpy arrays."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from armlp.data.covariates import ROLES, CovariateColumn
from armlp.data.panel import TableStyle
from armlp.data.sources.source import Limits, Part, Source, as_integers
from armlp.data.tables.columns import Column, Labels, table_type
from armlp.data.tables.encoders import CovariateEncoder, NumberEncoder
from armlp.data.tables.roles import ColumnRoles, require_columns
from armlp.data.time.arrays import is_text
from armlp.data.time.calendar import spell_time
from armlp.data.time.text import SpelledTimes
from armlp.errors import UserError


@dataclass
class Rows:
    """Rows as numpy arrays, one per series and time, in any order."""

    codes: np.ndarray  # `[rows]` int64 code of the series
    times: np.ndarray  # `[rows]` integers or datetime64[ns] in UTC
    values: np.ndarray  # `[rows, V]` float64, nan where missing
    covariates: dict[str, np.ndarray]  # by role, `[rows, C]` float32 numbers or codes, nan where missing


class TableRows:
    """The rows of a table in parts of bounded size, for several passes.

    The first pass numbers series and categories by first occurrence. What is a property or has `ranked` in its name
    is complete only after it.
    """

    def __init__(
        self,
        table: Source,
        roles: ColumnRoles,
        layout: str,
        encoder: NumberEncoder,
        future: Source | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.table, self.roles, self.layout, self.future = table, roles, layout, future
        self.limits = limits or Limits()
        self.num_rows = 0
        self.series = Labels({"long": (), "wide": roles.targets}.get(layout, ["series"]))
        self.timezone: str | None = None
        self._time_kind: str | None = None
        self._types: dict[str, Any] = {}
        self._kept: list[Rows] | None = []
        self._complete = False
        self._targets = encoder
        self._encoders = {role: [CovariateEncoder(name, role) for name in roles.covariates[role]] for role in ROLES}
        self._options = {name: option for option, names in roles.by_option(layout).items() for name in names}
        # The table of the future has ids, times and known covariates.
        self._future_options = {
            name: option
            for name, option in self._options.items()
            if option in ("id_column", "time_column", "known_covariates")
        }
        if future is not None:
            require_columns(future, tuple(self._future_options), "future")
        self._spelled = self._spelled_times()

    def __iter__(self) -> Iterator[Rows]:
        """Yield all rows, in later passes from memory if they are few."""
        if self._complete and self._kept is not None:
            yield from self._kept
            return
        first_pass = not self._complete
        for rows in self._read():
            if first_pass:
                self.num_rows += len(rows.codes)
                if self._kept is not None:
                    self._kept.append(rows)
                    if self.num_rows > self.limits.kept:
                        self._kept = None
            yield rows
        self._complete = True

    def with_progress(self, what: str) -> Iterator[Rows]:
        """Yield all rows under a progress bar, which appears if they take long."""
        bar = tqdm(
            desc=f"{what} {self.table.name}",
            total=self.table.num_rows,
            unit=" rows",
            unit_scale=True,
            delay=2,
            mininterval=0.5 if sys.stderr.isatty() else 10,  # a log file gets a line every ten seconds
            disable=os.environ.get("LOCAL_RANK", "0") != "0",  # only the first of several processes shows it
            dynamic_ncols=True,
            leave=False,
        )
        with bar:
            for rows in self:
                yield rows
                bar.update(len(rows.codes))

    def ranked(self, rows: Rows) -> Rows:
        """Return rows with final values, and with codes of sorted categories."""
        covariates = {role: self.ranked_covariates(role, values) for role, values in rows.covariates.items()}
        return replace(rows, values=self._targets.rank(rows.values), covariates=covariates)

    def ranked_covariates(self, role: str, values: np.ndarray) -> np.ndarray:
        """Return `[n, C]` covariates of a role with codes of sorted categories."""
        encoders = self._encoders[role]
        ranked = [encoder.rank(column) for encoder, column in zip(encoders, values.T, strict=True)]
        return np.stack(ranked, axis=1) if ranked else values

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the `V` channels."""
        return ("y",) if self.layout == "wide" else self.roles.targets

    @property
    def panel_fields(self) -> dict[str, Any]:
        """The fields of the panel that come from its table."""
        types = (None if kind is None else table_type(kind) for kind in self.types.values())
        return {
            "name": self.table.name,
            "channels": self.channels,
            "style": TableStyle(self.table.backend, *types),
            "covariate_columns": self.covariate_columns,
            **self._targets.panel_fields,
        }

    @property
    def covariate_columns(self) -> dict[str, tuple[CovariateColumn, ...]]:
        """The covariates by role."""
        return {role: tuple(encoder.column for encoder in encoders) for role, encoders in self._encoders.items()}

    @property
    def numbers_as_categories(self) -> list[str]:
        """The names of categories that may be meant as numbers."""
        return [encoder.name for encoders in self._encoders.values() for encoder in encoders if encoder.may_be_numbers]

    @property
    def has_dates(self) -> bool:
        """Whether times are dates, not integers."""
        return self._time_kind != "integers"

    @property
    def types(self) -> dict[str, Any]:
        """The arrow types of `id` and `time`; None where there is no such column."""
        ids = self._types.get(self.roles.id_column) if self.layout == "long" else None
        return {"id": ids, "time": self._types.get(self.roles.time_column)}

    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the `[S]` ids, ascending, in the type of the table, and the `[S]` rank of each code among them."""
        found = self.series.found
        if self.layout != "long":
            return np.array(found, dtype=object), np.arange(len(found))
        kind = _value_type(self._types[self.roles.id_column])
        integers = as_integers(found) if self.table.is_text and is_text(kind) else None
        labels = self.series if integers is None else Labels(integers)
        ranks = labels.ranks()
        try:
            ids = pa.array(labels.found, kind if integers is None else pa.int64())
        except pa.ArrowInvalid:
            ids = pa.array(labels.found)  # later files may have wider integers than the first one
        return ids.to_numpy(zero_copy_only=False)[np.argsort(ranks)], ranks

    def _spelled_times(self) -> SpelledTimes | None:
        """Return the reader of times that are text; the format follows from all texts of the column."""
        name = self.roles.time_column
        sources = [source for source in (self.table, self.future) if source is not None]
        if not any(Column(source.head({name: "time_column"}), name, "time_column").is_text for source in sources):
            return None
        spelled: dict[str, None] = {}
        for source in sources:
            for part in source.read({name: "time_column"}, self.limits.batch):
                times = Column(part, name, "time_column")
                if times.is_text:
                    spelled |= dict.fromkeys(text for text in times.arrow.unique().to_pylist() if text)
        return SpelledTimes(list(spelled))

    def _read(self) -> Iterator[Rows]:
        max_rows = self.limits.batch
        if self.layout == "wide":
            max_rows = max(1, max_rows // len(self.roles.targets))
        for source, options in ((self.table, self._options), (self.future, self._future_options)):
            for part in () if source is None else source.read(options, max_rows):
                if len(part.table):
                    yield self._rows(part, source is not self.table)

    def _rows(self, part: Part, of_future: bool) -> Rows:
        """Return one part as numpy arrays, with missing values for columns that the table of the future lacks."""
        count, found = len(part.table), set(part.table.column_names)
        codes = self._codes(part, of_future) if self.layout == "long" else None

        def describe_row(row: int) -> str:
            series = "" if codes is None else f", series '{self.series.found[codes[row]]}'"
            return f"row {part.first + row + 1}{series}"

        def describe_time(row: int) -> str:
            series = "" if codes is None else f"series '{self.series.found[codes[row]]}' "
            return f"{series}at {spell_time(times[row])}"

        def read(name: str, encoder: NumberEncoder | CovariateEncoder) -> np.ndarray:
            if name not in found:
                return np.full(count, np.nan)
            return encoder.read(self._column(part, name, describe_time))

        times, timezone = self._column(part, self.roles.time_column, describe_row).times(self._spelled)
        self._check_kind_of_times(part.name, times, timezone)
        targets = [read(name, self._targets) for name in self.roles.targets]
        covariates = {role: np.empty((count, len(encoders)), np.float32) for role, encoders in self._encoders.items()}
        for role, encoders in self._encoders.items():
            for index, encoder in enumerate(encoders):
                covariates[role][:, index] = read(encoder.name, encoder)
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

    def _column(self, part: Part, name: str, row: Callable[[int], str] | None = None) -> Column:
        column = Column(part, name, self._options[name], row)
        self._types.setdefault(name, column.type)
        return column

    def _codes(self, part: Part, of_future: bool) -> np.ndarray:
        """Return the codes of the series of rows."""
        column = self._column(part, self.roles.id_column)
        labels = column.ids()
        known = _value_type(self._types[self.roles.id_column])
        if is_text(known) != column.is_text:
            # Either the table or that of the future may be CSV, where an integer may be text.
            try:
                if not of_future:
                    raise pa.ArrowInvalid
                labels = labels.cast(known)
            except pa.ArrowInvalid as error:
                raise column.error(
                    f"holds {table_type(column.type)} after {table_type(known)}", "ids of one type"
                ) from error
        return self.series.encode(labels)

    def _check_kind_of_times(self, name: str, times: np.ndarray, timezone: str | None) -> None:
        """Raise a `UserError` about times of another kind or zone than those before."""
        kind = describe_times(times.dtype.kind == "M", timezone)
        if self._time_kind is None:
            self._time_kind, self.timezone = kind, timezone
        elif kind != self._time_kind:
            raise UserError(
                f"{name}: column '{self.roles.time_column}' holds {kind}, but before it came {self._time_kind}: "
                "convert them to one kind and one time zone."
            )


def describe_times(are_dates: bool, timezone: str | None) -> str:
    """Return the kind of times as text for messages."""
    return "integers" if not are_dates else f"times in {timezone}" if timezone else "times without a zone"


def _value_type(kind: Any) -> Any:
    """Return an arrow type, or the value type of a dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind
