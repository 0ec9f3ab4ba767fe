"""Fitting: what both doors do before Lightning's `fit`; `final.train_anew` is what they do after it."""

from __future__ import annotations

import os
import sys

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import LEAST_WINDOWS
from armlp.training.checkpoint import read_checkpoint
from armlp.training.defaults import EARLY_STOPPING, all_callbacks, prepare_run, says_how_long
from armlp.training.final import settle_refit
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
    with isolate_rng():
        ForecastModule(**module.hparams).settle(data.twin())
    prepare_run(trainer)
    if resumed is None:
        try_candidates(trainer, module, data)
    choices = module.settle(data)
    settle_refit(trainer, module, data, choices["max_steps"].value)
    if data.num_val_windows < LEAST_WINDOWS and not says_how_long(trainer):
        _train_to_the_end(trainer)


def _train_to_the_end(trainer: Trainer) -> None:
    """Puts early stopping off: a few windows would stop where chance was kind, before the learning rate comes down."""
    for callback in all_callbacks(trainer):
        if isinstance(callback, EarlyStopping) and callback.patience == EARLY_STOPPING["patience"]:
            callback.patience = sys.maxsize
