"""What training minimises, chained over K patches of the model's own output."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from armlp.data.windows import Windows
from armlp.model.heads import Predictive
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import open_interval
from armlp.model.scaling import Scaling, scale_window

LOSS_UNITS = ("relative", "network", "data")
FEEDS = ("mean", "sample")


class Objective(NamedTuple):
    """Means over the observed values of a batch.

    Attributes:
        loss: Scalar, what the optimizer follows.
        nll: Scalar negative log-likelihood per observed value, data units; None where it was not asked for, or the
            head has no density.
    """

    loss: Tensor
    nll: Tensor | None


def loss_unit(scaling: Scaling, units: str) -> Tensor:
    """What an error of 1 means to losses that have the units of the data, `[B, 1(, V)]` data units.

    The network's input has units of its own, so that the loss can lean towards the metric that matters.

    Args:
        scaling: Of the window.
        units: `relative` to the mean absolute value of the context, as percentage errors are; `network` units,
            as scaled errors nearly are; or the units of the `data`.
    """
    if units == "relative":
        return scaling.magnitude
    return scaling.scale if units == "network" else torch.ones_like(scaling.scale)


def unrolled_objective(
    model: AutoregressiveMLP,
    windows: Windows,
    loss_units: str = "relative",
    feed: str = "sample",
    input_noise: float = 0.0,
    with_nll: bool = False,
) -> Objective:
    """The loss over K chained patches, where `K = T / U`; K = 1 is teacher forcing.

    Every patch after the first sees the model's own output before it, and the gradient runs through the whole
    chain: the model learns to stay good when it is fed what it wrote itself.

    Samy Bengio et al. (2015), Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks,
    https://arxiv.org/abs/1506.03099

    Args:
        model: The network.
        windows: Contexts of `L` and targets of `T = K U` values.
        loss_units: One of `LOSS_UNITS`.
        feed: `mean` or `sample`: what a patch hands to the next.
        input_noise: Standard deviation of Gaussian noise on the context that the network sees, network units.
        with_nll: Also measure the likelihood.

    Returns:
        Means over the observed values of the batch.
    """
    scaling = scale_window(model.scaler, windows.context, windows.observed)
    unit = loss_unit(scaling, loss_units)
    window, observed = windows.context, windows.observed
    if input_noise > 0:
        window = window + input_noise * scaling.scale * torch.randn_like(window)
    losses, likelihoods = [], []
    targets = torch.split(windows.target, model.patch_length, dim=1)
    for chained, target in enumerate(targets, start=1):
        distribution = model.conditional(window, observed, scaling)
        losses.append(model.head.loss(distribution, target, unit))
        if with_nll and model.head.has_density:
            likelihoods.append(distribution.log_prob(target).detach())
        if chained == len(targets):
            break
        patch = distribution.mean if feed == "mean" else _sample(distribution, model.head.noise, window)
        window = torch.cat([window, patch], 1)[:, model.patch_length :]
        observed = torch.cat([observed, torch.ones_like(patch, dtype=torch.bool)], 1)[:, model.patch_length :]
    seen = windows.target_observed
    count = seen.sum().clamp(min=1)
    loss = torch.where(seen, torch.cat(losses, 1), 0.0).sum() / count
    nll = -torch.where(seen, torch.cat(likelihoods, 1), 0.0).sum() / count if likelihoods else None
    return Objective(loss, nll)


def one_step_nll(model: AutoregressiveMLP, windows: Windows) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of the targets, each patch given the truth before it.

    Args:
        model: The network, with a head that has a density.
        windows: Contexts of `L` and targets of `H` values; what is left of a whole patch at the end is not scored.

    Returns:
        Its sum over observed values, data units, and their number; both scalar.
    """
    length, patch = model.context_length, model.patch_length
    total = count = torch.zeros((), dtype=torch.float64)
    values = torch.cat([windows.context, windows.target], 1)
    observed = torch.cat([windows.observed, windows.target_observed], 1)
    for end in range(length + patch, values.shape[1] + 1, patch):
        known = slice(end - patch - length, end - patch)
        distribution = model(values[:, known], observed[:, known])
        seen = observed[:, end - patch : end]
        total = total - torch.where(seen, distribution.log_prob(values[:, end - patch : end]), 0.0).sum()
        count = count + seen.sum()
    return total, count


def _sample(distribution: Predictive, noise: int, like: Tensor) -> Tensor:
    """One reparametrised sample, so that the gradient runs through it."""
    uniform = torch.rand(*distribution.batch_shape, noise, dtype=like.dtype, device=like.device)
    return distribution.draw(open_interval(uniform))
