"""How long a forecast of a chaotic system holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from armlp.evaluation.metrics.forecast import Forecast
from armlp.evaluation.metrics.metric import LeadMetric


class ValidPredictionTime(LeadMetric):
    """Time until the error of the median first exceeds a limit, its mean over windows.

    The error is the root mean square over the channels, in units of `unit`: the standard deviation of each channel on
    the attractor. By lead, it is the share of windows whose forecast still holds there. What holds to the end of the
    horizon counts as long as that.

    P. R. Vlachas et al. (2020), Backpropagation algorithms and Reservoir Computing in Recurrent Neural Networks for the
    forecasting of complex spatiotemporal dynamics, https://doi.org/10.1016/j.neunet.2020.02.016

    Args:
        horizon: `H`.
        limit: Of the error.
        step: Time between two leads, such as the sampling interval times the largest Lyapunov exponent.
        **options: `num_series`, and those of every torchmetrics metric.
    """

    higher_is_better = True

    def __init__(self, horizon: int, limit: float = 0.4, step: float = 1.0, **options: Any) -> None:
        super().__init__(horizon, **options)
        self.limit = limit
        self.step = step

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """1 as long as the forecast holds, 0 after."""
        error = ((forecast.median() - truth) / unit).square()
        finite = forecast.finite
        if truth.dim() == 3:
            error, finite = error.nanmean(2, keepdim=True), finite.all(2, keepdim=True)
        lost = (error > self.limit**2) | ~finite  # what was not observed ends nothing
        holds = (lost.cumsum(1) == 0).double()
        return torch.where((truth / unit).isnan(), torch.nan, holds)

    def compute(self) -> Tensor:
        """The mean time; nan where nothing was observed."""
        return self.by_lead().nanmean() * len(self.total) * self.step

    def by_series(self) -> Tensor:
        """`[S]` the mean time of each series."""
        return super().by_series() * len(self.total) * self.step
