"""Probabilities of bins on an axis."""

from __future__ import annotations

from torch import Tensor

from armlp.model.distributions.piecewise import PiecewiseLinearQuantile
from armlp.model.distributions.symbols import sharpen


class Binned(PiecewiseLinearQuantile):
    """A distribution given by the probabilities of bins: uniform inside each, exponential tails in the outer two.

    Args:
        logits: `[..., bins]` log-probabilities of the bins, up to a constant.
        edges: `[..., bins - 1]` ascending, between the bins, data units.
    """

    # Between the mean excess over the outer edge in units of the outer gap of a normal (1.2) and a Laplace distribution
    # (1.44) in 64 equally probable bins.
    tail = 1.3

    def __init__(self, logits: Tensor, edges: Tensor) -> None:
        log_masses = logits.log_softmax(-1)
        totals = log_masses.exp().cumsum(-1)
        # A last total of exactly 1 never lets rounding choose a bin of no probability.
        super().__init__(totals[..., :-1] / totals[..., -1:], edges, log_masses)

    def sharpened(self, temperature: float = 1.0, top_k: int | None = None) -> Binned:
        """The bins with their probabilities to the power of `1 / temperature`, the `top_k` likeliest only."""
        return Binned(sharpen(self.log_masses, temperature, top_k), self.knots)
