"""Heads of counts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from armlp.model.distributions import NegativeBinomial, Poisson, Predictive
from armlp.model.heads.head import Head, positive


class PoissonHead(Head):
    """The rate of a Poisson distribution."""

    discrete = True
    affine = False

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """The raw output is the rate in network units, bent so that the rate in data units is above 0."""
        return Poisson(_rate(raw[..., 0], shift, scale))

    def loss(self, distribution: Predictive, value: Tensor, unit: Tensor) -> Tensor:
        """The negative log-likelihood of the nearest count, so that a value that is none cannot make it infinite."""
        return -distribution.log_prob(value.round().clamp(min=0))


class NegativeBinomialHead(PoissonHead):
    """The mean of a negative binomial distribution, and what its variance has beyond that of a Poisson distribution."""

    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the mean as in the Poisson head and, through softplus, the excess standard deviation."""
        return NegativeBinomial(_rate(raw[..., 0], shift, scale), scale * positive(raw[..., 1]))


def _rate(location: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Close to `shift + scale * location` where that is some scales above 0, and above 0 everywhere."""
    return scale * F.softplus(location + shift / scale) + 1e-4
