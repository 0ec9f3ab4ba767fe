"""Metrics of sampled paths against the truth, by lead, with masks.

Every metric is a mean over observed values of one score per value, kept by lead, so that it can be read in total
(`compute`) or by lead (`by_lead`). A point forecast is a forecast with one path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class LeadMetric(Metric, ABC):
    """The mean of a score over observed values, kept by lead; sums are synchronised across processes.

    Args:
        horizon: `H`.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, horizon: int, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("total", torch.zeros(horizon, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(horizon, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """One score per value, `[B, H(, V)]`; nan where it is not defined."""

    def update(self, paths: Tensor, truth: Tensor, observed: Tensor, unit: Tensor) -> None:
        """Adds a batch.

        Args:
            paths: `[B, P, H(, V)]`, data units.
            truth: `[B, H(, V)]`, data units.
            observed: `[B, H(, V)]` bool; what is not observed does not count.
            unit: `[B, 1(, V)]` error of the seasonal naive inside the series, data units.
        """
        if not len(paths):
            return  # the last batch of a process that has fewer than the others
        score = self.score(paths, truth, unit)
        # What has no score of its own is left out, but a forecast that diverged is not: it makes the mean nan.
        counted = observed & (~score.isnan() | ~paths.isfinite().all(1))
        others = [axis for axis in range(score.dim()) if axis != 1]
        self.total += torch.where(counted, score, 0.0).sum(others, dtype=torch.float64)
        self.count += counted.sum(others)

    def compute(self) -> Tensor:
        """The mean over all observed values; nan where there was none."""
        return self.total.sum() / self.count.sum()

    def by_lead(self) -> Tensor:
        """`[H]` the mean at each lead."""
        return self.total / self.count


class MeanAbsoluteError(LeadMetric):
    """Absolute error of the median path, data units."""

    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """`|median - truth|`."""
        return (median(paths) - truth).abs()


class SymmetricMAPE(LeadMetric):
    """Symmetric mean absolute percentage error of the median path, in percent, as the M4 competition defines it.

    Spyros Makridakis, Evangelos Spiliotis, Vassilios Assimakopoulos (2020), The M4 Competition,
    https://doi.org/10.1016/j.ijforecast.2019.04.014
    """

    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """`200 |median - truth| / (|median| + |truth|)`, 0 where both are 0."""
        forecast = median(paths)
        size = forecast.abs() + truth.abs()
        return torch.where(size == 0, 0.0, 200 * ((forecast - truth).abs() / size))


class MeanAbsoluteScaledError(LeadMetric):
    """Absolute error of the median path in units of the seasonal naive's error inside the series.

    Rob J. Hyndman, Anne B. Koehler (2006), Another Look at Measures of Forecast Accuracy,
    https://doi.org/10.1016/j.ijforecast.2006.03.001
    """

    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """`|median - truth| / unit`; a series that never changes has no unit and does not count."""
        return (median(paths) - truth).abs() / unit


class ContinuousRankedProbabilityScore(LeadMetric):
    """CRPS of the paths, data units, by the estimator that is fair to a small number of paths.

    Christopher A. T. Ferro (2014), Fair scores for ensemble forecasts, https://doi.org/10.1002/qj.2270
    """

    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """`mean |x - y| - mean over pairs |x - x'| / 2`."""
        return crps(paths, truth)


class ScaledCRPS(ContinuousRankedProbabilityScore):
    """CRPS in units of the seasonal naive's error inside the series, which weighs all series alike."""

    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """`CRPS / unit`; a series that never changes has no unit and does not count."""
        return super().score(paths, truth, unit) / unit


class Coverage(LeadMetric):
    """Share of the truth inside the central interval of the paths.

    Args:
        horizon: `H`.
        level: Of the interval, in percent.
    """

    def __init__(self, horizon: int, level: float, **options: Any) -> None:
        super().__init__(horizon, **options)
        self.level = level

    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """1 inside, 0 outside."""
        tail = (1 - self.level / 100) / 2
        sides = torch.tensor([tail, 1 - tail], dtype=paths.dtype, device=paths.device)
        low, high = torch.quantile(paths, sides, dim=1)
        return ((low <= truth) & (truth <= high)).to(paths.dtype)


class ErrorRate(LeadMetric):
    """Share of symbols that are not the most frequent one of the paths."""

    def score(self, paths: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """1 where it is another, 0 where it is the same."""
        return (paths.mode(1).values != truth).to(paths.dtype)


def crps(paths: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of each value, fair to a small number of paths.

    Args:
        paths: `[B, P, T(, V)]`.
        truth: `[B, T(, V)]`.

    Returns:
        `[B, T(, V)]`, in the units of the paths.
    """
    count = paths.shape[1]
    errors = paths - truth[:, None]  # which are of the size of the spread, whatever the level
    accuracy = errors.abs().mean(1)
    if count == 1:
        return accuracy
    rank = torch.arange(1 - count, count, 2, dtype=paths.dtype, device=paths.device)
    spread = torch.einsum("bp...,p->b...", errors.sort(1).values, rank / (count * (count - 1)))
    return accuracy - spread


def energy_score(paths: Tensor, truth: Tensor, observed: Tensor) -> Tensor:
    """Energy score of whole paths: the CRPS of vectors, which judges how their values hang together too.

    Tilmann Gneiting, Adrian E. Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation,
    https://doi.org/10.1198/016214506000001437

    Args:
        paths: `[B, P, T(, V)]`, `P` at least 2.
        truth: `[B, T(, V)]`.
        observed: `[B, T(, V)]` bool; what is not observed does not count.

    Returns:
        `[B, T(, V)]`: the score of the window, the same for all its values, as large as that of one of them.
    """
    count = paths.shape[1]
    errors = torch.where(observed[:, None], paths - truth[:, None], 0.0).flatten(2)
    accuracy = _norm(errors).mean(1)
    spread = _norm(errors[:, :, None] - errors[:, None]).sum((1, 2)) / (2 * count * (count - 1))
    score = (accuracy - spread) / observed.flatten(1).sum(1).clamp(min=1).sqrt()
    return score.view(-1, *[1] * (truth.dim() - 1)).expand_as(truth)


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean length over the last axis, whose gradient at 0 is finite."""
    tiny = torch.finfo(vectors.dtype).tiny
    largest = vectors.detach().abs().amax(-1, keepdim=True).clamp(min=tiny)  # whose square may leave the floats
    return (vectors / largest).square().sum(-1).clamp(min=tiny).sqrt() * largest[..., 0]


def median(paths: Tensor) -> Tensor:
    """The point forecast of paths `[B, P, H(, V)]`: their median, `[B, H(, V)]`."""
    return paths[:, 0] if paths.shape[1] == 1 else paths.quantile(0.5, dim=1)
