"""Ensembles: E members of one shape as one batched network, so that five cost far less than five times one.

Rows of a batch belong to members in blocks: of `E * B` rows the first `B` are the first member's.

Balaji Lakshminarayanan et al. (2017), Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
https://arxiv.org/abs/1612.01474
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from armlp.model.families.base import Predictive


def linear(members: int, inputs: int, outputs: int) -> nn.Module:
    """A linear layer for each member."""
    return nn.Linear(inputs, outputs) if members == 1 else StackedLinear(members, inputs, outputs)


def layer_norm(members: int, width: int) -> nn.Module:
    """A layer normalisation for each member."""
    return nn.LayerNorm(width) if members == 1 else StackedLayerNorm(members, width)


def member_of(layer: nn.Module, member: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of one member in a layer of `linear` or `layer_norm`."""
    weight, bias = (parameter.detach() for parameter in layer.parameters())
    if isinstance(layer, StackedLinear):
        return weight[member], bias[member]
    if isinstance(layer, StackedLayerNorm):
        return weight[member, 0], bias[member, 0]
    return weight, bias


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class StackedLinear(nn.Module):
    """Linear layers side by side, one batched matrix product.

    Args:
        members: `E`.
        inputs: Width of the input.
        outputs: Width of the output.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as torch draws those of nn.Linear
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """From `[E * B, inputs]` to `[E * B, outputs]`."""
        grouped = values.unflatten(0, (len(self.weight), -1))
        return torch.baddbmm(self.bias[:, None], grouped, self.weight.mT).flatten(0, 1)


class StackedLayerNorm(nn.Module):
    """Layer normalisations side by side.

    Args:
        members: `E`.
        width: Of the input.
    """

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))
        self.eps = 1e-5  # as in nn.LayerNorm

    def forward(self, values: Tensor) -> Tensor:
        """`[E * B, width]` normalised."""
        grouped = nn.functional.layer_norm(values, values.shape[-1:], eps=self.eps).unflatten(0, (len(self.weight), -1))
        return torch.addcmul(self.bias, grouped, self.weight).flatten(0, 1)


class Pool(Predictive):
    """What the members of an ensemble say together of each value: a mixture of their distributions with equal weights.

    It is the law of a single value. Paths keep to one member each, so what they say of several values hangs together.

    Args:
        members: Of `[E * B, ...]` values, in blocks by member.
        count: `E`.
    """

    def __init__(self, members: Predictive, count: int) -> None:
        self.members, self.count = members, count
        shape = members.batch_shape
        super().__init__(torch.Size((shape[0] // count, *shape[1:])), validate_args=False)

    def _each(self, values: Tensor) -> Tensor:
        """`[E * B, ...]` as `[E, B, ...]`."""
        return values.unflatten(0, (self.count, -1))

    def _told(self, values: Tensor) -> Tensor:
        """`[B, ...]` as every member has it, `[E * B, ...]`."""
        return torch.cat([values.expand(self.batch_shape)] * self.count)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density `[B, ...]` at `value`, data units."""
        return self._each(self.members.log_prob(self._told(value))).logsumexp(0) - math.log(self.count)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability `[B, ...]` of at most `value`, data units."""
        return self._each(self.members.cdf(self._told(value))).mean(0)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles `[B, ...]` at levels `value`, by bisection between those of the members, without gradient."""
        ends = self._each(self.members.icdf(self._told(value)))
        return self._bisected(value, ends.amin(0), ends.amax(0))

    @property
    def mean(self) -> Tensor:
        """`[B, ...]`, data units."""
        return self._each(self.members.mean).mean(0)

    @property
    def variance(self) -> Tensor:
        """`[B, ...]`: what the members expect, and what they differ by."""
        return self._each(self.members.variance).mean(0) + self._each(self.members.mean).var(0, correction=0)
