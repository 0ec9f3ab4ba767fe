"""The seasonal naive, the drift, and the unit of scaled errors."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.evaluation.baselines.base import BASELINES, Baseline, History


@BASELINES.register("seasonal naive")
class SeasonalNaive(Baseline):
    """Repeat the last season before the origin; in a series shorter than a season, repeat the last value."""

    order = 10
    needs_numbers = False

    def __init__(self, panel: Panel, season_length: int) -> None:
        self.panel = panel
        self.season_length = season_length

    @classmethod
    def fit(cls, history: History) -> SeasonalNaive:
        """Return the baseline; nothing is fitted."""
        return cls(history.panel, history.season_length)

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Return forecasts `[B, H, V]`, data units."""
        return seasonal_naive(self.panel, series, origin, horizon, self.season_length)


def seasonal_naive(panel: Panel, series: Tensor, origin: Tensor, horizon: int, season_length: int) -> Tensor:
    """Return the forecasts of `SeasonalNaive`, `[B, H, V]`, data units."""
    values = last_season(panel, series, origin, horizon, season_length)
    return panel.in_data_units(series, values)


def last_season(panel: Panel, series: Tensor, origin: Tensor, horizon: int, season_length: int) -> Tensor:
    """Return the forecasts of `seasonal_naive` in the units of `panel.values`."""
    step = torch.arange(horizon, device=origin.device) % season_length
    row = origin[:, None] - season_length + step
    row = torch.where(origin[:, None] < season_length, origin[:, None] - 1, row)  # no whole season yet: the last value
    return panel.gather_rows(panel.values, panel.offsets[series, None] + row)


@BASELINES.register("drift")
class Drift(Baseline):
    """Extend the line through the first and the last value before the origin; repeat a single value."""

    order = 30

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    @classmethod
    def fit(cls, history: History) -> Drift:
        """Return the baseline; nothing is fitted."""
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
    """Return the mean absolute and the root mean squared error of the seasonal naive one season ahead, before `ends`.

    They are the units of MASE and of RMSSE, `[S, V]` float64 each, data units; nan where a series is too short or never
    changes.

    Rob J. Hyndman, Anne B. Koehler (2006), Another Look at Measures of Forecast Accuracy,
    https://doi.org/10.1016/j.ijforecast.2006.03.001
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
