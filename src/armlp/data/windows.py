"""Window arithmetic: which windows a panel has, and splits by time.

A window is two integers, its series and its origin: the row, counted from the series' start, of the first
value after the context. Nothing is stored per window; a batch is one gather from the panel's flat store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import Covariates
from armlp.data.panel import Panel
from armlp.data.time_features import time_features


class Windowing(NamedTuple):
    """What a model needs of its windows. A data module asks the model of its Trainer for it.

    Attributes:
        context_length: `L`.
        span: `T`, values after the context to train on.
        patch_length: `U`; covariates of a forecast reach to the end of its last patch.
        calendar: Whether windows carry features of the calendar.
        series_at_once: Windows in a batch of forecasts.
        tests_by_time: Whether test origins come in the order of time, not series by series.
    """

    context_length: int = 1
    span: int = 1
    patch_length: int = 1
    calendar: bool = True
    series_at_once: int = 256
    tests_by_time: bool = False


class Windows(NamedTuple):
    """A batch of windows, data units.

    Attributes:
        context: `[B, L, V]` values before the origin; before the start of the series, its first value.
        observed: `[B, L, V]` bool, False where the context is padding or was missing.
        target: `[B, T, V]` values from the origin on.
        target_observed: `[B, T, V]` bool, False where the target is beyond its part or was missing.
        series: `[B]` int64 index into the panel.
        origin: `[B]` int64 row of the first target.
        covariates: What is known besides; None where there is nothing.
    """

    context: Tensor
    observed: Tensor
    target: Tensor
    target_observed: Tensor
    series: Tensor
    origin: Tensor
    covariates: Covariates | None = None

    def shortened(self, span: int) -> Windows:
        """The same windows with at most `span` values after the context."""
        return self._replace(target=self.target[:, :span], target_observed=self.target_observed[:, :span])

    def split(self, sizes: Sequence[int]) -> Iterator[Windows]:
        """The same windows in batches of so many each."""
        covariates = [None] * len(sizes) if self.covariates is None else self.covariates.split(sizes)
        return map(Windows, *(torch.split_with_sizes(part, sizes) for part in self[:6]), covariates)


def gather(
    panel: Panel,
    series: Tensor,
    origin: Tensor,
    context_length: int,
    span: int,
    end: Tensor | None = None,
    covariate_span: int | None = None,
) -> Windows:
    """Gathers windows from the panel.

    Args:
        panel: The flat store.
        series: `[B]` int64 index into the panel, on the processor, as are the next two, wherever the store lies.
        origin: `[B]` int64 row of the first target, at least 1 and at most the length of the series.
        context_length: `L`.
        span: `T`, how many values after the context.
        end: `[B]` int64 row at which the series' part ends; targets from there on are marked as not
            observed. Left out, the part is the whole series.
        covariate_span: How many steps after the context covariates reach; as many as values where left out.
    """
    covariates = None
    if panel.has_covariates:
        covariate_span = span if covariate_span is None else covariate_span
        covariates = _gather_covariates(panel, series, origin, context_length, covariate_span, end)
    end = panel.lengths[series] if end is None else end
    length = context_length + span
    if len(panel.values) < length:
        values, observed = _padded(panel, series, origin, context_length, span, end)
    else:
        first = panel.offsets[series] + origin - context_length
        values, observed = _stretches(panel, first.clamp(0, len(panel.values) - length), length)
        beyond = ((origin < context_length) | (origin + span > end)).nonzero()[:, 0]
        if len(beyond):
            place = series[beyond], origin[beyond]
            here = panel.to_store_device(beyond)
            values[here], observed[here] = _padded(panel, *place, context_length, span, end[beyond])
    context, target = values.tensor_split((context_length,), dim=1)
    context_observed, target_observed = observed.tensor_split((context_length,), dim=1)
    return Windows(context, context_observed, target, target_observed, series, origin, covariates)


def _stretches(panel: Panel, first: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The values `[B, length, V]` from the rows `first [B]` of the store on, and which of them were observed."""

    def read(store: Tensor) -> Tensor:
        return panel.gather_rows(store.unfold(0, length, 1).transpose(1, 2), first)

    values = read(panel.values)
    return values, torch.ones_like(values, dtype=torch.bool) if panel.fully_observed else read(panel.observed)


def _padded(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor
) -> tuple[Tensor, Tensor]:
    """The values `[B, L + T, V]` of windows that may reach out of their part, and which of them were observed."""
    origin, end, start = (panel.to_store_device(part) for part in (origin, end, panel.offsets[series]))
    row = origin[:, None] + torch.arange(-context_length, span, device=origin.device)
    inside = (row >= 0) & (row < end[:, None])
    row = start[:, None] + row.clamp(min=0).minimum(end[:, None].clamp(min=1) - 1)
    return panel.gather_rows(panel.values, row), panel.gather_rows(panel.observed, row) & inside[..., None]


def _gather_covariates(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor | None
) -> Covariates:
    """The covariates of windows; before the first row of a series they repeat it, and after the last row that one."""

    def rows(columns: Tensor, lengths: Tensor) -> Tensor:
        if not columns.shape[1]:
            return columns.new_empty(len(origin), context_length + span, 0)
        last = (lengths[series] if end is None else end).clamp(min=1) - 1
        at, last, start = (panel.to_store_device(part) for part in (origin, last, panel.offsets[series]))
        row = at[:, None] + torch.arange(-context_length, span, device=at.device)
        return panel.gather_rows(columns, start[:, None] + row.clamp(min=0).minimum(last[:, None]))

    calendar = panel.values.new_empty(len(origin), span, 0)
    if panel.calendar_cycles:
        ahead = origin.numpy()[:, None] + np.arange(span)
        times = panel.calendar.shift(panel.starts[series.numpy(), None], ahead)
        features = time_features(panel.calendar, panel.calendar_cycles, times)
        calendar = panel.to_store_device(torch.from_numpy(features))
    known, past = rows(panel.known, panel.stored_lengths), rows(panel.past, panel.lengths)
    # Filling goes forward within a window, so no row takes anything from a later one.
    covariates = Covariates(known, past, calendar, panel.gather_rows(panel.static, series))
    return covariates if panel.covariate_scaling is None else panel.covariate_scaling(covariates)


@dataclass(frozen=True)
class Split:
    """Splits every series by time, from its end: `... train | val_windows x H | test part`.

    Test windows may overlap or leave rows out between them; the test part goes from the first origin to the end.

    Attributes:
        horizon: `H`.
        val_windows: Origins of validation, `H` apart.
        test_windows: Origins of the test.
        test_step: How far they are apart; `H` where None.
        test_gap: Rows between an origin and the first of its `H` rows that count.
        later_windows: Origins after those of the test, which another model is tested on.
    """

    horizon: int
    val_windows: int = 1
    test_windows: int = 0
    test_step: int | None = None
    test_gap: int = 0
    later_windows: int = 0

    @property
    def test_reach(self) -> int:
        """Rows from an origin of the test to the end of its window."""
        return self.test_gap + self.horizon

    @property
    def test_length(self) -> int:
        """Rows of the test part; 0 where there is none."""
        windows = self.test_windows + self.later_windows
        return self.test_reach + (windows - 1) * (self.test_step or self.horizon) if windows else 0

    @property
    def held_out(self) -> int:
        """Rows at the end of every series that training does not see."""
        return self.val_windows * self.horizon + self.test_length

    def train_ends(self, lengths: Tensor) -> Tensor:
        """`[S]` int64 row at which training ends; below 2 where a series is too short to train on."""
        return lengths - self.held_out

    def typical_length(self, lengths: Tensor) -> int:
        """The training rows of a typical series among those that can be trained on; at least 1."""
        ends = self.train_ends(lengths)
        return max(1, int((ends[ends >= 2] if (ends >= 2).any() else ends).float().median()))

    def origins(self, lengths: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """The origins of one held-out part, series by series.

        Args:
            lengths: `[S]` int64.
            part: `val`, `test`, or `predict` (the end of every series).

        Returns:
            `[W]` series and `[W]` origins, both int64. Origins without a value before them are left out.
        """
        step = self.test_step or self.horizon
        count, last, apart = {
            "val": (self.val_windows, self.test_length + self.horizon, self.horizon),
            "test": (self.test_windows, self.test_reach + self.later_windows * step, step),
            "predict": (1, 0, 1),
        }[part]
        count = max(0, min(count, 1 + (int(lengths.max()) - 1 - last) // apart))  # as many as the longest has room for
        steps_back = last + apart * torch.arange(count - 1, -1, -1)
        origins = lengths[:, None] - steps_back
        series = torch.arange(len(lengths))[:, None].expand_as(origins)
        usable = origins >= 1
        return series[usable], origins[usable]


def origins_between(first: Tensor, ends: Tensor, apart: int, most: int) -> tuple[Tensor, Tensor]:
    """Origins that are `apart` steps apart, of each series the last `most` of them.

    Args:
        first: `[S]` int64 row of the first one.
        ends: `[S]` int64 row that they lie before.
        apart: In steps.
        most: Of a series.

    Returns:
        The series and the row of every origin, `[W]` int64 each, series by series.
    """
    counts = torch.div(ends - first + apart - 1, apart, rounding_mode="floor").clamp(min=0)
    first = first + (counts - most).clamp(min=0) * apart
    counts = counts.clamp(max=most)
    series = torch.arange(len(first)).repeat_interleave(counts)
    number = torch.arange(len(series)) - (counts.cumsum(0) - counts)[series]
    return series, first[series] + apart * number
