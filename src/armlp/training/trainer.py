"""How both doors set up the Trainer."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ProgressBar, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.seed import isolate_rng
from torch.optim import Optimizer

from armlp.errors import UserError, check_bounds
from armlp.files import prepare_output

# The CRPS of the validation rollouts, so that intervals count as well as the median.
MONITOR = "val/monitor"

TRAINER: dict[str, Any] = {
    "max_epochs": -1,  # steps are the measure of training
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}

BEST: dict[str, Any] = {
    "filename": "best",
    "monitor": MONITOR,
    "enable_version_counter": False,
    "save_on_train_epoch_end": False,  # validation goes by steps, not by epochs
}


def prepare_run(trainer: Trainer) -> None:
    """Refuse a precision or a number with which nothing can be trained, and a folder in which no run can be made.

    Raises:
        UserError: Naming the option, or the folder.
    """
    check_precision(trainer)
    for name, least in _LEAST.items():
        check_bounds(name, getattr(trainer, name), least)
    folder = trainer.logger.root_dir if isinstance(trainer.logger, TensorBoardLogger) else trainer.default_root_dir
    prepare_output(Path(folder) / ".run", ("",))


def bare_trainer(like: Trainer, callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    """Return a Trainer on the same device that trains in the same way, and leaves neither a run nor a checkpoint.

    Args:
        like: A Trainer of one process.
        callbacks: Its callbacks; a progress bar switches the bar on.
        **options: Options of the Trainer.
    """
    device = like.strategy.root_device
    same = {name: getattr(like, name) for name in _SAME}
    bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    without = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": bar}
    where = {"accelerator": like.accelerator, "devices": 1 if device.type == "cpu" else [device.index]}
    scheduled = [one for one in all_callbacks(like) if isinstance(one, GradientAccumulationScheduler)]
    return Trainer(**TRAINER | same | without | where | options, callbacks=[*callbacks, *scheduled])


@contextmanager
def trainer_mistakes() -> Iterator[None]:
    """Raise what Lightning's Trainer refuses as a UserError that names the Trainer."""
    try:
        yield
    except UserError:
        raise
    except (MisconfigurationException, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"Trainer: {' '.join(str(error).split())}") from error


def is_length_given(trainer: Trainer) -> bool:
    """Whether a trainer that has not begun was told how long to train, or on how much."""
    limit = trainer.limit_train_batches
    timed = any(isinstance(callback, Timer) for callback in all_callbacks(trainer))
    limited = {trainer.max_steps, trainer.max_epochs} - {-1, None}  # a plain Trainer leaves the epochs at None
    return timed or bool(limited) or isinstance(limit, int) or limit < 1


def all_callbacks(trainer: Trainer) -> list[Callback]:
    """The callbacks of a trainer."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it by a connector
    return callbacks


def listed(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    """Return the callbacks that a Trainer may be given as one, as several or as none."""
    return [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])


def callback_states(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """Return the states of callbacks, such as how much patience an early stopping has left."""
    return [deepcopy(callback.state_dict()) for callback in callbacks]


def restore_states(callbacks: Sequence[Callback], states: Sequence[dict[str, Any]]) -> None:
    """Put callbacks back into earlier states, so that another training begins as the first one did."""
    for callback, state in zip(callbacks, states, strict=True):
        callback.load_state_dict(deepcopy(state))


def log_interval(trainer: Trainer) -> int:
    """How many steps lie between two logged ones."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it by a connector
    return interval


def quiet() -> None:
    """Keeps back what Lightning says on every start and nobody can act on; warnings of ours stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message)


_LEAST = {"accumulate_grad_batches": 1, "gradient_clip_val": 0, "log_every_n_steps": 0, "check_val_every_n_epoch": 1}
_SAME = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
_NOT_ACTIONABLE = (
    ".*exists and is not empty.*",  # a resumed run goes on in its own folder
    "The dirpath has changed from",  # a run that goes on from a saved model has a folder of its own
    ".*LeafSpec.*is deprecated.*",  # between lightning and torch
    "Be aware that when using `ckpt_path`, callbacks",  # training's callbacks have nothing to do in a forecast
    "The number of training batches .* is smaller than the logging interval",  # logging goes by steps
)


# Of a GPU that multiplies in bfloat16, the least that it is capable of.
_BFLOAT16 = (8, 0)
_FLOAT32 = "32-true"
_KNOWN = ("bf16-mixed", "16-mixed", _FLOAT32)

Module = TypeVar("Module", bound=LightningModule)
Options = ParamSpec("Options")
Result = TypeVar("Result")


def without_autocast(
    step: Callable[Concatenate[Module, Options], Result],
) -> Callable[Concatenate[Module, Options], Result]:
    """Return a step of a module outside of Lightning's autocast, so that likelihoods and forecasts are float32.

    In training, the network alone enters the autocast again.
    """

    @wraps(step)
    def wrapped(self: Module, /, *args: Options.args, **options: Options.kwargs) -> Result:
        with torch.autocast(self.device.type, enabled=False):
            return step(self, *args, **options)

    return wrapped


def clip_gradients(trainer: Trainer, optimizer: Optimizer, value: float | None, algorithm: str | None) -> None:
    """Clips in any precision: Lightning refuses fused optimizers under bf16-mixed too, where nothing is in the way."""
    if value:
        kind = GradClipAlgorithmType(algorithm or "norm")
        Precision.clip_gradients(trainer.precision_plugin, optimizer, value, kind)


def check_precision(trainer: Trainer) -> None:
    """Refuses a precision in which likelihoods mean nothing, or that the device lacks.

    Raises:
        UserError: Naming one that serves.
    """
    precision: Any = trainer.precision
    device = trainer.strategy.root_device
    if precision == "64-true":
        raise UserError(
            f"`trainer.precision`: {precision} is not supported, because the data and the network are kept in 32 bits; "
            f"leave the option out, or say {_FLOAT32}."
        )
    if precision not in _KNOWN:
        raise UserError(
            f"`trainer.precision`: {precision} keeps values and likelihoods in too few bits as well; use bf16-mixed, "
            "in which the network alone computes in 16."
        )
    if precision == "bf16-mixed" and device.type == "cuda":
        found = torch.cuda.get_device_capability(device)
        if found < _BFLOAT16:
            raise UserError(
                f"`trainer.precision`: bf16-mixed needs a GPU of compute capability {_spelled(_BFLOAT16)} or higher, "
                f"but {torch.cuda.get_device_name(device)} has {_spelled(found)}; use 16-mixed or {_FLOAT32}."
            )


def _spelled(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


# What `seed_everything` writes for processes that begin later.
_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
_TRAINING = threading.RLock()


@contextmanager
def restored_generators(include_cuda: bool = True) -> Iterator[None]:
    """Restore the global generators of numpy, random and torch, also after an exception."""
    restoring = ExitStack()
    restoring.enter_context(isolate_rng(include_cuda))  # which by itself does not restore after an exception
    try:
        yield
    finally:
        restoring.close()


@contextmanager
def isolated_training() -> Iterator[None]:
    """Restore the global generators and the environment after a training, also after one that fails.

    Dropout draws from the global generator of torch, so trainings in several threads take turns.
    """
    with _TRAINING, restored_generators():
        before = {name: os.environ.get(name) for name in _VARIABLES}
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
