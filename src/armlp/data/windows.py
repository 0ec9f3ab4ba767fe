"""Windows of a panel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import Covariates
from armlp.data.panel import Panel
from armlp.data.time.features import time_features


class Windowing(NamedTuple):
    """The windows that a model needs; a data module reads them from the model of its Trainer."""

    context_length: int = 1  # `L`
    span: int = 1  # `T`, training targets after the context
    patch_length: int = 1  # `U`; covariates of a forecast reach to the end of its last patch
    calendar: bool = True  # whether windows carry calendar features
    series_at_once: int = 256  # windows in a batch of forecasts
    tests_by_time: bool = False  # whether test origins are ordered by time, not by series


class Windows(NamedTuple):
    """A batch of windows, data units.

    A window is two integers, its series and its origin: the row of its first target, counted from the start of the
    series. Nothing is stored per window; a batch is one gather from the panel.
    """

    context: Tensor  # `[B, L, V]` values before the origin; the first value of the series before its start
    observed: Tensor  # `[B, L, V]` bool, False for padding and missing values
    target: Tensor  # `[B, T, V]` values from the origin on
    target_observed: Tensor  # `[B, T, V]` bool, False beyond the end and for missing values
    series: Tensor  # `[B]` int64 index into the panel
    origin: Tensor  # `[B]` int64
    covariates: Covariates | None = None

    def shortened(self, span: int) -> Windows:
        """Return the windows with at most `span` targets."""
        return self._replace(target=self.target[:, :span], target_observed=self.target_observed[:, :span])

    def split(self, sizes: Sequence[int]) -> Iterator[Windows]:
        """Return the windows in batches of the given sizes."""
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
    """Gather windows from the panel.

    Args:
        series: `[B]` int64 index into the panel, on the CPU, as are `origin` and `end`.
        origin: `[B]` int64, at least 1 and at most the length of the series.
        context_length: `L`.
        span: `T`.
        end: `[B]` int64 row from which targets are marked as missing; None is the end of the series.
        covariate_span: Steps after the context that covariates cover; `T` where None.
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
        first = first.clamp(0, len(panel.values) - length)
        values = panel.gather_rows(panel.values.unfold(0, length, 1).transpose(1, 2), first)
        observed = torch.ones_like(values, dtype=torch.bool)
        if not panel.fully_observed:
            observed = panel.gather_rows(panel.observed.unfold(0, length, 1).transpose(1, 2), first)
        beyond = ((origin < context_length) | (origin + span > end)).nonzero()[:, 0]
        if len(beyond):
            row = panel.to_store_device(beyond)
            values[row], observed[row] = _padded(
                panel, series[beyond], origin[beyond], context_length, span, end[beyond]
            )
    context, target = values.tensor_split((context_length,), dim=1)
    context_observed, target_observed = observed.tensor_split((context_length,), dim=1)
    return Windows(context, context_observed, target, target_observed, series, origin, covariates)


def _padded(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the `[B, L + T, V]` values of windows that may reach beyond their series, and which were observed."""
    row, inside = _rows(panel, series, origin, context_length, span, end)
    return panel.gather_rows(panel.values, row), panel.gather_rows(panel.observed, row) & inside[..., None]


def _rows(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the `[B, L + T]` rows of windows, the nearest row for those beyond their series, and which are inside."""
    origin, end, start = (panel.to_store_device(part) for part in (origin, end, panel.offsets[series]))
    row = origin[:, None] + torch.arange(-context_length, span, device=origin.device)
    nearest = row.clamp(min=0).minimum(end[:, None].clamp(min=1) - 1)
    return start[:, None] + nearest, (row >= 0) & (row < end[:, None])


def _gather_covariates(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor | None
) -> Covariates:
    """Return the covariates of windows, which repeat the first row of a series before it and the last after it."""

    def rows(columns: Tensor, lengths: Tensor) -> Tensor:
        if not columns.shape[1]:
            return columns.new_empty(len(origin), context_length + span, 0)
        last = lengths[series] if end is None else end
        return panel.gather_rows(columns, _rows(panel, series, origin, context_length, span, last)[0])

    calendar = panel.values.new_empty(len(origin), span, 0)
    if panel.calendar_cycles:
        ahead = origin.numpy()[:, None] + np.arange(span)
        times = panel.calendar.shift(panel.starts[series.numpy(), None], ahead)
        features = time_features(panel.calendar, panel.calendar_cycles, times)
        calendar = panel.to_store_device(torch.from_numpy(features))
    known, past = rows(panel.known, panel.stored_lengths), rows(panel.past, panel.lengths)
    covariates = Covariates(known, past, calendar, panel.gather_rows(panel.static, series))
    return covariates if panel.covariate_scaling is None else panel.covariate_scaling(covariates)
