"""What training minimises, chained over K patches of the model's own output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from armlp.data.windows import Windows
from armlp.evaluation.metrics.functional import crps, energy_score
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import Scaling

OBJECTIVES = ("head", "crps", "energy")
LOSS_UNITS = ("relative", "network", "data")
FEEDS = ("mean", "sample", "truth")
GRADIENTS = ("full", "last")
LEAD_WEIGHTS = ("even", "near", "far")

# Patches fed by the truth do not need each other: of a longer chain so many are drawn.
_LINKS = 6


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
    """What an error of 1 means to losses that have the units of the data, `[B, 1, V]` data units.

    The network's input has units of its own, so that the loss can lean towards the metric that matters.

    Args:
        scaling: Of the window.
        units: `relative` to the mean absolute value of the context, as percentage errors are; `network` units,
            as scaled errors nearly are; or the units of the `data`.
    """
    if units == "relative":
        return scaling.magnitude
    return scaling.scale if units == "network" else torch.ones_like(scaling.scale)


def lead_weights(kind: str, count: int) -> Tensor:
    """What each of `count` leads counts, `[count]`, 1 in the mean.

    Args:
        kind: `even`; `near`, falling with the root of the lead as the certainty of most series does; or `far`, rising
            with it.
        count: Leads.
    """
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
    """The loss over K chained patches, where `K = T / U`; K = 1 is teacher forcing.

    Fed by its own output, a model learns to stay good when it sees what it wrote itself, with the gradient running
    through the whole chain. Fed by the truth, it learns what lies far from the origin, whose scaling it keeps.

    Samy Bengio et al. (2015), Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks,
    https://arxiv.org/abs/1506.03099

    Args:
        model: The network. Of an ensemble every member is trained on all windows, fed by its own output.
        windows: Contexts of `L` and targets of `T = K U` values.
        loss_units: One of `LOSS_UNITS`.
        feed: What a patch hands to the next: its `mean`, a `sample` (as symbols do, which have no mean), or the `truth`
            in its place: teacher forcing that goes on under the scaling of the origin, as a rollout does.
        input_noise: Standard deviation of Gaussian noise on the context that the network sees, network units.
        with_nll: Also measure the likelihood.
        objective: `head`: the head's own loss, mostly the likelihood. `crps` of each value, or `energy` score of the
            whole future, of sampled paths: they need a head whose draws have a gradient.
        gradient: How far back it runs: through the `full` chain; only through the `last` patch, which takes its
            input as it is (the pushforward trick of Brandstetter et al. (2022), Message Passing Neural PDE Solvers,
            https://arxiv.org/abs/2202.03376); or through chains of so many patches, cut off from each other.
        lead_weighting: One of `LEAD_WEIGHTS`.
        precision: Makes the context in which the network computes, such as autocast; everything else, distributions
            and losses among it, has the precision of the windows.
        num_paths: How many sampled paths of a window a score is of; at least 2.

    Returns:
        Means over the observed values of the batch.
    """
    members, paths = model.members, 1 if objective == "head" else num_paths

    def rows(part: Tensor) -> Tensor:
        """A row for every member and path of each window."""
        return part if paths == members == 1 else torch.cat([part.repeat_interleave(paths, 0)] * members)

    at_origin = model.scale(windows.context, windows.observed)
    size = _size(model, at_origin)
    unit = loss_unit(at_origin, loss_units) / size
    at_origin = Scaling(*(part / size for part in at_origin))
    scaling = Scaling(*map(rows, at_origin))
    covariates = None if windows.covariates is None else windows.covariates.repeat(paths).tile(members)
    window, observed = rows(windows.context / size), rows(windows.observed)
    if input_noise > 0 and not model.symbols:
        window = window + input_noise * scaling.scale * torch.randn_like(window)
    truth = at_origin.within_reach(windows.target / size, model.context_length)
    targets, told = (rows(part).split(model.patch_length, 1) for part in (truth, windows.target_observed))
    links = {"full": len(targets), "last": 1}.get(str(gradient)) or int(gradient)
    losses, likelihoods, draws = [], [], []
    judged = set(range(len(targets)))
    if feed == "truth" and len(targets) > _LINKS:
        judged = set(torch.randperm(len(targets))[:_LINKS].tolist())
    for link, target in enumerate(targets):
        is_last = link + 1 == len(targets)
        patch, seen = target, told[link]
        if link in judged:
            step = link * model.patch_length
            with precision():
                raw = model.raw(window, observed, scaling, covariates, step)
            shift = scaling.shift_at(step + model.context_length, model.patch_length)
            distribution = model.head(raw.to(window.dtype), shift, scaling.scale)
            if with_nll and model.head.has_density:
                likelihoods.append(distribution.log_prob(target).detach() - rows(size.log()))
            if objective == "head":
                losses.append(model.head.loss(distribution, target, rows(unit)))
                if not model.head.loss_in_units:
                    losses[-1] = losses[-1] + rows(size.log())
            if feed != "truth" and not (is_last and objective == "head"):
                patch = distribution.mean if feed == "mean" and not model.symbols else distribution.rsample()
                seen = torch.ones_like(patch, dtype=torch.bool)
                draws.append(patch)
        if not is_last:
            window = torch.cat([window, patch], 1)[:, model.patch_length :]
            if (link + 1) % links == 0:
                window = window.detach()
            observed = torch.cat([observed, seen], 1)[:, model.patch_length :]

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
    """What windows are divided by while they are trained on, `[B, 1, V]` data units.

    It is a power of two near their magnitude, which changes no digit of them or of the model's forecasts, and keeps
    the gradients of densities of very small data within float32. Without a scaler, and of counts, the unit matters: 1.
    """
    if model.scaler.identity or model.head.discrete:
        return torch.ones_like(scaling.magnitude)
    return scaling.magnitude / scaling.magnitude.frexp().mantissa


def _mean(values: Tensor, seen: Tensor) -> Tensor:
    """Mean over what was seen."""
    return torch.where(seen, values, 0.0).sum() / seen.sum().clamp(min=1)
