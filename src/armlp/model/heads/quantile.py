"""The head of a quantile function."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.errors import UserError
from armlp.model.distributions import PiecewiseLinearQuantile, Predictive
from armlp.model.heads.head import Head, positive


class QuantileHead(Head):
    """A monotone quantile function through knots, trained by a loss in the units of the data.

    Args:
        quantile_loss: `pinball` is twice the mean pinball loss at the knots; their levels are spread nearly evenly, so
            it approximates the continuous ranked probability score. `crps` is that score itself, tails included.
    """

    LEVELS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
    LOSSES = ("pinball", "crps")
    outputs = len(LEVELS)
    loss_in_units = True
    levels: Tensor
    log_masses: Tensor
    offsets: Tensor

    def __init__(self, quantile_loss: str = "pinball") -> None:
        super().__init__()
        if quantile_loss not in self.LOSSES:
            raise UserError(
                f"--model.quantile_loss: {quantile_loss!r} is not a quantile loss; use one of {', '.join(self.LOSSES)}."
            )
        self.quantile_loss = quantile_loss
        levels = torch.tensor(self.LEVELS, dtype=torch.float64)
        # Where raw outputs are 0 the gaps are those of a normal distribution with half the window's spread.
        offsets = (0.5 * torch.special.ndtri(levels).diff()).expm1().log()
        masses = torch.cat([levels[:1], levels.diff(), 1 - levels[-1:]])
        self.register_buffer("levels", levels.float(), persistent=False)
        self.register_buffer("log_masses", masses.log().float(), persistent=False)
        self.register_buffer("offsets", offsets.float(), persistent=False)

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the median and, through softplus, the gaps between the knots from there outwards."""
        middle = self.outputs // 2
        gaps = positive(raw[..., 1:] + self.offsets.to(raw))
        below = -gaps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., middle:].cumsum(-1)
        knots = raw[..., :1] + torch.cat([below, torch.zeros_like(raw[..., :1]), above], dim=-1)
        knots = shift[..., None] + scale[..., None] * knots
        return PiecewiseLinearQuantile(self.levels.to(knots), knots, self.log_masses.to(knots))

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """The pinball loss or the continuous ranked probability score, in multiples of `unit`."""
        assert isinstance(distribution, PiecewiseLinearQuantile)
        if self.quantile_loss == "crps":
            return distribution.crps(value) / unit
        error = (value[..., None] - distribution.knots) / unit[..., None]
        return 2 * torch.maximum(distribution.levels * error, (distribution.levels - 1) * error).mean(-1)

    def prepared(self, uniform: Tensor) -> Tensor:
        """A quantile is the median and a share of each gap: the shares, `[..., gaps]`, one gap after the other."""
        level = uniform[..., 0]
        levels, masses = self.levels.to(level), self.log_masses.to(level)
        column, middle = (-1, *[1] * level.dim()), len(levels) // 2
        # Gaps begin at their end that is nearer to the median.
        slope, start = 1 / levels.diff(), torch.cat([levels[1 : middle + 1], levels[middle:-1]])
        slope[:middle].neg_()
        # In place, because new memory of this size takes longer than what is done with it.
        shares = (level * slope.view(column)).sub_((start * slope).view(column)).clamp_(0, 1)
        shares[:middle].neg_()
        tail = PiecewiseLinearQuantile.tail
        shares[0] += tail * (level.log() - masses[0]).clamp(max=0)
        shares[-1] -= tail * ((-level).log1p() - masses[-1]).clamp(max=0)
        return shares.movedim(0, -1)

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """As in every head, in fewer steps."""
        # Outputs before values, because that is how they lie in memory.
        raw, shares = raw.movedim(-1, 0), noise.movedim(-1, 0)
        gaps = raw[1:].add_(self.offsets.to(raw).view(-1, *[1] * (raw.dim() - 1)))
        gaps = positive(gaps, out=gaps)
        parts = gaps.mul_(shares) if gaps.shape == shares.shape else gaps * shares
        return parts.sum(0).add_(raw[0])
