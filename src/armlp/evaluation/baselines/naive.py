"""The seasonal naive and the drift, and the unit of scaled errors."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.evaluation.baselines.base import BASELINES, Baseline, History


@BASELINES.register("seasonal naive")
class SeasonalNaive(Baseline):
    """Repeats the last season before the origin.

    Args:
        panel: The series.
        season_length: Steps in a season; 1 repeats the last value, and so does a series shorter than a season.
    """

    order = 10
    symbols = True

    def __init__(self, panel: Panel, season_length: int) -> None:
        self.panel = panel
        self.season_length = season_length

    @classmethod
    def fit(cls, history: History) -> SeasonalNaive:
        """Return the baseline, which has nothing to fit."""
        return cls(history.panel, history.season_length)

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Return forecasts `[B, H, V]`, data units."""
        return seasonal_naive(self.panel, series, origin, horizon, self.season_length)


def seasonal_naive(panel: Panel, series: Tensor, origin: Tensor, horizon: int, season_length: int) -> Tensor:
    """Return the forecasts of `SeasonalNaive`, `[B, H, V]`, data units.

    Args:
        panel: The series; where a value is missing, it takes the last observed one.
        series: `[B]` int64.
        origin: `[B]` int64 row of the first value to forecast.
        horizon: `H`.
        season_length: Steps in a season.
    """
    values = last_season(panel, series, origin, horizon, season_length)
    return panel.in_data_units(series, values)


def last_season(panel: Panel, series: Tensor, origin: Tensor, horizon: int, season_length: int) -> Tensor:
    """Return the same as `[B, H, V]` on the scale of the store, where a series with a level lacks it."""
    step = torch.arange(horizon, device=origin.device) % season_length
    row = origin[:, None] - season_length + step
    # Where there is no whole season yet, the last value.
    row = torch.where(origin[:, None] < season_length, origin[:, None] - 1, row)
    return panel.gather_rows(panel.values, panel.offsets[series, None] + row)


@BASELINES.register("drift")
class Drift(Baseline):
    """Prolongs the line through the first and the last value before the origin; a single value is repeated."""

    order = 30

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    @classmethod
    def fit(cls, history: History) -> Drift:
        """Return the baseline, which has nothing to fit."""
        return cls(history.panel)

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Return forecasts `[B, H, V]`, data units."""
        panel = self.panel
        begin = panel.offsets[series]
        first, last = (panel.gather_rows(panel.values, row).double() for row in (begin, begin + origin - 1))
        slope = (last - first) / (origin - 1).clamp(min=1)[:, None]
        lead = torch.arange(1, horizon + 1, device=origin.device)
        values = last[:, None] + lead[:, None] * slope[:, None]
        return panel.in_data_units(series, values)


def naive_errors(panel: Panel, ends: Tensor, season_length: int) -> tuple[Tensor, Tensor]:
    """Return errors of the seasonal naive forecast one season ahead, inside each series' first rows.

    Rob J. Hyndman, Anne B. Koehler (2006), Another Look at Measures of Forecast Accuracy,
    https://doi.org/10.1016/j.ijforecast.2006.03.001

    Args:
        panel: The series.
        ends: `[S]` int64 row at which each series' rows end.
        season_length: Steps in a season.

    Returns:
        The mean absolute error, the unit of MASE, and the root mean squared error, the unit of RMSSE: `[S, V]`
        float64 each, data units; nan where a series is too short or never changes.
    """
    shape = (len(panel), panel.values.shape[1])
    total, squares, count = (panel.values.new_zeros(shape, dtype=torch.float64) for _ in range(3))
    for block in panel.blocks():
        rows = slice(max(block.start, season_length), max(block.stop, season_length))
        earlier = slice(rows.start - season_length, rows.stop - season_length)
        series, row = panel.locate(rows)
        compared = (row >= season_length) & (row < ends[series])
        both = panel.observed[rows] & panel.observed[earlier] & compared[:, None]
        errors = torch.where(both, (panel.values[rows] - panel.values[earlier]).abs(), 0.0).double()
        for sums, part in ((total, errors), (squares, errors.square()), (count, both.double())):
            sums.index_add_(0, series, part)
    absolute, root = (torch.where(total > 0, mean, torch.nan) for mean in (total / count, (squares / count).sqrt()))
    return absolute, root
