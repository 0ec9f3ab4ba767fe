"""Losses of quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from armlp.arguments import check_argument
from armlp.errors import UserError
from armlp.evaluation.metrics.forecast import Forecast
from armlp.evaluation.metrics.metric import LeadMetric

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
