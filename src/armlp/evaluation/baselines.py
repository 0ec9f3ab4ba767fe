"""Baselines: what a forecast has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel


def seasonal_naive(panel: Panel, series: Tensor, origin: Tensor, horizon: int, season_length: int) -> Tensor:
    """The last season before the origin, repeated.

    Args:
        panel: The flat store; where a value is missing it holds the last observed one.
        series: `[B]` int64.
        origin: `[B]` int64 row of the first value to forecast.
        horizon: `H`.
        season_length: Steps in a season; 1 repeats the last value, and so does a series shorter than a season.

    Returns:
        `[B, H(, V)]`, data units.
    """
    step = torch.arange(horizon, device=origin.device) % season_length
    row = origin[:, None] - season_length + step
    # Where there is no whole season yet, the last value.
    row = torch.where(origin[:, None] < season_length, origin[:, None] - 1, row)
    values = panel.values[panel.offsets[series, None] + row]
    return panel.in_data_units(series, values[..., 0] if values.shape[-1] == 1 else values)


def naive_error(panel: Panel, ends: Tensor, season_length: int) -> Tensor:
    """Mean absolute error of the seasonal naive forecast one season ahead, inside each series' first rows.

    This is the unit of the mean absolute scaled error.

    Args:
        panel: The flat store.
        ends: `[S]` int64 row at which each series' rows end.
        season_length: Steps in a season.

    Returns:
        `[S(, V)]` float64, data units; nan where a series is too short or never changes.

    Rob J. Hyndman, Anne B. Koehler (2006), Another Look at Measures of Forecast Accuracy,
    https://doi.org/10.1016/j.ijforecast.2006.03.001
    """
    lengths = panel.stored_lengths
    series = torch.repeat_interleave(torch.arange(len(panel), device=lengths.device), lengths)
    row = torch.arange(len(series), device=lengths.device) - panel.offsets[series]
    later = ((row >= season_length) & (row < ends[series])).nonzero()[:, 0]
    earlier = later - season_length
    both = panel.observed[later] & panel.observed[earlier]
    errors = torch.where(both, (panel.values[later] - panel.values[earlier]).abs(), 0.0)
    shape = (len(panel), panel.values.shape[1])
    total = errors.new_zeros(shape, dtype=torch.float64).index_add_(0, series[later], errors.double())
    count = errors.new_zeros(shape, dtype=torch.float64).index_add_(0, series[later], both.double())
    mean = total / count
    mean = torch.where(mean > 0, mean, torch.nan)
    return mean[:, 0] if shape[1] == 1 else mean
