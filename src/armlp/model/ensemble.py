"""Ensembles: E networks of one shape as one batched network, whose first `B` of `E * B` rows are the first member's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from armlp.model.families.base import Predictive


def linear(members: int, inputs: int, outputs: int) -> nn.Module:
    """Return a linear layer for each member."""
    return nn.Linear(inputs, outputs) if members == 1 else StackedLinear(members, inputs, outputs)


def layer_norm(members: int, width: int) -> nn.Module:
    """Return a layer normalisation for each member."""
    return nn.LayerNorm(width) if members == 1 else StackedLayerNorm(members, width)


def member_of(layer: nn.Module, member: int) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of one member in a layer from `linear` or `layer_norm`."""
    weight, bias = (parameter.detach() for parameter in layer.parameters())
    if isinstance(layer, StackedLinear):
        return weight[member], bias[member]
    if isinstance(layer, StackedLayerNorm):
        return weight[member, 0], bias[member, 0]
    return weight, bias


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class StackedLinear(nn.Module):
    """A linear layer for each of `E` members, computed as one batched matrix product."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Map `[E * B, inputs]` to `[E * B, outputs]`."""
        grouped = values.unflatten(0, (len(self.weight), -1))
        return torch.baddbmm(self.bias[:, None], grouped, self.weight.mT).flatten(0, 1)


class StackedLayerNorm(nn.Module):
    """A layer normalisation for each of `E` members."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))
        self.eps = 1e-5  # as in nn.LayerNorm

    def forward(self, values: Tensor) -> Tensor:
        """Normalise `[E * B, width]`."""
        grouped = nn.functional.layer_norm(values, values.shape[-1:], eps=self.eps).unflatten(0, (len(self.weight), -1))
        return torch.addcmul(self.bias, grouped, self.weight).flatten(0, 1)


class EnsembleMixture(Predictive):
    """The distribution of an ensemble: the equal mixture of the distributions `[E * B, ...]` of its `count` members.

    It describes single values. Each path comes from one member, so only paths show how values depend on each other.

    Balaji Lakshminarayanan et al. (2017), Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
    https://arxiv.org/abs/1612.01474
    """

    def __init__(self, members: Predictive, count: int) -> None:
        self.members, self.count = members, count
        shape = members.batch_shape
        super().__init__(torch.Size((shape[0] // count, *shape[1:])), validate_args=False)

    def _split_members(self, values: Tensor) -> Tensor:
        """Return `[E * B, ...]` as `[E, B, ...]`."""
        return values.unflatten(0, (self.count, -1))

    def _repeat_members(self, values: Tensor) -> Tensor:
        """Repeat `[B, ...]` for every member, `[E * B, ...]`."""
        return torch.cat([values.expand(self.batch_shape)] * self.count)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density `[B, ...]` at `value`, data units."""
        log_probs = self._split_members(self.members.log_prob(self._repeat_members(value)))
        if not self.members.chained:
            return log_probs.logsumexp(0) - math.log(self.count)
        # The members' terms are given the channels before, so the mixture is that of their sums.
        sums = log_probs.cumsum(-1).logsumexp(0) - math.log(self.count)
        return sums.diff(dim=-1, prepend=torch.zeros_like(sums[..., :1]))

    def cdf(self, value: Tensor) -> Tensor:
        """Return the probability `[B, ...]` of at most `value`, data units."""
        return self._split_members(self.members.cdf(self._repeat_members(value))).mean(0)

    def icdf(self, value: Tensor) -> Tensor:
        """Return quantiles `[B, ...]` at probabilities `value`, by bisection between the members', without gradient."""
        ends = self._split_members(self.members.icdf(self._repeat_members(value)))
        return self._bisected(value, ends.amin(0), ends.amax(0))

    @property
    def mean(self) -> Tensor:
        """`[B, ...]`, data units."""
        return self._split_members(self.members.mean).mean(0)

    @property
    def variance(self) -> Tensor:
        """`[B, ...]`: the mean variance of the members plus the variance of their means."""
        means = self._split_members(self.members.mean)
        return self._split_members(self.members.variance).mean(0) + means.var(0, correction=0)
