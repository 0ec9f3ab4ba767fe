"""The Theta method."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.evaluation.baselines import BASELINES, Baseline, History
from armlp.evaluation.baselines.naive import seasonal_indices

_RATES = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)  # smoothing rates to try
_MAX_ROWS = 1000  # earlier rows have little weight
_CHUNK = 1 << 18


@BASELINES.register("theta")
class Theta(Baseline):
    """Add to exponential smoothing a share of the distance between the trend line and the smoothed line.

    For a seasonally adjusted series `y` with the least-squares line `T` the forecast is `S(y) + k (T - S(T))`, where
    `S` is simple exponential smoothing. `k = 1/2` won the M3 competition; here `k`, between 0 and 1, and the smoothing
    rate minimize the one-step squared error in the last `max_rows` rows before each origin. Seasonal indices are those
    of `Naive2`, multiplicative where all values are above 0. `chunk` values are smoothed at a time.

    Vassilis Assimakopoulos, Konstantinos Nikolopoulos (2000), The theta model: a decomposition approach to forecasting,
    https://doi.org/10.1016/S0169-2070(00)00066-2; Jose A. Fiorucci et al. (2016), Models for optimising the theta
    method and their relationship to state space models, https://doi.org/10.1016/j.ijforecast.2016.02.005
    """

    default = False
    order = 50

    def __init__(self, panel: Panel, season_length: int, max_rows: int = _MAX_ROWS, chunk: int = _CHUNK) -> None:
        self.panel, self.season_length = panel, season_length
        self.max_rows, self.chunk = max_rows, chunk

    @classmethod
    def fit(cls, history: History) -> Theta:
        """Return the baseline, which is fitted again at every origin."""
        return cls(history.panel, history.season_length)

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Return forecasts `[B, H, V]` float64, data units; each depends on its origin only."""
        channels = self.panel.values.shape[1]
        values = torch.empty(len(series), channels, horizon, dtype=torch.float64)
        order = origin.argsort()
        while len(order):
            count = max(1, self.chunk // (channels * min(self.max_rows, int(origin[order[-1]]))))
            block, order = order[-count:], order[:-count]
            pairs = zip(series[block].tolist(), origin[block].tolist(), strict=True)
            past = (self.panel.series(index)[max(0, end - self.max_rows) : end] for index, end in pairs)
            rows = [row for values_before in past for row in values_before.double().T]
            values[block] = forecasts(rows, self.season_length, horizon).unflatten(0, (len(block), channels))
        return values.transpose(1, 2)


def forecasts(rows: list[Tensor], season_length: int, horizon: int, rates: Tensor = _RATES) -> Tensor:
    """Return Theta forecasts of several series, `[rows, H]` float64.

    Each row is `[n]` float64, of any length from 1; `rates` are the smoothing rates to try.
    """
    factors, terms = seasonal_indices(rows, season_length)
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    time = torch.arange(values.shape[1])
    inside, phase = time < lengths, time % season_length
    adjusted = torch.where(inside, (values - terms[:, phase]) / factors[:, phase], 0.0)
    # Subtract the first value and divide by the largest distance from it, so that squares stay finite.
    first = adjusted[:, :1]
    unit = torch.where(inside, adjusted - first, 0.0).abs().amax(1, keepdim=True)
    unit = torch.where(unit > 0, unit, 1.0)
    adjusted = torch.where(inside, (adjusted - first) / unit, 0.0)
    middle, mean = (lengths - 1) / 2, adjusted.sum(1, keepdim=True) / lengths
    distance = torch.where(inside, time - middle, 0.0)
    slope = (distance * adjusted).sum(1, keepdim=True) / distance.square().sum(1, keepdim=True).clamp(min=0.5)
    end = lengths - 1 + torch.arange(1, horizon + 1)
    *found, errors = _smooth(adjusted, mean + slope * (time - middle), inside, rates)
    best = errors.argmin(1, keepdim=True)
    smoothed, line, share = (part.gather(1, best) for part in found)
    ahead = smoothed + share * (mean + slope * (end - middle) - line)
    row, season = torch.arange(len(rows))[:, None], end % season_length
    return (first + unit * ahead) * factors[row, season] + terms[row, season]


def _smooth(values: Tensor, line: Tensor, inside: Tensor, rates: Tensor) -> tuple[Tensor, ...]:
    """Smooth series and their lines, `[rows, n]` each, with every rate; `inside` masks the padding.

    Return, `[rows, rates]` each, S(y) and S(T) at the end, the best k, and its sum of squared one-step errors.
    """
    smoothed, trend = (part[:, :1].repeat(1, len(rates)) for part in (values, line))
    # One-step errors are error - k * gap, so their sum of squares is a parabola in k.
    squares, products, lines = (torch.zeros_like(smoothed) for _ in range(3))
    for value, point, here in zip(values.T[1:, :, None], line.T[1:, :, None], inside.T[1:, :, None], strict=True):
        error, gap = torch.where(here, value - smoothed, 0.0), torch.where(here, point - trend, 0.0)
        squares += error.square()
        products += error * gap
        lines += gap.square()
        smoothed += rates * error
        trend += rates * gap
    share = (products / lines.clamp(min=torch.finfo(lines.dtype).tiny)).clamp(0, 1)
    return smoothed, trend, share, squares - 2 * share * products + share.square() * lines
