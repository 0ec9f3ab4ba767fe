"""Covariates: what is known of a window besides the values of its series."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Covariates(NamedTuple):
    """The covariates of a batch of windows, as the network takes them; an axis has width 0 where there are none.

    Numbers are in units of their spread in training; categories are codes, as floats, with 0 for one never seen.

    Attributes:
        known: `[B, L + T, C]` columns that are known ahead.
        past: `[B, L + T, C]` columns that are known up to the origin; the network sees zeros from there on.
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

    def repeat(self, times: int) -> Covariates:
        """Every window so many times, one after the other."""
        return Covariates(*(part.repeat_interleave(times, dim=0) for part in self))
