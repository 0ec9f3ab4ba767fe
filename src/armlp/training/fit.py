"""The whole of a training, from top to bottom: check, try candidates, train, train on the validation rows too."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.training.checks import check_monitors
from armlp.training.loop.callbacks import BestCheckpoint, LastCheckpoint, StopEarly, best_checkpoint
from armlp.training.loop.checkpoint import read_checkpoint, write_checkpoint
from armlp.training.loop.listener import FitListener
from armlp.training.loop.requested import Requested
from armlp.training.loop.trainer import (
    BEST,
    MONITOR,
    all_callbacks,
    is_length_given,
    prepare_run,
    trainer_like,
    trainer_mistakes,
)
from armlp.training.module import ForecastModule
from armlp.training.recipe import STEPS, Choice
from armlp.training.settle import Settled, settle_model
from armlp.training.trials import try_candidates

# A refit is worth it if validation has at least this share of the training rows.
_MIN_VALIDATION_SHARE = 0.1


class Fitted(NamedTuple):
    """A trained module.

    Attributes:
        module: The module, as it was at the end of its training.
        checkpoint: None if no checkpoint was kept; {} on processes other than the first. Otherwise the best one, with
            the weights of the refit if there was one; the last one if nothing was validated.
    """

    module: ForecastModule
    checkpoint: dict[str, Any] | None


def fit(
    trainer: Trainer,
    module: ForecastModule,
    data: SeriesDataModule,
    listener: FitListener | None = None,
    resumed: str | os.PathLike[str] | None = None,
    before_training: Callable[[], None] = lambda: None,
) -> Fitted:
    """Train, and train once more on the validation rows too if that is worthwhile.

    `module` is not changed; the trained module is returned. The training goes on from the checkpoint `resumed`.
    `before_training` is called when all checks have passed, before anything is written.
    """
    listener = listener if listener is not None and trainer.is_global_zero else FitListener()
    first_step = 0

    # Check everything before a run folder is made.
    data.check_trainable()
    if resumed is not None:
        checkpoint = read_checkpoint(resumed)
        if "refit" in checkpoint:
            raise UserError(
                f"--ckpt_path: {resumed} was trained anew on the validation rows after its training, which cannot go "
                "on from there; give the last.ckpt beside it."
            )
        module.on_load_checkpoint(checkpoint)
        first_step = checkpoint["global_step"]
    given = module.settings
    requested = module.requested or Requested.of(given, data, trainer)
    # If the user limits the length, use no Theta, trials or refit.
    if is_length_given(trainer) and given.theta_share is None:
        given = replace(given, theta_share=0.0)
    with isolate_rng():
        ForecastModule.of(settle_model(given, data))  # raises if the options and the data do not go together
    check_monitors(trainer, data, given.metrics or ())
    prepare_run(trainer)

    # Settle what was left out, by trials too.
    from_trials = module.settled.from_trials if resumed is not None else try_candidates(given, data, trainer, listener)
    settled = choose_refit(settle_model(given, data, from_trials), data, trainer)
    module = _module_of(settled, module)
    module.requested = requested
    for callback in all_callbacks(trainer) if data.num_val_windows < MIN_WINDOWS else []:
        # A few windows would stop a training by chance, before the learning rate comes down.
        if isinstance(callback, StopEarly) and callback.monitor == MONITOR and not callback.is_patience_given:
            callback.patience = sys.maxsize

    # Train.
    before_training()
    trainer.fit(module, datamodule=data, ckpt_path=None if resumed is None else os.fspath(resumed))
    if trainer.global_step == first_step and trainer.is_global_zero:
        warnings.warn(
            f"nothing was left to train: the checkpoint is at step {first_step} already; raise `max_steps` to go on."
            if first_step
            else "nothing was trained, because the Trainer was given no step to take: raise `max_steps`, `max_epochs` "
            "or `limit_train_batches`.",
            stacklevel=2,
        )

    # Train once more, on the validation rows too.
    best = best_checkpoint(trainer)
    if best is None or not best.best_model_path:
        return Fitted(module, None)
    if not trainer.is_global_zero:
        return Fitted(module, {})
    checkpoint = best.checkpoint()
    if module.settings.refit and "refit" not in checkpoint:  # best.ckpt of a run that resumed may have it already
        checkpoint = _refit_on_validation(checkpoint, trainer, best, module, data, listener)
    return Fitted(module, checkpoint)


def fit_with_options(
    module: ForecastModule,
    data: SeriesDataModule,
    options: Mapping[str, Any],
    callbacks: Sequence[Callback] = (),
    listener: FitListener | None = None,
) -> Fitted:
    """Fit with a new Trainer, which keeps the best weights and stops early.

    Without a logger among the `options` of the Trainer nothing is written. An `EarlyStopping` among the `callbacks`
    takes the place of ours. If no checkpoint was kept, that of the end is returned.
    """
    stops = [] if any(isinstance(callback, EarlyStopping) for callback in callbacks) else [StopEarly()]
    with TemporaryDirectory() as folder:
        dirpath = None if options.get("logger") else folder
        best = BestCheckpoint(dirpath, **BEST)
        best.is_temporary = dirpath is not None
        kept: list[Callback] = [best] if options.get("enable_checkpointing", True) else []
        kept += [LastCheckpoint()] if kept and dirpath is None else []
        with trainer_mistakes():
            trainer = Trainer(**{**options, "callbacks": [*kept, *stops, *callbacks]})
        module, checkpoint = fit(trainer, module, data, listener)
        if checkpoint is None:
            end = Path(folder) / "end.ckpt"
            trainer.save_checkpoint(end)  # by the first of several processes
            checkpoint = read_checkpoint(end) if trainer.is_global_zero else {}
        return Fitted(module, trainer.strategy.broadcast(checkpoint))


def _module_of(settled: Settled, given: ForecastModule) -> ForecastModule:
    """Return a module of settled settings; a network that was complete from the start keeps its weights."""
    if not hasattr(given, "network"):
        return ForecastModule.of(settled)
    with isolate_rng():
        module = ForecastModule.of(settled)
    module.load_state_dict(given.state_dict())
    return module


def choose_refit(settled: Settled, data: SeriesDataModule, trainer: Trainer) -> Settled:
    """Choose whether a refit on the validation rows too follows the training."""
    refit, applied = settled.settings.refit, dict(settled.applied)
    possible = best_checkpoint(trainer) is not None and trainer.limit_val_batches != 0 and trainer.world_size == 1
    if refit and not possible:
        raise UserError(
            "`refit`: to train anew takes one process, and the best checkpoint of a validation; leave the option "
            "out, or give `devices` 1 and leave `enable_checkpointing` and `limit_val_batches` as they are."
        )
    if refit is None:
        split, windows = data.split, data.num_val_windows
        rows, typical = split.val_windows * split.horizon, split.typical_length(data.panel.lengths)
        few = windows < MIN_WINDOWS and settled.max_steps.value <= STEPS
        many_rows = rows >= _MIN_VALIDATION_SHARE * typical
        reasons = [
            (many_rows, f"validation has {rows} rows of a series, training {typical:,}"),
            (few, f"{windows} validation windows are too few to choose a step by"),
        ]
        found = [reason for applies, reason in reasons if applies and possible and not is_length_given(trainer)]
        refit = bool(found)
        if refit:
            applied["refit"] = Choice(True, found[0])
    return replace(settled, settings=replace(settled.settings, refit=refit), applied=applied)


def _refit_on_validation(
    checkpoint: dict[str, Any],
    trainer: Trainer,
    best: BestCheckpoint,
    module: ForecastModule,
    data: SeriesDataModule,
    listener: FitListener,
) -> dict[str, Any]:
    """Train anew on the validation rows too, and put the weights into the best checkpoint.

    Use all steps if the last validation score is within `tolerance` of the best; otherwise the steps of the best. In
    both cases the learning rate comes down. All else in the checkpoint stays as it is, and a killed training leaves it
    as it was.
    """
    path = best.best_model_path
    name = os.path.basename(path)
    assert best.best_model_score is not None
    tolerance = 1 / math.sqrt(max(1, data.num_val_windows))  # how far a mean over so many windows can be off
    last_is_good = module.monitored <= (1 + tolerance) * best.best_model_score.item()
    steps: int = module.total_steps if last_is_good else checkpoint["global_step"]
    with isolate_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first training has given them
        seed_everything(data.settings.seed, verbose=False)
        refitted = ForecastModule(**checkpoint["hyper_parameters"])
        bar = listener.progress_bar("training on validation too", steps)
        refit_trainer = trainer_like(trainer, bar, max_steps=steps, limit_val_batches=0)
        refit_trainer.fit(refitted, datamodule=data.copy(hold_out_validation=False))
    weights = {name: value.cpu() for name, value in refitted.state_dict().items()}
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        warnings.warn(
            f"`refit`: the new training did not end in finite weights, so {name} stays as validation has chosen it; "
            "train with a lower `learning_rate`.",
            stacklevel=2,
        )
        return checkpoint
    checkpoint |= {"state_dict": weights, "refit": {"steps": steps}}
    write_checkpoint(checkpoint, path)
    listener.refit_ended(name, steps)
    return checkpoint
