"""The rollout as a plain loop: the oracle of the fast one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from armlp.data.covariates import Covariates
from armlp.model.mlp import AutoregressiveMLP


class RolloutInputs(NamedTuple):
    """What a rollout of a block of series starts from.

    Attributes:
        context: `[B, L, V]`, data units.
        observed: `[B, L, V]` bool.
        covariates: Covariates from the first of these values on, to the end of the last patch, if there are any.
        zero: `[B, 1, V]` where a non-negative model cuts forecasts off, data units.
        given: `[B, T, V]` given values of the future, data units, nan elsewhere; None if there are none.
    """

    context: Tensor
    observed: Tensor
    covariates: Covariates | None
    zero: Tensor
    given: Tensor | None

    def rows(self, rows: slice | Tensor) -> RolloutInputs:
        """Return some of the series."""
        covariates = None if self.covariates is None else self.covariates.rows(rows)
        given = None if self.given is None else self.given[rows]
        return RolloutInputs(self.context[rows], self.observed[rows], covariates, self.zero[rows], given)

    def reaching(self, span: int) -> RolloutInputs:
        """Return the inputs with `span` steps of the future; after the last known covariate it is repeated."""
        covariates, given = self.covariates, self.given
        if covariates is not None:
            covariates = covariates.extended_to(self.context.shape[1] + span)
        if given is not None:
            beyond = given.new_full((len(given), span - given.shape[1], given.shape[2]), torch.nan)
            given = torch.cat([given, beyond], 1).to(self.context)
        return self._replace(covariates=covariates, given=given)


class ReferenceRollout:
    """Calls the network on the last `L` values of every path, scaled as the context was.

    Args:
        model: The network, in evaluation mode.
        steps: Steps from the origin at which the network is called, ascending from 0.
        sharpness: Temperature and `top_k` for symbols and bins.
    """

    def __init__(
        self, model: AutoregressiveMLP, steps: list[int], sharpness: tuple[float, int | None] | None = None
    ) -> None:
        self.model, self.steps, self.sharpness = model, steps, sharpness
        self.span = steps[-1] + model.patch_length  # the last patch may reach past the horizon

    def roll(self, origins: RolloutInputs, noise: Tensor) -> Tensor:
        """Return the paths `[B, P, T, V]`, data units, of noise `[B, P, T, V, model.head.noise]`.

        Path `p` is of member `p % E`; `P` is a multiple of `E`.
        """
        model, members = self.model, self.model.members
        series, length, patch = len(origins.context), model.context_length, model.patch_length
        paths = noise.shape[1] // members

        def of_paths(part: Tensor) -> Tensor:
            return torch.cat([part.repeat_interleave(paths, 0)] * members)

        # Rows go by member, then series, then path.
        noise = noise.unflatten(1, (paths, members)).movedim(2, 0).flatten(0, 2)
        scaling = model.scale(origins.context, origins.observed).repeat(paths).tile(members)
        future = origins.context.new_zeros(series, self.span, origins.context.shape[2])
        values = of_paths(torch.cat([origins.context, future], 1))
        seen = of_paths(torch.cat([origins.observed, torch.ones_like(future, dtype=torch.bool)], 1))
        zero, given = of_paths(origins.zero), None if origins.given is None else of_paths(origins.given)
        covariates = None if origins.covariates is None else origins.covariates.repeat(paths).tile(members)
        for step in self.steps:
            window = slice(step, step + length)
            distribution = model.conditional(values[:, window], seen[:, window], scaling, covariates, step)
            if self.sharpness is not None:
                distribution = distribution.sharpened(*self.sharpness)
            drawn = distribution.draw(noise[:, step : step + patch])
            drawn = drawn.clamp(min=zero) if model.non_negative else drawn
            if given is not None:
                known = given[:, step : step + patch]
                drawn = torch.where(known.isnan(), drawn, known)
            # The rest of a patch after a given value is overwritten by the next patch, which sees that value.
            values[:, step + length : step + length + patch] = drawn
        return values[:, length:].unflatten(0, (members, series, paths)).movedim(0, 2).flatten(1, 2)
