"""Scores of the whole predictive distribution: of each value, and of all values of a window together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from armlp.evaluation.metrics.forecast import Forecast, Paths
from armlp.evaluation.metrics.metric import LeadMetric
from armlp.evaluation.metrics.scores import energy_score, variogram_score

# So many differences between paths are in memory at a time.
_AT_ONCE = 1 << 24


class ContinuousRankedProbabilityScore(LeadMetric):
    """CRPS, data units: of paths by the estimator that is fair to few of them, of a distribution in closed form.

    Paths that share the distribution evenly, as armlp's do, come as `Paths(values, even=True)`.

    Christopher A. T. Ferro (2014), Fair scores for ensemble forecasts, https://doi.org/10.1002/qj.2270
    """

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Of paths, `mean |x - y| - mean over pairs |x - x'| / 2`."""
        return forecast.crps(truth)


class ScaledCRPS(ContinuousRankedProbabilityScore):
    """CRPS in units of the seasonal naive's error inside the series, which weighs all series alike."""

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """`CRPS / unit`; a series that never changes has no unit and does not count."""
        return super().score(forecast, truth, unit) / unit


class EnergyScore(LeadMetric):
    """Energy score of whole paths, data units: the CRPS of vectors, which judges how their values hang together too.

    Every observed value of a window counts its score, so by lead it is the score of the windows observed there.
    """

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """The score of the window over the root of its number of values: as large as that of one of them."""
        paths = _paths(self, forecast)
        at_once = max(1, _AT_ONCE // paths.values.shape[1] ** 2)
        parts = zip(*(part.split(at_once) for part in (paths.values, truth, ~truth.isnan())), strict=True)
        return torch.cat([energy_score(values, wanted, seen, paths.even) for values, wanted, seen in parts])


class VariogramScore(LeadMetric):
    """Variogram score of whole paths, which sees wrong correlations between leads and channels best.

    Every observed value of a window counts its score, so by lead it is the score of the windows observed there.

    Args:
        horizon: `H`.
        order: Power of the differences; the score has units of the data to the power of twice the order.
        **options: `num_series`, and those of every torchmetrics metric.
    """

    def __init__(self, horizon: int, order: float = 0.5, **options: Any) -> None:
        super().__init__(horizon, **options)
        self.order = order

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """The mean over pairs of the window's values; nan where it has no pair."""
        return variogram_score(_paths(self, forecast).values, truth, ~truth.isnan(), self.order)


def _paths(metric: LeadMetric, forecast: Forecast) -> Paths:
    if not isinstance(forecast, Paths) or forecast.values.shape[1] < 2:
        raise TypeError(f"{type(metric).__name__} judges how values hang together: it needs two paths or more.")
    return forecast
