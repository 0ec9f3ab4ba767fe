"""The least count whose distribution function reaches a level, for many distributions at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

Array: TypeAlias = npt.NDArray[np.float64]

# Where the mean is at most this, adding up probabilities from 0 is quicker than calls of the distribution function.
_SMALL_MEAN = 20
_STEPS = 64
_SECANTS = 6


class Recursion(NamedTuple):
    """How the probabilities p of N distributions of counts follow from one another, `[N]` each.

    Attributes:
        zero: `p(0)`.
        offset: With the slope: `p(k + 1) / p(k) = (offset + slope k) / (k + 1)`.
        slope: See `offset`.
        variance: Of the counts.
        skewness: Of the counts.
    """

    zero: Array
    offset: Array
    slope: Array
    variance: Array
    skewness: Array


def least_count(
    level: Array, probability: Callable[..., Any], recursion: Recursion, mean: Array, *more: Array
) -> Array:
    """The least counts `[N]` whose distribution functions reach `level [N]`.

    Args:
        level: `[N]` in (0, 1).
        probability: The distribution function of `(count, mean, *more)`.
        recursion: Of the same distributions.
        mean: `[N]`.
        more: `[N]` each, other parameters.
    """
    with np.errstate(all="ignore"):  # a diverged network's NaN comes out as it came in
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
    """Writes the counts at `index` that a few steps from 0 reach."""
    level, mass, offset, slope = (part[index] for part in (level, *recursion[:3]))
    total = mass
    for count in range(_STEPS):
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
    """The counts by a few steps of the secant method, on the scale where a normal distribution is a line; then halving.

    Every count tried narrows the bracket `low < count <= high`, so that the last two prove the answer.
    """
    low, high = np.full_like(level, -1), np.full_like(level, np.inf)
    goal = scipy.special.ndtri(level)
    index, step = np.arange(len(level)), 1
    # The quantile of a distribution near the normal, by the first terms of Cornish and Fisher's expansion.
    probe = (mean + spread * (goal + skewness * (goal**2 - 1) / 6)).round().clip(0)
    slope = spread * np.maximum(1 + skewness * goal / 3, 0.2)
    last = place = np.full_like(level, np.nan)  # of the count tried before
    while index.size:
        reached = probability(probe, *(part[index] for part in parts))
        before, place = place, scipy.special.ndtri(reached)
        enough = reached >= level[index]
        high[index[enough]] = probe[enough]
        low[index[~enough]] = probe[~enough]
        below, above = low[index], high[index]
        if step > 1:
            secant = (probe - last) / (place - before)
            slope = np.where(np.isfinite(secant) & (secant > 0), secant, slope)
        last = probe
        halfway = np.where(np.isinf(above), below + step, np.maximum((below + above) // 2, above - step))
        guess = np.ceil(last + slope * (goal[index] - place)).clip(below + 1, above - 1)
        probe = np.where((step < 2**_SECANTS) & np.isfinite(guess), guess, halfway)
        between = (probe > below) & (probe < above)
        index, step = index[between], 2 * step
        probe, last, place, slope = (part[between] for part in (probe, last, place, slope))
    return np.where(np.isinf(high), low, high)
