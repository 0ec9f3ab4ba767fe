"""The distribution over bins."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from armlp.errors import check_bounds
from armlp.model.families.base import Head, Predictive
from armlp.model.families.quantile import PiecewiseLinearQuantile
from armlp.model.families.symbols import sharpen


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


class CategoricalHead(Head):
    """Probabilities of bins on an axis in network units that moves with the location: any shape of density.

    The edges between the bins are a part of the model that is chosen from data, not trained.

    Args:
        bins: How many, the outer two without end.
    """

    # Keeps the density of bins around a value that many residuals share from going to infinity, network units.
    MIN_WIDTH = 1e-3
    edges: Tensor

    def __init__(self, bins: int = 64) -> None:
        super().__init__()
        check_bounds("bins", bins, 3)
        self.outputs = 1 + bins
        levels = torch.arange(1, bins, dtype=torch.float64) / bins
        self.register_buffer("edges", torch.special.ndtri(levels).float())

    def choose_edges(self, residuals: Tensor) -> None:
        """Sets the edges so that the bins hold equally many residuals each, as far as ties let them.

        Args:
            residuals: `[...]` of observed values from the location that training starts at, network units.
        """
        levels = np.arange(1, self.outputs - 1) / (self.outputs - 1)
        edges = np.quantile(residuals.detach().double().cpu().numpy(), levels)
        # Edges that are closer than the least width move apart, those of ties to both sides.
        steps = self.MIN_WIDTH * np.arange(len(edges))
        upwards = np.maximum.accumulate(edges - steps) + steps
        downwards = np.minimum.accumulate((edges - steps)[::-1])[::-1] + steps
        self.edges.copy_(torch.from_numpy((upwards + downwards) / 2))

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the location and the log-probabilities of the bins, up to a constant."""
        edges = shift[..., None] + scale[..., None] * (raw[..., :1] + self.edges.to(raw))
        return Binned(raw[..., 1:], edges)
