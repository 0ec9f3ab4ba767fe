"""Precision: in mixed precision the network alone computes in fewer bits, and only where the device can."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch.optim import Optimizer

from armlp.errors import UserError

if TYPE_CHECKING:
    from armlp.training.module import ForecastModule

# Of a GPU that multiplies in bfloat16, the least that it is capable of.
_BFLOAT16 = (8, 0)
_FLOAT32 = "32-true"
_KNOWN = ("bf16-mixed", "16-mixed", _FLOAT32)

Options = ParamSpec("Options")
Result = TypeVar("Result")


def without_autocast(
    step: Callable[Concatenate[ForecastModule, Options], Result],
) -> Callable[Concatenate[ForecastModule, Options], Result]:
    """A step of the module that leaves Lightning's autocast, so that likelihoods, metrics and forecasts are float32.

    In training the network enters it again, by itself.
    """

    @wraps(step)
    def wrapped(self: ForecastModule, /, *args: Options.args, **options: Options.kwargs) -> Result:
        with torch.autocast(self.device.type, enabled=False):
            return step(self, *args, **options)

    return wrapped


def clip_gradients(trainer: Trainer, optimizer: Optimizer, value: float | None, algorithm: str | None) -> None:
    """Clips in any precision: Lightning refuses fused optimizers under bf16-mixed too, where nothing is in the way."""
    if value:
        kind = GradClipAlgorithmType(algorithm or "norm")
        Precision.clip_gradients(trainer.precision_plugin, optimizer, value, kind)


def refuse_precision(trainer: Trainer) -> None:
    """Refuses a precision in which likelihoods mean nothing, or that the device lacks.

    Raises:
        UserError: Naming one that serves.
    """
    precision: Any = trainer.precision
    device = trainer.strategy.root_device
    if precision == "64-true":
        raise UserError(
            f"--trainer.precision: {precision} is not supported, because the data and the network are kept in 32 bits; "
            f"leave the option out, or say {_FLOAT32}."
        )
    if precision not in _KNOWN:
        raise UserError(
            f"--trainer.precision: {precision} keeps values and likelihoods in too few bits as well; use bf16-mixed, "
            "in which the network alone computes in 16."
        )
    if precision == "bf16-mixed" and device.type == "cuda":
        found = torch.cuda.get_device_capability(device)
        if found < _BFLOAT16:
            raise UserError(
                f"--trainer.precision: bf16-mixed needs a GPU of compute capability {_spelled(_BFLOAT16)} or higher, "
                f"but {torch.cuda.get_device_name(device)} has {_spelled(found)}; use 16-mixed or {_FLOAT32}."
            )


def _spelled(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
