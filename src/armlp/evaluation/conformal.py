"""Conformal recalibration: sampled paths moved away from their median, or towards it, until intervals cover.

Yaniv Romano, Evan Patterson, Emmanuel Candes (2019), Conformalized Quantile Regression,
https://arxiv.org/abs/1905.03222
"""

from __future__ import annotations

import torch
from torch import Tensor

# Central coverages at which the distance from the median is measured; those of other levels lie between.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85, 0.9, 0.94)
# From so many windows on there is something to go by.
MIN_WINDOWS = 30
# Neighbouring leads are taken together until there are as many scores.
_POOLED = 2000
# Distances are stretched by no more, and shrunk to no less than its inverse.
_MOST = 4.0


def conformal_scores(paths: Tensor, target: Tensor, observed: Tensor) -> Tensor:
    """How far the truth is from the median, in units of how far the end of each interval on its side is.

    Args:
        paths: `[B, P, H, V]`.
        target: `[B, H, V]`, in the same units.
        observed: `[B, H, V]` bool.

    Returns:
        `[B * V, H, K]`, one score for each of `K` levels; nan where the truth was not observed or a path diverged.
    """
    levels = torch.tensor(LEVELS, dtype=paths.dtype, device=paths.device)
    ranked = paths.sort(1).values
    median = _at(ranked, torch.full_like(levels[:1], 0.5))[..., 0]
    low, high = (_at(ranked, (1 + side * levels) / 2) for side in (-1, 1))
    error = (target - median)[..., None]
    distance = torch.where(error > 0, high - median[..., None], median[..., None] - low)
    scores = torch.where(error == 0, 0.0, error.abs() / distance)
    scores = torch.where((observed & paths.isfinite().all(1))[..., None], scores, torch.nan)
    return scores.transpose(1, 2).flatten(0, 1)


def _at(ranked: Tensor, probabilities: Tensor) -> Tensor:
    """Quantiles `[B, H, V, K]` of sorted paths, of which the first of `P` is that at `1 / (P + 1)`."""
    last = ranked.shape[1] - 1
    place = (probabilities * (last + 2) - 1).clamp(0, last)
    below = place.floor().long()
    lower, upper = ranked[:, below], ranked[:, (below + 1).clamp(max=last)]
    share = (place - below)[:, None, None]
    return (lower + share * (upper - lower)).movedim(1, -1)


def conformal_factors(scores: Tensor, origins: int) -> Tensor | None:
    """By what the distance from the median has to be multiplied, so that every interval covers.

    It is the level's quantile of the scores of a lead and of its neighbours, with the correction for their finite
    number, which counts windows only: the leads of one window go astray together. Series go astray together too, so
    however many there are, what `n` origins say is half chance where `n` is 1: the logarithm of a factor is shrunk to
    `n / (n + 1)` of itself, as if one more origin had found nothing to correct.

    Args:
        scores: `[N, H, K]` of `N` windows.
        origins: Of each series.

    Returns:
        `[H, K]`, at least 1/4 and at most 4; None where there are fewer than 30 windows, too few to tell.
    """
    seen = ~scores.isnan().any(-1)
    windows = int(seen.any(1).sum())
    if windows < MIN_WINDOWS:
        return None
    wanted = (torch.tensor(LEVELS, dtype=torch.float64) * (windows + 1) / windows).clamp(max=1)
    horizon = scores.shape[1]
    counts = seen.sum(0)
    factors = []
    for lead in range(horizon):
        reach = 0
        while int(counts[max(0, lead - reach) : lead + reach + 1].sum()) < _POOLED and reach < horizon:
            reach += 1
        near = slice(max(0, lead - reach), lead + reach + 1)
        pooled = scores[:, near][seen[:, near]].double().sort(0).values
        place = ((wanted * len(pooled)).ceil().long() - 1).clamp(0, len(pooled) - 1)
        factors.append(pooled.gather(0, place.to(pooled.device)[None])[0])
    found = torch.stack(factors).clamp(1 / _MOST, _MOST)
    return found.pow(origins / (origins + 1)).float()


def recalibrate(paths: Tensor, factors: Tensor) -> Tensor:
    """Moves the values of paths by lead; the median stays, and so does the order of the paths.

    Sums and all else of whole paths are recalibrated with them. A value's level is that of its rank among the paths,
    so there have to be some: of a single path nothing can be told, and it stays as it is.

    Args:
        paths: `[B, P, H, V]`.
        factors: `[H', K]` from `conformal_factors`; leads beyond have those of the last.

    Returns:
        `[B, P, H, V]`.
    """
    count, horizon = paths.shape[1:3]
    lead = torch.arange(horizon, device=paths.device).clamp(max=len(factors) - 1)
    rank = torch.arange(1, count + 1, device=paths.device, dtype=torch.float64)
    level = (2 * rank / (count + 1) - 1).abs()
    factor = _interpolated(factors.to(paths.device, torch.float64)[lead], level)  # [H, P]
    factor = factor.T.to(paths.dtype)[..., None]
    ranked, order = paths.sort(1)
    half = ranked.new_full((1,), 0.5)
    median = _at(ranked, half)[..., 0].unsqueeze(1)
    moved = factor * (ranked - median)
    # The factors may fall faster from level to level than the distances rise: no value may overtake another.
    above = moved.clamp(min=0).cummax(1).values
    below = moved.clamp(max=0).flip(1).cummin(1).values.flip(1)
    return torch.empty_like(paths).scatter_(1, order, median + above + below)


def _interpolated(factors: Tensor, level: Tensor) -> Tensor:
    """Factors `[H, P]` at `level [P]`, linear between those that there are and constant beyond."""
    known = torch.tensor(LEVELS, dtype=level.dtype, device=level.device)
    upper = torch.searchsorted(known, level).clamp(1, len(known) - 1)
    share = ((level - known[upper - 1]) / (known[upper] - known[upper - 1])).clamp(0, 1)
    return torch.lerp(factors[:, upper - 1], factors[:, upper], share)
