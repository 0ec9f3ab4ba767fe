"""The Theta method: a line through all of a series' past and the smoothed deviations from it, seasonally adjusted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.evaluation.baselines.naive2 import seasonal_indices

# How fast the smoothed series may forget.
_RATES = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
# Of a longer series it sees the end: rows are smoothed one by one, and what is long ago has little weight.
_MAX_ROWS = 1000
# So many values are forecast from at a time, over several series.
_CHUNK = 1 << 18


class Theta:
    """Simple exponential smoothing, and a share of the distance from a smoothed line to that line itself.

    Of a seasonally adjusted series with the line `T` of least squares it forecasts `S(y) + k (T - S(T))`, where `S`
    smooths. `k = 1/2` is the winner of the M3 competition; here `k`, between 0 and 1, and the rate of smoothing are
    those with the least one-step squared error, found anew at every origin in the rows before it, the last 1,000 at
    most. Seasonal indices are those of `Naive2`, and multiply where all values are above 0.

    Vassilis Assimakopoulos, Konstantinos Nikolopoulos (2000), The theta model: a decomposition approach to
    forecasting, https://doi.org/10.1016/S0169-2070(00)00066-2; Jose A. Fiorucci et al. (2016), Models for optimising
    the theta method and their relationship to state space models, https://doi.org/10.1016/j.ijforecast.2016.02.005

    Args:
        panel: The flat store; where a value is missing it holds the last observed one.
        season_length: Steps in a season.
    """

    def __init__(self, panel: Panel, season_length: int) -> None:
        self.panel = panel
        self.season_length = season_length

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Forecasts, `[B, H, V]` float64, data units; an origin's does not depend on the others.

        Args:
            series: `[B]` int64.
            origin: `[B]` int64 row of the first value to forecast, at least 1.
            horizon: `H`.
        """
        channels = self.panel.values.shape[1]
        values = torch.empty(len(series), channels, horizon, dtype=torch.float64)
        order = origin.argsort()
        while len(order):
            most = max(1, _CHUNK // (channels * min(_MAX_ROWS, int(origin[order[-1]]))))
            block, order = order[-most:], order[:-most]
            pairs = zip(series[block].tolist(), origin[block].tolist(), strict=True)
            seen = (self.panel.series(index)[max(0, end - _MAX_ROWS) : end] for index, end in pairs)
            rows = [row for past in seen for row in past.double().T]
            values[block] = forecasts(rows, self.season_length, horizon).unflatten(0, (len(block), channels))
        return values.transpose(1, 2)


class _Smoothed(NamedTuple):
    """What of several series a forecast takes, each for every rate, `[rows, rates]`."""

    level: Tensor  # S(y) at the end
    line: Tensor  # S(T) at the end
    share: Tensor  # the best k
    error: Tensor  # its sum of squared one-step errors


def forecasts(rows: list[Tensor], season_length: int, horizon: int) -> Tensor:
    """Theta forecasts of several series.

    Args:
        rows: Values of each series, `[n]` float64, of any length from 1 on.
        season_length: `m`.
        horizon: `H`.

    Returns:
        `[rows, H]` float64.
    """
    factors, terms = seasonal_indices(rows, season_length)
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    time = torch.arange(values.shape[1])
    inside, phase = time < lengths, time % season_length
    adjusted = torch.where(inside, (values - terms[:, phase]) / factors[:, phase], 0.0)
    # From the first value on and in units of the largest distance from it, so that squares of any data stay finite.
    first = adjusted[:, :1]
    unit = torch.where(inside, adjusted - first, 0.0).abs().amax(1, keepdim=True)
    unit = torch.where(unit > 0, unit, 1.0)
    adjusted = torch.where(inside, (adjusted - first) / unit, 0.0)
    middle, mean = (lengths - 1) / 2, adjusted.sum(1, keepdim=True) / lengths
    distance = torch.where(inside, time - middle, 0.0)
    slope = (distance * adjusted).sum(1, keepdim=True) / distance.square().sum(1, keepdim=True).clamp(min=0.5)
    end = lengths - 1 + torch.arange(1, horizon + 1)
    smoothed = _smooth(adjusted, mean + slope * (time - middle), inside)
    best = smoothed.error.argmin(1, keepdim=True)
    level, line, share = (part.gather(1, best) for part in smoothed[:3])
    ahead = level + share * (mean + slope * (end - middle) - line)
    row, season = torch.arange(len(rows))[:, None], end % season_length
    return (first + unit * ahead) * factors[row, season] + terms[row, season]


def _smooth(values: Tensor, line: Tensor, inside: Tensor) -> _Smoothed:
    """Smooths series and their lines, both `[rows, n]`, with every rate, where they are `inside` their length."""
    level, trend = (part[:, :1].repeat(1, len(_RATES)) for part in (values, line))
    # One-step errors are R - k C: their sum of squares is a parabola in k.
    squares, products, lines = (torch.zeros_like(level) for _ in range(3))
    for value, point, here in zip(values.T[1:, :, None], line.T[1:, :, None], inside.T[1:, :, None], strict=True):
        error, gap = torch.where(here, value - level, 0.0), torch.where(here, point - trend, 0.0)
        squares += error.square()
        products += error * gap
        lines += gap.square()
        level += _RATES * error
        trend += _RATES * gap
    share = (products / lines.clamp(min=torch.finfo(lines.dtype).tiny)).clamp(0, 1)
    return _Smoothed(level, trend, share, squares - 2 * share * products + share.square() * lines)
