"""The roles of the columns of a table."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from armlp.data.sources.source import Source
from armlp.data.tables.columns import Column
from armlp.errors import UserError, first_names

# Names that pandas gives an index which it writes as a column.
_INDEX = ("", "Unnamed: 0", "__index_level_0__")


@dataclass(frozen=True)
class ColumnRoles:
    """The roles of the columns of a table."""

    id_column: str
    time_column: str
    targets: tuple[str, ...]  # empty where `resolve_roles` has to find them
    covariates: Mapping[str, tuple[str, ...]]  # by `known`, `past` and `static`
    symbols: bool | Sequence[Any] = False  # whether targets hold symbols instead of numbers, or all symbols

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """The covariates of all roles."""
        return tuple(name for names in self.covariates.values() for name in names)


def find_layout(table: Source, roles: ColumnRoles) -> str:
    """Return the layout of a table: `long` with a column of ids, otherwise `vector` or `wide`."""
    # An id column that the user named must be there; only the default one may be absent.
    if roles.id_column in table.columns or roles.id_column != "unique_id":
        return "long"
    return "vector" if len(roles.targets) > 1 else "wide"


def resolve_roles(table: Source, roles: ColumnRoles, layout: str) -> ColumnRoles:
    """Return the roles with the targets filled in.

    Raises:
        UserError: The table lacks a column, or a column cannot have its role.
    """
    is_long = layout == "long"
    targets = roles.targets or (("y",) if is_long else ())
    if is_long:
        require_columns(table, (roles.id_column,), "id_column")
    require_times(table, roles.time_column)
    columns: dict[str, Sequence[str]] = {"id_column": (roles.id_column,)} if is_long else {}
    columns |= {"time_column": (roles.time_column,), "target_columns": targets}
    columns |= {f"{role}_covariates": names for role, names in roles.covariates.items()}
    _check_one_role_each(table, columns)
    if not is_long:
        if roles.covariates["static"]:
            raise UserError(
                f"`static_covariates`: the {layout} layout of {table.name} has no column that tells series "
                "apart; give a long table, with a row per series and time."
            )
        if layout == "wide" and roles.id_column in set(table.columns) - {*targets, *roles.covariate_names}:
            warnings.warn(
                f"{table.name}: column '{roles.id_column}' is left out of the wide layout, because `id_column` "
                "names it.",
                stacklevel=5,
            )
        targets = targets or _find_targets(table, roles)
    if layout == "wide":
        targets = tuple(sorted(targets))
    elif roles.symbols is not False and len(targets) > 1:
        raise UserError(
            f"`symbols` takes one target column, but {first_names(targets)} were given: name one of them with "
            "`target_columns`."
        )
    else:
        _check_no_bounds(targets)
    return replace(roles, targets=targets)


def _find_targets(table: Source, roles: ColumnRoles) -> tuple[str, ...]:
    """Return the columns that can be targets; warn about the others."""
    others = (roles.time_column, roles.id_column, *roles.covariate_names)
    left = [column for column in table.columns if column not in others]
    index = [column for column in left if column in _INDEX]
    if index:
        warnings.warn(f"{table.name}: columns that number the rows are left out: {first_names(index)}.", stacklevel=6)
    targets = [column for column in left if column not in index]
    if roles.symbols is not False:
        return tuple(targets)
    # With the times, because there may be no other column.
    part = table.head({roles.time_column: "time_column", **dict.fromkeys(targets, "target_columns")})
    columns = [Column(part, target, "target_columns") for target in targets]
    numeric = tuple(column.name for column in columns if column.is_numeric)
    other = [column.name for column in columns if not column.is_numeric]
    if not numeric:
        for column in columns:
            column.values()  # raises an error that describes the first column
        raise UserError(
            f"{table.name} has no column of numbers beside its times: give a table with at least one target."
        )
    if other:
        warnings.warn(f"{table.name}: columns that hold no numbers are left out: {first_names(other)}.", stacklevel=6)
    return numeric


def require_columns(table: Source, columns: Sequence[str], option: str) -> None:
    """Raise a `UserError` that suggests another spelling if the table lacks one of the columns of an option."""
    if len(set(columns)) < len(columns):
        raise UserError(f"`{option}` names a column twice ({', '.join(columns)}): name each once.")
    for column in columns:
        if column not in table.columns:
            lower = {name.strip().lower(): name for name in table.columns}
            near = get_close_matches(column.lower(), lower, n=1, cutoff=0.5)
            if option == "future":
                fix = "add it, because `future` needs the ids, times and known covariates of the rows to come"
            else:
                fix = f"pass `{option}` {shlex.quote(lower[near[0]])}" if near else f"name one of them with `{option}`"
            raise UserError(
                f"{table.name} has no column '{column}': its columns are {first_names(table.columns, 10)}; {fix}."
            )


def _check_one_role_each(table: Source, columns: Mapping[str, Sequence[str]]) -> None:
    """Raise a `UserError` if the table lacks a column, or two options name the same one."""
    used: dict[str, str] = {}
    for option, names in columns.items():
        require_columns(table, names, option)
        for name in names:
            if name in used:
                raise UserError(
                    f"`{option}`: column '{name}' is {'among ' if used[name].endswith('s') else ''}`{used[name]}` "
                    "already; a column has one role, so name another, or leave it out here."
                )
            used[name] = option


def _check_no_bounds(targets: Sequence[str]) -> None:
    """Refuse a target with the name of a bound of another one: a forecast would have two such columns."""
    for target in targets:
        channel = re.sub(r"-(lo|hi)-[\d.]+$", "", target)
        if channel != target and channel in targets:
            raise UserError(
                f"`target_columns`: a forecast of '{channel}' may have bounds called '{target}', which is another "
                "target: give one of them another name in the table."
            )


def require_times(table: Source, column: str) -> None:
    """Raise a `UserError` that suggests a column that looks like times if the table lacks its time column."""
    if column in table.columns:
        return
    try:
        part = table.head(dict.fromkeys(table.columns, "time_column"))
    except UserError:  # about a column that the user did not name
        require_columns(table, (column,), "time_column")
    candidates = [name for name in table.columns if Column(part, name, "time_column").looks_like_times]
    if len(candidates) != 1:
        require_columns(table, (column,), "time_column")
    raise UserError(
        f"{table.name} has no column '{column}': column '{candidates[0]}' looks like times; "
        f"pass `time_column` {candidates[0]}."
    )
