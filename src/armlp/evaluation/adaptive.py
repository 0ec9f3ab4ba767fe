"""Adaptive recalibration of streams: after every origin, what has become known by then moves the factors.

Isaac Gibbs, Emmanuel Candes (2021), Adaptive Conformal Inference Under Distribution Shift,
https://arxiv.org/abs/2106.00170
Anastasios Angelopoulos, Emmanuel Candes, Ryan Tibshirani (2023), Conformal PID Control for Time Series Prediction,
https://arxiv.org/abs/2307.16895 (its quantile tracking, here of the logarithms of scores)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from armlp.evaluation.conformal import LEVELS, conformal_scores, recalibrate

# By how much the logarithm of a factor rises if all series of an origin miss, and no origin is still open.
_RATE = 0.1
# Distances are stretched by no more, and shrunk to no less than its inverse.
_MOST = 64.0


@dataclass
class _Open:
    """Forecasts of one cutoff whose truth is not all known: `due [B, H]`, and what they missed, `[B, H, K]`.

    What was not observed has missed by as much as it should, so it moves nothing.
    """

    due: Tensor
    excess: Tensor


class AdaptiveFactors:
    """The factors of `recalibrate`, which follow a stream of forecasts and of what came true.

    A factor that was too small for a truth to be covered rises, one that was large enough falls a little, so that in
    the long run a level covers as often as it says, whatever the stream does: after `N` forecasts of each series, the
    coverage at a lead is off by at most the range of the logarithm of the scores, and the rate, over `N` times the
    rate. The rate is divided by the number of forecasts that are made before the truth of one is known; otherwise
    they would all correct the same mistake.

    Args:
        factors: `[H', K]` to start from, those of the validation; None where there are none.
        horizon: `H`.
        step: Rows between one origin and the next.
        series: Forecasts at an origin, which together move the factors by as much as one would alone.
    """

    def __init__(self, factors: Tensor | None, horizon: int, step: int, series: int) -> None:
        if factors is None:
            factors = torch.ones(1, len(LEVELS))
        lead = torch.arange(horizon)
        self._logarithms = factors[lead.clamp(max=len(factors) - 1)].double().log()
        open_at_once = torch.ceil((lead + 1) / step)
        self._rate = _RATE / (series * open_at_once[:, None])
        self._misses = 1 - torch.tensor(LEVELS, dtype=torch.float64)  # as many as there should be
        self._open: list[_Open] = []

    @property
    def factors(self) -> Tensor:
        """`[H, K]`, as of the last time that it was told of."""
        return self._logarithms.exp().float()

    def learn(self, now: int) -> None:
        """Takes in what has become known until a time, and no later truth."""
        for part in self._open:
            known = part.due <= now
            self._logarithms += self._rate * torch.where(known[..., None], part.excess, 0.0).sum(0)
            part.excess[known] = 0.0
        self._open = [part for part in self._open if bool((part.due > now).any())]
        self._logarithms.clamp_(-math.log(_MOST), math.log(_MOST))

    def recalibrate(self, paths: Tensor, truth: Tensor, observed: Tensor, cutoff: Tensor, due: Tensor) -> Tensor:
        """Recalibrates forecasts, each by what was known at its cutoff.

        Args:
            paths: `[B, P, H, V]`, in the order of their cutoffs, over all calls.
            truth: `[B, H, V]`, in the same units; looked at when it is due.
            observed: `[B, H, V]` bool.
            cutoff: `[B]` int64 time of the last row before each forecast.
            due: `[B, H]` int64 times of the truth.

        Returns:
            `[B, P, H, V]`.
        """
        scores = conformal_scores(paths, truth, observed).cpu().double()
        scores = scores.view(len(paths), -1, *scores.shape[1:])  # [B, V, H, K]
        moved = []
        times, counts = cutoff.unique_consecutive(return_counts=True)
        sizes = counts.tolist()
        parts = (part.split(sizes) for part in (paths, scores, due))
        for now, forecast, score, known_at in zip(times.tolist(), *parts, strict=True):
            self.learn(now)
            factors = self.factors
            moved.append(recalibrate(forecast, factors))
            excess = torch.where(score.isnan(), 0.0, (score > factors).double() - self._misses).mean(1)
            self._open.append(_Open(known_at, excess))
        return torch.cat(moved) if moved else paths
