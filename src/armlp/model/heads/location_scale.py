"""Heads of one location and one scale."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.errors import refuse_below
from armlp.model.distributions import Laplace, MultivariateNormal, Normal, Predictive, StudentT
from armlp.model.heads.head import Head, positive


class NormalHead(Head):
    """Mean and standard deviation."""

    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the mean and, through softplus, the standard deviation."""
        location, spread = raw.unbind(-1)
        return Normal(shift + scale * location, scale * positive(spread), validate_args=False)


class LaplaceHead(Head):
    """Median and mean absolute deviation of a Laplace distribution: sharp peak, exponential tails."""

    outputs = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the median and, through softplus, the mean absolute deviation."""
        location, spread = raw.unbind(-1)
        return Laplace(shift + scale * location, scale * positive(spread), validate_args=False)


class StudentTHead(Head):
    """Location, scale and degrees of freedom (above 2, so that the variance exists)."""

    outputs = 3
    noise = 2

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs are the location and, through softplus, the scale and the degrees of freedom above 2."""
        location, spread, tail = raw.unbind(-1)
        return StudentT(2 + positive(tail + 4), shift + scale * location, scale * positive(spread))

    def prepared(self, uniform: Tensor) -> Tensor:
        """The parts of the draw that do not hang on the degrees of freedom."""
        return StudentT.polar(uniform)

    def draw(self, raw: Tensor, noise: Tensor) -> Tensor:
        """As in every head, without the parts of a Student's t that only its likelihood needs."""
        location, spread, tail = raw.unbind(-1)
        return torch.addcmul(location, positive(spread), StudentT.standard(2 + positive(tail + 4), noise))


class MultivariateNormalHead(NormalHead):
    """Means and full covariance of V channels; of a single one, the normal head.

    Args:
        channels: `V`.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        refuse_below("--model.channels", channels, 1)
        self.channels = channels
        self.outputs = 1 + channels

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Raw outputs of a channel are its mean and its row of the covariance's Cholesky factor.

        The factor's diagonal goes through softplus and is the standard deviation given the channels before; what is
        left of it counts in multiples of it, so that raw zeros are independent channels. `raw [..., V, 1 + V]`.
        """
        if self.channels == 1:
            return super().forward(raw, shift, scale)
        location, rows = raw[..., 0], raw[..., 1:]
        diagonal = positive(rows.diagonal(dim1=-2, dim2=-1))
        factor = diagonal[..., None] * rows.tril(-1) + diagonal.diag_embed()
        return MultivariateNormal(shift + scale * location, scale[..., None] * factor)

    def scored(self, observed: Tensor) -> Tensor:
        """Only steps of which all channels were observed, because each is judged given those before it."""
        return observed if self.channels == 1 else observed.all(-1, keepdim=True).expand_as(observed)
