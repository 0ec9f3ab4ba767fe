"""Covariate scaling: numbers in units of their spread in training, and categories as codes of training."""

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


# By role, a list of columns: their `name` with `mean`, `std` and whether some were `missing`, or with `categories`.
# Plain values, for checkpoints; older ones never say `missing`.
Statistics = Mapping[str, list[dict[str, Any]]]
# A spread this small beside the mean is rounding, and the column a constant.
_MIN_SPREAD = 1e-6


def fit_statistics(panel: Panel, ends: Tensor) -> Statistics:
    """What the covariates are in training, in one pass over blocks of rows.

    Args:
        panel: As it was read.
        ends: `[S]` int64 row at which each series' training part ends; nothing after it is looked at.
    """
    tallies = {role: [_Tally(column) for column in panel.covariate_columns[role]] for role in ROLES}
    if tallies["known"] or tallies["past"]:
        for rows in panel.blocks():
            seen = panel.rows_before(ends, rows)
            for role in ("known", "past"):
                _count(tallies[role], getattr(panel, role)[rows][seen])
    _count(tallies["static"], panel.static[ends > 0])
    return {role: [tally.statistics() for tally in tallies[role]] for role in ROLES}


def _count(tallies: Sequence[_Tally], values: Tensor) -> None:
    for place, tally in enumerate(tallies):
        tally.add(values[:, place])


class _Tally:
    """What has been seen of one column so far.

    Means and squares of blocks are merged as in Chan, Golub & LeVeque (1979), Updating formulae and a pairwise
    algorithm for computing sample variances, which loses nothing where the mean is large beside the spread.
    """

    def __init__(self, column: CovariateColumn) -> None:
        self.column = column
        self.count, self.mean, self.squares, self.missing = 0, 0.0, 0.0, False
        self.seen = torch.zeros(len(column.categories or ()), dtype=torch.bool)

    def add(self, values: Tensor) -> None:
        """Takes in `[rows]` values, nan where missing."""
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
        """Plain values, of what training needs to know."""
        name = self.column.name
        if self.column.categories is not None:
            return {"name": name, "categories": [self.column.categories[code] for code in self.seen.nonzero()[:, 0]]}
        std = math.sqrt(self.squares / max(1, self.count))
        varies = std > _MIN_SPREAD * max(abs(self.mean), _MIN_SPREAD)
        return {"name": name, "mean": self.mean, "std": std if varies else 1.0, "missing": self.missing}


def covariate_sizes(statistics: Statistics) -> dict[str, list[int]]:
    """By role, how many codes each column that the network takes has: 0 for numbers.

    A category has the code 0 for one that is missing or was never seen. After the columns of the table comes one of
    numbers for each that had missing ones in training.
    """
    return {
        role: [len(column["categories"]) + 1 if "categories" in column else 0 for column in statistics[role]]
        + [0] * len(_told(statistics[role]))
        for role in ROLES
    }


def _told(trained: Sequence[Mapping[str, Any]]) -> list[int]:
    """The places of the columns of which the network is told what is missing: those that were in training."""
    return [place for place, column in enumerate(trained) if column.get("missing")]


@dataclass(frozen=True)
class CovariateScaling:
    """Turns covariates as they were read into what the network takes.

    Attributes:
        known: Of the columns that are known ahead.
        past: Of those that are known up to the origin.
        static: Of those of the series.
    """

    known: ColumnScaling
    past: ColumnScaling
    static: ColumnScaling

    @classmethod
    def of(cls, panel: Panel, statistics: Statistics) -> CovariateScaling:
        """The scaling of a panel's covariates by the statistics of training.

        Raises:
            UserError: The columns, or their kinds, are not those of training.
        """
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
        """The same for covariates on a device."""
        return CovariateScaling(*(part.on(device) for part in (self.known, self.past, self.static)))

    def __call__(self, raw: Covariates) -> Covariates:
        """The covariates of windows as the network takes them, from their rows as they were read."""
        static = self.static(raw.static[:, None])[:, 0]
        return raw._replace(known=self.known(raw.known), past=self.past(raw.past), static=static)


@dataclass(frozen=True)
class ColumnScaling:
    """The scaling of the columns of one role.

    Attributes:
        mean: `[C]` of the numbers in training; 0 for categories.
        std: `[C]` of the numbers in training; 1 for categories.
        codes: By the place of each column of categories, the codes of training `[categories + 1]` of those of the
            panel; the last one is of a missing one.
        told: The places of the columns of which the network is told which numbers were there.
    """

    mean: Tensor
    std: Tensor
    codes: Mapping[int, Tensor]
    told: Sequence[int]

    def on(self, device: torch.device) -> ColumnScaling:
        """The same for columns on a device."""
        codes = {place: codes.to(device) for place, codes in self.codes.items()}
        return replace(self, mean=self.mean.to(device), std=self.std.to(device), codes=codes)

    def __call__(self, raw: Tensor) -> Tensor:
        """Numbers in units of their spread, and categories as codes; then a column for each of `told`, 1 where there.

        A number that is missing is the last one before it, never one after it; where none is, the mean of training.

        Args:
            raw: `[B, T, C]` one row after the other in time, nan where missing.

        Returns:
            `[B, T, C + told]`.
        """
        if not raw.shape[-1]:
            return raw
        scaled = (raw - self.mean) / self.std
        missing = raw.isnan()
        # The way that always is right is taken by exported graphs, and where a look at the data would be waited for.
        if torch.compiler.is_compiling() or raw.device.type != "cpu" or missing.any():
            scaled = _filled_forward(scaled, missing)
        for place, codes in self.codes.items():
            scaled[..., place] = codes[raw[..., place].nan_to_num(-1.0).long()]
        return torch.cat([scaled, columns(~missing, self.told).to(raw)], dim=-1) if self.told else scaled


def _filled_forward(values: Tensor, missing: Tensor) -> Tensor:
    """`[B, T, C]` with what is missing as the last one before it in `T`; 0 where none is."""
    row = torch.arange(values.shape[1], device=values.device)[:, None]
    last = torch.where(missing, 0, row).cummax(dim=1).values
    return values.gather(1, last).nan_to_num(0.0)


def _column_scaling(panel: Panel, role: str, statistics: Sequence[Mapping[str, Any]]) -> ColumnScaling:
    mean, std = torch.zeros(len(statistics)), torch.ones(len(statistics))
    codes = {}
    for place, (column, trained) in enumerate(zip(panel.covariate_columns[role], statistics, strict=True)):
        option = f"`{role}_covariates`"
        categories, empty = column.categories, _is_empty(panel, role, place)
        if empty:  # It has no type: it may be of numbers, or of categories, that are all missing.
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
            mean[place], std[place] = trained["mean"], trained["std"]
        else:
            of_training = {name: code for code, name in enumerate(trained["categories"], start=1)}
            missing = of_training.get("", 0) if empty else 0
            codes[place] = torch.tensor([*(of_training.get(name, 0) for name in categories), missing])
    return ColumnScaling(mean, std, codes, _told(statistics))


def check_not_empty(panel: Panel) -> None:
    """Refuse covariates of which training would learn nothing.

    Raises:
        UserError: A column holds nothing; the message names it.
    """
    for role in ROLES:
        for place, column in enumerate(panel.covariate_columns[role]):
            if _is_empty(panel, role, place):
                raise UserError(f"`{role}_covariates`: column '{column.name}' is empty; fill it, or train without it.")


def _is_empty(panel: Panel, role: str, place: int) -> bool:
    """Whether a column holds nothing; a look at the first block tells of nearly every one."""
    values: Tensor = getattr(panel, role)[:, place]
    blocks = panel.blocks() if role != "static" else [slice(None)]
    return len(values) > 0 and all(bool(values[rows].isnan().all()) for rows in blocks)
