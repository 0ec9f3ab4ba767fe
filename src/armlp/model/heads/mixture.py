"""The head of a mixture of normal distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.errors import refuse_below
from armlp.model.distributions import NormalMixture, Predictive
from armlp.model.heads.head import Head, positive


class MixtureHead(Head):
    """Weights, means and standard deviations of K normal distributions.

    Args:
        components: `K`.
    """

    noise = 2
    offsets: Tensor

    def __init__(self, components: int = 3) -> None:
        super().__init__()
        refuse_below("--model.components", components, 1)
        self.outputs = 1 + 3 * components
        # Components that start alike get the same gradient and could never part.
        ends = 1.0 if components > 1 else 0.0
        self.register_buffer("offsets", torch.linspace(-ends, ends, components), persistent=False)

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are a common location, K log-weights, K means from the location, and K standard deviations.

        The last go through softplus.
        """
        logits, means, spreads = raw[..., 1:].unflatten(-1, (3, -1)).unbind(-2)
        means = raw[..., :1] + means + self.offsets.to(raw)
        return NormalMixture(logits, shift[..., None] + scale[..., None] * means, scale[..., None] * positive(spreads))
