"""Statistics of covariates in training, and the scaling of later ones by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from armlp.data.covariates import ROLES, ColumnScaling, CovariateColumn, CovariateScaling
from armlp.data.panel import Panel
from armlp.errors import UserError

# By role, for each column its `name` with `mean`, `std` and `missing` (whether some were), or with `categories`.
# Plain values, for checkpoints; older ones lack `missing`.
Statistics = Mapping[str, list[dict[str, Any]]]
# A smaller spread relative to the mean is rounding of a constant.
_MIN_SPREAD = 1e-6


def fit_statistics(panel: Panel, ends: Tensor) -> Statistics:
    """Return the statistics of covariates in training, the rows before `ends [S]` of each series."""
    tallies = {role: [_Tally(column) for column in panel.covariate_columns[role]] for role in ROLES}
    if tallies["known"] or tallies["past"]:
        for rows in panel.blocks():
            trained = panel.rows_before(ends, rows)
            for role in ("known", "past"):
                for tally, column in zip(tallies[role], getattr(panel, role)[rows][trained].T, strict=True):
                    tally.add(column)
    for tally, column in zip(tallies["static"], panel.static[ends > 0].T, strict=True):
        tally.add(column)
    return {role: [tally.statistics() for tally in tallies[role]] for role in ROLES}


class _Tally:
    """Running statistics of one column.

    Means and squares of blocks are merged as in Chan, Golub & LeVeque (1979), Updating formulae and a pairwise
    algorithm for computing sample variances, which stays accurate where the mean is much larger than the spread.
    """

    def __init__(self, column: CovariateColumn) -> None:
        self.column = column
        self.count, self.mean, self.squares, self.missing = 0, 0.0, 0.0, False
        self.found = torch.zeros(len(column.categories or ()), dtype=torch.bool)

    def add(self, values: Tensor) -> None:
        """Add `[rows]` values, nan where missing."""
        present = values[~values.isnan()]
        self.missing |= len(present) < len(values)
        if self.column.categories is not None:
            self.found[present.long()] = True
        elif len(present):
            present = present.double()
            count, mean = len(present), float(present.mean())
            total, change = self.count + count, mean - self.mean
            self.squares += float((present - mean).square().sum()) + change * change * self.count * count / total
            self.mean += change * count / total
            self.count = total

    def statistics(self) -> dict[str, Any]:
        """Return the statistics as plain values."""
        name = self.column.name
        if self.column.categories is not None:
            return {"name": name, "categories": [self.column.categories[code] for code in self.found.nonzero()[:, 0]]}
        std = math.sqrt(self.squares / max(1, self.count))
        varies = std > _MIN_SPREAD * max(abs(self.mean), _MIN_SPREAD)
        return {"name": name, "mean": self.mean, "std": std if varies else 1.0, "missing": self.missing}


def covariate_sizes(statistics: Statistics) -> dict[str, list[int]]:
    """Return by role the number of codes of each column of the network, 0 for numbers.

    Code 0 of a category is a missing or unknown one. After the columns of the table comes one of numbers for each that
    had missing numbers in training.
    """
    return {
        role: [len(column["categories"]) + 1 if "categories" in column else 0 for column in statistics[role]]
        + [0] * len(_masked(statistics[role]))
        for role in ROLES
    }


def _masked(trained: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the indices of columns that had missing numbers in training; the network gets a mask of each."""
    return [index for index, column in enumerate(trained) if column.get("missing")]


def scaling_of(panel: Panel, statistics: Statistics) -> CovariateScaling:
    """Return the scaling of a panel's covariates; raise a `UserError` if they are not those of training."""
    for role in ROLES:
        given = [column.name for column in panel.covariate_columns[role]]
        expected = [column["name"] for column in statistics[role]]
        if given != expected:
            raise UserError(
                f"`{role}_covariates`: {given} was given, but the model was trained with {expected}; leave "
                "the option out, or train anew."
            )
    return CovariateScaling(**{role: _column_scaling(panel, role, statistics[role]) for role in ROLES})


def _column_scaling(panel: Panel, role: str, statistics: Sequence[Mapping[str, Any]]) -> ColumnScaling:
    mean, std = torch.zeros(len(statistics)), torch.ones(len(statistics))
    codes = {}
    for index, (column, trained) in enumerate(zip(panel.covariate_columns[role], statistics, strict=True)):
        option = f"`{role}_covariates`"
        categories, empty = column.categories, _is_empty(panel, role, index)
        if empty:  # without a type: numbers or categories
            if "mean" in trained and role == "known":
                raise UserError(f"{option}: column '{column.name}' is empty; fill it, or train without it.")
            categories = None if "mean" in trained else ()
        if (categories is None) != ("mean" in trained):
            kinds = ("categories", "numbers") if "mean" in trained else ("numbers", "categories")
            raise UserError(
                f"{option}: column '{column.name}' holds {kinds[0]}, but the model was trained with {kinds[1]}; "
                "convert it."
            )
        if categories is None:
            mean[index], std[index] = trained["mean"], trained["std"]
        else:
            of_training = {name: code for code, name in enumerate(trained["categories"], start=1)}
            missing = of_training.get("", 0) if empty else 0
            codes[index] = torch.tensor([*(of_training.get(name, 0) for name in categories), missing])
    return ColumnScaling(mean, std, codes, _masked(statistics))


def check_not_empty(panel: Panel) -> None:
    """Raise a `UserError` about a covariate without any value."""
    for role in ROLES:
        for index, column in enumerate(panel.covariate_columns[role]):
            if _is_empty(panel, role, index):
                raise UserError(f"`{role}_covariates`: column '{column.name}' is empty; fill it, or train without it.")


def _is_empty(panel: Panel, role: str, index: int) -> bool:
    """Return whether a column has no value; usually the first block shows one."""
    values: Tensor = getattr(panel, role)[:, index]
    blocks = panel.blocks() if role != "static" else [slice(None)]
    return len(values) > 0 and all(bool(values[rows].isnan().all()) for rows in blocks)
