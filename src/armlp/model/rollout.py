"""The rollout: the conditional distribution applied to its own output, step after step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import scale_window

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


def open_interval(uniform: Tensor) -> Tensor:
    """Keeps uniform numbers off 0 and 1, where quantile functions are infinite."""
    return uniform.clamp(2**-25, 1 - 2**-24)


@torch.no_grad()
def rollout(
    model: AutoregressiveMLP,
    context: Tensor,
    horizon: int,
    num_paths: int = 1,
    observed: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Sampled futures of every context.

    Args:
        model: The network; call `eval()` on it first.
        context: `[B, L(, V)]`, data units; of a longer one, the last `L` values.
        horizon: `H`, any length, whatever the model was trained on.
        num_paths: `P`. A point head has one future only: its paths are all alike.
        observed: `[B, L(, V)]` bool; all observed if left out.
        noise: `[B, P, H(, V), model.head.noise]` from `path_noise`; drawn from torch's global generator if left out.

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
    distinct = num_paths if model.head.noise else 1
    block = max(1, _PATHS_PER_BLOCK // distinct)
    paths = [
        _roll(model, *parts, horizon)
        for parts in zip(context.split(block), observed.split(block), noise[:, :distinct].split(block), strict=True)
    ]
    return torch.cat(paths).expand(-1, num_paths, *[-1] * (context.dim() - 1))


def _roll(model: AutoregressiveMLP, context: Tensor, observed: Tensor, noise: Tensor, horizon: int) -> Tensor:
    """The reference: every step sees the last `L` values of its own path, scaled as the context was."""
    paths, length, patch = noise.shape[1], context.shape[1], model.patch_length
    steps = -(-horizon // patch) * patch  # the last patch may reach past the horizon
    channels = context.shape[2:]
    noise = F.pad(noise.flatten(0, 1), (0, 0) * (1 + len(channels)) + (0, steps - horizon), value=0.5)
    scaling = scale_window(model.scaler, context, observed).repeat(paths)
    future = context.new_zeros(len(context), steps, *channels)
    values = torch.cat([context, future], 1).repeat_interleave(paths, 0)
    seen = torch.cat([observed, torch.ones_like(future, dtype=torch.bool)], 1).repeat_interleave(paths, 0)
    for step in range(0, steps, patch):
        window = slice(step + length - model.context_length, step + length)
        distribution = model.conditional(values[:, window], seen[:, window], scaling)
        values[:, step + length : step + length + patch] = distribution.draw(noise[:, step : step + patch])
    return values[:, length : length + horizon].unflatten(0, (-1, paths))
