"""The point forecast as a distribution, and its head."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from armlp.errors import UserError
from armlp.model.families.base import HEADS, Head, Predictive


class Point(Predictive):
    """All probability on one value `[...]`, data units."""

    noise = 0
    has_density = False

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.value

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.value)

    def cdf(self, value: Tensor) -> Tensor:
        return (value >= self.value).to(self.value.dtype)

    def icdf(self, value: Tensor) -> Tensor:
        return self.value.expand(torch.broadcast_shapes(self.value.shape, value.shape))

    def crps(self, value: Tensor) -> Tensor:
        return (value - self.value).abs()

    def draw(self, uniform: Tensor) -> Tensor:
        return self.value.expand(uniform.shape[:-1])


@HEADS.register("point")
class PointHead(Head):
    """One number per value, without a distribution, trained by a point loss.

    Args:
        point_loss: Loss of the point head: `mse` leads to the mean, `mae` to the median; `huber` is quadratic up to an
            error of one unit and linear beyond.
    """

    distribution = Point
    loss_in_units = True
    _LOSSES: ClassVar[dict[str, Callable[..., Tensor]]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

    def __init__(self, point_loss: str = "mse") -> None:
        super().__init__()
        if point_loss not in self._LOSSES:
            raise UserError(f"`point_loss`: {point_loss!r} is not a point loss; use one of {', '.join(self._LOSSES)}.")
        self.point_loss = point_loss

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Put all probability on `shift + scale * raw`."""
        return Point(shift + scale * raw[..., 0])

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        return raw[..., 0]

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """Return the point loss of errors in multiples of `unit`."""
        return self._LOSSES[self.point_loss](distribution.mean / unit, value / unit, reduction="none")
