"""Covariates of a batch of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ROLES = ("known", "past", "static")


class CovariateColumn(NamedTuple):
    """The name of a covariate, and its categories by code, ascending; None for numbers."""

    name: str
    categories: tuple[str, ...] | None = None


class Covariates(NamedTuple):
    """The covariates of a batch of windows as the network takes them; a role without columns has width 0.

    Numbers are in units of their spread in training; a missing one repeats the last one before it in the window.
    Categories are codes as floats, 0 for a missing or unknown one. A role ends with a mask for each of its
    columns of numbers that had missing ones in training: 1 where the number is present, 0 where it is missing.
    """

    known: Tensor  # `[B, L + T, C]` known ahead
    past: Tensor  # `[B, L + T, C]` known up to the origin; later values, for one-step scores, the network must not use
    calendar: Tensor  # `[B, T, F]` features of the times from the origin on
    static: Tensor  # `[B, M]` one value per series

    def moved(self, steps: int) -> Covariates:
        """Return the covariates of the windows that begin `steps` later."""
        return Covariates(self.known[:, steps:], self.past[:, steps:], self.calendar[:, steps:], self.static)

    def extended_to(self, steps: int) -> Covariates:
        """Repeat the last row of `known` until it has at least `steps` rows."""
        missing = steps - self.known.shape[1]
        if missing <= 0:
            return self
        return self._replace(known=torch.cat([self.known, self.known[:, -1:].expand(-1, missing, -1)], 1))

    def repeat(self, times: int) -> Covariates:
        """Repeat each window `times` times, as `repeat_interleave` does."""
        return Covariates(*(part.repeat_interleave(times, dim=0) for part in self))

    def tile(self, times: int) -> Covariates:
        """Repeat the whole batch `times` times."""
        return Covariates(*(torch.cat([part] * times) for part in self))

    def rows(self, rows: slice | Tensor) -> Covariates:
        """Return some of the windows."""
        return Covariates(*(part[rows] for part in self))

    def split(self, sizes: Sequence[int]) -> Iterator[Covariates]:
        """Return the windows in batches of the given sizes."""
        return map(Covariates, *(torch.split_with_sizes(part, sizes) for part in self))


def columns(values: Tensor, indices: Sequence[int]) -> Tensor:
    """Return columns of `[..., C]` by slices, because indexing with a list makes a GPU wait."""
    return torch.cat([values[..., :0], *(values[..., index : index + 1] for index in indices)], -1)
