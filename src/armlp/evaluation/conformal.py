"""Conformal recalibration: sampled paths are stretched or shrunk around their median until intervals cover.

Yaniv Romano, Evan Patterson, Emmanuel Candes (2019), Conformalized Quantile Regression,
https://arxiv.org/abs/1905.03222
"""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.evaluation.quantiles import between_ranks

# Central coverages at which factors are estimated; between them they are interpolated.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85, 0.9, 0.94)
# Fewer windows give no factors.
MIN_WINDOWS = 30
# Neighbouring leads are pooled until there are this many scores.
_MIN_POOLED = 2000
# Distances are stretched at most by this factor, and shrunk at most by its inverse.
_MAX_FACTOR = 4.0


def conformal_scores(paths: Tensor, target: Tensor, observed: Tensor) -> Tensor:
    """Return the distance of the truth from the median, in units of that of each interval's end on its side.

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
    """Return quantiles `[B, H, V, K]` of sorted paths, of which the first of `P` is that at `1 / (P + 1)`."""
    last = ranked.shape[1] - 1
    position = (probabilities * (last + 2) - 1).clamp(0, last)
    return between_ranks(ranked, position).movedim(1, -1)


def conformal_factors(scores: Tensor, origins: int) -> Tensor | None:
    """Return by what the distance from the median has to be multiplied, so that every interval covers.

    It is the level's quantile of the scores of a lead and of its neighbours, with the correction for their finite
    number. The correction counts windows, not leads, because the errors of one window's leads are dependent. Those of
    different series at one origin are too, so the logarithm of a factor is shrunk to `n / (n + 1)` of itself for `n`
    origins, as if one more origin had nothing to correct.

    Args:
        scores: `[N, H, K]` of `N` windows.
        origins: Number of origins of each series.

    Returns:
        `[H, K]`, at least 1/4 and at most 4; None where there are fewer than 30 windows.
    """
    known = ~scores.isnan().any(-1)
    windows = int(known.any(1).sum())
    if windows < MIN_WINDOWS:
        return None
    probabilities = (torch.tensor(LEVELS, dtype=torch.float64) * (windows + 1) / windows).clamp(max=1)
    horizon = scores.shape[1]
    counts = known.sum(0)
    factors = []
    for lead in range(horizon):
        reach = 0
        while int(counts[max(0, lead - reach) : lead + reach + 1].sum()) < _MIN_POOLED and reach < horizon:
            reach += 1
        near = slice(max(0, lead - reach), lead + reach + 1)
        pooled = scores[:, near][known[:, near]].double().sort(0).values
        rank = ((probabilities * len(pooled)).ceil().long() - 1).clamp(0, len(pooled) - 1)
        factors.append(pooled.gather(0, rank.to(pooled.device)[None])[0])
    found = torch.stack(factors).clamp(1 / _MAX_FACTOR, _MAX_FACTOR)
    return found.pow(origins / (origins + 1)).float()


def recalibrate(paths: Tensor, factors: Tensor) -> Tensor:
    """Stretch or shrink paths around their median by lead; the median and the order of the paths stay.

    Because paths stay paths, sums and other functions of them are recalibrated too. The level of a value is that of its
    rank among the paths; a single path stays as it is.

    Args:
        paths: `[B, P, H, V]`.
        factors: `[H', K]` from `conformal_factors`; later leads use the factors of the last.

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
    # Factors may fall faster from level to level than distances rise; no value may overtake another.
    above = moved.clamp(min=0).cummax(1).values
    below = moved.clamp(max=0).flip(1).cummin(1).values.flip(1)
    return torch.empty_like(paths).scatter_(1, order, median + above + below)


def _interpolated(factors: Tensor, level: Tensor) -> Tensor:
    """Return factors `[H, P]` at `level [P]`, linear between `LEVELS` and constant beyond."""
    known = torch.tensor(LEVELS, dtype=level.dtype, device=level.device)
    upper = torch.searchsorted(known, level).clamp(1, len(known) - 1)
    share = ((level - known[upper - 1]) / (known[upper] - known[upper - 1])).clamp(0, 1)
    return torch.lerp(factors[:, upper - 1], factors[:, upper], share)
