"""The layers of a network as a rollout calls them: on new values only, in memory that is allocated once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armlp.model.ensemble import StackedLayerNorm, member_of
from armlp.model.mlp import AutoregressiveMLP, ResidualBlock

# From so many paths on, a matrix product for each series is faster than one for all.
_MIN_PATHS = 16
# torch.nn.functional has neither GELU nor SiLU in place.
_IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.GELU: torch.ops.aten.gelu_.default,
    nn.SiLU: torch.ops.aten.silu_.default,
    nn.Tanh: torch.tanh_,
}


class IncrementalLayers:
    """The layers and the skips of one member of an `AutoregressiveMLP`, dropout off.

    `dtype` is the type of the products between layers; that of the weights if left out. `skip` is the weight
    `[U * V, L * V]` and bias of both skips together, one linear map of a window; None without skips.
    """

    def __init__(self, model: AutoregressiveMLP, member: int, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.width = model.inputs.value_width
        self.embedding = model.inputs.code_table(member)
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
        """Return the rows of a last layer in another order: by output, then value, instead of by value, then output."""
        return rows.unflatten(0, (-1, self.model.head.outputs)).transpose(0, 1).flatten(0, 1)

    def begin(self, generated: Tensor) -> None:
        """Take the memory `[B, P, T, V]`, network units, into which paths will be generated patch by patch."""
        self.generated, self.paths = generated, generated.shape[1]
        self.values = self.inputs = generated.view(generated[..., 0, 0].numel(), -1)
        if self.embedding is not None:
            self.inputs = generated.new_empty(len(self.values), generated.shape[2] * self.width)
        shape = (self.model.head.outputs, self.model.patch_length, generated.shape[3], generated.shape[0])
        self.outputs = [_Outputs(generated.new_empty(*shape, paths)) for paths in (1, self.paths)]

    def remember(self, now: slice) -> None:
        """Embed the codes of the steps that were generated now."""
        if self.embedding is not None:
            vectors = F.embedding(self.generated[:, :, now].long(), self.embedding)
            self.inputs[:, now.start * self.width : now.stop * self.width] = vectors.reshape(len(self.inputs), -1)

    def __call__(self, hidden: Tensor | None, location: Tensor | None, step: int) -> Tensor:
        """Return the input of the head after `step` generated steps, `[B, P, U, V, outputs]`, network units.

        `hidden [B, hidden]` and `location [U, V, B, 1]` are the parts of the first layer and of the skips that the
        paths of a series share. `P` is 1 before anything is generated. In memory the outputs come first; the next call
        overwrites them.
        """
        length = self.model.context_length
        start = max(0, step - length)  # the first generated step that is still in the window
        late = length - step + start  # its index in the window
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
            values = self.values[:, start * channels : step * channels]
            weight = self.skip[0][:, late * channels :]
            torch.addmm(outputs.locations, weight, values.T, out=outputs.locations)
        return outputs.raw

    def _inner(self, common: Tensor, start: int, late: int, step: int) -> Tensor:
        """Return the input of the last layer, `[rows, width]`."""
        if step == 0:
            hidden = self.hidden(common)
            hidden.copy_(common)
        else:
            inputs = self.inputs[:, start * self.width : step * self.width]
            weight = self.first[late * self.width :]
            hidden = self.hidden(inputs)
            if self.paths >= _MIN_PATHS:
                inputs, out = (part.unflatten(0, (-1, self.paths)) for part in (inputs, hidden))
                torch.baddbmm(common[:, None], inputs, weight.expand(len(inputs), -1, -1), out=out)
            else:
                common = common.repeat_interleave(self.paths, 0) if self.paths > 1 else common
                torch.addmm(common, inputs, weight, out=hidden)
        hidden = self.layers[0](hidden).to(self.dtype)  # an activation
        for layer in self.layers[1:]:
            hidden = layer(hidden)
        return hidden


class _Outputs:
    """Views of the memory `[outputs, U, V, B, P]` that the last layer writes to."""

    def __init__(self, memory: Tensor) -> None:
        self.rows = memory.flatten(0, 2).flatten(1)
        self.location = memory[0]
        self.locations = self.location.flatten(0, 1).flatten(1)
        self.raw = memory.permute(3, 4, 1, 2, 0)


def _skip(model: AutoregressiveMLP, member: int) -> tuple[Tensor, Tensor] | None:
    """Return weight and bias of the linear skip, plus 1 at each value that the seasonal skip adds."""
    if model.linear_skip is None and model.seasonal_positions is None:
        return None
    patch, length, channels = model.patch_length, model.context_length, model.channels
    like = next(model.parameters())
    weight, bias = like.new_zeros(patch * channels, length * channels), like.new_zeros(patch * channels)
    if model.linear_skip is not None:
        weight, bias = member_of(model.linear_skip, member)
    if model.seasonal_positions is not None:
        weight = weight.clone().view(patch, channels, length, channels)
        for step, ago in enumerate(model.seasonal_positions):
            weight[step, :, ago].diagonal().add_(1)
    return weight.reshape(patch * channels, -1), bias


class _Memory:
    """Memory for the largest number of rows so far."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.all = self.some = torch.empty(0, width)

    def __call__(self, like: Tensor) -> Tensor:
        """Return `[len(like), width]` of any content."""
        count = like.size(0)
        if count != self.some.size(0):
            if count > self.all.size(0):
                self.all = like.new_empty(count, self.width)
            self.some = self.all[:count]
        return self.some


def _layer(layer: nn.Module, member: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return one layer of a member as a function that may overwrite its input."""
    if isinstance(layer, ResidualBlock):
        return _Block(layer, member, dtype)
    return _IN_PLACE.get(type(layer)) or _Linear(*member_of(layer, member), dtype)


class _Linear:
    """A linear layer of one member."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.out = _Memory(len(weight))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map `[N, in]` to `[N, out]`."""
        return torch.addmm(self.bias, hidden, self.weight.T, out=self.out(hidden))


class _Block:
    """A residual block `x + W2 act(W1 norm(x) + b1) + b2` whose normalisation is folded into `W1`.

    For a row x of width n and mean m, norm(x) = g (x - m) / s + o, with gain g, offset o and s² = variance + ε. So

        W1 norm(x) + b1 = W x / (√n s) + b,    W = √n (W1 g - mean of each row of W1 g),    b = b1 + W1 o:

    centring the rows of W1 g centres x. Per row only n s² = |x|² - (Σx)² / n + n ε is left to compute.
    """

    def __init__(self, block: ResidualBlock, member: int, dtype: torch.dtype) -> None:
        norm, narrow, activation, _, wide = block.inside
        gain, offset = member_of(norm, member)
        weight, bias = member_of(narrow, member)
        weight, bias = weight * gain, bias + weight @ offset
        self.centred = ((weight - weight.mean(1, keepdim=True)) * weight.shape[1] ** 0.5).to(dtype)
        self.bias = bias.to(dtype)
        self.activate = _IN_PLACE[type(activation)]
        assert isinstance(norm, nn.LayerNorm | StackedLayerNorm)
        self.epsilon = norm.eps * weight.shape[1]
        self.exact = torch.promote_types(dtype, torch.float32)  # sums need more than half precision
        self.wide = [part.to(dtype) for part in member_of(wide, member)]
        self.inner = _Memory(len(weight))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Apply the block to `[N, width]` in place."""
        total = hidden.sum(1, keepdim=True, dtype=self.exact)
        spread = torch.linalg.vector_norm(hidden, dim=1, keepdim=True, dtype=self.exact).square_()
        spread = spread.addcmul_(total, total, value=-1 / hidden.shape[1]).clamp_(min=0).add_(self.epsilon)
        inner = torch.mm(hidden, self.centred.T, out=self.inner(hidden))
        torch.addcmul(self.bias, inner, spread.rsqrt_().to(inner), out=inner)
        weight, bias = self.wide
        return torch.addmm(hidden, self.activate(inner), weight.T, out=hidden).add_(bias)
