"""Conformal recalibration of sampled paths, with fixed factors or along a stream of forecasts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from armlp.evaluation.quantiles import path_probabilities, path_quantiles

# Central coverages at which factors are estimated; factors of other coverages are interpolated.
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85, 0.9, 0.94)
MIN_WINDOWS = 30  # fewer windows give no factors
_MIN_POOLED = 2000  # neighbouring leads are pooled until there are this many scores
_MAX_FACTOR = 4.0  # the largest factor; its inverse is the smallest


def conformal_scores(paths: Tensor, target: Tensor, observed: Tensor) -> Tensor:
    """Return the distance of the truth from the median, relative to the end of each interval on the same side.

    From paths `[B, P, H, V]`, target and observed `[B, H, V]`, scores are `[B * V, H, K]` for `K` coverages; nan where
    the truth was not observed or a path diverged.

    Yaniv Romano, Evan Patterson, Emmanuel Candes (2019), Conformalized Quantile Regression,
    https://arxiv.org/abs/1905.03222
    """
    ranked = paths.sort(1).values
    median = path_quantiles(ranked, [0.5])[:, 0]
    low, high = (
        path_quantiles(ranked, [(1 + side * coverage) / 2 for coverage in COVERAGES]).movedim(1, -1) for side in (-1, 1)
    )
    error = (target - median)[..., None]
    distance = torch.where(error > 0, high - median[..., None], median[..., None] - low)
    scores = torch.where(error == 0, 0.0, error.abs() / distance)
    scores = torch.where((observed & paths.isfinite().all(1))[..., None], scores, torch.nan)
    return scores.transpose(1, 2).flatten(0, 1)


def conformal_factors(scores: Tensor, origins: int) -> Tensor | None:
    """Return the factors `[H, K]` of the distances from the median with which every interval covers.

    A factor is the quantile, at its coverage, of the scores `[N, H, K]` of a lead and its neighbours, corrected for
    their finite number: of `n` independent scores the one of rank `p (n + 1)` covers with probability `p`. The errors
    of one window are dependent, and count as fewer the more they are. Those of different series at one origin are too,
    so the logarithm of a factor is shrunk to `n / (n + 1)` of itself for `n` origins. Factors are between 1/4 and 4;
    None if there are fewer than 30 windows.
    """
    known = ~scores.isnan().any(-1)
    windows = int(known.any(1).sum())
    if windows < MIN_WINDOWS:
        return None
    correlation = _correlation_in_windows(scores, known)
    horizon = scores.shape[1]
    counts = known.sum(0)
    factors = []
    for lead in range(horizon):
        reach = 0
        while int(counts[max(0, lead - reach) : lead + reach + 1].sum()) < _MIN_POOLED and reach < horizon:
            reach += 1
        near = slice(max(0, lead - reach), lead + reach + 1)
        pooled = scores[:, near][known[:, near]].double().clamp(max=_MAX_FACTOR).sort(0).values
        share = len(pooled) / windows  # scores of a window
        independent = len(pooled) / (1 + max(0.0, share - 1) * correlation)
        probabilities = (torch.tensor(COVERAGES, dtype=torch.float64) * (1 + 1 / independent)).clamp(max=1)
        position = (probabilities * len(pooled) - 1).clamp(0, len(pooled) - 1).to(pooled.device)
        below, above = (pooled.gather(0, index.long()[None])[0] for index in (position.floor(), position.ceil()))
        factors.append(torch.lerp(below, above, position.frac()))
    found = torch.stack(factors).clamp(1 / _MAX_FACTOR, _MAX_FACTOR)
    return found.pow(origins / (origins + 1)).float()


def _correlation_in_windows(scores: Tensor, known: Tensor) -> float:
    """Return the correlation, from 0 to 1, between the leads of a window of whether scores are above their median."""
    middle = scores[..., len(COVERAGES) // 2].double()
    above = torch.where(known, (middle > middle[known].median()).double() - 0.5, 0.0)
    counts = known.sum(1).double()
    pairs = (counts * (counts - 1)).sum()
    products = (above.sum(1).square() - above.square().sum(1)).sum()
    return float((products / pairs.clamp(min=1) / 0.25).clamp(0, 1))


def recalibrate(paths: Tensor, factors: Tensor) -> Tensor:
    """Stretch or shrink paths `[B, P, H, V]` around their median by lead; the median and the order of the paths stay.

    Sums and other functions of paths are recalibrated too. A value is an end of the interval of its rank among the
    paths; a single path does not change. Leads beyond the factors `[H', K]` use the last ones.
    """
    count, horizon = paths.shape[1:3]
    lead = torch.arange(horizon, device=paths.device).clamp(max=len(factors) - 1)
    coverage = (2 * path_probabilities(count).to(paths.device) - 1).abs()
    factor = _interpolated(factors.to(paths.device, torch.float64)[lead], coverage)  # [H, P]
    factor = factor.T.to(paths.dtype)[..., None]
    ranked, order = paths.sort(1)
    median = path_quantiles(ranked, [0.5])
    moved = factor * (ranked - median)
    # Keep the order of the paths where factors fall faster with the coverage than distances rise.
    above = moved.clamp(min=0).cummax(1).values
    below = moved.clamp(max=0).flip(1).cummin(1).values.flip(1)
    return torch.empty_like(paths).scatter_(1, order, median + above + below)


def _interpolated(factors: Tensor, coverage: Tensor) -> Tensor:
    """Return factors `[H, P]` at `coverage [P]`, linear between `COVERAGES` and constant beyond."""
    known = torch.tensor(COVERAGES, dtype=coverage.dtype, device=coverage.device)
    upper = torch.searchsorted(known, coverage).clamp(1, len(known) - 1)
    share = ((coverage - known[upper - 1]) / (known[upper] - known[upper - 1])).clamp(0, 1)
    return torch.lerp(factors[:, upper - 1], factors[:, upper], share)


class AdaptiveFactors:
    """Update the factors of `recalibrate` along a stream of forecasts.

    A factor rises when a truth falls outside its interval and falls a little when it lies inside, so that each interval
    has its nominal coverage in the long run, whatever the stream. After `N` forecasts of each series, the coverage at a
    lead is off by at most (range of the log scores + rate) / (N * rate). The rate is divided by the number of forecasts
    that are open at once, which would otherwise all correct the same mistake.

    Isaac Gibbs, Emmanuel Candes (2021), Adaptive Conformal Inference Under Distribution Shift,
    https://arxiv.org/abs/2106.00170; Anastasios Angelopoulos, Emmanuel Candes, Ryan Tibshirani (2023), Conformal PID
    Control for Time Series Prediction, https://arxiv.org/abs/2307.16895 (quantile tracking, here of log scores)

    Args:
        factors: `[H', K]` initial factors, such as those of the validation; None starts at 1.
        step: Rows between two origins.
        series: Number of forecasts per origin, which share the rate.
        rate: Rise of the logarithm of a factor if every series of an origin misses.
        max_factor: Upper bound of the factors; its inverse is the lower bound.
    """

    def __init__(
        self, factors: Tensor | None, horizon: int, step: int, series: int, rate: float = 0.1, max_factor: float = 64.0
    ) -> None:
        if factors is None:
            factors = torch.ones(1, len(COVERAGES))
        lead = torch.arange(horizon)
        self._logarithms = factors[lead.clamp(max=len(factors) - 1)].double().log()
        open_at_once = torch.ceil((lead + 1) / step)
        self._limit = math.log(max_factor)
        self._rate = rate / (series * open_at_once[:, None])
        self._misses = 1 - torch.tensor(COVERAGES, dtype=torch.float64)  # expected share
        # For forecasts whose truth is not fully known: its times [B, H], and 1 for a miss, less the expected share of
        # misses, [B, H, K]; 0 where nothing was observed.
        self._open: list[tuple[Tensor, Tensor]] = []

    @property
    def factors(self) -> Tensor:
        """Return the current factors, `[H, K]`."""
        return self._logarithms.exp().float()

    def update(self, now: int) -> None:
        """Update the factors with every truth whose time is at most `now`."""
        for due, excess in self._open:
            known = due <= now
            self._logarithms += self._rate * torch.where(known[..., None], excess, 0.0).sum(0)
            excess[known] = 0.0
        self._open = [(due, excess) for due, excess in self._open if (due > now).any()]
        self._logarithms.clamp_(-self._limit, self._limit)

    def recalibrate(self, paths: Tensor, truth: Tensor, observed: Tensor, cutoff: Tensor, due: Tensor) -> Tensor:
        """Return paths `[B, P, H, V]`, each recalibrated with the factors at its cutoff.

        Args:
            paths: `[B, P, H, V]`, with ascending cutoffs over all calls.
            truth: `[B, H, V]`, in the units of the paths; used from the time when it is due.
            observed: `[B, H, V]` bool.
            cutoff: `[B]` int64 time of the last row before each forecast.
            due: `[B, H]` int64 times of the truth.
        """
        scores = conformal_scores(paths, truth, observed).cpu().double()
        scores = scores.view(len(paths), -1, *scores.shape[1:])  # [B, V, H, K]
        moved = []
        times, counts = cutoff.unique_consecutive(return_counts=True)
        parts = (part.split(counts.tolist()) for part in (paths, scores, due))
        for now, forecast, score, known_at in zip(times.tolist(), *parts, strict=True):
            self.update(now)
            factors = self.factors
            moved.append(recalibrate(forecast, factors))
            excess = torch.where(score.isnan(), 0.0, (score > factors).double() - self._misses).mean(1)
            self._open.append((known_at, excess))
        return torch.cat(moved) if moved else paths
