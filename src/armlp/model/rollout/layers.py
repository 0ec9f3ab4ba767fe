"""The layers of a network as a rollout calls them: with what is new only, on memory that is allocated once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armlp.model.ensemble import StackedLayerNorm, member_of
from armlp.model.mlp import AutoregressiveMLP, ResidualBlock

# With fewer paths than this, one matrix product of all series is faster than one for each.
_MIN_PATHS = 16
_IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.GELU: torch.ops.aten.gelu_.default,
    nn.SiLU: torch.ops.aten.silu_.default,
    nn.Tanh: torch.tanh_,
}


class IncrementalLayers:
    """The layers and the skips of one member of an `AutoregressiveMLP`, dropout off.

    Args:
        model: The network.
        member: Which of its members.
        dtype: Of the products between layers; that of the weights where left out.

    Attributes:
        skip: Weight `[U * V, L * V]` and bias of the linear map of a window that both skips together are; None where
            there are none.
    """

    def __init__(self, model: AutoregressiveMLP, member: int, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.width = model.inputs.value_width  # of one step
        self.embedding = model.inputs.symbol_table(member)
        self.skip = _skip(model, member)
        if model.layers is None:
            self.bias = self._outputs_first(model.bias.detach().view(model.members, -1, 1)[member])
            return
        first, *between, last = model.layers
        weight, _ = member_of(first, member)
        self.first = weight[:, : model.context_length * self.width].T
        self.hidden = _Memory(len(weight))
        self.dtype = dtype or weight.dtype
        self.layers = [_layer(layer, member, self.dtype) for layer in between]
        weight, bias = member_of(last, member)
        self.weight, self.bias = (self._outputs_first(part).to(self.dtype) for part in (weight, bias[:, None]))

    def _outputs_first(self, rows: Tensor) -> Tensor:
        """The rows of a last layer, which go by value, so that all values' first outputs come first."""
        return rows.unflatten(0, (-1, self.model.head.outputs)).transpose(0, 1).flatten(0, 1)

    def begin(self, own: Tensor) -> None:
        """Looks at paths `own [B, P, T, V]`, network units, that will be generated patch by patch."""
        self.own, self.paths = own, own.shape[1]
        self.values = self.seen = own.view(own[..., 0, 0].numel(), -1)
        if self.embedding is not None:
            self.seen = own.new_empty(len(self.values), own.shape[2] * self.width)
        shape = (self.model.head.outputs, self.model.patch_length, own.shape[3], own.shape[0])
        self.outputs = [_Outputs(own.new_empty(*shape, paths)) for paths in (1, self.paths)]

    def remember(self, now: slice) -> None:
        """Takes in the steps that were generated now."""
        if self.embedding is not None:
            vectors = F.embedding(self.own[:, :, now].long(), self.embedding)
            self.seen[:, now.start * self.width : now.stop * self.width] = vectors.reshape(len(self.seen), -1)

    def __call__(self, hidden: Tensor | None, location: Tensor | None, step: int) -> Tensor:
        """What the head makes a distribution of at `step`.

        Args:
            hidden: `[B, hidden]` share of the first layer that the paths of a series have in common.
            location: `[U, V, B, 1]` share of the skips that they have in common.
            step: Steps before it are generated.

        Returns:
            `[B, P, U, V, outputs]`, or `P = 1` before anything is generated, network units, until the next call; the
            values of each output lie side by side.
        """
        length = self.model.context_length
        start = max(0, step - length)  # of what is generated and still in the window
        late = length - step + start  # where it begins in the window
        outputs = self.outputs[step > 0]
        if hidden is None:
            outputs.rows.copy_(self.bias)
        else:
            inner = self._inner(hidden, start, late, step).T
            if inner.dtype == outputs.rows.dtype:
                torch.addmm(self.bias, self.weight, inner, out=outputs.rows)
            else:
                outputs.rows.copy_(torch.addmm(self.bias, self.weight, inner))
        if location is not None:
            outputs.location.add_(location)
        if step and self.skip is not None:
            channels = self.model.channels
            seen = self.values[:, start * channels : step * channels]
            weight = self.skip[0][:, late * channels :]
            torch.addmm(outputs.locations, weight, seen.T, out=outputs.locations)
        return outputs.raw

    def _inner(self, common: Tensor, start: int, late: int, step: int) -> Tensor:
        """What the last layer sees, `[rows, width]`."""
        if step == 0:
            hidden = self.hidden(common)
            hidden.copy_(common)
        else:
            seen = self.seen[:, start * self.width : step * self.width]
            weight = self.first[late * self.width :]
            hidden = self.hidden(seen)
            if self.paths >= _MIN_PATHS:
                seen, out = (part.unflatten(0, (-1, self.paths)) for part in (seen, hidden))
                torch.baddbmm(common[:, None], seen, weight.expand(len(seen), -1, -1), out=out)
            else:
                common = common.repeat_interleave(self.paths, 0) if self.paths > 1 else common
                torch.addmm(common, seen, weight, out=hidden)
        hidden = self.layers[0](hidden).to(self.dtype)  # an activation
        for layer in self.layers[1:]:
            hidden = layer(hidden)
        return hidden


class _Outputs:
    """What the last layer writes, and how others look at it.

    Args:
        memory: `[outputs, U, V, B, P]`.
    """

    def __init__(self, memory: Tensor) -> None:
        self.rows = memory.flatten(0, 2).flatten(1)
        self.location = memory[0]
        self.locations = self.location.flatten(0, 1).flatten(1)
        self.raw = memory.permute(3, 4, 1, 2, 0)


def _skip(model: AutoregressiveMLP, member: int) -> tuple[Tensor, Tensor] | None:
    """What the linear skip makes of a window, and a 1 at each value that the seasonal skip takes."""
    if model.linear_skip is None and model.season_ago is None:
        return None
    patch, length, channels = model.patch_length, model.context_length, model.channels
    like = next(model.parameters())
    weight, bias = like.new_zeros(patch * channels, length * channels), like.new_zeros(patch * channels)
    if model.linear_skip is not None:
        weight, bias = member_of(model.linear_skip, member)
    if model.season_ago is not None:
        weight = weight.clone().view(patch, channels, length, channels)
        for step, ago in enumerate(model.season_ago):
            weight[step, :, ago].diagonal().add_(1)
    return weight.reshape(patch * channels, -1), bias


class _Memory:
    """Memory for as many rows as were ever asked for."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.all = self.some = torch.empty(0, width)

    def __call__(self, like: Tensor) -> Tensor:
        """`[len(like), width]` of any content."""
        count = like.size(0)
        if count != self.some.size(0):
            if count > self.all.size(0):
                self.all = like.new_empty(count, self.width)
            self.some = self.all[:count]
        return self.some


def _layer(layer: nn.Module, member: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    if isinstance(layer, ResidualBlock):
        return _Block(layer, member, dtype)
    return _IN_PLACE.get(type(layer)) or _Linear(*member_of(layer, member), dtype)


class _Linear:
    """A linear layer."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.out = _Memory(len(weight))

    def __call__(self, hidden: Tensor) -> Tensor:
        """`[N, in]` in, `[N, out]` out."""
        return torch.addmm(self.bias, hidden, self.weight.T, out=self.out(hidden))


class _Block:
    """A residual block. Its normalisation is a part of the product after it, but for the deviation of each row."""

    def __init__(self, block: ResidualBlock, member: int, dtype: torch.dtype) -> None:
        norm, narrow, activation, _, wide = block.inside
        gain, offset = member_of(norm, member)
        weight, bias = member_of(narrow, member)
        weight, bias = weight * gain, bias + weight @ offset
        # With the root of the width, of which the deviation of a row is short below.
        self.centred = ((weight - weight.mean(1, keepdim=True)) * weight.shape[1] ** 0.5).to(dtype)
        self.bias = bias.to(dtype)
        self.activate = _IN_PLACE[type(activation)]
        assert isinstance(norm, nn.LayerNorm | StackedLayerNorm)
        self.epsilon = norm.eps * weight.shape[1]
        self.exact = torch.promote_types(dtype, torch.float32)  # half precision is too coarse for sums
        self.wide = [part.to(dtype) for part in member_of(wide, member)]
        self.inner = _Memory(len(weight))

    def __call__(self, hidden: Tensor) -> Tensor:
        """`[N, width]`, changed in place."""
        total = hidden.sum(1, keepdim=True, dtype=self.exact)
        spread = torch.linalg.vector_norm(hidden, dim=1, keepdim=True, dtype=self.exact).square_()
        spread = spread.addcmul_(total, total, value=-1 / hidden.shape[1]).clamp_(min=0).add_(self.epsilon)
        inner = torch.mm(hidden, self.centred.T, out=self.inner(hidden))
        torch.addcmul(self.bias, inner, spread.rsqrt_().to(inner), out=inner)
        weight, bias = self.wide
        return torch.addmm(hidden, self.activate(inner), weight.T, out=hidden).add_(bias)
