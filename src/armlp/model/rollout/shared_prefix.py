"""The fast rollout: what all paths of a series have in common is computed once, for every step ahead.

Scaling is fixed at the origin and everything before the first nonlinearity is linear in the window. So the first layer
is the sum of two shares: that of the history, its mask and the covariates, the *prefix*, which is one matrix product
for all steps of a series, and that of what the path itself has generated, which grows with the step. Before the first
value is drawn all paths are alike, and the network is called once per series.
"""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout.layers import IncrementalLayers
from armlp.model.rollout.reference import RolloutInputs
from armlp.model.scaling import REACH, Scaling

# So many numbers of the inputs of all steps are laid out at a time.
_PREFIX_CHUNK = 1 << 22
# Likewise of what heads prepare of noise.
_NOISE_CHUNK = 1 << 19


class SharedPrefix:
    """Rolls blocks of series forward; the numbers are those of the reference.

    Args:
        model: In evaluation mode.
        steps: At which the network is called, counted from the origin, ascending from 0.
        sharpness: Temperature and `top_k` of separate choices.
        dtype: Of the products between layers; that of their weights where left out. Locations stay exact.
    """

    def __init__(
        self,
        model: AutoregressiveMLP,
        steps: list[int],
        sharpness: tuple[float, int | None] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model, self.steps, self.sharpness = model, steps, sharpness
        self.span = steps[-1] + model.patch_length  # the last patch may reach past the horizon
        self.stacks = [IncrementalLayers(model, member, dtype) for member in range(model.members)]
        skips = [stack.skip for stack in self.stacks if stack.skip is not None]
        self.skips = tuple(map(torch.stack, zip(*skips, strict=True))) if skips else None

    def roll(self, origins: RolloutInputs, noise: Tensor) -> Tensor:
        """The paths `[B, P, T, V]`, data units, of noise `[B, P, T, V, model.head.noise]`.

        Path `p` is of member `p % E`, and there are as many of each.
        """
        scaling = self.model.scale(origins.context, origins.observed)
        prefix = self._prefix(origins, scaling)
        paths = origins.context.new_empty(noise.shape[:-1])
        for member in range(self.model.members):
            mine = slice(member, None, self.model.members)
            hidden, location = (None if part is None else part[member] for part in prefix)
            drawn = self._recursion(member, origins, scaling, hidden, location, noise[:, mine])
            paths[:, mine] = self._in_data_units(drawn, origins, scaling)
        return paths

    def _prefix(self, origins: RolloutInputs, scaling: Scaling) -> tuple[Tensor | None, Tensor | None]:
        """What the paths of a series have in common at every step.

        Returns:
            Of the first layer, `[E, K, B, hidden]`, and of the skips, `[E, K, U, V, B, 1]`, network units; None of what
            the network does not have.
        """
        model, members = self.model, self.model.members
        scaling = scaling.tile(members)
        context, observed = (torch.cat([part] * members) for part in (origins.context, origins.observed))
        covariates = None if origins.covariates is None else origins.covariates.tile(members)
        values = model.inputs.values(scaling.to_network(context))
        hidden, skips = [], []
        at_once = max(1, _PREFIX_CHUNK // (len(values) * max(model.inputs.width, values[0].numel())))
        for begin in range(0, len(self.steps), at_once):
            steps = self.steps[begin : begin + at_once]
            windows = model.inputs.windows(values, steps)
            if model.layers is not None:
                inputs = model.inputs.ahead(windows, observed, scaling, covariates, steps)
                shares = model.layers[0](inputs.flatten(0, 1))
                hidden.append(shares.unflatten(0, (members, -1, len(steps))))
            if self.skips is not None:
                weight, bias = self.skips
                skips.append(bias[:, None, None] + windows.flatten(2).unflatten(0, (members, -1)) @ weight.mT[:, None])
        first = torch.cat(hidden, 2).transpose(1, 2) if hidden else None
        if not skips:
            return first, None
        patch = (model.patch_length, context.shape[2])
        return first, torch.cat(skips, 2).permute(0, 2, 3, 1).unflatten(2, patch).contiguous()[..., None]

    def _recursion(
        self,
        member: int,
        origins: RolloutInputs,
        scaling: Scaling,
        hidden: Tensor | None,
        location: Tensor | None,
        noise: Tensor,
    ) -> Tensor:
        """The paths of one member, `[B, P, T, V]`, network units."""
        model, head, patch = self.model, self.model.head, self.model.patch_length
        series, paths, span, channels = noise.shape[:4]
        shift, scale = scaling.shift_at(model.context_length, span)[:, None], scaling.scale[:, None]
        lowest = self._lowest(origins, scaling)
        told = None if origins.given is None else (origins.given[:, None] - shift) / scale
        drawn, own = origins.context.new_empty(
            2, series, paths, span, channels
        )  # the same, but for what is out of reach
        stack = self.stacks[member]
        stack.begin(own)
        in_network_units = self.sharpness is None and head.affine
        # What can be done for many steps at once is: a step of few paths would spend most of its time on it.
        at_once = max(1, _NOISE_CHUNK // (head.outputs * noise[:, :, :patch].numel() or 1))
        news, owns = self._patches(drawn), self._patches(own)
        hiddens, locations = (len(self.steps) * [None] if part is None else part for part in (hidden, location))
        for call, (step, common, base) in enumerate(zip(self.steps, hiddens, locations, strict=True)):
            now = slice(step, step + patch)
            if call % at_once == 0:
                first, last = step, self.steps[call : call + at_once][-1]
                # Step by step is how it is read.
                soon = noise[:, :, first : last + patch].movedim(2, 0).contiguous().movedim(0, 2)
                noises = self._patches(head.prepare_noise(soon) if in_network_units else soon)
            raw = stack(common, base, step)
            if in_network_units:
                value = head.draw(raw, noises[step - first])
            else:
                moved = shift if shift.shape[2] == 1 else shift[:, :, now]
                law = head(raw.expand(-1, paths, -1, -1, -1), moved, scale)
                law = law if self.sharpness is None else law.sharpened(*self.sharpness)
                value = (law.draw(noises[step - first]) - moved) / scale
            if lowest is not None:
                value = torch.maximum(value, lowest[:, :, now])
            if told is not None:
                value = torch.where(told[:, :, now].isnan(), value, told[:, :, now])
            torch.clamp(news[step].copy_(value), -REACH, REACH, out=owns[step])
            stack.remember(now)
        return drawn

    def _patches(self, part: Tensor) -> tuple[Tensor, ...]:
        """Of `[B, P, T, ...]` the patches `[B, P, U, ...]` that begin at each step."""
        return part.unfold(2, self.model.patch_length, 1).movedim(-1, 3).unbind(2)

    def _lowest(self, origins: RolloutInputs, scaling: Scaling) -> Tensor | None:
        """What values are cut off at, `[B, 1, T, V]`, network units; None where they are not."""
        if not self.model.non_negative:
            return None
        shift = scaling.shift_at(self.model.context_length, self.span)
        lowest = (origins.zero - shift) / scaling.scale
        return lowest.expand(-1, self.span, -1)[:, None]

    def _in_data_units(self, drawn: Tensor, origins: RolloutInputs, scaling: Scaling) -> Tensor:
        """The paths `[B, P, T, V]` in data units, without rounding where a value is known exactly."""
        values = scaling.shift_at(self.model.context_length, self.span)[:, None] + scaling.scale[:, None] * drawn
        if self.model.head.discrete:
            values = values.round()
        lowest = self._lowest(origins, scaling)
        if lowest is not None:
            values = torch.where(drawn <= lowest, origins.zero[:, None].to(values), values)
        if origins.given is not None:
            given = origins.given[:, None].to(values)
            values = torch.where(given.isnan(), values, given)
        return values
