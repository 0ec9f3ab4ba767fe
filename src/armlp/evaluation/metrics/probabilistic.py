"""Metrics of whole distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from armlp.arguments import check_argument
from armlp.errors import UserError
from armlp.evaluation.metrics.base import Forecast, LeadMetric, Paths
from armlp.evaluation.metrics.functional import energy_score, variogram_score

# So many differences between paths are in memory at a time.
_CHUNK = 1 << 24


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
        at_once = max(1, _CHUNK // paths.values.shape[1] ** 2)
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


_DECILES = tuple(tenth / 10 for tenth in range(1, 10))


class PinballLoss(LeadMetric):
    """Pinball loss, also called quantile loss, data units; its mean over several quantiles.

    Roger Koenker, Gilbert Bassett (1978), Regression Quantiles, https://doi.org/10.2307/1913643

    Args:
        horizon: `H`.
        probabilities: Of the quantiles, between 0 and 1; the nine deciles where left out.
        **options: `num_series`, and those of every torchmetrics metric.
    """

    def __init__(self, horizon: int, probabilities: Sequence[float] = _DECILES, **options: Any) -> None:
        super().__init__(horizon, **options)
        self.probabilities = check_argument("probabilities", probabilities, Sequence[float])
        for probability in self.probabilities:
            if not 0 < probability < 1:
                raise UserError(f"probabilities: {probability} is not between 0 and 1.")

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """`p (truth - quantile)` where the truth is above the quantile, `(1 - p) (quantile - truth)` below it."""
        excess = truth - forecast.quantiles(self.probabilities)
        level = torch.tensor(self.probabilities).to(excess).view(-1, *[1] * truth.dim())
        return torch.maximum(level * excess, (level - 1) * excess).mean(0)


class WeightedQuantileLoss(PinballLoss):
    """Mean weighted quantile loss, as GluonTS defines it: twice the pinball loss per absolute value of the truth.

    It has no units, and large series weigh more. Of a point forecast it is the sum of absolute errors over the sum of
    absolute values.
    """

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Twice the mean pinball loss."""
        return 2 * super().score(forecast, truth, unit)

    def weight(self, truth: Tensor) -> Tensor:
        """`|truth|`."""
        return truth.abs()
