"""Adaptive recalibration of a stream of forecasts: the factors follow the truth as it becomes known.

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


@dataclass
class _Open:
    """Forecasts of one cutoff whose truth is not all known yet."""

    due: Tensor  # [B, H] times of the truth
    excess: Tensor  # [B, H, K] 1 for a miss, less the expected share of misses; 0 where nothing was observed


class AdaptiveFactors:
    """The factors of `recalibrate`, updated along a stream of forecasts and their truth.

    A factor rises when a truth was outside its interval, and falls a little when it was inside, so that in the long run
    every level covers as often as it should, whatever the stream does: after `N` forecasts of each series, the coverage
    at a lead is off by at most the range of the logarithm of the scores plus the rate, divided by `N` times the rate.
    The rate is divided by the number of forecasts made before the truth of one is known; otherwise they would all
    correct the same mistake.

    Args:
        factors: `[H', K]` to start from, those of the validation; None starts at 1.
        horizon: `H`.
        step: Rows between one origin and the next.
        series: Forecasts at an origin, which together move the factors by as much as one would alone.
        rate: How much the logarithm of a factor rises if every series of an origin misses.
        max_factor: Distances are stretched at most by this factor, and shrunk at most by its inverse.
    """

    def __init__(
        self,
        factors: Tensor | None,
        horizon: int,
        step: int,
        series: int,
        rate: float = 0.1,
        max_factor: float = 64.0,
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
        """Return the factors after the last update, `[H, K]`."""
        return self._logarithms.exp().float()

    def learn(self, now: int) -> None:
        """Update the factors with the truth that is known by a time."""
        for part in self._open:
            known = part.due <= now
            self._logarithms += self._rate * torch.where(known[..., None], part.excess, 0.0).sum(0)
            part.excess[known] = 0.0
        self._open = [part for part in self._open if bool((part.due > now).any())]
        self._logarithms.clamp_(-self._limit, self._limit)

    def recalibrate(self, paths: Tensor, truth: Tensor, observed: Tensor, cutoff: Tensor, due: Tensor) -> Tensor:
        """Recalibrate forecasts, each with the factors at its cutoff.

        Args:
            paths: `[B, P, H, V]`, in the order of their cutoffs, over all calls.
            truth: `[B, H, V]`, in the same units; used when it is due.
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
