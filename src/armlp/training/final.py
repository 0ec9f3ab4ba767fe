"""The final training: on the validation part too, for as long as validation has shown to be best."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import LEAST_WINDOWS
from armlp.training.checkpoint import write_checkpoint
from armlp.training.defaults import all_callbacks, bare_trainer, says_how_long
from armlp.training.fit_callbacks import best_checkpoint
from armlp.training.module import ForecastModule
from armlp.training.progress import StepBar
from armlp.training.recipe import Choice
from armlp.training.report import Report

# Validation rows are worth another training from here on, as a share of the training rows.
_WORTH = 0.1
# Where they are no good part of it, but say too little, so many steps are soon taken again.
_SOON_DONE = 600


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
            "--model.refit: a final training takes one process, and the best checkpoint of a validation; leave the "
            "option out, or say --trainer.devices 1 and leave --trainer.enable_checkpointing and "
            "--trainer.limit_val_batches as they are."
        )
    if module.hparams["refit"] is None:
        split, windows = data.split, data.num_val_windows
        rows, typical = split.val_windows * split.horizon, split.typical_length(data.panel.lengths)
        few = windows < LEAST_WINDOWS and steps <= _SOON_DONE
        why = {
            f"validation has {rows} rows of a series, training {typical:,}": rows >= _WORTH * typical,
            f"{windows} validation windows are too few to choose a step by": few,
        }
        possible = possible and not says_how_long(trainer)
        reasons = [reason for reason, holds in why.items() if holds and possible]
        module.hparams["refit"] = bool(reasons)
        if reasons:
            module.chosen["refit"] = Choice(True, reasons[0])


def train_anew(trainer: Trainer, module: ForecastModule, data: SeriesDataModule) -> dict[str, Any] | None:
    """Trains once more where that is settled, and puts the weights into the best checkpoint.

    It takes all steps again where the last validation was as good as the best, as far as its windows can tell, and
    otherwise those of the best; either way the learning rate comes down. All else in the checkpoint stays as it is, and
    a killed training leaves it as it was.

    Args:
        trainer: That has trained.
        module: That it has trained.
        data: On which.

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
    shown = any(isinstance(callback, StepBar) for callback in all_callbacks(trainer))
    bar = [StepBar("training on validation too", steps)] if shown else []
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
            f"--model.refit: the final training did not end in finite weights, so {name} stays as validation has "
            "chosen it; train with a lower --model.learning_rate.",
            stacklevel=2,
        )
        return checkpoint
    checkpoint |= {"state_dict": weights, "refit": {"steps": steps}}
    write_checkpoint(checkpoint, path)
    if any(isinstance(callback, Report) for callback in all_callbacks(trainer)):
        print(f"{name} was then trained anew on the validation rows too, for {steps} steps; the scores are of before.")
    return checkpoint
