"""Covariates of a batch of windows, and their scaling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class CovariateScaling:
    """Scales raw covariates for the network."""

    known: ColumnScaling
    past: ColumnScaling
    static: ColumnScaling

    def on(self, device: torch.device) -> CovariateScaling:
        """Return the scaling on a device."""
        return CovariateScaling(*(part.on(device) for part in (self.known, self.past, self.static)))

    def __call__(self, raw: Covariates) -> Covariates:
        """Return the covariates of windows, scaled for the network."""
        static = self.static(raw.static[:, None])[:, 0]
        return raw._replace(known=self.known(raw.known), past=self.past(raw.past), static=static)


def _filled_forward(values: Tensor, missing: Tensor) -> Tensor:
    """Return `[B, T, C]` with missing values replaced by the last one before them in `T`, or 0."""
    row = torch.arange(values.shape[1], device=values.device)[:, None]
    last = torch.where(missing, 0, row).cummax(dim=1).values
    return values.gather(1, last).nan_to_num(0.0)
