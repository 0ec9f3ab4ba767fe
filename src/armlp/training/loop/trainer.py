"""Set up Lightning's Trainer, for the command line and for Python."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.arguments import check_arguments
from armlp.errors import UserError, check_bounds, short_message
from armlp.files import prepare_output

MONITOR = "val/monitor"  # scaled CRPS of validation rollouts; perplexity or error rate for symbols

TRAINER: dict[str, Any] = {
    "max_epochs": -1,  # training goes by steps
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}

ONE_DEVICE: dict[str, Any] = {"devices": 1, "strategy": "auto"}

BEST: dict[str, Any] = {
    "filename": "best",
    "monitor": MONITOR,
    "enable_version_counter": False,
    "save_on_train_epoch_end": False,  # validation goes by steps, not by epochs
}


def prepare_run(trainer: Trainer) -> None:
    """Refuse a Trainer that cannot train: its precision, its numbers, or a run folder that is not writable."""
    check_precision(trainer)
    for name, least in _LEAST.items():
        check_bounds(name, getattr(trainer, name), least)
    folder = trainer.logger.root_dir if isinstance(trainer.logger, TensorBoardLogger) else trainer.default_root_dir
    prepare_output(Path(folder) / ".run", ("",))


def trainer_like(like: Trainer, callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    """Return a Trainer that trains as another one does on its device, but writes neither runs nor checkpoints.

    It has a progress bar if `callbacks` do. `like` must be the Trainer of a single process.
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
    """Raise errors of Lightning's Trainer about its options as a UserError."""
    try:
        yield
    except UserError:
        raise
    except (MisconfigurationException, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"Trainer: {' '.join(str(error).split())}") from error


def is_length_given(trainer: Trainer) -> bool:
    """Return whether the options of a Trainer limit the length of a training or its batches."""
    limit = trainer.limit_train_batches
    timed = any(isinstance(callback, Timer) for callback in all_callbacks(trainer))
    limited = {trainer.max_steps, trainer.max_epochs} - {-1, None}  # a plain Trainer leaves the epochs at None
    return timed or bool(limited) or isinstance(limit, int) or limit < 1


def all_callbacks(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of a Trainer."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it by a connector
    return callbacks


def as_list(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    """Return the `callbacks` option of a Trainer as a list."""
    return [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])


def callback_states(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """Return the states of callbacks, such as the patience that early stopping has left."""
    return [deepcopy(callback.state_dict()) for callback in callbacks]


def restore_states(callbacks: Sequence[Callback], states: Sequence[dict[str, Any]]) -> None:
    """Restore earlier states of callbacks, so that another training begins as the first one did."""
    for callback, state in zip(callbacks, states, strict=True):
        callback.load_state_dict(deepcopy(state))


def check_trainer_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a Trainer as plain Python; raise a UserError if one has the wrong type."""
    if "max_steps" in options and options["max_steps"] is None:
        raise UserError("`max_steps`: None is not a whole number; give -1 for no limit, or leave the option out.")
    return check_arguments(Trainer.__init__, options)


def check_picklable(options: Mapping[str, Any]) -> None:
    """Raise a UserError if an option of a Trainer cannot be pickled, such as a callback with a lambda."""
    for name, value in options.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            try:
                pickle.dumps(one)
            except Exception as error:  # pickling can raise anything
                raise UserError(
                    f"{name}: {type(one).__name__} cannot be pickled ({short_message(error)}), so the Forecaster "
                    "cannot be; leave the option out, or use save(path), which keeps no options of the Trainer."
                ) from error


def returns_results(trainer: Trainer) -> bool:
    """Return whether results come back to this process; strategies that spawn or fork processes lose them."""
    try:
        trainer.predict_loop.return_predictions = True
    except MisconfigurationException:
        return False
    return True


def log_interval(trainer: Trainer) -> int:
    """Return the number of steps from one logged step to the next."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it by a connector
    return interval


def quiet() -> None:
    """Silence messages of Lightning that no user can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message)


_LEAST = {"accumulate_grad_batches": 1, "gradient_clip_val": 0, "log_every_n_steps": 0, "check_val_every_n_epoch": 1}
_SAME = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
_NOT_ACTIONABLE = (
    ".*exists and is not empty.*",  # a resumed run goes on in its own folder
    "The dirpath has changed from",  # a run from a saved model has its own folder
    ".*LeafSpec.*is deprecated.*",  # raised by lightning's use of torch
    "Be aware that when using `ckpt_path`, callbacks",  # forecasts need no callbacks of the training
    "The number of training batches .* is smaller than the logging interval",  # logging goes by steps
)


_FLOAT32 = "32-true"
_KNOWN = ("bf16-mixed", "16-mixed", _FLOAT32)

Module = TypeVar("Module", bound=LightningModule)
Options = ParamSpec("Options")
Result = TypeVar("Result")


def without_autocast(
    step: Callable[Concatenate[Module, Options], Result],
) -> Callable[Concatenate[Module, Options], Result]:
    """Return a step of a module outside of Lightning's autocast, so that likelihoods and forecasts are float32.

    In training, only the network enters autocast again.
    """

    @wraps(step)
    def wrapped(self: Module, /, *args: Options.args, **options: Options.kwargs) -> Result:
        with torch.autocast(self.device.type, enabled=False):
            return step(self, *args, **options)

    return wrapped


def check_precision(trainer: Trainer) -> None:
    """Refuse a precision that makes likelihoods meaningless, or that the device lacks."""
    precision: Any = trainer.precision
    device = trainer.strategy.root_device
    if precision == "64-true":
        raise UserError(
            f"`trainer.precision`: {precision} is not supported, because the data and the network are kept in 32 bits; "
            f"leave the option out, or say {_FLOAT32}."
        )
    if precision not in _KNOWN:
        raise UserError(
            f"`trainer.precision`: {precision} stores weights and losses in fewer than 32 bits; use bf16-mixed, which "
            "keeps them in 32."
        )
    if precision == "bf16-mixed" and device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            raise UserError(
                f"`trainer.precision`: bf16-mixed needs a GPU of compute capability 8.0 or higher, "
                f"but {torch.cuda.get_device_name(device)} has {major}.{minor}; use 16-mixed or {_FLOAT32}."
            )


# Environment variables that `seed_everything` sets for child processes.
_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
_TRAINING = threading.RLock()


@contextmanager
def restored_generators(include_cuda: bool = True) -> Iterator[None]:
    """Restore the global generators of numpy, random and torch, also after an exception."""
    restoring = ExitStack()
    restoring.enter_context(isolate_rng(include_cuda))  # does not restore after an exception by itself
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
        before = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        try:
            yield
        finally:
            for name in _VARIABLES:
                os.environ.pop(name, None)
            os.environ.update(before)
