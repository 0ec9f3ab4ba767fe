"""Distribution functions of counts and their inverses in tensors alone, for graphs that cannot call scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from armlp.model.families.counts import Counts


# The nodes of a sum that takes the place of an integral from 0 to infinity of what decays like exp(-u), however fast
# or slowly it does so. Hidetosi Takahasi, Masatake Mori (1974), Double Exponential Formulas for Numerical Integration,
# https://doi.org/10.2977/prims/1195192451
_STEP, _FIRST, _COUNT = 0.1, -4.0, 126
# From here on the exponential function of float64 is told by its logarithm.
_FAR = 30.0
_SECANTS = 6


def probability(count: Tensor, mean: Tensor, excess: Tensor | None, log_prob: Tensor) -> Tensor:
    """The distribution function `[...]` at whole counts, float64.

    It is the integral of a function that has one peak; the side without the peak is summed up, and told from 1 where
    that is the upper one.

    Args:
        count: `[...]`.
        mean: `[...]`.
        excess: `[...]` of a negative binomial distribution; None of a Poisson distribution.
        log_prob: `[...]` log-probability of the count.
    """
    place = _FIRST + _STEP * torch.arange(_COUNT, dtype=count.dtype, device=count.device)
    offset = (place - (-place).exp()).exp()
    weight = _STEP * (1 + (-place).exp()) * offset
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
        near = after[..., None] * way - total * (failure[..., None] * way.clamp(max=_FAR).expm1()).log1p()
        far = (success[..., None] * (-way.clamp(min=_FAR)).expm1()).log1p()
        exponent = torch.where(way > _FAR, -successes[..., None] * way - total * far, near)
    light = (factor.log() + log_prob).exp() * scale * (weight * exponent.exp()).sum(-1)
    return torch.where(upwards, light, 1 - light)


def traced_least_count(level: Tensor, counts: Counts) -> Tensor:
    """The least counts `[...]` whose distribution functions reach `level [...]`, as `least_count` has them.

    Args:
        level: `[...]` in (0, 1), float64.
        counts: Of float64, and of the same shape.
    """
    mean, excess = counts.rate, counts.more[0] if counts.more else None
    spread = counts.variance.sqrt()
    goal = torch.special.ndtri(level)

    def unsettled(low: Tensor, high: Tensor, probe: Tensor, *others: Tensor) -> Tensor:
        return ((probe > low) & (probe < high)).any()

    def search(
        low: Tensor, high: Tensor, probe: Tensor, last: Tensor, place: Tensor, slope: Tensor, step: Tensor
    ) -> tuple[Tensor, ...]:
        open_ = (probe > low) & (probe < high)
        reached = probability(probe, mean, excess, counts.log_prob(probe))
        here = torch.special.ndtri(reached)
        enough = reached >= level
        high, low = torch.where(open_ & enough, probe, high), torch.where(open_ & ~enough, probe, low)
        secant = (probe - last) / (here - place)
        slope = torch.where((step > 1) & secant.isfinite() & (secant > 0), secant, slope)
        halfway = torch.where(high.isinf(), low + step, torch.maximum(((low + high) / 2).floor(), high - step))
        guess = (probe + slope * (goal - here)).ceil()
        guess = torch.minimum(torch.maximum(guess, low + 1), high - 1)
        following = torch.where((step < 2**_SECANTS) & guess.isfinite(), guess, halfway)
        return low, high, torch.where(open_, following, probe), probe.clone(), here, slope, 2 * step

    start = (mean + spread * goal).round().clamp(min=0)
    nothing = torch.full_like(mean, torch.nan)
    begun = (torch.full_like(mean, -1.0), torch.full_like(mean, torch.inf), start, nothing, nothing.clone(), spread)
    low, high, *_ = _repeated(unsettled, search, (*begun, torch.ones((), dtype=mean.dtype)))
    return torch.where(mean.isfinite(), torch.where(high.isinf(), low, high), torch.nan)


def _repeated(unsettled: Callable[..., Tensor], body: Callable[..., Any], state: tuple[Tensor, ...]) -> Any:
    """What `body` makes of `state` in the end; a loop in a graph too."""
    if torch.compiler.is_compiling():
        from torch._higher_order_ops.while_loop import while_loop

        return while_loop(unsettled, body, state)
    while unsettled(*state):
        state = body(*state)
    return state
