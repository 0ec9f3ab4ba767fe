"""The head of bins on a scaled axis."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from armlp.errors import refuse_below
from armlp.model.distributions import Binned, Predictive
from armlp.model.heads.head import Head


class CategoricalHead(Head):
    """Probabilities of bins on an axis in network units that moves with the location: any shape of density.

    The edges between the bins are a part of the model that is chosen from data, not trained.

    Args:
        bins: How many, the outer two without end.
    """

    # Keeps the density of bins around a value that many residuals share from going to infinity, network units.
    LEAST_WIDTH = 1e-3
    edges: Tensor

    def __init__(self, bins: int = 64) -> None:
        super().__init__()
        refuse_below("--model.bins", bins, 3)
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
        steps = self.LEAST_WIDTH * np.arange(len(edges))
        upwards = np.maximum.accumulate(edges - steps) + steps
        downwards = np.minimum.accumulate((edges - steps)[::-1])[::-1] + steps
        self.edges.copy_(torch.from_numpy((upwards + downwards) / 2))

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the location and the log-probabilities of the bins, up to a constant."""
        edges = shift[..., None] + scale[..., None] * (raw[..., :1] + self.edges.to(raw))
        return Binned(raw[..., 1:], edges)
