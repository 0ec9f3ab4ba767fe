"""The head of an alphabet."""

from __future__ import annotations

from torch import Tensor

from armlp.errors import refuse_below
from armlp.model.distributions import Predictive, Symbols
from armlp.model.heads.head import Head


class SymbolsHead(Head):
    """Probabilities of an alphabet's symbols. It has no location: its values are codes, and nothing scales them.

    Args:
        symbols: `A`, the size of the alphabet.
    """

    discrete = True
    affine = False

    def __init__(self, symbols: int = 0) -> None:
        super().__init__()
        refuse_below("--model.symbols", symbols, 2)
        self.outputs = symbols

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the log-probabilities of the symbols, up to a constant; shift and scale have no part."""
        return Symbols(raw)
