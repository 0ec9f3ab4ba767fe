"""The ridge AR: one linear map from the context to the horizon."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.loaders import TrainingLoader
from armlp.data.windows import gather
from armlp.evaluation.baselines import BASELINES, Baseline, History
from armlp.evaluation.baselines.naive import last_season

# With these limits a fit takes about a second.
_MAX_WINDOWS = 100_000
_MAX_INPUTS = 512
_MAX_PRODUCTS = 4e9
_CHUNK = 1 << 18
_PENALTIES = torch.logspace(-6, 3, 10, dtype=torch.float64)


@BASELINES.register("ridge AR")
class RidgeAR(Baseline):
    """Forecast all leads at once by one ridge regression on the values before the origin, shared by all series.

    Inputs are the last 512 values of the context, at most, less their mean. Outputs are the errors of the seasonal
    naive, so that a large penalty gives the seasonal naive. Without a constant, forecasts shift and scale with the
    series. Errors are weighted in units of the seasonal naive's error inside the series, as in MASE. Each channel has
    separate weights. The penalty is the best one on the last quarter of each series' windows, which are included in the
    final fit.

    Arthur E. Hoerl, Robert W. Kennard (1970), Ridge Regression: Biased Estimation for Nonorthogonal Problems,
    https://doi.org/10.1080/00401706.1970.10488634
    """

    order = 40

    def __init__(self, history: History) -> None:
        super().__init__(history)
        panel, ends, unit, context_length, horizon, _ = history
        channels = panel.values.shape[1]
        self.context_length = length = min(context_length, _MAX_INPUTS, int((2e9 / channels) ** (1 / 3)))
        self.weights = torch.zeros(channels, length, horizon, dtype=torch.float64)
        if not (ends >= 2).any():
            return
        loader = TrainingLoader(panel, ends, length, horizon, batch_size=1)
        count = int(_MAX_PRODUCTS / (channels * length * (length + horizon)))
        series, origin = loader.drawn(min(_MAX_WINDOWS, max(count, 4 * length)))
        late = 4 * (origin - loader.first_origins[series]) >= 3 * loader.window_offsets.diff()[series]
        if not late.any():  # no series has four windows
            late = torch.arange(len(origin)) % 4 == 3
        if not late.any():
            return  # too few windows to learn from
        weight = (1 / unit).nan_to_num(nan=0.0).view(len(panel), channels)
        early, rest = (self._moments(series[part], origin[part], ends, weight) for part in (~late, late))
        for channel in range(channels):
            gram, moments = (sums[channel] for sums in rest)
            fits = ridge_path(early[0][channel], early[1][channel], _PENALTIES)
            errors = [((gram @ fit - 2 * moments) * fit).sum() for fit in fits]
            best = int(torch.stack(errors).argmin())
            gram, moments = gram + early[0][channel], moments + early[1][channel]
            self.weights[channel] = ridge_path(gram, moments, _PENALTIES[best : best + 1])[0]

    def _moments(self, series: Tensor, origin: Tensor, ends: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of products of inputs with inputs and with outputs, `[V, L, L]` and `[V, L, H]`."""
        channels, length, horizon = self.weights.shape
        gram, moments = (self.weights.new_zeros(channels, length, size) for size in (length, horizon))
        count = max(1, _CHUNK // (channels * (length + horizon)))
        for index, row in zip(series.split(count), origin.split(count), strict=True):
            windows = gather(self.panel, index, row, length, horizon, ends[index])
            inputs = _centred(windows.context)
            outputs = windows.target.double() - last_season(self.panel, index, row, horizon, self.season_length)
            # A missing target is filled with the last value before it, so the window counts less.
            observed = windows.target_observed.double().mean(1).sqrt()
            scale = (observed * weight[index])[:, None]
            inputs, outputs = ((part * scale).movedim(2, 0) for part in (inputs, outputs))
            gram += inputs.transpose(1, 2) @ inputs
            moments += inputs.transpose(1, 2) @ outputs
        return gram, moments

    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Return forecasts `[B, H, V]` float64, data units; `horizon` is at most that of the fit."""
        inputs = _centred(gather(self.panel, series, origin, self.context_length, 0).context)
        change = torch.einsum("blv,vlh->bhv", inputs, self.weights[..., :horizon])
        values = last_season(self.panel, series, origin, horizon, self.season_length) + change
        return self.panel.in_data_units(series, values)


def _centred(context: Tensor) -> Tensor:
    """Return the context `[B, L, V]` less its mean, float64."""
    values = context.double()
    return values - values.mean(1, keepdim=True)


def ridge_path(gram: Tensor, moments: Tensor, penalties: Tensor) -> list[Tensor]:
    """Return the ridge regression weights `[n, m]` for each penalty, in units of the inputs' mean square.

    `gram [n, n]` and `moments [n, m]` are the sums of products of inputs with inputs and with outputs.
    """
    values, vectors = torch.linalg.eigh(gram)
    rotated = vectors.T @ moments
    smallest = torch.finfo(values.dtype).tiny
    return [
        vectors @ (rotated / (values.clamp(min=0) + penalty * values.mean().clamp(min=smallest))[:, None])
        for penalty in penalties
    ]
