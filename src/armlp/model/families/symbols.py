"""The distribution over an alphabet of symbols, and its head."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.errors import check_bounds
from armlp.model.families.base import HEADS, Head, Predictive, sharpen


class Symbols(Predictive):
    """A distribution over the codes 0 .. A - 1 of symbols, as floats, given by `logits [..., A]`.

    Mean and variance have a meaning only if the symbols have an order.
    """

    has_rsample = False
    discrete = True
    numeric = False

    def __init__(self, logits: Tensor) -> None:
        self.log_probs = logits.log_softmax(-1)
        super().__init__(logits.shape[:-1], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability `[...]` of the codes `value [...]`; minus infinity for other values."""
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        code = value.long().clamp(0, self.log_probs.shape[-1] - 1).expand(shape)
        picked = self.log_probs.expand(*shape, -1).gather(-1, code[..., None])[..., 0]
        return torch.where(code == value, picked, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        codes = torch.arange(self.log_probs.shape[-1], device=value.device)
        return (self.log_probs.exp() * (codes <= value[..., None])).sum(-1)

    def icdf(self, value: Tensor) -> Tensor:
        totals = self.log_probs.detach().exp().cumsum(-1)
        # Make the last total exactly 1, or rounding could choose a symbol of probability 0.
        return (value[..., None] > totals / totals[..., -1:]).sum(-1).to(totals.dtype)

    @property
    def mean(self) -> Tensor:
        return (self.log_probs.exp() * self._codes()).sum(-1)

    @property
    def variance(self) -> Tensor:
        return (self.log_probs.exp() * (self._codes() - self.mean[..., None]) ** 2).sum(-1)

    def sharpened(self, temperature: float = 1.0, top_k: int | None = None) -> Symbols:
        if (temperature, top_k) == (1, None):
            return self
        return Symbols(sharpen(self.log_probs, temperature, top_k))

    def _codes(self) -> Tensor:
        return torch.arange(self.log_probs.shape[-1], device=self.log_probs.device).to(self.log_probs.dtype)


@HEADS.register("symbols")
class SymbolsHead(Head):
    """Probabilities of the symbols of an alphabet, whose codes are not scaled.

    Args:
        symbols: `A`, the size of the alphabet.
    """

    distribution = Symbols
    affine = False
    supplied = ("symbols",)

    def __init__(self, symbols: int = 0) -> None:
        super().__init__()
        check_bounds("symbols", symbols, 2)
        self.outputs = symbols

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs as log-probabilities up to a constant; ignore shift and scale."""
        return Symbols(raw)
