"""Metrics of a forecast relative to those of a reference."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from armlp.evaluation.metrics.base import Forecast, LeadMetric, as_forecast
from armlp.evaluation.metrics.point import MeanAbsoluteScaledError, SymmetricMAPE
from armlp.model.families.base import Predictive


class _Relative(WrapperMetric):
    """Metrics of a forecast and of a reference over the same values."""

    full_state_update = False

    def __init__(self, *metrics: LeadMetric, **options: Any) -> None:
        super().__init__(**options)
        self.ours = MetricCollection(metrics, compute_groups=False)
        self.theirs = self.ours.clone()

    def update(
        self,
        forecast: Tensor | Predictive | Forecast,
        reference: Tensor | Predictive | Forecast,
        truth: Tensor,
        observed: Tensor | None = None,
        unit: Tensor | None = None,
        series: Tensor | None = None,
    ) -> None:
        """Add a batch; `reference` is another forecast of the same truth, and the rest is as in `LeadMetric.update`."""
        self.ours.update(as_forecast(forecast), truth, observed, unit, series)
        self.theirs.update(as_forecast(reference), truth, observed, unit, series)

    @abstractmethod
    def _combined(self, ratios: Tensor) -> Tensor:
        """Return the metric from the ratios of each score to that of the reference, `[metrics, ...]`."""

    def _ratios(self, method: str) -> Tensor:
        pairs = zip(self.ours.values(), self.theirs.values(), strict=True)
        return torch.stack([getattr(one, method)() / getattr(other, method)() for one, other in pairs])

    def compute(self) -> Tensor:
        """Return the metric over all observed values."""
        return self._combined(self._ratios("compute"))

    def by_lead(self) -> Tensor:
        """Return the metric at each lead, `[H]`."""
        return self._combined(self._ratios("by_lead"))

    def by_series(self) -> Tensor:
        """Return the metric of each series, `[S]`; needs `num_series`."""
        return self._combined(self._ratios("by_series"))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Add a batch, and return the metric over all batches."""
        self.update(*args, **kwargs)
        return self.compute()

    def reset(self) -> None:
        """Remove all batches."""
        self.ours.reset()
        self.theirs.reset()
        super().reset()


class Skill(_Relative):
    """`1 - score / score of the reference`: 1 is perfect, above 0 the forecast is better.

    Args:
        metric: The metric that scores both, such as `MeanAbsoluteScaledError(horizon)`.
    """

    higher_is_better = True

    def __init__(self, metric: LeadMetric, **options: Any) -> None:
        super().__init__(metric, **options)

    def _combined(self, ratios: Tensor) -> Tensor:
        return 1 - ratios[0]


class OverallWeightedAverage(_Relative):
    """OWA of the M4 competition: the mean of sMAPE and MASE relative to Naive2; below 1 the forecast is better.

    Spyros Makridakis, Evangelos Spiliotis, Vassilios Assimakopoulos (2020), The M4 Competition,
    https://doi.org/10.1016/j.ijforecast.2019.04.014
    """

    higher_is_better = False

    def __init__(self, horizon: int, num_series: int = 0, **options: Any) -> None:
        parts = SymmetricMAPE(horizon, num_series), MeanAbsoluteScaledError(horizon, num_series)
        super().__init__(*parts, **options)

    def _combined(self, ratios: Tensor) -> Tensor:
        return ratios.mean(0)
