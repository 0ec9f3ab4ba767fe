"""Wanted columns: which columns of a table are what, and whether the table has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from armlp.data.columns import Column
from armlp.data.sources import BATCH, Part, Source
from armlp.errors import UserError


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
            near = get_close_matches(column, table.columns, n=1, cutoff=0.5)
            fix = f"pass {option} {near[0]}" if near else f"name one of them with {option}"
            raise UserError(f"{table.name} has no column '{column}': its columns are {few(table.columns, 10)}; {fix}.")


def require_covariates(table: Source, wanted: Wanted, others: Sequence[str]) -> None:
    """Refuse covariates that the table lacks, or that are something else already."""
    used = dict.fromkeys(others, "the ids, the times or a target")
    for role, names in wanted.covariates.items():
        require(table, names, f"--data.{role}_covariates")
        for name in names:
            if name in used:
                raise UserError(
                    f"--data.{role}_covariates: column '{name}' is {used[name]} already; a column has one role, so "
                    "leave it out here."
                )
        used |= dict.fromkeys(names, f"among --data.{role}_covariates")


def require_times(table: Source, column: str) -> None:
    """Refuse a table that lacks its column of times, with the one that looks like them."""
    if column in table.columns:
        return
    option = "--data.time_column"
    part = first_part(table, dict.fromkeys(table.columns, option))
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
