"""Quantiles of many distributions of counts at once, by numpy and scipy, and by torch alone for graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy
import torch
from torch import Tensor

Array: TypeAlias = npt.NDArray[np.float64]

# Up to this mean, adding up probabilities from 0 is faster than calls of the distribution function.
_SMALL_MEAN = 20
_MAX_SUMMANDS = 64
_MAX_SECANTS = 6
# Nodes of the double exponential quadrature of integrals from 0 to infinity whose integrand decays like exp(-u).
# Hidetosi Takahasi, Masatake Mori (1974), Double Exponential Formulas for Numerical Integration,
# https://doi.org/10.2977/prims/1195192451
_STEP, _FIRST, _COUNT = 0.1, -4.0, 126
# Beyond this exponent, float64 needs the logarithm of the exponential function instead of its value.
_LARGE_EXPONENT = 30.0


class Recursion(NamedTuple):
    """The recursion `p(k + 1) / p(k) = (offset + slope k) / (k + 1)` of N distributions of counts, `[N]` each."""

    zero: Array  # p(0)
    offset: Array
    slope: Array
    variance: Array
    skewness: Array


def least_count(
    share: Array, probability: Callable[..., Any], recursion: Recursion, mean: Array, *more: Array
) -> Array:
    """Return the least counts `[N]` at which `probability(count, mean, *more)` reaches `share [N]` in (0, 1)."""
    with np.errstate(all="ignore"):  # parameters of a diverged network are nan, and so are their counts
        counts = np.full(share.shape, np.nan)
        small = np.flatnonzero(mean <= _SMALL_MEAN)
        _add_up(counts, small, share, recursion)
        rest = np.flatnonzero(np.isnan(counts))
        if rest.size:
            parts = [part[rest] for part in (mean, *more)]
            moments = mean[rest], np.sqrt(recursion.variance[rest]), recursion.skewness[rest]
            counts[rest] = _search(share[rest], probability, parts, *moments)
        return counts


def _add_up(counts: Array, index: npt.NDArray[np.intp], share: Array, recursion: Recursion) -> None:
    """Set the counts at `index` that a sum of a few probabilities from 0 on finds."""
    share, mass, offset, slope = (part[index] for part in (share, *recursion[:3]))
    total = mass
    for count in range(_MAX_SUMMANDS):
        reached = total >= share
        counts[index[reached]] = count
        left = ~reached
        index = index[left]
        share, mass, total, offset, slope = (part[left] for part in (share, mass, total, offset, slope))
        if not index.size:
            return
        mass = mass * (offset + slope * count) / (count + 1)
        total = total + mass


def _search(
    share: Array, probability: Callable[..., Any], parts: list[Array], mean: Array, spread: Array, skewness: Array
) -> Array:
    """Return the exact counts, by a few secant steps on the scale of normal quantiles and then by bisection."""
    low, high = np.full_like(share, -1), np.full_like(share, np.inf)  # low < count <= high
    goal = scipy.special.ndtri(share)
    index, step = np.arange(len(share)), 1
    # The first terms of Cornish and Fisher's expansion of a quantile.
    probe = (mean + spread * (goal + skewness * (goal**2 - 1) / 6)).round().clip(0)
    slope = spread * np.maximum(1 + skewness * goal / 3, 0.2)
    last = score = np.full_like(share, np.nan)  # the count tried before, and its normal quantile
    while index.size:
        reached = probability(probe, *(part[index] for part in parts))
        before, score = score, scipy.special.ndtri(reached)
        enough = reached >= share[index]
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


def traced_probability(count: Tensor, mean: Tensor, excess: Tensor | None, log_prob: Tensor) -> Tensor:
    """Return the distribution function `[...]` at counts of log-probability `log_prob`, float64.

    It is an integral over a function with one peak, taken on the side without the peak. `excess` is None for a Poisson
    distribution.
    """
    node = _FIRST + _STEP * torch.arange(_COUNT, dtype=count.dtype, device=count.device)
    offset = (node - (-node).exp()).exp()
    weight = _STEP * (1 + (-node).exp()) * offset
    after = count + 1
    if excess is None:
        steep = curvature = factor = mean
    else:
        successes = (mean / excess) ** 2
        success, failure = successes / (successes + mean), mean / (successes + mean)
        steep, factor = (successes + after) * failure, failure * (successes + count)
        curvature = steep * success
    rate = after - steep
    scale = 1 / (rate.abs() + curvature.sqrt())
    upwards = rate < 0
    way = (torch.where(upwards, scale, -scale)[..., None]) * offset
    if excess is None:
        exponent = after[..., None] * way - mean[..., None] * way.expm1()
    else:
        total = (successes + after)[..., None]
        near = after[..., None] * way - total * (failure[..., None] * way.clamp(max=_LARGE_EXPONENT).expm1()).log1p()
        far = (success[..., None] * (-way.clamp(min=_LARGE_EXPONENT)).expm1()).log1p()
        exponent = torch.where(way > _LARGE_EXPONENT, -successes[..., None] * way - total * far, near)
    light = (factor.log() + log_prob).exp() * scale * (weight * exponent.exp()).sum(-1)
    return torch.where(upwards, light, 1 - light)


def traced_least_count(
    share: Tensor, mean: Tensor, excess: Tensor | None, spread: Tensor, log_prob: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the least counts `[...]` whose distribution functions reach `share [...]`, float64, like `least_count`.

    `excess` is None for a Poisson distribution; `spread` is the standard deviation.
    """
    goal = torch.special.ndtri(share)

    def unsettled(low: Tensor, high: Tensor, probe: Tensor, *others: Tensor) -> Tensor:
        return ((probe > low) & (probe < high)).any()

    def search(
        low: Tensor, high: Tensor, probe: Tensor, last: Tensor, before: Tensor, slope: Tensor, step: Tensor
    ) -> tuple[Tensor, ...]:
        open_ = (probe > low) & (probe < high)
        reached = traced_probability(probe, mean, excess, log_prob(probe))
        here = torch.special.ndtri(reached)
        enough = reached >= share
        high, low = torch.where(open_ & enough, probe, high), torch.where(open_ & ~enough, probe, low)
        secant = (probe - last) / (here - before)
        slope = torch.where((step > 1) & secant.isfinite() & (secant > 0), secant, slope)
        halfway = torch.where(high.isinf(), low + step, torch.maximum(((low + high) / 2).floor(), high - step))
        guess = (probe + slope * (goal - here)).ceil()
        guess = torch.minimum(torch.maximum(guess, low + 1), high - 1)
        following = torch.where((step < 2**_MAX_SECANTS) & guess.isfinite(), guess, halfway)
        return low, high, torch.where(open_, following, probe), probe.clone(), here, slope, 2 * step

    start = (mean + spread * goal).round().clamp(min=0)
    nan = torch.full_like(mean, torch.nan)
    begun = (torch.full_like(mean, -1.0), torch.full_like(mean, torch.inf), start, nan, nan.clone(), spread)
    low, high, *_ = _while_loop(unsettled, search, (*begun, torch.ones((), dtype=mean.dtype)))
    return torch.where(mean.isfinite(), torch.where(high.isinf(), low, high), torch.nan)


def _while_loop(condition: Callable[..., Tensor], body: Callable[..., Any], state: tuple[Tensor, ...]) -> Any:
    """Apply `body` to `state` while `condition` holds, also in a graph."""
    if torch.compiler.is_compiling():
        # torch has no public loop that its exporter keeps as a loop.
        from torch._higher_order_ops.while_loop import while_loop

        return while_loop(condition, body, state)
    while condition(*state):
        state = body(*state)
    return state
