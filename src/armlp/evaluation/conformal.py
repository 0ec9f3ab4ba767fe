"""Conformal recalibration of sampled paths."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.evaluation.quantiles import between_ranks

# Central coverages at which factors are estimated; factors of other coverages are interpolated.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85, 0.9, 0.94)
MIN_WINDOWS = 30  # fewer windows give no factors
_MIN_POOLED = 2000  # neighbouring leads are pooled until there are this many scores
_MAX_FACTOR = 4.0  # the largest factor; its inverse is the smallest


def conformal_scores(paths: Tensor, target: Tensor, observed: Tensor) -> Tensor:
    """Return the distance of the truth from the median, relative to the end of each interval on the same side.

    From paths `[B, P, H, V]`, target and observed `[B, H, V]`, scores are `[B * V, H, K]` for `K` levels; nan where the
    truth was not observed or a path diverged.

    Yaniv Romano, Evan Patterson, Emmanuel Candes (2019), Conformalized Quantile Regression,
    https://arxiv.org/abs/1905.03222
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
    """Return quantiles `[B, H, V, K]` of sorted paths, where path `i` of 1 to `P` is the quantile at `i / (P + 1)`."""
    last = ranked.shape[1] - 1
    position = (probabilities * (last + 2) - 1).clamp(0, last)
    return between_ranks(ranked, position).movedim(1, -1)


def conformal_factors(scores: Tensor, origins: int) -> Tensor | None:
    """Return the factors `[H, K]` of the distances from the median with which every interval covers.

    A factor is the quantile, at its level, of the scores `[N, H, K]` of a lead and its neighbours, corrected for their
    finite number. The correction counts windows, not leads, because the errors of one window are dependent. Those of
    different series at one origin are too, so the logarithm of a factor is shrunk to `n / (n + 1)` of itself for `n`
    origins. Factors are between 1/4 and 4; None if there are fewer than 30 windows.
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
    """Stretch or shrink paths `[B, P, H, V]` around their median by lead; the median and the order of the paths stay.

    Sums and other functions of paths are recalibrated too. The level of a value is that of its rank among the paths; a
    single path does not change. Leads beyond the factors `[H', K]` use the last ones.
    """
    count, horizon = paths.shape[1:3]
    lead = torch.arange(horizon, device=paths.device).clamp(max=len(factors) - 1)
    rank = torch.arange(1, count + 1, device=paths.device, dtype=torch.float64)
    level = (2 * rank / (count + 1) - 1).abs()
    factor = _interpolated(factors.to(paths.device, torch.float64)[lead], level)  # [H, P]
    factor = factor.T.to(paths.dtype)[..., None]
    ranked, order = paths.sort(1)
    median = _at(ranked, ranked.new_full((1,), 0.5))[..., 0].unsqueeze(1)
    moved = factor * (ranked - median)
    # Keep the order of the paths where factors fall faster from level to level than distances rise.
    above = moved.clamp(min=0).cummax(1).values
    below = moved.clamp(max=0).flip(1).cummin(1).values.flip(1)
    return torch.empty_like(paths).scatter_(1, order, median + above + below)


def _interpolated(factors: Tensor, level: Tensor) -> Tensor:
    """Return factors `[H, P]` at `level [P]`, linear between `LEVELS` and constant beyond."""
    known = torch.tensor(LEVELS, dtype=level.dtype, device=level.device)
    upper = torch.searchsorted(known, level).clamp(1, len(known) - 1)
    share = ((level - known[upper - 1]) / (known[upper] - known[upper - 1])).clamp(0, 1)
    return torch.lerp(factors[:, upper - 1], factors[:, upper], share)
