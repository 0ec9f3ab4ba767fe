"""Fitting: what both doors do before Lightning's `fit`, and the whole of a training that Python starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import LEAST_WINDOWS
from armlp.training.callbacks import LastCheckpoint
from armlp.training.checkpoint import read_checkpoint
from armlp.training.defaults import BEST, EARLY_STOPPING, all_callbacks, prepare_run, says_how_long, trainer_mistakes
from armlp.training.final import settle_refit, train_anew
from armlp.training.module import ForecastModule
from armlp.training.trials import try_candidates


def before_fit(
    trainer: Trainer,
    module: ForecastModule,
    data: SeriesDataModule,
    resumed: str | os.PathLike[str] | None = None,
) -> None:
    """Lets mistakes show before a run folder is made, and settles everything, by trials too.

    Args:
        trainer: That will train.
        module: As it was given.
        data: The data.
        resumed: The checkpoint that the training goes on from.

    Raises:
        UserError: Nothing can be trained; the message names what is wrong and the fix.
    """
    data.refuse_untrainable()
    if resumed is not None:
        checkpoint = read_checkpoint(resumed)
        if "refit" in checkpoint:
            raise UserError(
                f"--ckpt_path: {resumed} was trained anew on the validation rows after its training, which cannot go "
                "on from there; give the last.ckpt beside it."
            )
        module.on_load_checkpoint(checkpoint)
    if says_how_long(trainer) and module.hparams["theta_share"] is None:
        module.hparams["theta_share"] = 0.0  # as trials and a last training: what was asked for, and nothing else
    with isolate_rng():
        ForecastModule(**module.hparams).settle(data.twin())
    prepare_run(trainer)
    if resumed is None:
        try_candidates(trainer, module, data)
    choices = module.settle(data)
    settle_refit(trainer, module, data, choices["max_steps"].value)
    if data.num_val_windows < LEAST_WINDOWS:
        _train_to_the_end(trainer)


def fit(
    module: ForecastModule, data: SeriesDataModule, options: Mapping[str, Any], callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Trains, to the end or until validation gets no better, and once more where that is settled.

    Args:
        module: As it was given.
        data: The data.
        options: Of the Trainer.
        callbacks: Beside those that keep checkpoints and stop early.

    Returns:
        The best checkpoint; the last one where nothing was validated, or the end where none was kept.

    Raises:
        UserError: Nothing can be trained; the message names what is wrong and the fix.
    """
    best, last = ModelCheckpoint(**BEST), LastCheckpoint()
    kept = [best, last] if options.get("enable_checkpointing", True) else []
    with trainer_mistakes():
        trainer = Trainer(**{**options, "callbacks": [*kept, EarlyStopping(**EARLY_STOPPING), *callbacks]})
    before_fit(trainer, module, data)
    trainer.fit(module, datamodule=data)
    train_anew(trainer, module, data)
    path = best.best_model_path or last.best_model_path
    return read_checkpoint(path) if path else trainer._checkpoint_connector.dump_checkpoint()


def _train_to_the_end(trainer: Trainer) -> None:
    """Puts early stopping off: a few windows would stop where chance was kind, before the learning rate comes down."""
    usual = EARLY_STOPPING["monitor"], EARLY_STOPPING["patience"]
    for callback in all_callbacks(trainer):
        if isinstance(callback, EarlyStopping) and (callback.monitor, callback.patience) == usual:
            callback.patience = sys.maxsize
