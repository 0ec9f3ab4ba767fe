"""Rows: what a table of any layout says, as numpy arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from armlp.data.calendar import spell_time
from armlp.data.columns import Column
from armlp.data.covariates import ROLES, CovariateColumn
from armlp.data.files import Source
from armlp.data.panel import TableStyle
from armlp.data.symbols import code_symbols
from armlp.errors import UserError

if TYPE_CHECKING:
    import narwhals as nw


@dataclass(frozen=True)
class Wanted:
    """Which columns of a table are what.

    Attributes:
        id_column: Names the series of a row.
        time_column: Of times.
        targets: Columns to forecast; none where that is left to the layout.
        covariates: Columns by their role: `known`, `past` or `static`.
        symbols: Whether targets hold symbols instead of numbers, or which symbols there are.
    """

    id_column: str
    time_column: str
    targets: tuple[str, ...]
    covariates: Mapping[str, tuple[str, ...]]
    symbols: bool | Sequence[Any] = False

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """The covariates of every role."""
        return tuple(name for names in self.covariates.values() for name in names)


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
        covariates: `[rows, C]` float32 by role: numbers, or codes of categories; nan where missing.
        covariate_columns: What the columns of the covariates are, by role.
        symbols: What the values are codes of, or None.
    """

    codes: np.ndarray
    ids: np.ndarray
    times: np.ndarray
    timezone: str | None
    values: np.ndarray
    channels: tuple[str, ...]
    style: TableStyle
    covariates: dict[str, np.ndarray]
    covariate_columns: dict[str, tuple[CovariateColumn, ...]]
    symbols: tuple[Any, ...] | None


def long_rows(table: Source, wanted: Wanted) -> Rows:
    """Read the long layout: a row per series and time."""
    targets = wanted.targets or ("y",)
    _require(table, (wanted.id_column,), "--data.id_column")
    _require_times(table, wanted.time_column)
    _require(table, targets, "--data.target_columns")
    _require_covariates(table, wanted, (wanted.id_column, wanted.time_column, *targets))
    names = (wanted.id_column, wanted.time_column, *targets, *wanted.covariate_names)
    frame = _read(table, tuple(dict.fromkeys(names)))
    id_values = Column(frame, wanted.id_column, table.name, "--data.id_column")
    codes, ids = id_values.ids()

    def row_of_series(row: int) -> str:
        return f"row {row + 1}, series '{ids[codes[row]]}'"

    time_values = Column(frame, wanted.time_column, table.name, "--data.time_column", row_of_series)
    times, timezone = time_values.times()

    def row_at_time(row: int) -> str:
        return f"series '{ids[codes[row]]}' at {spell_time(times[row])}"

    columns = [Column(frame, target, table.name, "--data.target_columns", row_at_time) for target in targets]
    values, symbols = _target_values(columns, wanted)
    covariates, covariate_columns = _covariates(frame, table.name, wanted, row_at_time)
    return Rows(
        codes=codes,
        ids=ids,
        times=times,
        timezone=timezone,
        values=np.stack(values, axis=1),
        channels=targets,
        style=TableStyle(table.backend, id_values.dtype, time_values.dtype),
        covariates=covariates,
        covariate_columns=covariate_columns,
        symbols=symbols,
    )


def column_rows(table: Source, wanted: Wanted, layout: str) -> Rows:
    """Read the layouts `wide`, a column per series, and `vector`, all columns one vector series."""
    _require_times(table, wanted.time_column)
    _require(table, wanted.targets, "--data.target_columns")
    _require_covariates(table, wanted, (wanted.time_column, *wanted.targets))
    if wanted.covariates["static"]:
        raise UserError(
            f"--data.static_covariates: the {layout} layout of {table.name} has no column that tells series apart; "
            "give a long table, with a row per series and time."
        )
    others = (wanted.time_column, wanted.id_column, *wanted.covariate_names)
    names = wanted.targets or tuple(name for name in table.columns if name not in others)
    frame = _read(table, (wanted.time_column, *names, *wanted.covariate_names))
    time_values = Column(frame, wanted.time_column, table.name, "--data.time_column")
    times, timezone = time_values.times()

    def row_at_time(row: int) -> str:
        return f"at {spell_time(times[row])}"

    columns = [Column(frame, name, table.name, "--data.target_columns", row_at_time) for name in names]
    if not wanted.targets and wanted.symbols is False:
        columns = _numeric_columns(columns, table.name)
    if layout == "wide":
        columns.sort(key=lambda column: column.name)
    ids = np.array([column.name for column in columns] if layout == "wide" else ["series"], dtype=object)
    values, symbols = _target_values(columns, wanted, of_one_series=layout == "vector")
    covariates, covariate_columns = _covariates(frame, table.name, wanted, row_at_time)
    return Rows(
        codes=np.repeat(np.arange(len(ids)), len(times)),
        ids=ids,
        times=np.tile(times, len(ids)),
        timezone=timezone,
        values=np.concatenate(values)[:, None] if layout == "wide" else np.stack(values, axis=1),
        channels=("y",) if layout == "wide" else tuple(column.name for column in columns),
        style=TableStyle(table.backend, None, time_values.dtype),
        covariates={role: np.tile(values, (len(ids), 1)) for role, values in covariates.items()},
        covariate_columns=covariate_columns,
        symbols=symbols,
    )


def _target_values(
    columns: Sequence[Column], wanted: Wanted, of_one_series: bool = True
) -> tuple[list[np.ndarray], tuple[Any, ...] | None]:
    """`[rows]` float32 of every column, and the symbols that they are codes of, if they are."""
    if wanted.symbols is False:
        return [column.values() for column in columns], None
    if of_one_series and len(columns) > 1:
        raise UserError(
            f"--data.symbols takes one target column, but {few([column.name for column in columns])} were given: "
            "name one of them with --data.target_columns."
        )
    return code_symbols(columns, None if wanted.symbols is True else wanted.symbols)


def _covariates(
    frame: nw.DataFrame[Any], table: str, wanted: Wanted, row: Callable[[int], str]
) -> tuple[dict[str, np.ndarray], dict[str, tuple[CovariateColumn, ...]]]:
    """`[rows, C]` float32 by role, and what the columns are."""
    covariates, descriptions = {}, {}
    for role in ROLES:
        values, kinds = [np.empty((len(frame), 0), dtype=np.float32)], []
        for name in wanted.covariates[role]:
            column = Column(frame, name, table, f"--data.{role}_covariates", row)
            if column.is_categorical:
                codes, categories = column.categories(empty_is_one=role != "static")
            else:
                codes, categories = column.values(), None
            values.append(codes[:, None])
            kinds.append(CovariateColumn(name, categories))
        covariates[role], descriptions[role] = np.concatenate(values, axis=1), tuple(kinds)
    return covariates, descriptions


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


def _require_covariates(table: Source, wanted: Wanted, others: Sequence[str]) -> None:
    """Refuse covariates that the table lacks, or that are something else already."""
    used = dict.fromkeys(others, "the ids, the times or a target")
    for role, names in wanted.covariates.items():
        _require(table, names, f"--data.{role}_covariates")
        for name in names:
            if name in used:
                raise UserError(
                    f"--data.{role}_covariates: column '{name}' is {used[name]} already; a column has one role, so "
                    "leave it out here."
                )
        used |= dict.fromkeys(names, f"among --data.{role}_covariates")


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
