"""The piecewise linear quantile function, and its head."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from armlp.errors import UserError
from armlp.model.families.base import HEADS, Head, Predictive, positive


class PiecewiseLinearQuantile(Predictive):
    """A distribution given by its quantile function: linear between knots, exponential tails beyond them.

    Youngsuk Park et al. (2022), Learning Quantile Functions without Quantile Crossing for Distribution-free
    Time Series Forecasting, https://arxiv.org/abs/2111.06581

    Args:
        probabilities: `[Q]` or `[..., Q]` ascending probabilities of the knots.
        knots: `[..., Q]` ascending quantiles at the probabilities, data units.
        log_masses: `[..., Q + 1]` log-probabilities below, between and above the knots, if more exact ones are known
            than those from differences of `probabilities`.
    """

    # The mean excess over the outer knot, in outer gaps: between that of a normal distribution (0.47) and of a Laplace
    # distribution (0.62) at 2% and 10%.
    tail: ClassVar[float] = 0.5

    def __init__(self, probabilities: Tensor, knots: Tensor, log_masses: Tensor | None = None) -> None:
        self.probabilities = probabilities
        self.knots = knots
        if log_masses is None:
            log_masses = torch.cat(
                [probabilities[..., :1], probabilities.diff(), 1 - probabilities[..., -1:]], -1
            ).log()
        self.log_masses = log_masses
        super().__init__(torch.broadcast_shapes(probabilities.shape, knots.shape)[:-1], validate_args=False)

    def icdf(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        lower = (_count_below(self.probabilities, value.expand(shape)) - 1).clamp(0, self.probabilities.shape[-1] - 2)
        left, right = (_pick(self.knots, lower + side) for side in (0, 1))
        start, end = (_pick(self.probabilities, lower + side) for side in (0, 1))
        # The branches that are not used must be finite, or gradients would be nan.
        share = (value - start) / torch.where((start < value) & (value <= end), end - start, 1)
        below, above = self._tails()
        left_tail = self.knots[..., 0] + below * (value.log() - self.log_masses[..., 0]).clamp(max=0)
        right_tail = self.knots[..., -1] - above * ((-value).log1p() - self.log_masses[..., -1]).clamp(max=0)
        inner = left + share.clamp(0, 1) * (right - left)
        low, high = self.probabilities[..., 0], self.probabilities[..., -1]
        return torch.where(value < low, left_tail, torch.where(value > high, right_tail, inner))

    def cdf(self, value: Tensor) -> Tensor:
        inner = self.probabilities[..., 0] + (self._shares(value) * self.probabilities.diff()).sum(-1)
        low, high = self._tail_masses(value)
        first, last = self.knots[..., 0], self.knots[..., -1]
        return torch.where(value < first, low, torch.where(value > last, 1 - high, inner))

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        below, above = self._tails()
        widths = torch.cat([below[..., None], self._gaps(), above[..., None]], -1)
        segment = _count_below(self.knots.detach(), value.detach().expand(shape))
        steps = _pick(self.log_masses, segment) - _pick(widths.log(), segment)
        excess = (value - self.knots[..., 0]).clamp(max=0) / below + (self.knots[..., -1] - value).clamp(max=0) / above
        return steps + excess

    def crps(self, value: Tensor) -> Tensor:
        """Return the continuous ranked probability score `[...]` at `value [...]`, data units, in closed form.

        It is the integral over all probabilities of twice the pinball loss.

        Tilmann Gneiting and Adrian E. Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation,
        https://doi.org/10.1198/016214506000001437
        """
        share = self._shares(value)
        start, end = self.probabilities[..., :-1], self.probabilities[..., 1:]
        here = start + share * (end - start)
        before = share * (start**2 + start * here + here**2)
        after = (1 - share) * ((1 - here) ** 2 + (1 - here) * (1 - end) + (1 - end) ** 2)
        total = (self._gaps() * (before + after)).sum(-1) / 3
        excesses = (self.knots[..., 0] - value).clamp(min=0), (value - self.knots[..., -1]).clamp(min=0)
        masses = self.probabilities[..., 0], 1 - self.probabilities[..., -1]
        for mean, excess, mass, left in zip(self._tails(), excesses, masses, self._tail_masses(value), strict=True):
            total = total + excess - 2 * mean * (mass - left) + mean * mass**2 / 2
        return total

    @property
    def mean(self) -> Tensor:
        """`[...]`, data units: the integral of the quantile function."""
        middles = (self.knots[..., 1:] + self.knots[..., :-1]) / 2
        below, above = self._tails()
        low, high = self.probabilities[..., 0], 1 - self.probabilities[..., -1]
        tails = low * (self.knots[..., 0] - below) + high * (self.knots[..., -1] + above)
        return (middles * self.probabilities.diff()).sum(-1) + tails

    @property
    def variance(self) -> Tensor:
        """`[...]`, squared data units: that of the segments' means plus that within the segments."""
        mean = self.mean
        middles = (self.knots[..., 1:] + self.knots[..., :-1]) / 2 - mean[..., None]
        inner = (self.probabilities.diff() * (middles**2 + self.knots.diff() ** 2 / 12)).sum(-1)
        below, above = self._tails()
        left = self.probabilities[..., 0] * ((self.knots[..., 0] - below - mean) ** 2 + below**2)
        right = (1 - self.probabilities[..., -1]) * ((self.knots[..., -1] + above - mean) ** 2 + above**2)
        return inner + left + right

    def _gaps(self) -> Tensor:
        """Return the distances between the knots, `[..., Q - 1]`, at least the resolution of floats of their size."""
        return _distance(self.knots[..., :-1], self.knots[..., 1:])

    def _tails(self) -> tuple[Tensor, Tensor]:
        """Return the mean excess below the first knot and above the last."""
        below = _distance(self.knots[..., 0], self.knots[..., 1])
        above = _distance(self.knots[..., -2], self.knots[..., -1])
        return self.tail * below, self.tail * above

    def _shares(self, value: Tensor) -> Tensor:
        """Return the share of each gap that lies below `value`, `[..., Q - 1]`."""
        return ((value[..., None] - self.knots[..., :-1]) / self._gaps()).clamp(0, 1)

    def _tail_masses(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probability of each tail beyond `value`, or of the whole tail where `value` is not in it."""
        below, above = self._tails()
        low = self.probabilities[..., 0] * ((value - self.knots[..., 0]).clamp(max=0) / below).exp()
        high = (1 - self.probabilities[..., -1]) * ((self.knots[..., -1] - value).clamp(max=0) / above).exp()
        return low, high


def _count_below(edges: Tensor, value: Tensor) -> Tensor:
    """Return how many of the ascending `edges`, `[Q]` or `[..., Q]`, lie below `value [...]`."""
    if edges.dim() == 1:
        return torch.bucketize(value.contiguous(), edges)
    edges = edges.expand(*value.shape, -1)
    return torch.searchsorted(edges.contiguous(), value[..., None].contiguous())[..., 0]


def _pick(table: Tensor, index: Tensor) -> Tensor:
    """Return the entry `index [...]` of each row of `table`, `[Q]` or `[..., Q]`."""
    if table.dim() == 1:
        return table[index]
    return table.expand(*index.shape, -1).gather(-1, index[..., None])[..., 0]


def _distance(left: Tensor, right: Tensor) -> Tensor:
    """Return `right - left`, at least the resolution of floats of that size."""
    finfo = torch.finfo(left.dtype)
    resolution = (finfo.eps * right.detach().abs()).clamp(min=finfo.tiny)
    return torch.maximum(right - left, resolution)


@HEADS.register("quantile")
class QuantileHead(Head):
    """A quantile function through learned knots: any shape, trained by a loss in the units of the data.

    Args:
        quantile_loss: Loss of the quantile head: `pinball` is twice the mean pinball loss at the knots, close to the
            continuous ranked probability score; `crps` is that score exactly, tails included.
    """

    distribution = PiecewiseLinearQuantile

    PROBABILITIES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
    LOSSES = ("pinball", "crps")
    outputs = len(PROBABILITIES)
    loss_in_units = True
    probabilities: Tensor
    log_masses: Tensor
    offsets: Tensor

    def __init__(self, quantile_loss: str = "pinball") -> None:
        super().__init__()
        if quantile_loss not in self.LOSSES:
            raise UserError(
                f"`quantile_loss`: {quantile_loss!r} is not a quantile loss; use one of {', '.join(self.LOSSES)}."
            )
        self.quantile_loss = quantile_loss
        probabilities = torch.tensor(self.PROBABILITIES, dtype=torch.float64)
        # Raw outputs of 0 give the gaps of a normal distribution with half the window's spread.
        offsets = (0.5 * torch.special.ndtri(probabilities).diff()).expm1().log()
        masses = torch.cat([probabilities[:1], probabilities.diff(), 1 - probabilities[-1:]])
        self.register_buffer("probabilities", probabilities.float(), persistent=False)
        self.register_buffer("log_masses", masses.log().float(), persistent=False)
        self.register_buffer("offsets", offsets.float(), persistent=False)

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs as the median and, through softplus, the gaps between the knots."""
        middle = self.outputs // 2
        gaps = positive(raw[..., 1:] + self.offsets.to(raw))
        below = -gaps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., middle:].cumsum(-1)
        knots = raw[..., :1] + torch.cat([below, torch.zeros_like(raw[..., :1]), above], dim=-1)
        knots = shift[..., None] + scale[..., None] * knots
        return PiecewiseLinearQuantile(self.probabilities.to(knots), knots, self.log_masses.to(knots))

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """Return the pinball loss or the continuous ranked probability score, in multiples of `unit`."""
        assert isinstance(distribution, PiecewiseLinearQuantile)
        if self.quantile_loss == "crps":
            return distribution.crps(value) / unit
        error = (value[..., None] - distribution.knots) / unit[..., None]
        return 2 * torch.maximum(distribution.probabilities * error, (distribution.probabilities - 1) * error).mean(-1)

    def prepare_noise(self, uniform: Tensor) -> Tensor:
        """Return the share of each gap that a probability adds to the median, `[..., gaps]`, contiguous by gap."""
        share = uniform[..., 0]
        probabilities, masses = self.probabilities.to(share), self.log_masses.to(share)
        column, middle = (-1, *[1] * share.dim()), len(probabilities) // 2
        # A gap starts at its end nearer to the median.
        slope, start = 1 / probabilities.diff(), torch.cat([probabilities[1 : middle + 1], probabilities[middle:-1]])
        slope[:middle].neg_()
        # In place: new memory of this size would take longer than the arithmetic.
        shares = (share * slope.view(column)).sub_((start * slope).view(column)).clamp_(0, 1)
        shares[:middle].neg_()
        tail = PiecewiseLinearQuantile.tail
        shares[0] += tail * (share.log() - masses[0]).clamp(max=0)
        shares[-1] -= tail * ((-share).log1p() - masses[-1]).clamp(max=0)
        return shares.movedim(0, -1)

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """Add shares of the gaps to the median, in fewer steps than `forward` takes."""
        # The output axis comes first, as in memory.
        raw, shares = raw.movedim(-1, 0), noise.movedim(-1, 0)
        gaps = raw[1:].add_(self.offsets.to(raw).view(-1, *[1] * (raw.dim() - 1)))
        gaps = positive(gaps, out=gaps)
        parts = gaps.mul_(shares) if gaps.shape == shares.shape else gaps * shares
        return parts.sum(0).add_(raw[0])
