"""The rollout as a plain loop, which tests compare the fast rollout with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from armlp.data.covariates import Covariates
from armlp.model.mlp import AutoregressiveMLP


class RolloutInputs(NamedTuple):
    """What a rollout of a block of series starts from; values are in data units."""

    context: Tensor  # `[B, L, V]`
    observed: Tensor  # `[B, L, V]` bool
    covariates: Covariates | None  # from the first value of the context to the end of the last patch
    lower_bound: Tensor  # `[B, 1, V]` where a non-negative model cuts forecasts off
    known_future: Tensor | None  # `[B, T, V]` values that every path has, nan where paths draw theirs

    def select(self, rows: slice | Tensor) -> RolloutInputs:
        """Return the inputs of some of the series."""
        context, observed, covariates, lower_bound, known = self
        covariates, known = covariates and covariates.rows(rows), None if known is None else known[rows]
        return RolloutInputs(context[rows], observed[rows], covariates, lower_bound[rows], known)

    def extended_to(self, span: int) -> RolloutInputs:
        """Return the inputs with `span` steps of the future; the last known covariates are repeated."""
        known = self.known_future
        if known is not None:
            beyond = known.new_full((len(known), span - known.shape[1], known.shape[2]), torch.nan)
            known = torch.cat([known, beyond], 1).to(self.context)
        covariates = self.covariates and self.covariates.extended_to(self.context.shape[1] + span)
        return self._replace(covariates=covariates, known_future=known)


def reference_rollout(
    model: AutoregressiveMLP,
    call_steps: list[int],
    inputs: RolloutInputs,
    noise: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    median: bool = False,
) -> Tensor:
    """Return paths `[B, P, T, V]`, data units, by calling the network on the last `L` values of every path.

    All values are scaled as the context was. Path `p` is of member `p % E`; `P` is a multiple of `E`.

    Args:
        model: The network, in evaluation mode.
        call_steps: Steps from the origin at which the network is called, ascending from 0.
        inputs: What the paths start from.
        noise: `[B, P, T, V, model.head.noise]`, to the end of the last patch.
        temperature: As in `rollout`, like `top_k` and `median`.
    """
    length, patch, members, paths = model.context_length, model.patch_length, model.members, noise.shape[1]
    series, paths_per_member = len(inputs.context), paths // members

    def of_paths(part: Tensor) -> Tensor:  # from `[B, ...]` to `[E B P/E, ...]`: by member, then series, then path
        return torch.cat([part.repeat_interleave(paths_per_member, 0)] * members)

    # From `[B, P, T, V, noise]` to `[E B P/E, T, V, noise]`.
    noise = noise.unflatten(1, (paths_per_member, members)).movedim(2, 0).flatten(0, 2)
    scaling = model.measure_scaling(inputs.context, inputs.observed).repeat(paths_per_member).tile(members)
    covariates = inputs.covariates and inputs.covariates.repeat(paths_per_member).tile(members)
    lower_bound = of_paths(inputs.lower_bound)
    known_future = None if inputs.known_future is None else of_paths(inputs.known_future)
    future = inputs.context.new_zeros(series, noise.shape[1], inputs.context.shape[2])
    values = of_paths(torch.cat([inputs.context, future], 1))
    observed = of_paths(torch.cat([inputs.observed, torch.ones_like(future, dtype=torch.bool)], 1))
    for step in call_steps:
        window = slice(step, step + length)
        distribution = model.predict_patch(values[:, window], observed[:, window], scaling, covariates, step)
        distribution = distribution.sharpened(temperature, top_k)
        drawn = distribution.median if median else distribution.draw(noise[:, step : step + patch])
        if model.non_negative:
            drawn = drawn.clamp(min=lower_bound)
        if known_future is not None:
            known = known_future[:, step : step + patch]
            drawn = torch.where(known.isnan(), drawn, known)
        # `call_steps` has another call right after a known value; it overwrites the rest of this patch.
        values[:, step + length : step + length + patch] = drawn
    # From `[E B P/E, L + T, V]` to `[B, P, T, V]`.
    return values[:, length:].unflatten(0, (members, series, paths_per_member)).movedim(0, 2).flatten(1, 2)
