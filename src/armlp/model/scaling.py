"""Window scalers: the affine map of one window to network units and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SCALERS = ("none", "mean_abs", "standard", "last", "robust", "seasonal")
# Not of a window: one map for all, of what training has seen.
GLOBAL = "global"

# A spread below this share of the level is rounding noise of float32, not variation.
_ROUNDING = 1e-5
# What a constant context counts as its spread, as a share of its level: forecasts stay near the constant.
_CONSTANT = 1e-2
# The smallest scale: from a few orders below on, reciprocals leave float32.
_LEAST = 1e-32
# How many scales away from its window's a value counts at most, so that float32 holds the square of an error.
REACH = 1e9
# A normal distribution's quartiles lie this many standard deviations apart.
_QUARTILES = 1.349


class Scaling(NamedTuple):
    """One affine map per window and channel: `data = shift + scale * network`.

    Attributes:
        shift: `[B, 1(, V)]` data units; or `[B, M(, V)]`, one for each step of a season, from the window's first on.
        scale: `[B, 1(, V)]` data units, above 0.
        magnitude: `[B, 1(, V)]` mean absolute value of the observed context, data units, above 0.
    """

    shift: Tensor
    scale: Tensor
    magnitude: Tensor

    def shift_at(self, step: int, count: int) -> Tensor:
        """The shift of `count` values from `step` on, counted from the first value of the context.

        Returns:
            `[B, 1 or count(, V)]`, data units.
        """
        season = self.shift.shape[1]
        if season == 1:
            return self.shift
        return self.shift[:, torch.arange(step, step + count, device=self.shift.device) % season]

    def to_network(self, values: Tensor, step: int = 0) -> Tensor:
        """From data units to network units, at most 1e9 of them.

        Args:
            values: `[B, T(, V)]`, data units.
            step: Where they begin, counted from the first value of the context.
        """
        return ((values - self.shift_at(step, values.shape[1])) / self.scale).clamp(-REACH, REACH)

    def within_reach(self, values: Tensor, step: int = 0) -> Tensor:
        """The values themselves, data units, those out of reach of network units cut off; arguments as above."""
        shift, reach = self.shift_at(step, values.shape[1]), REACH * self.scale
        return values.clamp(shift - reach, shift + reach)

    def repeat(self, num_paths: int) -> Scaling:
        """Every window `num_paths` times, `[B * P, 1(, V)]`."""
        return Scaling(*(part.repeat_interleave(num_paths, dim=0) for part in self))

    def tile(self, members: int) -> Scaling:
        """The whole batch `members` times, `[E * B, 1(, V)]`."""
        return Scaling(*(torch.cat([part] * members) for part in self))


def scale_window(scaler: str, context: Tensor, observed: Tensor, season_length: int = 1) -> Scaling:
    """Measures a context; what is not observed does not count.

    A context that is constant, or all zero, or not observed at all gets a scale that keeps everything finite. With all
    but `none` forecasts are equivariant in scale, and with all but `none` and `mean_abs` in level too.

    Args:
        scaler: One of `SCALERS`: `none`; `mean_abs` divides by the mean absolute value; `standard` subtracts the mean
            and divides by the standard deviation; `last` subtracts the last observed value and divides by the standard
            deviation; `robust` subtracts the median and divides by the distance of the quartiles, as a normal
            distribution's deviation; `seasonal` subtracts the mean of each step of the season and divides by the
            standard deviation of what is left.
        context: `[B, L(, V)]`, data units.
        observed: `[B, L(, V)]` bool.
        season_length: Of the seasonal scaler; one longer than half the context is taken for none.
    """
    weight = observed.to(context.dtype)  # numbers multiply several times faster than truths choose
    # Within a gap longer than the context all there is to go by is what it was filled with.
    weight = weight + (weight.sum(1, keepdim=True) == 0)
    kept = torch.where(weight > 0, context, 0.0)
    count = weight.sum(1, keepdim=True)
    magnitude = kept.abs().sum(1, keepdim=True) / count
    magnitude = torch.where(magnitude > 0, magnitude.clamp(min=_LEAST), 1.0)
    if scaler == "none":
        return Scaling(torch.zeros_like(magnitude), torch.ones_like(magnitude), magnitude)
    if scaler == "mean_abs":
        return Scaling(torch.zeros_like(magnitude), magnitude, magnitude)
    shift = mean = kept.sum(1, keepdim=True) / count
    # In units of the magnitude, so that the squares of very large and very small values stay in float32.
    spread = ((weight * ((kept - mean) / magnitude)).square().sum(1, keepdim=True) / count).sqrt()
    if scaler == "seasonal" and 1 < season_length <= context.shape[1] // 2:
        shift, along = _seasonal_means(kept, weight, season_length, mean)
        left = ((weight * ((kept - along) / magnitude)).square().sum(1, keepdim=True) / count).sqrt()
        spread = torch.where(left > _ROUNDING, left, spread)  # a season may repeat itself exactly
    if scaler == "last":
        place = torch.where(
            weight > 0, torch.arange(context.shape[1], device=context.device).view(_column(context)), -1
        )
        shift = context.gather(1, place.argmax(1, keepdim=True))
    elif scaler == "robust":
        quarters = torch.linspace(0.25, 0.75, 3, dtype=context.dtype, device=context.device)
        low, shift, high = torch.where(weight > 0, context, torch.nan).nanquantile(quarters, dim=1, keepdim=True)
        distance = (high - low) / magnitude / _QUARTILES
        spread = torch.where(distance > _ROUNDING, distance, spread)  # half of the values or more may be alike
    scale = magnitude * torch.where(spread > _ROUNDING, spread, _CONSTANT)
    return Scaling(shift, scale.clamp(min=_LEAST), magnitude)


def _column(context: Tensor) -> tuple[int, ...]:
    return (1, -1) + (1,) * (context.dim() - 2)


def _seasonal_means(kept: Tensor, weight: Tensor, season_length: int, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each step of the season, `[B, M(, V)]`, and the same laid along the context, `[B, L(, V)]`.

    A step of the season that was never observed has the mean of all.
    """
    phase = torch.arange(kept.shape[1], device=kept.device) % season_length
    shape = (kept.shape[0], season_length, *kept.shape[2:])
    total = kept.new_zeros(shape).index_add_(1, phase, kept)
    count = kept.new_zeros(shape).index_add_(1, phase, weight)
    means = torch.where(count > 0, total / count.clamp(min=1), mean)
    return means, means[:, phase]
