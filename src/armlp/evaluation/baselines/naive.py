"""The seasonal naive and the drift, and the unit of scaled errors."""

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
        `[B, H, V]`, data units.
    """
    values = last_season(panel, series, origin, horizon, season_length)
    return panel.in_data_units(series, values)


def last_season(panel: Panel, series: Tensor, origin: Tensor, horizon: int, season_length: int) -> Tensor:
    """The same `[B, H, V]` on the scale of the store, where a series with a level lacks it."""
    step = torch.arange(horizon, device=origin.device) % season_length
    row = origin[:, None] - season_length + step
    # Where there is no whole season yet, the last value.
    row = torch.where(origin[:, None] < season_length, origin[:, None] - 1, row)
    return panel.gather_rows(panel.values, panel.offsets[series, None] + row)


def drift(panel: Panel, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
    """The line through the first and the last value before the origin, prolonged.

    Args:
        panel: The flat store; where a value is missing it holds the last observed one.
        series: `[B]` int64.
        origin: `[B]` int64 row of the first value to forecast; after a single value it stays.
        horizon: `H`.

    Returns:
        `[B, H, V]`, data units.
    """
    begin = panel.offsets[series]
    first, last = (panel.gather_rows(panel.values, row).double() for row in (begin, begin + origin - 1))
    slope = (last - first) / (origin - 1).clamp(min=1)[:, None]
    lead = torch.arange(1, horizon + 1, device=origin.device)
    values = last[:, None] + lead[:, None] * slope[:, None]
    return panel.in_data_units(series, values)


def naive_error(panel: Panel, ends: Tensor, season_length: int) -> Tensor:
    """The first of `naive_errors`: the unit of the mean absolute scaled error."""
    return naive_errors(panel, ends, season_length)[0]


def naive_errors(panel: Panel, ends: Tensor, season_length: int) -> tuple[Tensor, Tensor]:
    """Errors of the seasonal naive forecast one season ahead, inside each series' first rows.

    Args:
        panel: The flat store.
        ends: `[S]` int64 row at which each series' rows end.
        season_length: Steps in a season.

    Returns:
        The mean absolute error, the unit of MASE, and the root mean squared error, the unit of RMSSE: `[S, V]`
        float64 each, data units; nan where a series is too short or never changes.

    Rob J. Hyndman, Anne B. Koehler (2006), Another Look at Measures of Forecast Accuracy,
    https://doi.org/10.1016/j.ijforecast.2006.03.001
    """
    shape = (len(panel), panel.values.shape[1])
    total, squares, count = (panel.values.new_zeros(shape, dtype=torch.float64) for _ in range(3))
    for block in panel.blocks():
        rows = slice(max(block.start, season_length), max(block.stop, season_length))
        earlier = slice(rows.start - season_length, rows.stop - season_length)
        series, place = panel.locate(rows)
        compared = (place >= season_length) & (place < ends[series])
        both = panel.observed[rows] & panel.observed[earlier] & compared[:, None]
        errors = torch.where(both, (panel.values[rows] - panel.values[earlier]).abs(), 0.0).double()
        for sums, part in ((total, errors), (squares, errors.square()), (count, both.double())):
            sums.index_add_(0, series, part)
    absolute, root = (torch.where(total > 0, mean, torch.nan) for mean in (total / count, (squares / count).sqrt()))
    return absolute, root
