"""Scaling of covariates: numbers in units of their spread in training, categories as codes of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from armlp.data.covariates import ROLES, CovariateColumn, Covariates, columns
from armlp.errors import UserError

if TYPE_CHECKING:
    from armlp.data.panel import Panel


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
            seen = panel.rows_before(ends, rows)
            for role in ("known", "past"):
                _count(tallies[role], getattr(panel, role)[rows][seen])
    _count(tallies["static"], panel.static[ends > 0])
    return {role: [tally.statistics() for tally in tallies[role]] for role in ROLES}


def _count(tallies: Sequence[_Tally], values: Tensor) -> None:
    for tally, column in zip(tallies, values.T, strict=True):
        tally.add(column)


class _Tally:
    """Running statistics of one column.

    Means and squares of blocks are merged as in Chan, Golub & LeVeque (1979), Updating formulae and a pairwise
    algorithm for computing sample variances, which stays accurate where the mean is much larger than the spread.
    """

    def __init__(self, column: CovariateColumn) -> None:
        self.column = column
        self.count, self.mean, self.squares, self.missing = 0, 0.0, 0.0, False
        self.seen = torch.zeros(len(column.categories or ()), dtype=torch.bool)

    def add(self, values: Tensor) -> None:
        """Add `[rows]` values, nan where missing."""
        there = values[~values.isnan()]
        self.missing |= len(there) < len(values)
        if self.column.categories is not None:
            self.seen[there.long()] = True
        elif len(there):
            there = there.double()
            count, mean = len(there), float(there.mean())
            total, apart = self.count + count, mean - self.mean
            self.squares += float((there - mean).square().sum()) + apart * apart * self.count * count / total
            self.mean += apart * count / total
            self.count = total

    def statistics(self) -> dict[str, Any]:
        """Return the statistics as plain values."""
        name = self.column.name
        if self.column.categories is not None:
            return {"name": name, "categories": [self.column.categories[code] for code in self.seen.nonzero()[:, 0]]}
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


@dataclass(frozen=True)
class CovariateScaling:
    """Scales raw covariates for the network."""

    known: ColumnScaling
    past: ColumnScaling
    static: ColumnScaling

    @classmethod
    def of(cls, panel: Panel, statistics: Statistics) -> CovariateScaling:
        """Return the scaling of a panel's covariates; raise a `UserError` if they are not those of training."""
        for role in ROLES:
            given = [column.name for column in panel.covariate_columns[role]]
            expected = [column["name"] for column in statistics[role]]
            if given != expected:
                raise UserError(
                    f"`{role}_covariates`: {given} was given, but the model was trained with {expected}; leave "
                    "the option out, or train anew."
                )
        return cls(**{role: _column_scaling(panel, role, statistics[role]) for role in ROLES})

    def on(self, device: torch.device) -> CovariateScaling:
        """Return the scaling on a device."""
        return CovariateScaling(*(part.on(device) for part in (self.known, self.past, self.static)))

    def __call__(self, raw: Covariates) -> Covariates:
        """Return the covariates of windows, scaled for the network."""
        static = self.static(raw.static[:, None])[:, 0]
        return raw._replace(known=self.known(raw.known), past=self.past(raw.past), static=static)


@dataclass(frozen=True)
class ColumnScaling:
    """The scaling of the columns of one role."""

    mean: Tensor  # `[C]` in training; 0 for categories
    std: Tensor  # `[C]` in training; 1 for categories
    codes: Mapping[int, Tensor]  # by index of the column: training codes by panel code, the last if missing
    masked: Sequence[int]  # index of each column with a mask

    def on(self, device: torch.device) -> ColumnScaling:
        """Return the scaling on a device."""
        codes = {index: codes.to(device) for index, codes in self.codes.items()}
        return replace(self, mean=self.mean.to(device), std=self.std.to(device), codes=codes)

    def __call__(self, raw: Tensor) -> Tensor:
        """Scale numbers and encode categories of `[B, T, C]`, and append masks: `[B, T, C + masks]`, 1 where present.

        A missing number becomes the last one before it, never one after it; without one, the mean in training.
        """
        if not raw.shape[-1]:
            return raw
        scaled = (raw - self.mean) / self.std
        missing = raw.isnan()
        # Exported graphs cannot branch on data, and on a GPU the check would wait.
        if torch.compiler.is_compiling() or raw.device.type != "cpu" or missing.any():
            scaled = _filled_forward(scaled, missing)
        for index, codes in self.codes.items():
            scaled[..., index] = codes[raw[..., index].nan_to_num(-1.0).long()]
        return torch.cat([scaled, columns(~missing, self.masked).to(raw)], dim=-1) if self.masked else scaled


def _filled_forward(values: Tensor, missing: Tensor) -> Tensor:
    """Return `[B, T, C]` with missing values replaced by the last one before them in `T`, or 0."""
    row = torch.arange(values.shape[1], device=values.device)[:, None]
    last = torch.where(missing, 0, row).cummax(dim=1).values
    return values.gather(1, last).nan_to_num(0.0)


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
