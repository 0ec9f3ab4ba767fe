"""Distribution functions of counts and their inverses in torch alone, for graphs, which cannot call scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Nodes of the double exponential quadrature of integrals from 0 to infinity whose integrand decays like exp(-u).
# Hidetosi Takahasi, Masatake Mori (1974), Double Exponential Formulas for Numerical Integration,
# https://doi.org/10.2977/prims/1195192451
_STEP, _FIRST, _COUNT = 0.1, -4.0, 126
# Beyond this exponent, float64 needs the logarithm of the exponential function instead of its value.
_LARGE_EXPONENT = 30.0
_MAX_SECANTS = 6


def probability(count: Tensor, mean: Tensor, excess: Tensor | None, log_prob: Tensor) -> Tensor:
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
    level: Tensor, mean: Tensor, excess: Tensor | None, spread: Tensor, log_prob: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the least counts `[...]` whose distribution functions reach `level [...]`, float64, like `least_count`.

    `excess` is None for a Poisson distribution; `spread` is the standard deviation.
    """
    goal = torch.special.ndtri(level)

    def unsettled(low: Tensor, high: Tensor, probe: Tensor, *others: Tensor) -> Tensor:
        return ((probe > low) & (probe < high)).any()

    def search(
        low: Tensor, high: Tensor, probe: Tensor, last: Tensor, before: Tensor, slope: Tensor, step: Tensor
    ) -> tuple[Tensor, ...]:
        open_ = (probe > low) & (probe < high)
        reached = probability(probe, mean, excess, log_prob(probe))
        here = torch.special.ndtri(reached)
        enough = reached >= level
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
