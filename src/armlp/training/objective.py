"""The training objective over a chain of K patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from armlp.data.windows import Windows
from armlp.evaluation.metrics.base import crps
from armlp.evaluation.metrics.probabilistic import energy_score
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import Scaling

OBJECTIVES = ("head", "crps", "energy")
LOSS_UNITS = ("relative", "network", "data")
FEEDS = ("mean", "sample", "truth")
GRADIENTS = ("full", "last")
LEAD_WEIGHTS = ("even", "near", "far")

_LINKS = 6  # patches drawn from a longer chain if it is fed by the truth, where patches are independent


class Objective(NamedTuple):
    """Means over the observed values of a batch."""

    loss: Tensor  # scalar
    nll: Tensor | None  # scalar, per value in data units; None if not asked for, or without a density


def loss_unit(scaling: Scaling, units: str) -> Tensor:
    """Return the size of an error that counts as 1, `[B, 1, V]` data units, for losses in the units of the data.

    `relative` is the mean absolute value of the context, as in percentage errors; `network` is the scale of the window,
    nearly as in scaled errors; `data` is 1.
    """
    if units == "relative":
        return scaling.magnitude
    return scaling.scale if units == "network" else torch.ones_like(scaling.scale)


def lead_weights(kind: str, count: int) -> Tensor:
    """Return weights `[count]` of mean 1: `even`, `near` (proportional to 1 / √lead) or `far` (to √lead)."""
    lead = torch.arange(1.0, count + 1).sqrt()
    weights = {"even": torch.ones(count), "near": 1 / lead, "far": lead}[kind]
    return weights / weights.mean()


def unrolled_objective(
    model: AutoregressiveMLP,
    windows: Windows,
    loss_units: str = "relative",
    feed: str = "sample",
    input_noise: float = 0.0,
    with_nll: bool = False,
    objective: str = "head",
    gradient: str | int = "full",
    lead_weighting: str = "even",
    precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    num_paths: int = 4,
) -> Objective:
    """Return the loss over K chained patches, where `K = T / U`; K = 1 is teacher forcing.

    Fed by its own output, with the gradient running through the whole chain, a model learns to forecast well from its
    own forecasts. Fed by the truth, it learns to forecast far from the origin, under the scaling of the origin. Every
    member of an ensemble is trained on all windows, fed by its own output.

    Samy Bengio et al. (2015), Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks,
    https://arxiv.org/abs/1506.03099. The gradient through the `last` patch only is the pushforward trick of
    Brandstetter et al. (2022), Message Passing Neural PDE Solvers, https://arxiv.org/abs/2202.03376.

    Arguments not listed here are options of `ModelSettings`.

    Args:
        model: The network.
        windows: Contexts of `L` and targets of `T = K U` values.
        with_nll: Also compute the negative log-likelihood.
        precision: Returns the context in which the network computes, such as autocast; the rest is in full precision.
        num_paths: Sampled paths per window for a score; at least 2.
    """
    members, paths = model.members, 1 if objective == "head" else num_paths

    def rows(part: Tensor) -> Tensor:
        """Repeat each window for every member and path."""
        return part if paths == members == 1 else torch.cat([part.repeat_interleave(paths, 0)] * members)

    at_origin = model.measure_scaling(windows.context, windows.observed)
    size = _size(model, at_origin)
    unit = loss_unit(at_origin, loss_units) / size
    at_origin = Scaling(*(part / size for part in at_origin))
    scaling = Scaling(*map(rows, at_origin))
    covariates = None if windows.covariates is None else windows.covariates.repeat(paths).tile(members)
    window, observed = rows(windows.context / size), rows(windows.observed)
    if input_noise > 0 and model.head.numeric:
        window = window + input_noise * scaling.scale * torch.randn_like(window)
    truth = at_origin.within_reach(windows.target / size, model.context_length)
    targets, masks = (rows(part).split(model.patch_length, 1) for part in (truth, windows.target_observed))
    links = {"full": len(targets), "last": 1}.get(str(gradient)) or int(gradient)
    losses, likelihoods, draws = [], [], []
    judged = set(range(len(targets)))
    if feed == "truth" and len(targets) > _LINKS:
        judged = set(torch.randperm(len(targets))[:_LINKS].tolist())
    for link, target in enumerate(targets):
        is_last = link + 1 == len(targets)
        patch, mask = target, masks[link]
        if link in judged:
            step = link * model.patch_length
            with precision():
                raw = model.raw_outputs(window, observed, scaling, covariates, step)
            shift = scaling.shift_at(step + model.context_length, model.patch_length)
            distribution = model.head(raw.to(window.dtype), shift, scaling.scale)
            if with_nll and model.head.has_density:
                likelihoods.append(distribution.log_prob(target).detach() - rows(size.log()))
            if objective == "head":
                losses.append(model.head.loss(distribution, target, rows(unit)))
                if not model.head.loss_in_units:
                    losses[-1] = losses[-1] + rows(size.log())
            if feed != "truth" and not (is_last and objective == "head"):
                patch = distribution.mean if feed == "mean" and model.head.numeric else distribution.rsample()
                mask = torch.ones_like(patch, dtype=torch.bool)
                draws.append(patch)
        if not is_last:
            window = torch.cat([window, patch], 1)[:, model.patch_length :]
            if (link + 1) % links == 0:
                window = window.detach()
            observed = torch.cat([observed, mask], 1)[:, model.patch_length :]

    def by_window(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), 1).unflatten(0, (members, len(windows.context), paths))

    lead: Tensor | slice = slice(None)
    if len(judged) < len(targets):
        leads = torch.arange(windows.target.shape[1], device=unit.device).split(model.patch_length)
        lead = torch.cat([leads[link] for link in sorted(judged)])
    scored = model.head.score_mask(windows.target_observed[:, lead])
    counted = scored if objective == "head" else windows.target_observed
    if objective == "head":
        loss = by_window(losses).mean((0, 2))
    else:
        scores = [
            crps(future, truth / unit) if objective == "crps" else energy_score(future, truth / unit, counted)
            for future in by_window(draws) / unit[:, None]
        ]
        loss = torch.stack(scores).mean(0)
    if lead_weighting != "even":
        weights = lead_weights(lead_weighting, windows.target.shape[1]).to(loss, non_blocking=True)[lead]
        loss = weights[:, None] * loss
    nll = -_mean(by_window(likelihoods).mean((0, 2)), scored) if likelihoods else None
    return Objective(_mean(loss, counted), nll)


def _size(model: AutoregressiveMLP, scaling: Scaling) -> Tensor:
    """Return the divisor of training windows, `[B, 1, V]` data units: a power of two near their magnitude.

    It changes no digit of the windows or the forecasts, and keeps the gradients of densities of very small data within
    float32. It is 1 without a scaler and for counts, where the unit matters.
    """
    if model.scaler.identity or model.head.discrete:
        return torch.ones_like(scaling.magnitude)
    return scaling.magnitude / scaling.magnitude.frexp().mantissa


def _mean(values: Tensor, observed: Tensor) -> Tensor:
    """Return the mean over observed values."""
    return torch.where(observed, values, 0.0).sum() / observed.sum().clamp(min=1)
