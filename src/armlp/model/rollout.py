"""The rollout: the conditional distribution applied to its own output, step after step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from armlp.data.covariates import Covariates
from armlp.errors import UserError
from armlp.model.distributions import open_interval
from armlp.model.mlp import AutoregressiveMLP

# A block of this many paths keeps the windows and the hidden layers of one step in the processor's cache.
_PATHS_PER_BLOCK = 1024


def path_noise(
    keys: Tensor, origins: Tensor, num_paths: int, horizon: int, per_value: tuple[int, ...], seed: int
) -> Tensor:
    """Uniform noise of every path, from the series' own key, so that a path does not depend on its batch.

    Args:
        keys: `[B]` int64 hash of each series' id.
        origins: `[B]` int64 row of the origin.
        num_paths: `P`.
        horizon: `H`.
        per_value: `(model.head.noise,)`, after `V` where there are channels.
        seed: Of all paths.

    Returns:
        `[B, P, H, *per_value]` in the open interval (0, 1), float32.
    """
    # Step before path, so that a longer horizon goes on where a shorter one ended.
    noise = torch.empty(len(keys), horizon, num_paths, *per_value)
    generator = torch.Generator()
    for row, key, origin in zip(noise, keys.tolist(), origins.tolist(), strict=True):
        generator.manual_seed(hash((seed, key, origin)))
        row.uniform_(generator=generator)
    return open_interval(noise).transpose(1, 2)


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
) -> Tensor:
    """Sampled futures of every context.

    Values may be given, as in a what-if: every path has them in place of what it draws, and what comes after them is
    drawn given them: a patch ends at a known value, so that the next call of the network sees it. What comes before is
    drawn as without them, and so are the other channels of the same step: paths are not weighed by how likely they make
    what is known.

    Args:
        model: The network; call `eval()` on it first.
        context: `[B, L(, V)]`, data units; of a longer one, the last `L` values.
        horizon: `H`, any length, whatever the model was trained on.
        num_paths: `P`. A point head has one future only: its paths are all alike, or those of an ensemble's members.
        observed: `[B, L(, V)]` bool; all observed if left out.
        noise: `[B, P, H(, V), model.head.noise]` from `path_noise`; drawn from torch's global generator if left out.
        covariates: From the first of the last `L` values on, to the end of the last patch, where the model has any.
        temperature: Of symbols and bins: below 1 the likely ones become likelier.
        top_k: Of symbols and bins: only the so many likeliest are drawn.
        zero: `[B, 1(, V)]` what a non-negative model cuts forecasts off at, where contexts lack a level; 0 if left out.
        given: `[B, H(, V)]` values that every path has, data units; nan where it draws its own.

    Returns:
        `[B, P, H(, V)]`, data units.

    Raises:
        UserError: `horizon` or `num_paths` is below 1, or the context is too short.
    """
    for name, value in {"horizon": horizon, "num_paths": num_paths}.items():
        if value < 1:
            raise UserError(f"{name}: {value} is too small; it must be at least 1.")
    if context.shape[1] < model.context_length:
        raise UserError(
            f"context: {context.shape[1]} values are too few; the model sees {model.context_length}: pad them on the "
            "left, and mark the padding in observed."
        )
    observed = torch.ones_like(context, dtype=torch.bool) if observed is None else observed
    context, observed = context[:, -model.context_length :], observed[:, -model.context_length :]
    if noise is None:
        shape = (len(context), num_paths, horizon, *context.shape[2:], model.head.noise)
        noise = open_interval(torch.rand(shape, device=context.device))
    # As many paths of every member; paths without noise differ between members only.
    distinct = -(-num_paths // model.members) * model.members if model.head.noise else model.members
    noise = F.pad(noise[:, :distinct], (0, 0) * (noise.dim() - 2) + (0, max(0, distinct - num_paths)), value=0.5)
    sharpness = None if (temperature, top_k) == (1.0, None) else (temperature, top_k)
    zero = context.new_zeros(()).expand_as(context[:, :1]) if zero is None else zero
    block = max(1, _PATHS_PER_BLOCK // distinct)
    # Series whose patches end alike go together, so that a series' paths do not depend on its batch.
    groups = [torch.arange(len(context), device=context.device)]
    if given is not None and model.patch_length > 1 and len(context):
        turns = _turns(given)
        groups = [(turns == alike).all(1).nonzero()[:, 0] for alike in turns.unique(dim=0)]
    paths = torch.cat(
        [
            _roll(
                model,
                context[rows],
                observed[rows],
                noise[rows],
                horizon,
                None if covariates is None else covariates.rows(rows),
                sharpness,
                zero[rows],
                None if given is None else given[rows],
            )
            for group in groups
            for rows in group.split(block)
        ]
    )
    if len(groups) > 1:
        paths = paths[torch.cat(groups).argsort()]
    if num_paths <= distinct:
        return paths[:, :num_paths]
    return paths[:, torch.arange(num_paths, device=paths.device) % distinct]


def _roll(
    model: AutoregressiveMLP,
    context: Tensor,
    observed: Tensor,
    noise: Tensor,
    horizon: int,
    covariates: Covariates | None,
    sharpness: tuple[float, int | None] | None,
    zero: Tensor,
    given: Tensor | None,
) -> Tensor:
    """The reference: every step sees the last `L` values of its own path, scaled as the context was."""
    series, members, length, patch = len(context), model.members, model.context_length, model.patch_length
    paths = noise.shape[1] // members
    # The last patch may reach past the horizon.
    steps = -(-horizon // patch) * patch if given is None else horizon + patch - 1
    channels = context.shape[2:]
    noise = F.pad(noise, (0, 0) * (1 + len(channels)) + (0, steps - horizon), value=0.5)
    # Rows go by member, series, path; a path's member is its number modulo the number of members.
    noise = noise.unflatten(1, (paths, members)).movedim(2, 0).flatten(0, 2)
    scaling = model.scale(context, observed).repeat(paths).tile(members)
    future = context.new_zeros(series, steps, *channels)
    turns = [] if given is None else _turns(given).any(0).nonzero()[:, 0].tolist()
    if given is not None:
        given = torch.cat([given.to(future), torch.full_like(future[:, horizon:], torch.nan)], 1)
        given = torch.cat([given.repeat_interleave(paths, 0)] * members)
    values, seen = torch.cat([context, future], 1), torch.cat([observed, torch.ones_like(future, dtype=torch.bool)], 1)
    values, seen, zero = (torch.cat([part.repeat_interleave(paths, 0)] * members) for part in (values, seen, zero))
    if covariates is not None:
        covariates = covariates.reaching(length + steps).repeat(paths).tile(members)
    step = 0
    while step < horizon:
        window = slice(step, step + length)
        distribution = model.conditional(values[:, window], seen[:, window], scaling, covariates, step)
        if sharpness is not None:
            distribution = distribution.sharpened(*sharpness)
        drawn = distribution.draw(noise[:, step : step + patch])
        drawn = drawn.clamp(min=zero) if model.non_negative else drawn
        if given is not None:
            told = given[:, step : step + patch]
            drawn = torch.where(told.isnan(), drawn, told)
        values[:, step + length : step + length + patch] = drawn
        # What is left of a patch after a known value is drawn anew, given that value.
        step = min([step + patch, *(turn for turn in turns if turn > step)])
    return values[:, length : length + horizon].unflatten(0, (members, series, paths)).movedim(0, 2).flatten(1, 2)


def _turns(given: Tensor) -> Tensor:
    """`[B, H]` bool, the steps at which a path goes on by itself after a known value."""
    told = ~given.isnan().flatten(2) if given.dim() > 2 else ~given.isnan()[..., None]
    return F.pad(told.any(2)[:, :-1], (1, 0)) & ~told.all(2)
