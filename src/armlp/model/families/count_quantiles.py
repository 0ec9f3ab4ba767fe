"""Quantiles of many distributions of counts at once: the least count whose distribution function reaches a level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

Array: TypeAlias = npt.NDArray[np.float64]

# Up to this mean, adding up probabilities from 0 is faster than calls of the distribution function.
_SMALL_MEAN = 20
_MAX_SUMMANDS = 64
_MAX_SECANTS = 6


class Recursion(NamedTuple):
    """The recursion `p(k + 1) / p(k) = (offset + slope k) / (k + 1)` of N distributions of counts, `[N]` each."""

    zero: Array  # p(0)
    offset: Array
    slope: Array
    variance: Array
    skewness: Array


def least_count(
    level: Array, probability: Callable[..., Any], recursion: Recursion, mean: Array, *more: Array
) -> Array:
    """Return the least counts `[N]` at which `probability(count, mean, *more)` reaches `level [N]` in (0, 1)."""
    with np.errstate(all="ignore"):  # parameters of a diverged network are nan, and so are their counts
        counts = np.full(level.shape, np.nan)
        small = np.flatnonzero(mean <= _SMALL_MEAN)
        _add_up(counts, small, level, recursion)
        rest = np.flatnonzero(np.isnan(counts))
        if rest.size:
            parts = [part[rest] for part in (mean, *more)]
            moments = mean[rest], np.sqrt(recursion.variance[rest]), recursion.skewness[rest]
            counts[rest] = _search(level[rest], probability, parts, *moments)
        return counts


def _add_up(counts: Array, index: npt.NDArray[np.intp], level: Array, recursion: Recursion) -> None:
    """Set the counts at `index` that a sum of a few probabilities from 0 on finds."""
    level, mass, offset, slope = (part[index] for part in (level, *recursion[:3]))
    total = mass
    for count in range(_MAX_SUMMANDS):
        reached = total >= level
        counts[index[reached]] = count
        left = ~reached
        index = index[left]
        level, mass, total, offset, slope = (part[left] for part in (level, mass, total, offset, slope))
        if not index.size:
            return
        mass = mass * (offset + slope * count) / (count + 1)
        total = total + mass


def _search(
    level: Array, probability: Callable[..., Any], parts: list[Array], mean: Array, spread: Array, skewness: Array
) -> Array:
    """Return the exact counts, by a few secant steps on the scale of normal quantiles and then by bisection."""
    low, high = np.full_like(level, -1), np.full_like(level, np.inf)  # low < count <= high
    goal = scipy.special.ndtri(level)
    index, step = np.arange(len(level)), 1
    # The first terms of Cornish and Fisher's expansion of a quantile.
    probe = (mean + spread * (goal + skewness * (goal**2 - 1) / 6)).round().clip(0)
    slope = spread * np.maximum(1 + skewness * goal / 3, 0.2)
    last = score = np.full_like(level, np.nan)  # the count tried before, and its normal quantile
    while index.size:
        reached = probability(probe, *(part[index] for part in parts))
        before, score = score, scipy.special.ndtri(reached)
        enough = reached >= level[index]
        high[index[enough]] = probe[enough]
        low[index[~enough]] = probe[~enough]
        below, above = low[index], high[index]
        if step > 1:
            secant = (probe - last) / (score - before)
            slope = np.where(np.isfinite(secant) & (secant > 0), secant, slope)
        last = probe
        halfway = np.where(np.isinf(above), below + step, np.maximum((below + above) // 2, above - step))
        guess = np.ceil(last + slope * (goal[index] - score)).clip(below + 1, above - 1)
        probe = np.where((step < 2**_MAX_SECANTS) & np.isfinite(guess), guess, halfway)
        between = (probe > below) & (probe < above)
        index, step = index[between], 2 * step
        probe, last, score, slope = (part[between] for part in (probe, last, score, slope))
    return np.where(np.isinf(high), low, high)
