"""The roles of the columns of a table."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from armlp.data.sources.source import Source
from armlp.data.tables.columns import Column
from armlp.data.tables.encoders import NumberEncoder
from armlp.data.time.text import look_like_times
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

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """The covariates of all roles."""
        return tuple(name for names in self.covariates.values() for name in names)

    def by_option(self, layout: str) -> dict[str, tuple[str, ...]]:
        """Return the columns that each option names."""
        return {
            **({"id_column": (self.id_column,)} if layout == "long" else {}),
            "time_column": (self.time_column,),
            "target_columns": self.targets,
            **{f"{role}_covariates": names for role, names in self.covariates.items()},
        }


def find_layout(table: Source, roles: ColumnRoles) -> str:
    """Return the layout of a table: `long` with a column of ids, otherwise `vector` or `wide`."""
    # An id column that the user named must be there; only the default one may be absent.
    if roles.id_column in table.columns or roles.id_column != "unique_id":
        return "long"
    return "vector" if len(roles.targets) > 1 else "wide"


def resolve_roles(table: Source, roles: ColumnRoles, layout: str, encoder: NumberEncoder) -> ColumnRoles:
    """Return the roles with the targets filled in; raise a `UserError` if a column cannot have its role."""
    if layout == "long":
        require_columns(table, (roles.id_column,), "id_column")
        roles = replace(roles, targets=roles.targets or ("y",))
    _require_times(table, roles.time_column)
    used: dict[str, str] = {}
    for option, names in roles.by_option(layout).items():
        require_columns(table, names, option)
        for name in names:
            if name in used:
                raise UserError(
                    f"`{option}`: column '{name}' is {'among ' if used[name].endswith('s') else ''}`{used[name]}` "
                    "already; a column has one role, so name another, or leave it out here."
                )
            used[name] = option
    if layout != "long":
        if roles.covariates["static"]:
            raise UserError(
                f"`static_covariates`: the {layout} layout of {table.name} has no column that tells series "
                "apart; give a long table, with a row per series and time."
            )
        if layout == "wide" and roles.id_column in set(table.columns) - {*roles.targets, *roles.covariate_names}:
            warnings.warn(
                f"{table.name}: column '{roles.id_column}' is left out of the wide layout, because `id_column` "
                "names it.",
                stacklevel=5,
            )
        roles = replace(roles, targets=roles.targets or _find_targets(table, roles, encoder))
    if layout == "wide":
        return replace(roles, targets=tuple(sorted(roles.targets)))
    encoder.check_names(roles.targets)
    return roles


def _find_targets(table: Source, roles: ColumnRoles, encoder: NumberEncoder) -> tuple[str, ...]:
    """Return the columns that can be targets; warn about the others."""
    others = (roles.time_column, roles.id_column, *roles.covariate_names)
    left = [column for column in table.columns if column not in others]
    index = [column for column in left if column in _INDEX]
    if index:
        warnings.warn(f"{table.name}: columns that number the rows are left out: {first_names(index)}.", stacklevel=6)
    targets = [column for column in left if column not in index]
    # With the times, because there may be no other column.
    part = table.head({roles.time_column: "time_column", **dict.fromkeys(targets, "target_columns")})
    columns = [Column(part, target, "target_columns") for target in targets]
    accepted = tuple(column.name for column in columns if encoder.accepts(column))
    if not accepted:
        for column in columns:
            encoder.read(column)  # raises an error that describes the first column
        raise UserError(
            f"{table.name} has no column of numbers beside its times: give a table with at least one target."
        )
    other = [column.name for column in columns if column.name not in accepted]
    if other:
        warnings.warn(f"{table.name}: columns that hold no numbers are left out: {first_names(other)}.", stacklevel=6)
    return accepted


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


def _require_times(table: Source, column: str) -> None:
    """Raise a `UserError` that suggests a column that looks like times if the table lacks its time column."""
    if column in table.columns:
        return
    try:
        part = table.head(dict.fromkeys(table.columns, "time_column"))
    except UserError:  # about a column that the user did not name
        require_columns(table, (column,), "time_column")
    candidates = [name for name in table.columns if look_like_times(Column(part, name, "time_column").arrow)]
    if len(candidates) != 1:
        require_columns(table, (column,), "time_column")
    raise UserError(
        f"{table.name} has no column '{column}': column '{candidates[0]}' looks like times; "
        f"pass `time_column` {candidates[0]}."
    )
