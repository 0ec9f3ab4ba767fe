"""Fitting: what both doors do before Lightning's `fit`, and the whole of a training that Python starts."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import LEAST_WINDOWS
from armlp.training.checkpoint import read_checkpoint
from armlp.training.defaults import BEST, MONITOR, all_callbacks, prepare_run, says_how_long, trainer_mistakes
from armlp.training.final import settle_refit, train_anew
from armlp.training.fit_callbacks import BestCheckpoint, LastCheckpoint, StopEarly
from armlp.training.module import ForecastModule
from armlp.training.monitors import refuse_unknown_monitors
from armlp.training.trials import try_candidates


def before_fit(
    trainer: Trainer,
    module: ForecastModule,
    data: SeriesDataModule,
    resumed: str | os.PathLike[str] | None = None,
) -> int:
    """Lets mistakes show before a run folder is made, and settles everything, by trials too.

    Args:
        trainer: That will train.
        module: As it was given.
        data: The data.
        resumed: The checkpoint that the training goes on from.

    Returns:
        The step that the training begins with.

    Raises:
        UserError: Nothing can be trained; the message names what is wrong and the fix.
    """
    data.refuse_untrainable()
    first = 0
    if resumed is not None:
        checkpoint = read_checkpoint(resumed)
        if "refit" in checkpoint:
            raise UserError(
                f"--ckpt_path: {resumed} was trained anew on the validation rows after its training, which cannot go "
                "on from there; give the last.ckpt beside it."
            )
        module.on_load_checkpoint(checkpoint)
        first = checkpoint["global_step"]
    if says_how_long(trainer) and module.hparams["theta_share"] is None:
        module.hparams["theta_share"] = 0.0  # as trials and a last training: what was asked for, and nothing else
    with isolate_rng():
        ForecastModule(**module.hparams).settle(data.twin())
    refuse_unknown_monitors(trainer, data)
    prepare_run(trainer)
    if resumed is None:
        try_candidates(trainer, module, data)
    choices = module.settle(data)
    settle_refit(trainer, module, data, choices["max_steps"].value)
    if data.num_val_windows < LEAST_WINDOWS:
        _train_to_the_end(trainer)
    return first


def after_fit(
    trainer: Trainer, module: ForecastModule, data: SeriesDataModule, first: int = 0
) -> dict[str, Any] | None:
    """Train once more where that is settled, and warn where there was nothing to train.

    Args:
        trainer: It has trained.
        module: Its module.
        data: Its data.
        first: The step that the training began with.

    Returns:
        The best checkpoint, as `train_anew` does.
    """
    if trainer.global_step == first and trainer.is_global_zero:
        warnings.warn(
            f"nothing was left to train: the checkpoint is at step {first} already; raise --trainer.max_steps to go on."
            if first
            else "nothing was trained, because the Trainer was given no step to take: raise --trainer.max_steps, "
            "--trainer.max_epochs or --trainer.limit_train_batches.",
            stacklevel=2,
        )
    return train_anew(trainer, module, data)


def fit(
    module: ForecastModule, data: SeriesDataModule, options: Mapping[str, Any], callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Trains, to the end or until validation gets no better, and once more where that is settled.

    Args:
        module: As it was given.
        data: The data.
        options: Of the Trainer. Without a logger nothing is written.
        callbacks: Beside those that keep checkpoints and stop early; an `EarlyStopping` takes the place of ours.

    Returns:
        The best checkpoint; the last one where nothing was validated, or the end where none was kept.

    Raises:
        UserError: Nothing can be trained; the message names what is wrong and the fix.
    """
    stops = [] if any(isinstance(callback, EarlyStopping) for callback in callbacks) else [StopEarly()]
    with TemporaryDirectory() as folder:
        place = None if options.get("logger") else folder
        best = BestCheckpoint(place, **BEST)
        best.is_temporary = place is not None
        kept: list[Callback] = [best] if options.get("enable_checkpointing", True) else []
        kept += [LastCheckpoint()] if kept and place is None else []
        with trainer_mistakes():
            trainer = Trainer(**{**options, "callbacks": [*kept, *stops, *callbacks]})
        before_fit(trainer, module, data)
        trainer.fit(module, datamodule=data)
        checkpoint = after_fit(trainer, module, data)
        if checkpoint is None:
            end = Path(folder) / "end.ckpt"
            trainer.save_checkpoint(end)  # by the first of several processes
            checkpoint = read_checkpoint(end) if trainer.is_global_zero else {}
        found: dict[str, Any] = trainer.strategy.broadcast(checkpoint)
        return found


def _train_to_the_end(trainer: Trainer) -> None:
    """Puts early stopping off: a few windows would stop where chance was kind, before the learning rate comes down."""
    for callback in all_callbacks(trainer):
        if isinstance(callback, StopEarly) and callback.monitor == MONITOR and not callback.is_patience_given:
            callback.patience = sys.maxsize
