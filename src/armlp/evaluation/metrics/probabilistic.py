"""Metrics of whole distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from armlp.arguments import check_argument
from armlp.errors import UserError
from armlp.evaluation.metrics.base import METRICS, Forecast, LeadMetric, Paths


@METRICS.register("crps")
class ContinuousRankedProbabilityScore(LeadMetric):
    """CRPS, data units: in closed form, or of sampled paths by an estimator that is unbiased for few paths.

    Pass paths that divide the distribution evenly, as those of `rollout` do, as `Paths(values, even=True)`.

    Christopher A. T. Ferro (2014), Fair scores for ensemble forecasts, https://doi.org/10.1002/qj.2270
    """

    heading, order, rank, curve = "CRPS", 70, 50, True

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return, for paths, `mean |x - y| - mean over pairs |x - x'| / 2`."""
        return forecast.crps(truth)


@METRICS.register("scaled_crps")
class ScaledCRPS(LeadMetric):
    """CRPS in units of the seasonal naive's error inside the series, which weighs all series alike."""

    heading, order, rank = "scaled CRPS", 75, None

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `CRPS / unit`; a series that never changes has no unit and does not count."""
        return forecast.crps(truth) / unit


@METRICS.register("energy_score")
class EnergyScore(LeadMetric):
    """Energy score of whole paths, data units: see `energy_score`.

    Every observed value counts the score of its window, so by lead it is the score of the windows observed there.

    Args:
        chunk: Differences between paths to hold in memory at a time.
    """

    default = False
    needs = "paths"
    heading = "energy"

    def __init__(self, horizon: int, num_series: int = 0, *, chunk: int = 1 << 24, **options: Any) -> None:
        super().__init__(horizon, num_series, **options)
        self.chunk = chunk

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return the score of the window divided by the root of its number of values."""
        paths = _paths(self, forecast)
        count = max(1, self.chunk // paths.values.shape[1] ** 2)
        parts = zip(*(part.split(count) for part in (paths.values, truth, ~truth.isnan())), strict=True)
        return torch.cat([energy_score(values, target, observed, paths.even) for values, target, observed in parts])


@METRICS.register("variogram_score")
class VariogramScore(LeadMetric):
    """Variogram score of whole paths, which compares the differences of pairs of values, to a power.

    It is sensitive to wrong correlations between leads and channels. Every observed value counts the score of its
    window, so by lead it is the score of the windows observed there.

    Michael Scheuerer, Thomas M. Hamill (2015), Variogram-Based Proper Scoring Rules for Probabilistic Forecasts of
    Multivariate Quantities, https://doi.org/10.1175/MWR-D-14-00269.1

    Args:
        order: Power of the differences; the score has units of the data to the power of twice the order.
    """

    default = False
    needs = "paths"
    heading = "variogram"

    def __init__(self, horizon: int, order: float = 0.5, **options: Any) -> None:
        super().__init__(horizon, **options)
        self.power = order

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return the mean over pairs of the window's observed values; nan without a pair."""
        paths, known = _paths(self, forecast).values, ~truth.isnan().flatten(1)
        target = torch.where(truth.isnan(), 0.0, truth).flatten(1)
        expected = torch.zeros(*target.shape, target.shape[1], dtype=paths.dtype, device=paths.device)
        for path in paths.flatten(2).unbind(1):  # one at a time, to save memory
            expected = expected + (path[:, :, None] - path[:, None]).abs() ** self.power
        actual = (target[:, :, None] - target[:, None]).abs() ** self.power
        pair = (known[:, :, None] & known[:, None]).triu(1)
        wrong = torch.where(pair, (actual - expected / paths.shape[1]).square(), 0.0)
        score = wrong.sum((1, 2)) / pair.sum((1, 2))
        return score.view(-1, *[1] * (truth.dim() - 1)).expand_as(truth)


def _paths(metric: LeadMetric, forecast: Forecast) -> Paths:
    if not isinstance(forecast, Paths) or forecast.values.shape[1] < 2:
        raise TypeError(f"{type(metric).__name__} measures dependence: it needs two paths or more.")
    return forecast


def energy_score(paths: Tensor, truth: Tensor, observed: Tensor, even: bool = False) -> Tensor:
    """Return the energy score of whole paths: the CRPS of vectors, which measures their dependence too.

    From paths `[B, P, T, V]`, `P` at least 2, truth and observed `[B, T, V]`, it is `[B, T, V]`: the score of the
    window, the same for all its values, over the root of the number of observed values. `even` is as in `Paths`.

    Tilmann Gneiting, Adrian E. Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation,
    https://doi.org/10.1198/016214506000001437
    """
    count = paths.shape[1]
    errors = torch.where(observed[:, None], paths - truth[:, None], 0.0).flatten(2)
    accuracy = _norm(errors).mean(1)
    size = errors.detach().abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(errors.dtype).tiny)
    # Distances by matrix products would lose digits.
    apart = torch.cdist(errors / size, errors / size, compute_mode="donot_use_mm_for_euclid_dist")
    spread = (apart * size).sum((1, 2)) / (2 * count * (count if even else count - 1))
    score = (accuracy - spread) / observed.flatten(1).sum(1).clamp(min=1).sqrt()
    return score.view(-1, *[1] * (truth.dim() - 1)).expand_as(truth)


def _norm(vectors: Tensor) -> Tensor:
    """Return the Euclidean length over the last axis, with a finite gradient at 0."""
    tiny = torch.finfo(vectors.dtype).tiny
    largest = vectors.detach().abs().amax(-1, keepdim=True).clamp(min=tiny)  # its square may overflow
    return (vectors / largest).square().sum(-1).clamp(min=tiny).sqrt() * largest[..., 0]


_DECILES = tuple(tenth / 10 for tenth in range(1, 10))


@METRICS.register("pinball")
class PinballLoss(LeadMetric):
    """Pinball loss (quantile loss), data units, averaged over several quantiles.

    Roger Koenker, Gilbert Bassett (1978), Regression Quantiles, https://doi.org/10.2307/1913643

    Args:
        probabilities: Probabilities of the quantiles, between 0 and 1; by default the nine deciles.
    """

    default = False
    heading = "pinball"

    def __init__(self, horizon: int, probabilities: Sequence[float] = _DECILES, **options: Any) -> None:
        super().__init__(horizon, **options)
        self.probabilities = check_argument("probabilities", probabilities, Sequence[float])
        for probability in self.probabilities:
            if not 0 < probability < 1:
                raise UserError(f"probabilities: {probability} is not between 0 and 1.")

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return `p (truth - quantile)` for a truth above the quantile, and `(1 - p) (quantile - truth)` below it."""
        excess = truth - forecast.quantiles(self.probabilities)
        probability = torch.tensor(self.probabilities).to(excess).view(-1, *[1] * truth.dim())
        return torch.maximum(probability * excess, (probability - 1) * excess).mean(0)


@METRICS.register("wql")
class WeightedQuantileLoss(PinballLoss):
    """Mean weighted quantile loss, as GluonTS defines it: twice the pinball loss over the absolute value of the truth.

    It has no units, and large series weigh more. For a point forecast it is the sum of absolute errors over the sum of
    absolute values.
    """

    default = True
    heading, order, rank = "wQL", 60, 60

    def score(self, forecast: Forecast, truth: Tensor, unit: Tensor) -> Tensor:
        """Return twice the mean pinball loss."""
        return 2 * super().score(forecast, truth, unit)

    def weight(self, truth: Tensor) -> Tensor:
        """Return `|truth|`."""
        return truth.abs()
