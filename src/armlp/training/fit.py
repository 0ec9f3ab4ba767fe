"""The whole of a training, from checks to the final training."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.training.callbacks import BestCheckpoint, LastCheckpoint, StopEarly, best_checkpoint
from armlp.training.checkpoint import read_checkpoint, write_checkpoint
from armlp.training.checks import check_monitors
from armlp.training.listener import FitListener
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.training.trainer import (
    BEST,
    MONITOR,
    all_callbacks,
    bare_trainer,
    is_length_given,
    prepare_run,
    trainer_mistakes,
)
from armlp.training.trials import try_candidates

# Validation rows are worth another training from here on, as a share of the training rows.
_WORTH = 0.1
# Where they are no good part of it, but say too little, so many steps are soon taken again.
_SOON_DONE = 600
SILENT = FitListener()


def settle_refit(trainer: Trainer, module: ForecastModule, data: SeriesDataModule, steps: int) -> None:
    """Settles whether a final training follows, where that was left out.

    Args:
        trainer: That has not begun.
        module: Settled.
        data: The data.
        steps: That a training of these data takes.

    Raises:
        UserError: It is wanted where several processes train, or where there will be no best checkpoint.
    """
    possible = best_checkpoint(trainer) is not None and trainer.limit_val_batches != 0 and trainer.world_size == 1
    if module.hparams["refit"] and not possible:
        raise UserError(
            "`refit`: a final training takes one process, and the best checkpoint of a validation; leave the "
            "option out, or say `devices` 1 and leave `enable_checkpointing` and "
            "`limit_val_batches` as they are."
        )
    if module.hparams["refit"] is None:
        split, windows = data.split, data.num_val_windows
        rows, typical = split.val_windows * split.horizon, split.typical_length(data.panel.lengths)
        few = windows < MIN_WINDOWS and steps <= _SOON_DONE
        why = {
            f"validation has {rows} rows of a series, training {typical:,}": rows >= _WORTH * typical,
            f"{windows} validation windows are too few to choose a step by": few,
        }
        possible = possible and not is_length_given(trainer)
        reasons = [reason for reason, holds in why.items() if holds and possible]
        module.hparams["refit"] = bool(reasons)
        if reasons:
            module.chosen["refit"] = Choice(True, reasons[0])


def train_anew(
    trainer: Trainer, module: ForecastModule, data: SeriesDataModule, listener: FitListener
) -> dict[str, Any] | None:
    """Trains once more where that is settled, and puts the weights into the best checkpoint.

    It takes all steps again where the last validation was as good as the best, as far as its windows can tell, and
    otherwise those of the best; either way the learning rate comes down. All else in the checkpoint stays as it is, and
    a killed training leaves it as it was.

    Args:
        trainer: That has trained.
        module: That it has trained.
        data: On which.
        listener: Hears of it.

    Returns:
        The best checkpoint; nothing in it on processes other than the first, and None where there is none.
    """
    best = best_checkpoint(trainer)
    if best is None or not best.best_model_path:
        return None
    if not trainer.is_global_zero:
        return {}
    checkpoint, path = best.checkpoint(), best.best_model_path
    name = os.path.basename(path)
    if not module.hparams["refit"] or "refit" in checkpoint:
        return checkpoint  # of a resumed run, it may have been done
    assert best.best_model_score is not None
    # What a mean over so many windows does not tell apart.
    doubt = 1 / math.sqrt(max(1, data.num_val_windows))
    steady = module.monitored <= (1 + doubt) * best.best_model_score.item()
    steps: int = module.total_steps if steady else checkpoint["global_step"]
    bar = listener.progress_bar("training on validation too", steps)
    with isolate_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training has said what there is to say
        seed_everything(data.seed, verbose=False)
        anew = ForecastModule(**checkpoint["hyper_parameters"])
        options = {"limit_val_batches": 0, "callbacks": bar, "enable_progress_bar": bool(bar)}
        again = bare_trainer(trainer, max_steps=steps, **options)
        again.fit(anew, datamodule=data.twin(val_windows=0))
    weights = {name: value.cpu() for name, value in anew.state_dict().items()}
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        warnings.warn(
            f"`refit`: the final training did not end in finite weights, so {name} stays as validation has "
            "chosen it; train with a lower `learning_rate`.",
            stacklevel=2,
        )
        return checkpoint
    checkpoint |= {"state_dict": weights, "refit": {"steps": steps}}
    write_checkpoint(checkpoint, path)
    listener.final_training_ended(name, steps)
    return checkpoint


def before_fit(
    trainer: Trainer,
    module: ForecastModule,
    data: SeriesDataModule,
    resumed: str | os.PathLike[str] | None = None,
    listener: FitListener = SILENT,
) -> int:
    """Lets mistakes show before a run folder is made, and settles everything, by trials too.

    Args:
        trainer: That will train.
        module: As it was given.
        data: The data.
        resumed: The checkpoint that the training goes on from.
        listener: Hears of the trials, and of what was chosen.

    Returns:
        The step that the training begins with.

    Raises:
        UserError: Nothing can be trained; the message names what is wrong and the fix.
    """
    data.check_trainable()
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
    if is_length_given(trainer) and module.hparams["theta_share"] is None:
        module.hparams["theta_share"] = 0.0  # as trials and a last training: what was asked for, and nothing else
    with isolate_rng():
        ForecastModule(**module.hparams).settle(data.twin())
    check_monitors(trainer, data)
    prepare_run(trainer)
    if resumed is None:
        try_candidates(trainer, module, data, listener)
    choices = module.settle(data)
    settle_refit(trainer, module, data, choices["max_steps"].value)
    length = {} if is_length_given(trainer) else {"max_steps": choices["max_steps"]}
    listener.settled(module.chosen | length)
    if data.num_val_windows < MIN_WINDOWS:
        _train_to_the_end(trainer)
    return first


def after_fit(
    trainer: Trainer, module: ForecastModule, data: SeriesDataModule, first: int = 0, listener: FitListener = SILENT
) -> dict[str, Any] | None:
    """Train once more where that is settled, and warn where there was nothing to train.

    Args:
        trainer: It has trained.
        module: Its module.
        data: Its data.
        first: The step that the training began with.
        listener: Hears of the final training.

    Returns:
        The best checkpoint, as `train_anew` does.
    """
    if trainer.global_step == first and trainer.is_global_zero:
        warnings.warn(
            f"nothing was left to train: the checkpoint is at step {first} already; raise `max_steps` to go on."
            if first
            else "nothing was trained, because the Trainer was given no step to take: raise `max_steps`, "
            "`max_epochs` or `limit_train_batches`.",
            stacklevel=2,
        )
    return train_anew(trainer, module, data, listener)


def fit(
    module: ForecastModule,
    data: SeriesDataModule,
    options: Mapping[str, Any],
    callbacks: Sequence[Callback] = (),
    listener: FitListener = SILENT,
) -> dict[str, Any]:
    """Trains, to the end or until validation gets no better, and once more where that is settled.

    Args:
        module: As it was given.
        data: The data.
        options: Of the Trainer. Without a logger nothing is written.
        callbacks: Beside those that keep checkpoints and stop early; an `EarlyStopping` takes the place of ours.
        listener: Hears of the trials, of what was chosen, and of the final training.

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
        before_fit(trainer, module, data, listener=listener)
        trainer.fit(module, datamodule=data)
        checkpoint = after_fit(trainer, module, data, listener=listener)
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
