"""Trials: candidates trained on the training part and compared on the validation windows."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.evaluation.scoreboard import MODEL
from armlp.training.candidates import RECIPE, Trial, best_of, candidates, trial_steps
from armlp.training.listener import FitListener
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.training.trainer import MONITOR, bare_trainer, is_length_given

_USUAL = {name: option.default for name, option in inspect.signature(ForecastModule).parameters.items()}


def try_candidates(trainer: Trainer, module: ForecastModule, data: SeriesDataModule, listener: FitListener) -> None:
    """Trains candidates on the training part, and has the module prefer what is clearly better on validation.

    The recipe's own choice is one of them. Nothing else changes: neither the data, nor what is drawn at random after.

    Args:
        trainer: That will train the module.
        module: As it was given, not settled yet.
        data: The data.
        listener: Hears of the trials.

    Raises:
        UserError: Trials are wanted where several processes train, or the module cannot be trained on the data.
    """
    if not _wanted(trainer, module, data):
        return
    given = {name: value for name, value in module.hparams.items() if value != _USUAL[name]}
    entries = _entries(trainer, given, data, module.hparams["trials"])
    if len(entries) == 1:
        return
    trials = []
    for number, entry in enumerate(entries, start=1):
        bar = listener.progress_bar(f"trying {entry.name}, {number} of {len(entries)}", None)
        trials += _trials(trainer, given, entry, data, bar)
    listener.trials_ended(trials)
    best = best_of(trials)
    why = f"best of {len(trials)} tried on validation"
    module.prefer({name: Choice(value, why) for name, value in best.options.items()})


def _wanted(trainer: Trainer, module: ForecastModule, data: SeriesDataModule) -> bool:
    """Whether there are to be trials, and can be."""
    number = module.hparams["trials"]
    if number and trainer.world_size > 1:
        raise UserError(
            f"`trials`: {trainer.world_size} processes cannot share trials; say `devices` 1, or leave the option out."
        )
    if number is None:  # by the forecasts of a few windows chance would choose
        number = data.num_val_windows >= MIN_WINDOWS and not (is_length_given(trainer) or trainer.world_size > 1)
    return bool(number) and trainer.limit_val_batches != 0 and module.network is None


def _entries(trainer: Trainer, given: Mapping[str, Any], data: SeriesDataModule, most: int | None) -> list[Trial]:
    """The recipe's own choice, and the candidates that the user has left open and that can be trained on the data."""
    with isolate_rng():
        recipe = ForecastModule(**given)
        choices = recipe.settle(data.twin())
    settled = {**recipe.hparams, "max_steps": choices["max_steps"].value}
    entries = [Trial(RECIPE, {})]
    for name, options in candidates(data, choices).items():
        differing = {option: value for option, value in options.items() if value != settled[option]}
        if is_length_given(trainer):
            differing.pop("max_steps", None)
        if differing and not differing.keys() & given.keys() and _can_be_trained(given, differing, data):
            entries.append(Trial(name, differing))
    return entries if most is None else entries[: 1 + most]


def _can_be_trained(given: Mapping[str, Any], options: Mapping[str, Any], data: SeriesDataModule) -> bool:
    """Whether options agree with each other and with the data."""
    with isolate_rng():
        try:
            _module(given, options).settle(data.twin())
        except UserError:
            return False
        else:
            return True


def _module(given: Mapping[str, Any], options: Mapping[str, Any]) -> ForecastModule:
    """Of what was given, with the options of a candidate, which may have the steps of the training among them."""
    module = ForecastModule(**given)
    module.prefer({name: Choice(value, "") for name, value in options.items()})
    return module


def _trials(
    trainer: Trainer, given: Mapping[str, Any], entry: Trial, data: SeriesDataModule, bar: list[Callback]
) -> list[Trial]:
    """The same entry with its scores, and without its share of Theta where it has one; none where not finite."""
    begin, twin = time.perf_counter(), data.twin()
    limits = {name: getattr(trainer, name) for name in ("limit_train_batches", "limit_val_batches")}
    training: dict[str, Any] = {"max_steps": trainer.max_steps, "max_epochs": trainer.max_epochs}
    training |= {"callbacks": bar, "enable_progress_bar": bool(bar)}
    with isolate_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself says what there is to say
        module = _module(given, entry.options)
        try:
            if not is_length_given(trainer):
                training["max_steps"] = min(trial_steps(data), module.settle(twin)["max_steps"].value)
            bare_trainer(trainer, **limits | training | {"limit_val_batches": 0}).fit(module, datamodule=twin)
            entry = _judged(entry, trainer, module, twin, limits)
        except UserError:
            pass  # not finite, or too short for it: no scores
        entry = entry._replace(seconds=time.perf_counter() - begin)
        if not (entry.scores and module.hparams["theta_share"]) or "theta_share" in given:
            return [entry]
        module.hparams["theta_share"] = 0.0
        alone = Trial(f"{entry.name} alone", entry.options | {"theta_share": 0.0})
        return [entry, _judged(alone, trainer, module, twin, limits)]


def _judged(
    entry: Trial, trainer: Trainer, module: ForecastModule, data: SeriesDataModule, limits: Mapping[str, Any]
) -> Trial:
    """The same entry with the scores of a trained module on validation, and the seconds that judging took.

    Raises:
        UserError: Its forecasts are not finite.
    """
    begin, judge = time.perf_counter(), bare_trainer(trainer, **limits)
    judge.validate(module, datamodule=data, verbose=False)
    found = entry._replace(scores=module.scores[MODEL], monitored=judge.callback_metrics[MONITOR].item())
    return found._replace(seconds=time.perf_counter() - begin)
