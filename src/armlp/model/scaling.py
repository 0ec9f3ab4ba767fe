"""Window scalers: the affine map of one window to network units and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SCALERS = ("none", "mean_abs", "standard")

# A spread below this share of the level is rounding noise of float32, not variation.
_ROUNDING = 1e-5
# What a constant context counts as its spread, as a share of its level: forecasts stay near the constant.
_CONSTANT = 1e-2


class Scaling(NamedTuple):
    """One affine map per window and channel: `data = shift + scale * network`.

    Attributes:
        shift: `[B, 1(, V)]` data units.
        scale: `[B, 1(, V)]` data units, above 0.
        magnitude: `[B, 1(, V)]` mean absolute value of the observed context, data units, above 0.
    """

    shift: Tensor
    scale: Tensor
    magnitude: Tensor

    def to_network(self, values: Tensor) -> Tensor:
        """From data units to network units."""
        return (values - self.shift) / self.scale

    def repeat(self, num_paths: int) -> Scaling:
        """Every window `num_paths` times, `[B * P, 1(, V)]`."""
        return Scaling(*(part.repeat_interleave(num_paths, dim=0) for part in self))


def scale_window(scaler: str, context: Tensor, observed: Tensor) -> Scaling:
    """Measures a context; what is not observed does not count.

    A context that is constant, or all zero, or not observed at all gets a scale that keeps everything finite.

    Args:
        scaler: One of `SCALERS`: `none`; `mean_abs` divides by the mean absolute value; `standard` subtracts
            the mean and divides by the standard deviation.
        context: `[B, L(, V)]`, data units.
        observed: `[B, L(, V)]` bool.
    """
    # Within a gap longer than the context all there is to go by is what it was filled with.
    observed = observed | ~observed.any(1, keepdim=True)
    count = observed.sum(1, keepdim=True)
    kept = torch.where(observed, context, 0.0)
    magnitude = kept.abs().sum(1, keepdim=True) / count
    magnitude = torch.where(magnitude > 0, magnitude, 1.0)
    if scaler == "none":
        return Scaling(torch.zeros_like(magnitude), torch.ones_like(magnitude), magnitude)
    if scaler == "mean_abs":
        return Scaling(torch.zeros_like(magnitude), magnitude, magnitude)
    mean = kept.sum(1, keepdim=True) / count
    # In units of the magnitude, so that the squares of very large and very small values stay in float32.
    deviation = torch.where(observed, (context - mean) / magnitude, 0.0)
    spread = (deviation.square().sum(1, keepdim=True) / count).sqrt()
    return Scaling(mean, magnitude * torch.where(spread > _ROUNDING, spread, _CONSTANT), magnitude)
