"""The seasonal naive, the drift, Naive2, and the unit of scaled errors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from armlp.data.panel import Panel
from armlp.evaluation.baselines import BASELINES, Baseline, History

_CRITICAL = 1.645  # critical value of a normal variable at 90%, two-sided
_CHUNK = 1 << 18  # values to decompose at a time


@BASELINES.register("seasonal naive")
class SeasonalNaive(Baseline):
    """Repeat the last season before the origin; in a series shorter than a season, repeat the last value."""

    order = 10
    numeric = None

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
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

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
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


@BASELINES.register("Naive2")
class Naive2(Baseline):
    """Remove the season from the last value before the origin, and add the season of each lead.

    A series is seasonal if it has three seasons and its autocorrelation at the season differs from zero at 90%. Its
    indices are those of the classical decomposition, multiplicative as in M4, additive where a value is not above 0.
    Both come from the rows before the first origin and stay fixed for later origins.

    Spyros Makridakis, Evangelos Spiliotis, Vassilios Assimakopoulos (2020), The M4 Competition,
    https://doi.org/10.1016/j.ijforecast.2019.04.014
    """

    order = 20

    def __init__(self, panel: Panel, ends: Tensor, season_length: int) -> None:
        self.panel, self.ends, self.season_length = panel, ends, season_length
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}  # indices of the series of the last batch

    @classmethod
    def fit(cls, history: History) -> Naive2:
        """Return the baseline; seasons are estimated when a series is first forecast."""
        return cls(history.panel, history.ends, history.season_length)

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        season = self.season_length
        last = self.panel.gather_rows(self.panel.values, self.panel.offsets[series] + origin - 1)
        last = self.panel.in_data_units(series, last[:, None]).double()
        factors, terms = self._indices(series)  # [B, m, V]
        phase = (origin[:, None] + torch.arange(horizon)) % season
        row = torch.arange(len(series))[:, None]
        before = (origin[:, None] - 1) % season
        adjusted = (last - terms[row, before]) / factors[row, before]
        return adjusted * factors[row, phase] + terms[row, phase]

    def _indices(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Return seasonal factors and terms, `[B, m, V]` each."""
        batch = series.tolist()
        self._kept = {index: self._kept[index] for index in dict.fromkeys(batch) if index in self._kept}
        missing = [index for index in dict.fromkeys(batch) if index not in self._kept]
        lengths = {index: max(0, int(self.ends[index])) for index in missing}
        missing.sort(key=lengths.__getitem__)
        while missing:
            block = missing[-max(1, _CHUNK // max(1, lengths[missing[-1]])) :]
            del missing[-len(block) :]
            parts = [self.panel.series(index)[: lengths[index]].double().T for index in block]  # [V, n]
            found = seasonal_indices([row for part in parts for row in part], self.season_length)
            pairs = zip(*(kind.unflatten(0, (len(block), -1)).transpose(1, 2) for kind in found), strict=True)
            self._kept |= dict(zip(block, pairs, strict=True))
        factors, terms = zip(*(self._kept[index] for index in batch), strict=True)
        return torch.stack(factors), torch.stack(terms)


def seasonal_indices(rows: list[Tensor], season_length: int) -> tuple[Tensor, Tensor]:
    """Return the seasonal factors and terms of several series, `[rows, m]` each; phase 0 is that of the first value.

    Factors are 1 and terms 0 where they are not used. Each row is `[n]` float64, of any length.
    """
    factors, terms = torch.ones(len(rows), season_length).double(), torch.zeros(len(rows), season_length).double()
    long = [index for index, row in enumerate(rows) if season_length > 1 and len(row) >= 3 * season_length]
    if not long:
        return factors, terms
    lengths = torch.tensor([len(rows[index]) for index in long])
    values = torch.nn.utils.rnn.pad_sequence([rows[index] for index in long], batch_first=True)
    inside = torch.arange(values.shape[1]) < lengths[:, None]
    seasonal = _is_seasonal(values, inside, season_length)
    values, inside, index = values[seasonal], inside[seasonal], torch.tensor(long)[seasonal]
    if not len(index):
        return factors, terms
    half = season_length // 2
    trend = F.avg_pool1d(values[:, None], season_length, 1)
    trend = (F.avg_pool1d(trend, 2, 1) if season_length % 2 == 0 else trend)[:, 0]
    middle, known = values[:, half:-half], inside[:, 2 * half :]
    positive = ((values > 0) | ~inside).all(1, keepdim=True)
    seasons = torch.where(positive, middle / torch.where(positive & known, trend, 1.0), middle - trend)
    phase = (torch.arange(seasons.shape[1]) + half) % season_length
    total = factors.new_zeros(len(index), season_length)
    count = total.index_add(1, phase, known.double())
    mean = total.index_add(1, phase, torch.where(known, seasons, 0.0)) / count
    overall = mean.mean(1, keepdim=True)
    factors[index] = torch.where(positive, mean / overall, 1.0)
    terms[index] = torch.where(positive, 0.0, mean - overall)
    return factors, terms


def _is_seasonal(values: Tensor, inside: Tensor, season_length: int) -> Tensor:
    """Return whether the autocorrelation of each row at the season differs from zero at 90%, `[rows]` bool."""
    length = inside.sum(1, keepdim=True)
    centred = torch.where(inside, values - values[:, :1], 0.0)  # large values would cost digits
    centred = centred / centred.abs().amax(1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    centred = torch.where(inside, centred - centred.sum(1, keepdim=True) / length, 0.0)
    power = torch.fft.rfft(centred, n=values.shape[1] + season_length).abs().square()
    products = torch.fft.irfft(power, n=values.shape[1] + season_length)[:, : season_length + 1]
    varies = products[:, 0] > 1e-6  # at least 1/4 unless the series is constant
    correlation = products[:, 1:] / torch.where(varies, products[:, 0], 1.0)[:, None]
    limit = _CRITICAL * ((1 + 2 * correlation[:, :-1].square().sum(1)) / length[:, 0]).sqrt()
    return varies & (correlation[:, -1].abs() > limit)
