"""The head of one number per value."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from armlp.errors import UserError
from armlp.model.distributions import Point, Predictive
from armlp.model.heads.head import Head


class PointHead(Head):
    """One number per value, trained by a point loss.

    Args:
        point_loss: `mse`, `mae` or `huber` (which is quadratic up to one unit).
    """

    noise = 0
    has_density = False
    loss_in_units = True
    _LOSSES: ClassVar[dict[str, Callable[..., Tensor]]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

    def __init__(self, point_loss: str = "mse") -> None:
        super().__init__()
        if point_loss not in self._LOSSES:
            raise UserError(
                f"--model.point_loss: {point_loss!r} is not a point loss; use one of {', '.join(self._LOSSES)}."
            )
        self.point_loss = point_loss

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """All mass on `shift + scale * raw`."""
        return Point(shift + scale * raw[..., 0])

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """The raw output, whatever the noise."""
        return raw[..., 0]

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """The point loss of errors in multiples of `unit`."""
        return self._LOSSES[self.point_loss](distribution.mean / unit, value / unit, reduction="none")
