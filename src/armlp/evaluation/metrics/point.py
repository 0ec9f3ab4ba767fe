"""Metrics of point forecasts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from armlp.evaluation.metrics.base import METRICS, Forecast, LeadMetric, Paths


@METRICS.register("mae")
class MeanAbsoluteError(LeadMetric):
    """Absolute error of the median, data units."""

    heading, order, rank, curve = "MAE", 10, 30, True

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `|median - truth|`."""
        return (forecast.median() - truth).abs()


@METRICS.register("rmse")
class RootMeanSquaredError(LeadMetric):
    """Root of the mean squared error of the median, data units."""

    heading, order, rank = "RMSE", 20, 130

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `(median - truth)²`, in float64, which holds the square of every float32."""
        return (forecast.median() - truth).double().square()

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """Return the root of the mean square."""
        return (total / count).sqrt()


@METRICS.register("smape")
class SymmetricMAPE(LeadMetric):
    """Symmetric mean absolute percentage error of the median, in percent, as the M4 competition defines it.

    Spyros Makridakis, Evangelos Spiliotis, Vassilios Assimakopoulos (2020), The M4 Competition,
    https://doi.org/10.1016/j.ijforecast.2019.04.014
    """

    heading, order, rank = "sMAPE", 30, 40

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `200 |median - truth| / (|median| + |truth|)`, 0 where both are 0."""
        point = forecast.median()
        size = point.abs() + truth.abs()
        return torch.where(size == 0, 0.0, 200 * ((point - truth).abs() / size))


@METRICS.register("mase")
class MeanAbsoluteScaledError(LeadMetric):
    """Absolute error of the median in units of the seasonal naive's error inside the series.

    Rob J. Hyndman, Anne B. Koehler (2006), Another Look at Measures of Forecast Accuracy,
    https://doi.org/10.1016/j.ijforecast.2006.03.001
    """

    heading, order, rank = "MASE", 40, 20

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `|median - truth| / unit`; a series that never changes has no unit and does not count."""
        return (forecast.median() - truth).abs() / unit


@METRICS.register("rmsse")
class RootMeanSquaredScaledError(RootMeanSquaredError):
    """Mean over windows of the root mean squared error, in units of the seasonal naive's RMSE inside the series.

    By lead and by series it is the root of the mean square.

    Spyros Makridakis, Evangelos Spiliotis, Vassilios Assimakopoulos (2022), The M5 Competition,
    https://doi.org/10.1016/j.ijforecast.2021.07.007
    """

    heading, order, rank = "RMSSE", 50, 110
    unit = "rmse"
    roots: Tensor
    windows: Tensor

    def __init__(self, horizon: int, num_series: int = 0, **options: Any) -> None:
        super().__init__(horizon, num_series, **options)
        for name in ("roots", "windows"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `((median - truth) / unit)²`; a series that never changes has no unit and does not count."""
        return ((forecast.median() - truth).double() / unit).square()

    def update_windows(self, score: Tensor, observed: Tensor, unit: Tensor) -> None:
        """Add the root mean square of each window."""
        counted = observed & ~unit.isnan()
        number = counted.sum(1)
        root = (torch.where(counted, score, 0.0).sum(1) / number.clamp(min=1)).sqrt()
        self.roots = self.roots + root.sum()
        self.windows = self.windows + (number > 0).sum()

    def compute(self) -> Tensor:
        """Return the mean over windows and their channels; nan without any."""
        return self.roots / self.windows


@METRICS.register("error_rate")
class ErrorRate(LeadMetric):
    """Share of symbols that differ from the most frequent symbol of the paths."""

    heading, order, rank, format, curve = "wrong", 100, 80, ".0%", True
    numeric = False

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return 1 where they differ and 0 where they agree."""
        if not isinstance(forecast, Paths):
            raise TypeError("ErrorRate counts the symbols of sampled paths [B, P, H, V], and a distribution came.")
        return torch.where(truth.isnan(), torch.nan, (forecast.values.mode(1).values != truth).double())


@METRICS.register("valid_prediction_time")
class ValidPredictionTime(LeadMetric):
    """Mean time until the error of the median first exceeds a limit.

    The error is the root mean square over the channels, in units of `unit`: the standard deviation of each channel on
    the attractor. By lead, it is the share of windows whose forecast is still within the limit. A forecast that never
    exceeds the limit counts the whole horizon.

    P. R. Vlachas et al. (2020), Backpropagation algorithms and Reservoir Computing in Recurrent Neural Networks for the
    forecasting of complex spatiotemporal dynamics, https://doi.org/10.1016/j.neunet.2020.02.016

    Args:
        limit: Largest valid error.
        step: Time between two leads, such as the sampling interval times the largest Lyapunov exponent.
    """

    default = False
    heading = "valid time"
    higher_is_better = True

    def __init__(self, horizon: int, limit: float = 0.4, step: float = 1.0, **options: Any) -> None:
        super().__init__(horizon, **options)
        self.limit = limit
        self.step = step

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return 1 before the lead at which the error first exceeds the limit, and 0 from there on."""
        error = ((forecast.median() - truth) / unit).square()
        finite = forecast.finite
        if truth.dim() == 3:
            error, finite = error.nanmean(2, keepdim=True), finite.all(2, keepdim=True)
        exceeds = (error > self.limit**2) | ~finite  # nan, where nothing was observed, exceeds no limit
        valid = (exceeds.cumsum(1) == 0).double()
        return torch.where((truth / unit).isnan(), torch.nan, valid)

    def compute(self) -> Tensor:
        """Return the mean time; nan where nothing was observed."""
        return self.by_lead().nanmean() * len(self.total) * self.step

    def by_series(self) -> Tensor:
        """Return the mean time of each series, `[S]`."""
        return super().by_series() * len(self.total) * self.step
