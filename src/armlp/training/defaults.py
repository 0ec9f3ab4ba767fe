"""How both doors set up the Trainer."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import TensorBoardLogger

from armlp.data.outputs import prepare_output
from armlp.errors import UserError
from armlp.training.checkpoint import run_folder
from armlp.training.precision import refuse_precision

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

EARLY_STOPPING: dict[str, Any] = {"monitor": MONITOR, "patience": 5, "check_on_train_epoch_end": False}


def run_logger(root: str | os.PathLike[str] | None, resumed: str | None = None) -> TensorBoardLogger:
    """The logger of a new run below `root`, or of the run that a checkpoint lies in.

    Args:
        root: The folder that holds `lightning_logs`; the current one where left out.
        resumed: The checkpoint of a run that goes on.
    """
    folder, version = Path(root or ".") / "lightning_logs", None
    if resumed is not None and Path(resumed).resolve().parent.name == "checkpoints":
        run = run_folder(resumed)
        folder, version = run.parent, run.name
    folder = folder.resolve()  # checkpoints know their folder by its full name
    return TensorBoardLogger(folder.parent, folder.name, version, default_hp_metric=False)


def prepare_run(trainer: Trainer) -> None:
    """Refuses a precision in which nothing can be trained, and a folder in which no run can be made.

    Raises:
        UserError: Naming the precision, or the folder.
    """
    refuse_precision(trainer)
    folder = trainer.logger.root_dir if isinstance(trainer.logger, TensorBoardLogger) else trainer.default_root_dir
    prepare_output(Path(folder) / ".run", ("",))


def bare_trainer(like: Trainer, **options: Any) -> Trainer:
    """A trainer on the same device that trains in the same way, and leaves neither a run nor a checkpoint.

    Args:
        like: Of one process.
        **options: Of the Trainer.
    """
    device = like.strategy.root_device
    same = {name: getattr(like, name) for name in _SAME}
    quietly = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    where = {"accelerator": like.accelerator, "devices": 1 if device.type == "cpu" else [device.index]}
    return Trainer(**TRAINER | same | quietly | where | options)


@contextmanager
def trainer_mistakes() -> Iterator[None]:
    """Raise what Lightning's Trainer refuses as a UserError that names the Trainer."""
    try:
        yield
    except UserError:
        raise
    except (MisconfigurationException, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"--trainer: {' '.join(str(error).split())}") from error


def says_how_long(trainer: Trainer) -> bool:
    """Whether a trainer that has not begun was told how long to train, or on how much."""
    limit = trainer.limit_train_batches
    timed = any(isinstance(callback, Timer) for callback in all_callbacks(trainer))
    return timed or {trainer.max_steps, trainer.max_epochs} != {-1} or isinstance(limit, int) or limit < 1


def settle_length(trainer: Trainer, steps: int) -> bool:
    """Has a trainer that was not told how long to train take so many steps, and validate ten times in all.

    Returns:
        Whether it was not told.
    """
    if chosen := trainer.max_steps == -1 and trainer.max_epochs == -1:
        trainer.fit_loop.epoch_loop.max_steps = steps
    if trainer.max_epochs == -1 and trainer.val_check_interval == 1.0:  # steps are the measure of validation too
        trainer.check_val_every_n_epoch = None
        trainer.val_check_interval = max(1, trainer.max_steps // 10)
    return chosen


def all_callbacks(trainer: Trainer) -> list[Callback]:
    """The callbacks of a trainer."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it by a connector
    return callbacks


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


_SAME = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
_NOT_ACTIONABLE = (
    ".*exists and is not empty.*",  # a resumed run goes on in its own folder
    "The dirpath has changed from",  # a run that goes on from a saved model has a folder of its own
    ".*LeafSpec.*is deprecated.*",  # between lightning and torch
    "Be aware that when using `ckpt_path`, callbacks",  # training's callbacks have nothing to do in a forecast
    "It is recommended to use `self.log.*sync_dist=True",  # scores are of all processes already
    "The number of training batches .* is smaller than the logging interval",  # logging goes by steps
)
