"""ColumnRoles columns: which columns of a table are what, and whether the table has them."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from armlp.data.tables.columns import Column
from armlp.data.tables.source import BATCH, Part, Source
from armlp.errors import UserError

# What pandas calls the index of a table where it writes it among the columns of a file.
_INDEX = ("", "Unnamed: 0", "__index_level_0__")


@dataclass(frozen=True)
class ColumnRoles:
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


def resolve_roles(table: Source, wanted: ColumnRoles, layout: str) -> ColumnRoles:
    """What is wanted of a table in a layout, with every column named.

    Args:
        table: The table.
        wanted: What the user named.
        layout: `long`, `wide` or `vector`.

    Raises:
        UserError: The table lacks a column, or a column cannot be what it is to be.
    """
    is_long = layout == "long"
    targets = wanted.targets or (("y",) if is_long else ())
    if is_long:
        require(table, (wanted.id_column,), "`id_column`")
    require_times(table, wanted.time_column)
    columns: dict[str, Sequence[str]] = {"`id_column`": (wanted.id_column,)} if is_long else {}
    columns |= {"`time_column`": (wanted.time_column,), "`target_columns`": targets}
    columns |= {f"`{role}_covariates`": names for role, names in wanted.covariates.items()}
    _require_roles(table, columns)
    if not is_long:
        if wanted.covariates["static"]:
            raise UserError(
                f"`static_covariates`: the {layout} layout of {table.name} has no column that tells series "
                "apart; give a long table, with a row per series and time."
            )
        if layout == "wide" and wanted.id_column in set(table.columns) - {*targets, *wanted.covariate_names}:
            warnings.warn(
                f"{table.name}: column '{wanted.id_column}' is left out of the wide layout, because `id_column` "
                "names it.",
                stacklevel=5,
            )
        targets = targets or _found_targets(table, wanted)
    if layout == "wide":
        targets = tuple(sorted(targets))
    elif wanted.symbols is not False and len(targets) > 1:
        raise UserError(
            f"`symbols` takes one target column, but {few(targets)} were given: name one of them with `target_columns`."
        )
    else:
        _check_bounds(targets)
    return replace(wanted, targets=targets)


def _found_targets(table: Source, wanted: ColumnRoles) -> tuple[str, ...]:
    """The columns that can be series; says so if others are left out."""
    others = (wanted.time_column, wanted.id_column, *wanted.covariate_names)
    left = [column for column in table.columns if column not in others]
    index = [column for column in left if column in _INDEX]
    if index:
        warnings.warn(f"{table.name}: columns that number the rows are left out: {few(index)}.", stacklevel=6)
    targets = [column for column in left if column not in index]
    if wanted.symbols is not False:
        return tuple(targets)
    # With the times, because there may be no other column.
    options = dict.fromkeys(targets, "`target_columns`")
    part = first_part(table, {wanted.time_column: "`time_column`", **options})
    columns = [Column(part, target, "`target_columns`") for target in targets]
    numeric = tuple(column.name for column in columns if column.is_numeric)
    other = [column.name for column in columns if not column.is_numeric]
    if not numeric:
        for column in columns:
            column.values()  # Says what the first one holds instead.
        raise UserError(
            f"{table.name} has no column of numbers beside its times: give a table with at least one target."
        )
    if other:
        warnings.warn(f"{table.name}: columns that hold no numbers are left out: {few(other)}.", stacklevel=6)
    return numeric


def first_part(table: Source, columns: Mapping[str, str]) -> Part:
    """The first rows of a table.

    Args:
        table: The table.
        columns: Names of columns, and the options that name them.

    Raises:
        UserError: It has none.
    """
    part = next((part for part in table.read(columns, BATCH) if len(part.table)), None)
    if part is None:
        raise UserError(f"{table.name} has columns but no rows: give a table with at least one row.")
    return part


def require(table: Source, columns: Sequence[str], option: str) -> None:
    """Refuse a table that lacks a column, with the likeliest other spelling."""
    if len(set(columns)) < len(columns):
        raise UserError(f"{option} names a column twice ({', '.join(columns)}): name each once.")
    for column in columns:
        if column not in table.columns:
            lower = {name.strip().lower(): name for name in table.columns}
            near = get_close_matches(column.lower(), lower, n=1, cutoff=0.5)
            if option == "`future`":
                fix = f"add it, because {option} needs the ids, times and known covariates of the rows to come"
            else:
                fix = f"pass {option} {shlex.quote(lower[near[0]])}" if near else f"name one of them with {option}"
            raise UserError(f"{table.name} has no column '{column}': its columns are {few(table.columns, 10)}; {fix}.")


def _require_roles(table: Source, columns: Mapping[str, Sequence[str]]) -> None:
    """Refuse columns that the table lacks or that have two roles, given the columns that each option names."""
    used: dict[str, str] = {}
    for option, names in columns.items():
        require(table, names, option)
        for name in names:
            if name in used:
                raise UserError(
                    f"{option}: column '{name}' is {'among ' if used[name].endswith('s') else ''}{used[name]} already; "
                    "a column has one role, so name another, or leave it out here."
                )
            used[name] = option


def _check_bounds(targets: Sequence[str]) -> None:
    """Refuse channels that are called like the intervals of others, because a forecast would have two such columns."""
    for target in targets:
        channel = re.sub(r"-(lo|hi)-[\d.]+$", "", target)
        if channel != target and channel in targets:
            raise UserError(
                f"`target_columns`: a forecast of '{channel}' may have bounds called '{target}', which is another "
                "target: give one of them another name in the table."
            )


def require_times(table: Source, column: str) -> None:
    """Refuse a table that lacks its column of times, with the one that looks like them."""
    if column in table.columns:
        return
    option = "`time_column`"
    try:
        part = first_part(table, dict.fromkeys(table.columns, option))
    except UserError:  # about a column of which nobody asked
        require(table, (column,), option)
    candidates = [name for name in table.columns if Column(part, name, option).looks_like_times]
    if len(candidates) != 1:
        require(table, (column,), option)
    raise UserError(
        f"{table.name} has no column '{column}': column '{candidates[0]}' looks like times; "
        f"pass {option} {candidates[0]}."
    )


def few(names: Sequence[Any] | np.ndarray, most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
