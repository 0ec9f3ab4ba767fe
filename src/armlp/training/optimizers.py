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
    """The optimizer of a name for all parameters of a network.

    Args:
        name: One of `OPTIMIZERS`.
        network: To train.
        learning_rate: The highest one; that of Adam suits all three.
        weight_decay: Share of the weights that a step at a learning rate of 1 would take away.
        fused: Step all parameters of AdamW and Adam in one pass, where their device can.

    Raises:
        UserError: Muon cannot be had.
    """
    if name == "muon":
        return Muon(network, learning_rate, weight_decay)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    return kind(network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=fused)


class Muon(Optimizer):
    """Muon for the weight matrices of the MLP, each member's by itself, AdamW for everything else, as one optimizer.

    Where there is no noise to fit, such as in chaotic systems, it gets several times closer than AdamW.

    Keller Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks,
    https://kellerjordan.github.io/posts/muon/

    Args:
        network: To train.
        learning_rate: In units of AdamW's.
        weight_decay: As AdamW's.

    Raises:
        UserError: The network has no matrices, or torch is too old.
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
        """What a schedule sets here, it sets in the parts."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of all parameters."""
        super().zero_grad(set_to_none)
        for stack in self._stacks:
            stack.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def _members_of(stack: Tensor) -> tuple[Tensor, ...]:
    """The matrices `[out, in]` of a parameter `[E, out, in]`, sharing its memory and, after backward, its gradient."""
    members = stack.detach().unbind()

    def hand_over(stack: Tensor) -> None:
        assert stack.grad is not None
        for member, gradient in zip(members, stack.grad, strict=True):
            member.grad = gradient

    stack.register_post_accumulate_grad_hook(hand_over)
    return members


SCHEDULES = ("cosine", "constant")


def learning_rate_factor(schedule: str, step: int, total_steps: int, warmup: float) -> float:
    """What the learning rate is multiplied by.

    Args:
        schedule: `constant`, or `cosine`: a linear rise, then half a wave down to 0.
        step: From 0.
        total_steps: Of the training.
        warmup: Share of the steps in which the rate rises.
    """
    if schedule == "constant":
        return 1.0
    rise = max(1, round(warmup * total_steps))
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, total_steps - rise))
    return 0.5 * (1 + math.cos(math.pi * done))


def scheduled(optimizer: Optimizer, schedule: str, total_steps: int, warmup: float) -> LambdaLR:
    """The learning rate of an optimizer, step by step; arguments as in `learning_rate_factor`."""
    # Not a lambda, which cannot be pickled.
    return LambdaLR(optimizer, partial(learning_rate_factor, schedule, total_steps=total_steps, warmup=warmup))


def chain_length(step: int, total_steps: int, unroll: int, growth: float) -> int:
    """How many patches are chained: from 1 evenly up to `unroll` within the first part of the training.

    Args:
        step: From 0.
        total_steps: Of the training.
        unroll: `K`, the longest chain.
        growth: Share of the steps in which it grows.
    """
    return unroll if growth <= 0 else int(min(unroll, 1 + unroll * step / (growth * total_steps)))
