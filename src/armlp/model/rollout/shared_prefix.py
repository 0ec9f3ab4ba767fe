"""The fast rollout: the part of every step that all paths of a series share is computed once.

Scaling is fixed at the origin, and everything before the first nonlinearity is linear in the window. So the first layer
is the sum of two parts. The *prefix* comes from the history, its mask and the covariates: one matrix product for all
steps of a series. The rest comes from the values that the path has generated, and grows with the step. Before the first
value is drawn all paths are equal, and the network is called once per series.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout.layers import IncrementalLayers
from armlp.model.rollout.reference import RolloutInputs
from armlp.model.scaling import REACH, Scaling

# Numbers in the inputs of all steps, and in prepared noise, that are in memory at a time.
_PREFIX_CHUNK = 1 << 22
_NOISE_CHUNK = 1 << 19


class SharedPrefix:
    """Roll blocks of series forward, with the numbers of `reference_rollout`.

    The arguments are those of `reference_rollout`, and `dtype`: the type of the products between layers, that of their
    weights if left out. Locations stay exact.
    """

    def __init__(
        self,
        model: AutoregressiveMLP,
        steps: list[int],
        temperature: float = 1.0,
        top_k: int | None = None,
        median: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model, self.steps, self.temperature, self.top_k = model, steps, temperature, top_k
        self.median = median
        self.span = steps[-1] + model.patch_length  # the last patch may reach past the horizon
        self.layers = [IncrementalLayers(model, member, dtype) for member in range(model.members)]
        skips = [layers.skip for layers in self.layers if layers.skip is not None]
        self.skips = tuple(map(torch.stack, zip(*skips, strict=True))) if skips else None

    def roll(self, inputs: RolloutInputs, noise: Tensor) -> Tensor:
        """Return the paths `[B, P, T, V]`, data units, of noise `[B, P, T, V, model.head.noise]`.

        Path `p` is of member `p % E`; `P` is a multiple of `E`.
        """
        scaling = self.model.measure_scaling(inputs.context, inputs.observed)
        prefix = self._prefix(inputs, scaling)
        paths = inputs.context.new_empty(noise.shape[:-1])
        for member in range(self.model.members):
            of_member = slice(member, None, self.model.members)
            shared = [None if part is None else part[member] for part in prefix]
            drawn = self._generate(self.layers[member], shared, inputs, scaling, noise[:, of_member])
            paths[:, of_member] = self._in_data_units(drawn, inputs, scaling)
        return paths

    def _prefix(self, inputs: RolloutInputs, scaling: Scaling) -> tuple[Tensor | None, Tensor | None]:
        """Return the parts of the first layer and of the skips that the paths of a series share, at every step.

        They are `[E, K, B, hidden]` and `[E, K, U, V, B, 1]`, network units; None for a part that the network lacks.
        """
        model, members = self.model, self.model.members
        scaling = scaling.tile(members)
        context, observed = (torch.cat([part] * members) for part in inputs[:2])
        covariates = inputs.covariates and inputs.covariates.tile(members)
        values = model.inputs.embed(scaling.to_network(context))
        hidden, skips = [], []
        at_once = max(1, _PREFIX_CHUNK // (len(values) * max(model.inputs.width, values[0].numel())))
        for begin in range(0, len(self.steps), at_once):
            steps = self.steps[begin : begin + at_once]
            windows = model.inputs.windows(values, steps)
            if model.layers is not None:
                masked = model.inputs.mask_input
                mask = model.inputs.windows(observed, steps, after=True) if masked else observed[:, None]
                columns = model.inputs(windows, mask, scaling, covariates, steps)
                shares = model.layers[0](columns.flatten(0, 1))
                hidden.append(shares.unflatten(0, (members, -1, len(steps))))
            if self.skips is not None:
                weight, bias = self.skips
                skips.append(bias[:, None, None] + windows.flatten(2).unflatten(0, (members, -1)) @ weight.mT[:, None])
        first = torch.cat(hidden, 2).transpose(1, 2) if hidden else None
        if not skips:
            return first, None
        patch = (model.patch_length, context.shape[2])
        return first, torch.cat(skips, 2).permute(0, 2, 3, 1).unflatten(2, patch).contiguous()[..., None]

    def _generate(
        self,
        layers: IncrementalLayers,
        shared: Sequence[Tensor | None],
        inputs: RolloutInputs,
        scaling: Scaling,
        noise: Tensor,
    ) -> Tensor:
        """Return the paths of one member, `[B, P, T, V]`, network units; `shared` are its parts of the prefix."""
        model, head, patch = self.model, self.model.head, self.model.patch_length
        series, paths, span, channels = noise.shape[:4]
        shift, scale = scaling.shift_at(model.context_length, span)[:, None], scaling.scale[:, None]
        lowest = self._lowest(inputs, scaling)
        known = None if inputs.known_future is None else (inputs.known_future[:, None] - shift) / scale
        # What is drawn, and the same within the reach of network units, which the network takes.
        drawn, limited = inputs.context.new_empty(2, series, paths, span, channels)
        layers.begin(limited)
        in_network_units = head.affine and (self.temperature, self.top_k, self.median) == (1, None, False)
        # Noise is prepared for many steps at once: with few paths it would take most of the time of a step.
        at_once = max(1, _NOISE_CHUNK // (head.outputs * noise[:, :, :patch].numel() or 1))
        drawn_patches, limited_patches = self._patches(drawn), self._patches(limited)
        hidden, location = (len(self.steps) * [None] if part is None else part for part in shared)
        for call, step in enumerate(self.steps):
            now = slice(step, step + patch)
            if call % at_once == 0:
                first, last = step, self.steps[call : call + at_once][-1]
                soon = noise[:, :, first : last + patch].movedim(2, 0).contiguous().movedim(0, 2)  # read by step
                noises = self._patches(head.prepare_noise(soon) if in_network_units else soon)
            raw = layers(hidden[call], location[call], step)
            if in_network_units:
                value = head.draw(raw, noises[step - first])
            else:
                moved = shift if shift.shape[2] == 1 else shift[:, :, now]
                distribution = head(raw.expand(-1, paths, -1, -1, -1), moved, scale)
                distribution = distribution.sharpened(self.temperature, self.top_k)
                patch_values = distribution.median if self.median else distribution.draw(noises[step - first])
                value = (patch_values - moved) / scale
            if lowest is not None:
                value = torch.maximum(value, lowest[:, :, now])
            if known is not None:
                value = torch.where(known[:, :, now].isnan(), value, known[:, :, now])
            torch.clamp(drawn_patches[step].copy_(value), -REACH, REACH, out=limited_patches[step])
            layers.remember(now)
        return drawn

    def _patches(self, part: Tensor) -> tuple[Tensor, ...]:
        """Return the patches `[B, P, U, ...]` of `[B, P, T, ...]` that begin at each step."""
        return part.unfold(2, self.model.patch_length, 1).movedim(-1, 3).unbind(2)

    def _lowest(self, inputs: RolloutInputs, scaling: Scaling) -> Tensor | None:
        """Return where values are cut off, `[B, 1, T, V]`, network units; None if they are not."""
        if not self.model.non_negative:
            return None
        shift = scaling.shift_at(self.model.context_length, self.span)
        lowest = (inputs.lower_bound - shift) / scaling.scale
        return lowest.expand(-1, self.span, -1)[:, None]

    def _in_data_units(self, drawn: Tensor, inputs: RolloutInputs, scaling: Scaling) -> Tensor:
        """Return the paths `[B, P, T, V]` in data units; known values, lower bounds and counts are exact."""
        values = scaling.shift_at(self.model.context_length, self.span)[:, None] + scaling.scale[:, None] * drawn
        if self.model.head.discrete:
            values = values.round()
        lowest = self._lowest(inputs, scaling)
        if lowest is not None:
            values = torch.where(drawn <= lowest, inputs.lower_bound[:, None].to(values), values)
        if inputs.known_future is not None:
            known = inputs.known_future[:, None].to(values)
            values = torch.where(known.isnan(), values, known)
        return values
