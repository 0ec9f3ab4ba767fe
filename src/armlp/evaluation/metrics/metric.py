"""The mean of a score over observed values, by lead: what every metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from armlp.arguments import check_arguments
from armlp.errors import refuse_below
from armlp.evaluation.metrics.forecast import Forecast
from armlp.model.distributions import Predictive


class LeadMetric(Metric, ABC):
    """The mean of a score over observed values, kept by lead; sums are synchronised across processes.

    Args:
        horizon: `H`.
        num_series: `S`, where means are wanted by series too; 0 where they are not.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor
    series_total: Tensor
    series_count: Tensor

    def __init__(self, horizon: int, num_series: int = 0, **options: Any) -> None:
        super().__init__(**options)
        sizes = check_arguments(LeadMetric.__init__, {"horizon": horizon, "num_series": num_series})
        refuse_below("horizon", sizes["horizon"], 1)
        refuse_below("num_series", sizes["num_series"], 0)
        for name, size in {"": horizon, "series_": num_series}.items():
            for sums in ("total", "count"):
                self.add_state(name + sums, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """One score per value, `[B, H(, V)]`; nan where it is not defined, or the truth is nan: not observed."""

    def weight(self, truth: Tensor) -> Tensor:
        """What each value counts, `[B, H(, V)]`."""
        return torch.ones_like(truth)

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """From the sums of scores and of weights to the metric."""
        return total / count

    def update(
        self,
        forecast: Tensor | Predictive | Forecast,
        truth: Tensor,
        observed: Tensor | None = None,
        unit: Tensor | None = None,
        series: Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            forecast: Paths `[B, P, H(, V)]`, or a distribution of values `[B, H(, V)]`, data units.
            truth: `[B, H(, V)]`, data units.
            observed: `[B, H(, V)]` bool; what is not observed does not count. All of it where left out.
            unit: `[B, 1(, V)]` error of the seasonal naive inside the series, data units, for scaled metrics.
            series: `[B]` int64 index of the series, where means are wanted by series.
        """
        if not len(truth):
            return  # the last batch of a process that has fewer than the others
        forecast = Forecast.of(forecast)
        observed = torch.ones_like(truth, dtype=torch.bool) if observed is None else observed
        unit = torch.full_like(truth[:, :1], torch.nan) if unit is None else unit
        score = self.score(forecast, torch.where(observed, truth, torch.nan), unit)
        # What has no score of its own is left out, but a forecast that diverged is not: it makes the mean nan.
        counted = observed & (~score.isnan() | ~forecast.finite)
        others = [axis for axis in range(score.dim()) if axis != 1]
        for name, values in {"total": score, "count": self.weight(truth)}.items():
            part = torch.where(counted, values, 0.0).double()
            setattr(self, name, getattr(self, name) + part.sum(others))
            if series is not None and len(self.series_total):
                getattr(self, f"series_{name}").index_add_(0, series, part.flatten(1).sum(1))

    def compute(self) -> Tensor:
        """The mean over all observed values; nan where there was none."""
        return self.mean(self.total.sum(), self.count.sum())

    def by_lead(self) -> Tensor:
        """`[H]` the mean at each lead."""
        return self.mean(self.total, self.count)

    def by_series(self) -> Tensor:
        """`[S]` the mean of each series, nan where nothing of it was observed; of a metric made with `num_series`."""
        return self.mean(self.series_total, self.series_count)
