"""Online recalibration of a stream of forecasts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from armlp.evaluation.conformal import LEVELS, conformal_scores, recalibrate


@dataclass
class _Open:
    """Scores of the forecasts from one cutoff whose truth is not fully known yet."""

    due: Tensor  # [B, H] times of the truth
    excess: Tensor  # [B, H, K] 1 for a miss, less the expected share of misses; 0 where nothing was observed


class AdaptiveFactors:
    """Update the factors of `recalibrate` along a stream of forecasts.

    A factor rises when a truth falls outside its interval and falls a little when it lies inside, so that each level
    has its nominal coverage in the long run, whatever the stream. After `N` forecasts of each series, the coverage at a
    lead is off by at most (range of the log scores + rate) / (N * rate). The rate is divided by the number of forecasts
    that are open at once, which would otherwise all correct the same mistake.

    Isaac Gibbs, Emmanuel Candes (2021), Adaptive Conformal Inference Under Distribution Shift,
    https://arxiv.org/abs/2106.00170; Anastasios Angelopoulos, Emmanuel Candes, Ryan Tibshirani (2023), Conformal PID
    Control for Time Series Prediction, https://arxiv.org/abs/2307.16895 (quantile tracking, here of log scores)

    Args:
        factors: `[H', K]` initial factors, such as those of the validation; None starts at 1.
        horizon: `H`.
        step: Rows between two origins.
        series: Number of forecasts per origin, which share the rate.
        rate: Rise of the logarithm of a factor if every series of an origin misses.
        max_factor: Upper bound of the factors; its inverse is the lower bound.
    """

    def __init__(
        self, factors: Tensor | None, horizon: int, step: int, series: int, rate: float = 0.1, max_factor: float = 64.0
    ) -> None:
        if factors is None:
            factors = torch.ones(1, len(LEVELS))
        lead = torch.arange(horizon)
        self._logarithms = factors[lead.clamp(max=len(factors) - 1)].double().log()
        open_at_once = torch.ceil((lead + 1) / step)
        self._limit = math.log(max_factor)
        self._rate = rate / (series * open_at_once[:, None])
        self._misses = 1 - torch.tensor(LEVELS, dtype=torch.float64)  # expected share
        self._open: list[_Open] = []

    @property
    def factors(self) -> Tensor:
        """Return the current factors, `[H, K]`."""
        return self._logarithms.exp().float()

    def update(self, now: int) -> None:
        """Update the factors with every truth whose time is at most `now`."""
        for part in self._open:
            known = part.due <= now
            self._logarithms += self._rate * torch.where(known[..., None], part.excess, 0.0).sum(0)
            part.excess[known] = 0.0
        self._open = [part for part in self._open if bool((part.due > now).any())]
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
        sizes = counts.tolist()
        parts = (part.split(sizes) for part in (paths, scores, due))
        for now, forecast, score, known_at in zip(times.tolist(), *parts, strict=True):
            self.update(now)
            factors = self.factors
            moved.append(recalibrate(forecast, factors))
            excess = torch.where(score.isnan(), 0.0, (score > factors).double() - self._misses).mean(1)
            self._open.append(_Open(known_at, excess))
        return torch.cat(moved) if moved else paths
