"""The rollout: the network applied to its samples, patch after patch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from armlp.arguments import check_arguments
from armlp.data.covariates import Covariates
from armlp.errors import UserError, check_bounds
from armlp.model.families.base import open_interval
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout.reference import RolloutInputs, reference_rollout
from armlp.model.rollout.shared_prefix import SharedPrefix

# Numbers in the widest layer of a block of paths: what fits into a processor's cache (scripts/LOG.md). A graphics
# processor is faster the larger the blocks are.
_BLOCK = {"cpu": 1 << 19, "cuda": 1 << 26}


def path_noise(
    keys: Tensor, origins: Tensor, num_paths: int, horizon: int, per_value: tuple[int, ...], seed: int, members: int = 1
) -> Tensor:
    """Return the uniform noise of every path, drawn from the key of its series, so that it does not depend on a batch.

    The draws of a step are stratified (Latin hypercube sampling): the interval is cut into `n` equal parts for the `n`
    paths of a member, and every step deals them out in a new random order. A single path is drawn as if freely, and
    quantiles of all paths are many times closer to those of the distribution.

    M. D. McKay, R. J. Beckman, W. J. Conover (1979), A Comparison of Three Methods for Selecting Values of Input
    Variables in the Analysis of Output from a Computer Code, https://doi.org/10.2307/1268522

    Args:
        keys: `[B]` int64 hash of each series' id.
        origins: `[B]` int64 row of the origin.
        per_value: `(V, model.head.noise)`; `(model.head.noise,)` of contexts without a channel axis.
        members: `E` of the network; path `p` is of member `p % E`.

    Returns:
        `[B, P, H, *per_value]` in the open interval (0, 1), float32.
    """
    each = -(-num_paths // members)
    # Steps come before paths, so that a longer horizon continues the noise of a shorter one.
    noise = torch.empty(len(keys), horizon, *per_value, members, each)
    generator = torch.Generator()
    for rows in _blocks(slice(0, len(keys)), max(1, _BLOCK["cpu"] // max(1, noise[:1].numel()))):
        # In float64 no two draws are equal, so their order is the same on every machine.
        draws = torch.empty(*noise[rows].shape[:2], 2, *noise.shape[2:], dtype=torch.float64)
        for row, key, origin in zip(draws, keys[rows].tolist(), origins[rows].tolist(), strict=True):
            generator.manual_seed(hash((seed, key, origin)))
            row.uniform_(generator=generator)
        order, within = draws.unbind(2)
        stratum = torch.from_numpy(order.numpy().argsort(-1))  # numpy sorts four times as fast
        noise[rows] = (stratum + within) / each
    return open_interval(noise).movedim((-1, -2), (1, 2)).flatten(1, 2)[:, :num_paths]


@torch.no_grad()
def rollout(
    model: AutoregressiveMLP,
    context: Tensor,
    horizon: int,
    num_paths: int = 1,
    observed: Tensor | None = None,
    noise: Tensor | None = None,
    covariates: Covariates | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    zero: Tensor | None = None,
    given: Tensor | None = None,
    precision: torch.dtype | None = None,
    reference: bool = False,
    median: bool = False,
) -> Tensor:
    """Return sampled futures of every context.

    Some future values may be known, as in a what-if. Every path has them instead of what it draws, and later values
    depend on them: a patch ends at a known value, so that the next call of the network takes it. Earlier values and
    the other channels of the same step are drawn as without it.

    A single channel needs no axis: of a context `[B, L]` all other shapes lack `V` too.

    Args:
        model: The network; call `eval()` on it first.
        context: `[B, L, V]`, data units; only the last `L` values are used.
        horizon: `H`, any length, whatever the model was trained on.
        num_paths: `P`. A point head has one future only: its paths are equal, or those of an ensemble's members.
        observed: `[B, L, V]` bool; all observed if left out.
        noise: `[B, P, H, V, model.head.noise]` from `path_noise`; drawn from torch's global generator if left out.
        covariates: Covariates from the first used value on, to the end of the last patch, for a model that has any.
        temperature: For heads with separate choices, such as bins; below 1 likely ones become likelier.
        top_k: For the same heads; only this many of the likeliest choices are drawn.
        zero: `[B, 1, V]` where a non-negative model cuts forecasts off, if a constant was subtracted; 0 if left out.
        given: `[B, H, V]` values that every path has, data units; nan where it draws them.
        precision: Type of the products between the layers, such as `torch.bfloat16`; that of the weights if left out.
        reference: Use the plain loop, the oracle of tests, which gives the same numbers far more slowly.
        median: Take the median of every distribution instead of a draw; the paths of a member are equal.

    Returns:
        `[B, P, H, V]`, data units.

    Raises:
        UserError: An argument is of another type or out of its range, or the context is too short.
    """
    numbers = {"horizon": horizon, "num_paths": num_paths, "temperature": temperature, "top_k": top_k}
    horizon, num_paths, temperature, top_k = check_arguments(rollout, numbers).values()
    for name in ("horizon", "num_paths", "top_k"):
        check_bounds(name, numbers[name], 1)
    if temperature <= 0:
        raise UserError(f"temperature: {temperature} is not above 0.")
    tensors = {"observed": observed, "noise": noise, "zero": zero, "given": given}
    for name, value in {"context": context, **tensors}.items():
        if not isinstance(value, Tensor) and (name == "context" or value is not None):
            raise UserError(f"{name}: a Tensor is needed, but this is of type {type(value).__name__}.")
    if context.shape[1] < model.context_length:
        raise UserError(
            f"context: {context.shape[1]} values are too few; the model sees {model.context_length}: pad them on the "
            "left, and mark the padding in observed."
        )
    observed = torch.ones_like(context, dtype=torch.bool) if observed is None else observed
    lower_bound = context.new_zeros(()).expand_as(context[:, :1]) if zero is None else zero
    if noise is None:
        shape = (len(context), num_paths, horizon, *context.shape[2:], model.head.noise)
        noise = open_interval(torch.rand(shape, device=context.device))
    has_channels = context.dim() == 3
    if not has_channels:
        context, observed, lower_bound = context[..., None], observed[..., None], lower_bound[..., None]
        noise, given = noise.unsqueeze(3), None if given is None else given[..., None]
    length = model.context_length
    inputs = RolloutInputs(context[:, -length:], observed[:, -length:], covariates, lower_bound, given)
    # Every member has equally many paths; without noise the paths of a member are equal.
    distinct = -(-num_paths // model.members) * model.members if model.head.noise and not median else model.members
    noise = noise[:, torch.arange(distinct, device=noise.device).clamp(max=num_paths - 1)]
    most = max(1, _BLOCK.get(context.device.type, _BLOCK["cuda"]) // model.max_width)
    paths = noise.new_empty(noise.shape[:-1], dtype=context.dtype)
    for group, steps in _groups(model, inputs, horizon):
        roll = (
            partial(reference_rollout, model, steps, temperature=temperature, top_k=top_k, median=median)
            if reference
            else SharedPrefix(model, steps, temperature, top_k, median, precision).roll
        )
        span = steps[-1] + model.patch_length  # the last patch may reach past the horizon
        beyond = (0, 0, 0, 0, 0, span - horizon)
        for rows in _blocks(group, max(1, most // (distinct // model.members))):
            block, drawn = inputs.select(rows).extended_to(span), noise[rows]
            if model.dependence is not None and not median:
                drawn = model.dependence(drawn, steps, model.members)
            drawn = F.pad(drawn, beyond, value=0.5)
            for first in range(0, distinct, most * model.members):
                some = slice(first, first + most * model.members)
                paths[rows, some] = roll(block, drawn[:, some])[:, :, :horizon]
    paths = paths if has_channels else paths[..., 0]
    if num_paths <= distinct:
        return paths[:, :num_paths]
    return paths[:, torch.arange(num_paths, device=paths.device) % distinct]


def _groups(
    model: AutoregressiveMLP, inputs: RolloutInputs, horizon: int
) -> Iterator[tuple[slice | Tensor, list[int]]]:
    """Yield series whose patches begin at the same steps, and these steps, so that paths do not depend on a batch."""
    patch, future = model.patch_length, inputs.known_future
    if future is None or patch == 1 or not len(future):
        yield slice(0, len(inputs.context)), list(range(0, horizon, patch))
        return
    known = ~future.isnan()
    turns = F.pad(known.any(2)[:, :-1], (1, 0)) & ~known.all(2)  # steps after a known value at which something is drawn
    for group in turns.unique(dim=0):
        ends = group.nonzero()[:, 0].tolist()
        steps = [0]
        while (step := min([steps[-1] + patch, *(end for end in ends if end > steps[-1])])) < horizon:
            steps.append(step)
        yield (turns == group).all(1).nonzero()[:, 0], steps


def _blocks(group: slice | Tensor, size: int) -> Iterator[slice | Tensor]:
    """Yield the parts of a group; those of a slice are slices, which copy nothing."""
    if isinstance(group, Tensor):
        yield from group.split(size)
    else:
        yield from (slice(first, min(first + size, group.stop)) for first in range(0, group.stop, size))
