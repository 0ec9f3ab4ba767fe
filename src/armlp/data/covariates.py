"""Covariates: what is known of a window besides the values of its series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ROLES = ("known", "past", "static")


class CovariateColumn(NamedTuple):
    """A column of a table that is a covariate.

    Attributes:
        name: Of the column.
        categories: What the codes of its values stand for, ascending; None where the values are numbers.
    """

    name: str
    categories: tuple[str, ...] | None = None


class Covariates(NamedTuple):
    """The covariates of a batch of windows, as the network takes them; an axis has width 0 where there are none.

    Numbers are in units of their spread in training, and a missing one is the last one before it in the window.
    Categories are codes, as floats, with 0 for one that is missing or was never seen. After its columns, a role has
    one more for each of them that was sometimes missing in training: 1 where it was there, 0 where it was missing.

    Attributes:
        known: `[B, L + T, C]` columns that are known ahead.
        past: `[B, L + T, C]` columns that are known up to the origin. From there on they hold the truth where the panel
            has it, for one-step scores; it is for the network to look away.
        calendar: `[B, T, F]` features of the times from the origin on.
        static: `[B, M]` columns of the series.
    """

    known: Tensor
    past: Tensor
    calendar: Tensor
    static: Tensor

    def moved(self, steps: int) -> Covariates:
        """The covariates of the windows that begin so many steps later."""
        return Covariates(self.known[:, steps:], self.past[:, steps:], self.calendar[:, steps:], self.static)

    def reaching(self, steps: int) -> Covariates:
        """What is known ahead reaches at least so many steps, counted from the first; the last one known stays."""
        missing = steps - self.known.shape[1]
        if missing <= 0:
            return self
        return self._replace(known=torch.cat([self.known, self.known[:, -1:].expand(-1, missing, -1)], 1))

    def repeat(self, times: int) -> Covariates:
        """Every window so many times, one after the other."""
        return Covariates(*(part.repeat_interleave(times, dim=0) for part in self))

    def tile(self, times: int) -> Covariates:
        """The whole batch so many times."""
        return Covariates(*(torch.cat([part] * times) for part in self))

    def rows(self, rows: slice | Tensor) -> Covariates:
        """Some of the windows."""
        return Covariates(*(part[rows] for part in self))

    def split(self, sizes: Sequence[int]) -> Iterator[Covariates]:
        """The windows in batches of so many each."""
        return map(Covariates, *(torch.split_with_sizes(part, sizes) for part in self))


def columns(values: Tensor, places: Sequence[int]) -> Tensor:
    """Some columns of `[..., C]`, in slices: a graphics processor would have to wait for a list of places."""
    return torch.cat([values[..., :0], *(values[..., place : place + 1] for place in places)], -1)
