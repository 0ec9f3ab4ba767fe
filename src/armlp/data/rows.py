"""Rows: what a table of any layout says, as numpy arrays."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from armlp.data.calendar import spell_time
from armlp.data.columns import Column
from armlp.data.files import Source
from armlp.data.panel import TableStyle
from armlp.errors import UserError

if TYPE_CHECKING:
    import narwhals as nw


@dataclass
class Rows:
    """The rows of a table as numpy arrays, one row per series and time, in any order.

    Attributes:
        codes: `[rows]` int64 place of the row's series in `ids`.
        ids: `[S]` ids, ascending.
        times: `[rows]` integers or datetime64[ns] of UTC.
        timezone: Name of the time zone, or None.
        values: `[rows, V]` float32, NaN where missing.
        channels: `V` names.
        style: How the table spelled ids and times.
    """

    codes: np.ndarray
    ids: np.ndarray
    times: np.ndarray
    timezone: str | None
    values: np.ndarray
    channels: tuple[str, ...]
    style: TableStyle


def long_rows(table: Source, id_column: str, time_column: str, targets: tuple[str, ...]) -> Rows:
    """Read the long layout: a row per series and time."""
    _require(table, (id_column,), "--data.id_column")
    _require_times(table, time_column)
    _require(table, targets, "--data.target_columns")
    frame = _read(table, tuple(dict.fromkeys((id_column, time_column, *targets))))
    id_values = Column(frame, id_column, table.name, "--data.id_column")
    codes, ids = id_values.ids()

    def row_of_series(row: int) -> str:
        return f"row {row + 1}, series '{ids[codes[row]]}'"

    time_values = Column(frame, time_column, table.name, "--data.time_column", row_of_series)
    times, timezone = time_values.times()

    def row_at_time(row: int) -> str:
        return f"series '{ids[codes[row]]}' at {spell_time(times[row])}"

    columns = (Column(frame, target, table.name, "--data.target_columns", row_at_time) for target in targets)
    values = np.stack([column.values() for column in columns], axis=1)
    style = TableStyle(table.backend, id_values.dtype, time_values.dtype)
    return Rows(codes, ids, times, timezone, values, targets, style)


def column_rows(table: Source, id_column: str, time_column: str, targets: tuple[str, ...], layout: str) -> Rows:
    """Read the layouts `wide`, a column per series, and `vector`, all columns one vector series."""
    _require_times(table, time_column)
    _require(table, targets, "--data.target_columns")
    names = targets or tuple(name for name in table.columns if name not in (time_column, id_column))
    frame = _read(table, (time_column, *names))
    time_values = Column(frame, time_column, table.name, "--data.time_column")
    times, timezone = time_values.times()

    def row_at_time(row: int) -> str:
        return f"at {spell_time(times[row])}"

    columns = [Column(frame, name, table.name, "--data.target_columns", row_at_time) for name in names]
    if not targets:
        columns = _numeric_columns(columns, table.name)
    style = TableStyle(table.backend, None, time_values.dtype)
    if layout == "vector":
        values = np.stack([column.values() for column in columns], axis=1)
        codes, ids = np.zeros(len(times), dtype=np.int64), np.array(["series"], dtype=object)
        return Rows(codes, ids, times, timezone, values, tuple(column.name for column in columns), style)
    columns.sort(key=lambda column: column.name)
    ids = np.array([column.name for column in columns], dtype=object)
    codes = np.repeat(np.arange(len(ids)), len(times))
    values = np.concatenate([column.values() for column in columns])[:, None]
    return Rows(codes, ids, np.tile(times, len(ids)), timezone, values, ("y",), style)


def _numeric_columns(columns: list[Column], name: str) -> list[Column]:
    """The columns that can be series; says so if others are left out."""
    numeric = [column for column in columns if column.is_numeric]
    other = [column.name for column in columns if not column.is_numeric]
    if not numeric:
        for column in columns:
            column.values()  # Says what the first one holds instead.
        raise UserError(f"{name} has no column of numbers beside its times: give a table with at least one target.")
    if other:
        warnings.warn(f"{name}: columns that hold no numbers are left out: {few(other)}.", UserWarning, stacklevel=5)
    return numeric


def _read(table: Source, columns: Sequence[str]) -> nw.DataFrame[Any]:
    frame = table.read(columns)
    if not len(frame):
        raise UserError(f"{table.name} has columns but no rows: give a table with at least one row.")
    return frame


def _require(table: Source, columns: Sequence[str], option: str) -> None:
    """Refuse a table that lacks a column, with the likeliest other spelling."""
    if len(set(columns)) < len(columns):
        raise UserError(f"{option} names a column twice ({', '.join(columns)}): name each once.")
    for column in columns:
        if column not in table.columns:
            near = get_close_matches(column, table.columns, n=1, cutoff=0.5)
            fix = f"pass {option} {near[0]}" if near else f"name one of them with {option}"
            raise UserError(f"{table.name} has no column '{column}': its columns are {few(table.columns, 10)}; {fix}.")


def _require_times(table: Source, column: str) -> None:
    """Refuse a table that lacks its column of times, with the one that looks like them."""
    if column in table.columns:
        return
    frame = table.read(table.columns)
    option = "--data.time_column"
    candidates = [
        name for name in table.columns if Column(frame, name, table.name, option).looks_like_times
    ]  # fmt: skip
    if len(candidates) != 1:
        _require(table, (column,), option)
    raise UserError(
        f"{table.name} has no column '{column}': column '{candidates[0]}' looks like times; "
        f"pass {option} {candidates[0]}."
    )


def few(names: Sequence[Any] | np.ndarray, most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
