"""The distribution over bins, and its head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from armlp.errors import check_bounds
from armlp.model.families.base import HEADS, Head, Predictive, sharpen
from armlp.model.families.quantile import PiecewiseLinearQuantile


class Binned(PiecewiseLinearQuantile):
    """A distribution given by logits of bins and the edges between them: uniform inside a bin, exponential tails."""

    # The mean excess over the outer edge, in outer gaps: between that of a normal distribution (1.2) and of a Laplace
    # distribution (1.44) for 64 equally probable bins.
    tail = 1.3

    def __init__(self, logits: Tensor, edges: Tensor) -> None:
        log_masses = logits.log_softmax(-1)
        totals = log_masses.exp().cumsum(-1)
        # Make the last total exactly 1, or rounding could choose a bin of probability 0.
        super().__init__(totals[..., :-1] / totals[..., -1:], edges, log_masses)

    def sharpened(self, temperature: float = 1.0, top_k: int | None = None) -> Binned:
        if (temperature, top_k) == (1, None):
            return self
        return Binned(sharpen(self.log_masses, temperature, top_k), self.knots)


@HEADS.register("categorical")
class CategoricalHead(Head):
    """Probabilities of bins: any shape of density.

    The edges between the bins move with the location. Relative to it they are chosen from data before training.

    Args:
        bins: Number of bins of the categorical head, the outer two of which have no end. More bins show finer shapes
            and take more data.
    """

    distribution = Binned

    MIN_WIDTH = 1e-3  # of a bin, network units: keeps the density finite where many residuals are equal
    edges: Tensor

    def __init__(self, bins: int = 64) -> None:
        super().__init__()
        check_bounds("bins", bins, 3)
        self.outputs = 1 + bins
        edges = torch.special.ndtri(torch.arange(1, bins, dtype=torch.float64) / bins)
        self.register_buffer("edges", edges.float())

    def choose_edges(self, residuals: Tensor) -> None:
        """Set the edges so that all bins hold equally many residuals, network units, as far as ties allow.

        The residuals are observed values minus the location at the start of training.
        """
        shares = np.arange(1, self.outputs - 1) / (self.outputs - 1)
        edges = np.quantile(residuals.detach().double().cpu().numpy(), shares)
        # Move edges closer than the least width apart, to both sides alike.
        steps = self.MIN_WIDTH * np.arange(len(edges))
        upwards = np.maximum.accumulate(edges - steps) + steps
        downwards = np.minimum.accumulate((edges - steps)[::-1])[::-1] + steps
        self.edges.copy_(torch.from_numpy((upwards + downwards) / 2))

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs as the location and the log-probabilities of the bins, up to a constant."""
        edges = shift[..., None] + scale[..., None] * (raw[..., :1] + self.edges.to(raw))
        return Binned(raw[..., 1:], edges)
