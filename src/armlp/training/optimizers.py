"""AdamW, Adam and Muon, and their schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from armlp.errors import UserError
from armlp.model.ensemble import StackedLinear
from armlp.model.mlp import AutoregressiveMLP

OPTIMIZERS = ("adamw", "adam", "muon")


def make_optimizer(
    name: str, network: AutoregressiveMLP, learning_rate: float, weight_decay: float, fused: bool = False
) -> Optimizer:
    """Return an optimizer for all parameters of a network; `learning_rate` is in the units of Adam for all three.

    `fused` updates all parameters of AdamW and Adam in one kernel, on devices that can.
    """
    if name == "muon":
        return Muon(network, learning_rate, weight_decay)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    return kind(network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=fused)


class Muon(Optimizer):
    """Muon for the weight matrices of the MLP (of each member separately), AdamW for all other parameters.

    Without noise, as in chaotic systems, it gets several times closer than AdamW. Learning rate and weight decay are in
    the units of AdamW. A UserError says if the network has no matrices, or torch is too old.

    Keller Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks,
    https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, network: AutoregressiveMLP, learning_rate: float, weight_decay: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(f"`optimizer`: torch {torch.__version__} has no muon; use adamw, or torch 2.9 or later.")
        if network.layers is None:
            raise UserError("`optimizer`: muon trains the layers of a network, and this one has none; use adamw.")
        self._stacks = [layer.weight for layer in network.layers.modules() if isinstance(layer, StackedLinear)]
        single = [layer.weight for layer in network.layers.modules() if isinstance(layer, nn.Linear)]
        others = [part for part in network.parameters() if all(part is not one for one in (*single, *self._stacks))]
        matrices = [*single, *(part for stack in self._stacks for part in _members_of(stack))]
        self.parts: tuple[Optimizer, ...] = (
            torch.optim.Muon(matrices, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, learning_rate, weight_decay=weight_decay),
        )
        super().__init__([*matrices, *others], {})
        self._share_groups()

    def _share_groups(self) -> None:
        """Share the parameter groups of the parts, so that a schedule reaches them."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters."""
        super().zero_grad(set_to_none)
        for stack in self._stacks:
            stack.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step of both optimizers."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both optimizers."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both optimizers."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def _members_of(stack: Tensor) -> tuple[Tensor, ...]:
    """Return the matrices `[out, in]` of a parameter `[E, out, in]`, which share its memory and gradient."""
    members = stack.detach().unbind()

    def hand_over(stack: Tensor) -> None:
        assert stack.grad is not None
        for member, gradient in zip(members, stack.grad, strict=True):
            member.grad = gradient

    stack.register_post_accumulate_grad_hook(hand_over)
    return members


SCHEDULES = ("cosine", "constant")


def learning_rate_factor(schedule: str, step: int, total_steps: int, warmup: float) -> float:
    """Return the factor on the learning rate at a step, counted from 0.

    `constant` is 1; `cosine` rises linearly over the share `warmup` of the steps, then falls along half a wave to 0.
    """
    if schedule == "constant":
        return 1.0
    rise = max(1, round(warmup * total_steps))
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, total_steps - rise))
    return 0.5 * (1 + math.cos(math.pi * done))


def scheduled(optimizer: Optimizer, schedule: str, total_steps: int, warmup: float) -> LambdaLR:
    """Return a scheduler that multiplies the learning rate by `learning_rate_factor`."""
    # A lambda could not be pickled.
    return LambdaLR(optimizer, partial(learning_rate_factor, schedule, total_steps=total_steps, warmup=warmup))


def chain_length(step: int, total_steps: int, unroll: int, growth: float) -> int:
    """Return how many patches to chain at a step, counted from 0.

    The number grows evenly from 1 to `unroll` within the share `growth` of the steps.
    """
    return unroll if growth <= 0 else int(min(unroll, 1 + unroll * step / (growth * total_steps)))
