"""The layers of a network as a rollout calls them: with what is new only, on memory that is allocated once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armlp.model.ensemble import member_of
from armlp.model.mlp import AutoregressiveMLP, ResidualBlock

# With fewer paths than this, one matrix product of all series is faster than one for each.
_FEW_PATHS = 16
_IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.GELU: torch.ops.aten.gelu_.default,
    nn.SiLU: torch.ops.aten.silu_.default,
    nn.Tanh: torch.tanh_,
}


class Stack:
    """The layers of one member of an `AutoregressiveMLP`, dropout off.

    Args:
        model: The network.
        member: Which of its members.
        dtype: Of the products; that of the weights where left out.
    """

    def __init__(self, model: AutoregressiveMLP, member: int, dtype: torch.dtype | None = None) -> None:
        assert model.layers is not None
        first, *rest = model.layers
        weight, _ = member_of(first, member)
        self.dtype = dtype or weight.dtype
        self.context_length, self.width = model.context_length, model.inputs.value_width
        self.embedding = model.inputs.symbol_table(member)
        self.first = weight[:, : self.context_length * self.width].to(self.dtype)
        self.hidden = _Memory(len(weight))
        self.layers = [_layer(layer, member, self.dtype) for layer in rest[:-1]]
        weight, bias = member_of(rest[-1], member)
        self.last = weight.to(self.dtype), bias.to(self.dtype)[:, None]

    def begin(self, own: Tensor) -> None:
        """Looks at paths `own [B, P, T, V]`, network units, that will be generated patch by patch."""
        self.own, self.paths = own, own.shape[1]
        rows, steps = own[..., 0, 0].numel(), own.shape[2]
        plain = self.embedding is None and own.dtype == self.dtype
        self.seen = own.view(rows, -1) if plain else own.new_empty(rows, steps * self.width, dtype=self.dtype)

    def remember(self, now: slice) -> None:
        """Takes in the steps that were generated now."""
        patch = self.own[:, :, now]
        if self.embedding is not None:
            patch = F.embedding(patch.long(), self.embedding)
        elif self.seen.dtype == self.own.dtype:
            return
        self.seen[:, now.start * self.width : now.stop * self.width] = patch.reshape(len(self.seen), -1)

    def __call__(self, prefix: Tensor, step: int) -> Tensor:
        """What the last layer says at `step`.

        Args:
            prefix: `[B, hidden]` share of the first layer that the paths of a series have in common.
            step: Steps before it are generated.

        Returns:
            `[B, P, outputs]`, or `[B, 1, outputs]` before anything is generated, in the type of the paths. The values
            of each output lie side by side.
        """
        if step == 0:
            hidden = self.hidden(prefix)
            hidden.copy_(prefix)
        else:
            start = max(0, step - self.context_length)
            seen = self.seen[:, start * self.width : step * self.width]
            weight = self.first[:, (self.context_length - step + start) * self.width :].T
            hidden = self.hidden(seen)
            if self.paths >= _FEW_PATHS:
                by_series = (part.unflatten(0, (-1, self.paths)) for part in (seen, hidden))
                seen, out = by_series
                torch.baddbmm(prefix[:, None], seen, weight.expand(len(seen), -1, -1), out=out)
            else:
                common = prefix.repeat_interleave(self.paths, 0) if self.paths > 1 else prefix
                torch.addmm(common, seen, weight, out=hidden)
        for layer in self.layers:
            hidden = layer(hidden)
        weight, bias = self.last
        raw = torch.addmm(bias, weight, hidden.T).to(self.own.dtype)
        return raw.view(len(raw), len(prefix), -1).permute(1, 2, 0)


class _Memory:
    """Memory for as many rows as were ever asked for."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: Tensor | None = None

    def __call__(self, like: Tensor) -> Tensor:
        """`[len(like), width]` of any content."""
        if self.rows is None or len(self.rows) < len(like):
            self.rows = like.new_empty(len(like), self.width)
        return self.rows[: len(like)]


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
        self.centred = (weight - weight.mean(1, keepdim=True)).to(dtype)
        self.bias = bias.to(dtype)
        self.activate, self.epsilon = _IN_PLACE[type(activation)], norm.eps
        self.wide = [part.to(dtype) for part in member_of(wide, member)]
        self.inner = _Memory(len(weight))

    def __call__(self, hidden: Tensor) -> Tensor:
        """`[N, width]`, changed in place."""
        width = hidden.shape[1]
        mean = hidden.sum(1, keepdim=True, dtype=self.exact(hidden)) / width
        square = torch.linalg.vector_norm(hidden, dim=1, keepdim=True, dtype=mean.dtype).square() / width
        spread = (square - mean.square()).clamp(min=0) + self.epsilon
        inner = torch.mm(hidden, self.centred.T, out=self.inner(hidden))
        torch.addcmul(self.bias, inner, spread.rsqrt().to(inner), out=inner)
        weight, bias = self.wide
        return torch.addmm(hidden, self.activate(inner), weight.T, out=hidden).add_(bias)

    @staticmethod
    def exact(hidden: Tensor) -> torch.dtype:
        """Half precision is too coarse for sums."""
        return torch.promote_types(hidden.dtype, torch.float32)
