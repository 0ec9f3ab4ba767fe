"""The ridge AR: the best linear map from the context to the horizon, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.loaders import TrainingLoader
from armlp.data.panel import Panel
from armlp.data.windows import gather
from armlp.evaluation.baselines.naive import last_season

# A fit on at most so many windows of so many inputs, and of so many multiplications in all, takes about a second.
_MAX_WINDOWS = 100_000
_MAX_INPUTS = 512
_MAX_PRODUCTS = 4e9
_CHUNK = 1 << 18
_PENALTIES = torch.logspace(-6, 3, 10, dtype=torch.float64)


class RidgeAR:
    """One ridge regression for all series, from the values before the origin to all leads at once.

    Its inputs are the context less its mean, its outputs what the seasonal naive leaves over, so that a large penalty
    gives the seasonal naive. No constant is fitted: forecasts shift and scale with the series. Errors count in units of
    the seasonal naive's error inside the series, as in MASE. Each channel has weights of its own. The penalty is the
    one that does best on the last quarter of every series' windows, on which it is then fitted too.

    Arthur E. Hoerl, Robert W. Kennard (1970), Ridge Regression: Biased Estimation for Nonorthogonal Problems,
    https://doi.org/10.1080/00401706.1970.10488634

    Args:
        panel: The flat store; where a value is missing it holds the last observed one.
        ends: `[S]` int64 row at which each series' rows before the first origin end; no later row is fitted on.
        unit: `[S, V]` of each series' errors, data units; series without one (nan) are not fitted on.
        context_length: `L`; of a longer context than 512 the last so many values are used.
        horizon: `H`.
        season_length: Of the seasonal naive.
        seed: Of the windows that are drawn where there are too many.
    """

    def __init__(
        self,
        panel: Panel,
        ends: Tensor,
        unit: Tensor,
        context_length: int,
        horizon: int,
        season_length: int,
        seed: int = 0,
    ) -> None:
        channels = panel.values.shape[1]
        self.panel = panel
        self.context_length = length = min(context_length, _MAX_INPUTS, int((2e9 / channels) ** (1 / 3)))
        self.horizon = horizon
        self.season_length = season_length
        self.weights = torch.zeros(channels, length, horizon, dtype=torch.float64)
        if not bool((ends >= 2).any()):
            return
        loader = TrainingLoader(panel, ends, length, horizon, 1, seed)
        most = int(_MAX_PRODUCTS / (channels * length * (length + horizon)))
        series, origin = loader.drawn(min(_MAX_WINDOWS, max(most, 4 * length)))
        late = 4 * (origin - loader.first_origins[series]) >= 3 * loader.window_offsets.diff()[series]
        if not bool(late.any()):  # no series has four windows
            late = torch.arange(len(origin)) % 4 == 3
        if not bool(late.any()):
            return  # too few windows to learn from
        weight = (1 / unit).nan_to_num(nan=0.0)
        early, left = (self._moments(series[part], origin[part], ends, weight) for part in (~late, late))
        for channel in range(channels):
            gram, moments = (sums[channel] for sums in left)
            fits = ridge_path(early[0][channel], early[1][channel], _PENALTIES)
            errors = [((gram @ fit - 2 * moments) * fit).sum() for fit in fits]
            best = int(torch.stack(errors).argmin())
            gram, moments = gram + early[0][channel], moments + early[1][channel]
            self.weights[channel] = ridge_path(gram, moments, _PENALTIES[best : best + 1])[0]

    def _moments(self, series: Tensor, origin: Tensor, ends: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of the products of inputs with inputs and with outputs, `[V, L, L]` and `[V, L, H]`."""
        channels, length, horizon = self.weights.shape
        gram, moments = (self.weights.new_zeros(channels, length, size) for size in (length, horizon))
        at_once = max(1, _CHUNK // (channels * (length + horizon)))
        for place, row in zip(series.split(at_once), origin.split(at_once), strict=True):
            windows = gather(self.panel, place, row, length, horizon, ends[place])
            inputs = self._inputs(windows.context)
            outputs = windows.target.double() - last_season(self.panel, place, row, horizon, self.season_length)
            # A missing target is the last value before it, which is worth less.
            seen = windows.target_observed.double().mean(1).sqrt()
            scale = (seen * weight[place])[:, None]
            inputs, outputs = ((part * scale).movedim(2, 0) for part in (inputs, outputs))
            gram += inputs.transpose(1, 2) @ inputs
            moments += inputs.transpose(1, 2) @ outputs
        return gram, moments

    def _inputs(self, context: Tensor) -> Tensor:
        """`[B, L, V]` float64, the context less its mean."""
        values = context.double()
        return values - values.mean(1, keepdim=True)

    def forecast(self, series: Tensor, origin: Tensor) -> Tensor:
        """Forecasts, `[B, H, V]` float64, data units.

        Args:
            series: `[B]` int64.
            origin: `[B]` int64 row of the first value to forecast.
        """
        inputs = self._inputs(gather(self.panel, series, origin, self.context_length, 0).context)
        change = torch.einsum("blv,vlh->bhv", inputs, self.weights)
        values = last_season(self.panel, series, origin, self.horizon, self.season_length) + change
        return self.panel.in_data_units(series, values)


def ridge_path(gram: Tensor, moments: Tensor, penalties: Tensor) -> list[Tensor]:
    """Ridge regressions, one for each penalty.

    Args:
        gram: `[n, n]` sums of the products of inputs with inputs.
        moments: `[n, m]` and with outputs.
        penalties: In units of the inputs' mean square.

    Returns:
        Weights `[n, m]`, one for each penalty.
    """
    values, vectors = torch.linalg.eigh(gram)
    turned = vectors.T @ moments
    smallest = torch.finfo(values.dtype).tiny
    return [
        vectors @ (turned / (values.clamp(min=0) + penalty * values.mean().clamp(min=smallest))[:, None])
        for penalty in penalties
    ]
