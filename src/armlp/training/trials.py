"""Trials: candidates beside the recipe's choice, each trained and compared on the validation windows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.evaluation.scoreboard import MODEL
from armlp.training.loop.listener import FitListener, Trial
from armlp.training.loop.trainer import MONITOR, is_length_given, trainer_like
from armlp.training.module import ForecastModule
from armlp.training.recipe import SHORT, STEPS, Choice
from armlp.training.settings import ModelSettings
from armlp.training.settle import Settled, settle_model

RECIPE = "recipe"  # the name of the recipe's own choice
_BETTER = 1.01  # factor by which a candidate must beat the recipe; two seeds differ as much


def candidates(data: SeriesDataModule, choices: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """Return candidates for trials, the most promising first: by name, the options that replace the recipe's choice.

    Options are those of `ForecastModule`, and `max_steps`. scripts/LOG.md has the experiments behind them.
    """
    if not data.panel.is_numeric or choices["optimizer"].value == "muon":
        return {}
    typical, context = data.split.typical_length(data.panel.lengths), choices["context_length"].value
    longer = {"context_length": 2 * context} if 2 * context <= typical // 4 else {}
    found: dict[str, dict[str, Any]] = {
        "linear": {"hidden_sizes": [], "residual_blocks": 0, "ridge_init": True, "max_steps": STEPS // 2, **longer},
        "narrow": {"hidden_sizes": [64], "residual_blocks": 1, "dropout": 0.3, "input_noise": 0.2, "max_steps": STEPS},
    }
    if typical < SHORT:
        found["wide"] = {"hidden_sizes": [128], "dropout": 0.2, "input_noise": 0.0, "max_steps": STEPS}
    return found


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the trial to train with: the recipe's, unless another is clearly better."""
    return min(trials, key=lambda trial: trial.monitored * (1 if trial.name == RECIPE else _BETTER))


def num_trials(given: ModelSettings, data: SeriesDataModule, trainer: Trainer) -> int | None:
    """Return how many candidates to try beside the recipe's choice (None: all); refuse trials for several processes."""
    if given.trials and trainer.world_size > 1:
        raise UserError(
            f"`trials`: {trainer.world_size} processes cannot share trials; give `devices` 1, or leave the option out."
        )
    possible = trainer.limit_val_batches != 0 and not given.is_settled
    if given.trials is not None:
        return given.trials if possible else 0
    # With few windows the choice would be chance.
    enough = data.num_val_windows >= MIN_WINDOWS and not is_length_given(trainer) and trainer.world_size == 1
    return None if possible and enough else 0


def list_trials(given: ModelSettings, data: SeriesDataModule, trainer: Trainer, number: int | None) -> list[Trial]:
    """Return the recipe's choice and at most `number` candidates (None: all) that fit the data and given options."""
    settled, fixed = settle_model(given, data), given.non_defaults()
    chosen = settled.settings.flat() | {"max_steps": settled.max_steps.value}
    found = [Trial(RECIPE, {})]
    for name, options in candidates(data, settled.recommended).items():
        differing = {option: value for option, value in options.items() if value != chosen[option]}
        if is_length_given(trainer):
            differing.pop("max_steps", None)
        if differing and not differing.keys() & fixed.keys() and _can_be_trained(given, differing, data):
            found.append(Trial(name, differing))
    return found if number is None else found[: 1 + number]


def try_candidates(
    given: ModelSettings, data: SeriesDataModule, trainer: Trainer, listener: FitListener
) -> dict[str, Choice]:
    """Train the recipe's choice and candidates; return the options of one that is clearly better on validation.

    The state of the random generators does not change.
    """
    number = num_trials(given, data, trainer)
    entries = list_trials(given, data, trainer, number) if number != 0 else []
    if len(entries) < 2:
        return {}
    trials: list[Trial] = []
    for index, entry in enumerate(entries, start=1):
        trials += _run(entry, given, data, trainer, listener, f"trying {entry.name}, {index} of {len(entries)}")
    listener.trials_ended(trials)
    why = f"best of {len(trials)} tried on validation"
    return {name: Choice(value, why) for name, value in best_of(trials).options.items()}


def _settle(given: ModelSettings, options: Mapping[str, Any], data: SeriesDataModule) -> Settled:
    return settle_model(given, data, {name: Choice(value, "") for name, value in options.items()})


def _can_be_trained(given: ModelSettings, options: Mapping[str, Any], data: SeriesDataModule) -> bool:
    try:
        with isolate_rng():
            ForecastModule.of(_settle(given, options, data))
    except UserError:
        return False
    return True


def _run(
    entry: Trial, given: ModelSettings, data: SeriesDataModule, trainer: Trainer, listener: FitListener, what: str
) -> list[Trial]:
    """Return an entry with its scores, and again without its share of Theta if it has one; no scores if not finite."""
    begin, data = time.perf_counter(), data.copy()
    limits = {name: getattr(trainer, name) for name in ("limit_train_batches", "limit_val_batches")}
    with isolate_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training that follows repeats the warnings
        settled = _settle(given, entry.options, data)
        module = ForecastModule.of(settled)
        steps = trainer.max_steps
        if not is_length_given(trainer):  # on short series, a trial is a whole training
            most = STEPS if data.split.typical_length(data.panel.lengths) < SHORT else STEPS // 2
            steps = min(most, settled.max_steps.value)
        bar = listener.progress_bar(what, steps)
        length = {"max_steps": steps, "max_epochs": trainer.max_epochs, "limit_val_batches": 0}
        try:
            trainer_like(trainer, bar, **limits | length).fit(module, datamodule=data)
            entry = _validate(entry, module, data, trainer, limits)
        except UserError:
            pass  # not finite, or a series too short: no scores
        entry = entry._replace(seconds=time.perf_counter() - begin)
        if not (entry.scores and module.settings.theta_share) or given.theta_share is not None:
            return [entry]
        without_theta = replace(settled, settings=replace(settled.settings, theta_share=0.0))
        same_weights = ForecastModule.of(without_theta)
        same_weights.load_state_dict(module.state_dict())
        trial = Trial(f"{entry.name}, without Theta", entry.options | {"theta_share": 0.0})
        return [entry, _validate(trial, same_weights, data, trainer, limits)]


def _validate(
    entry: Trial, module: ForecastModule, data: SeriesDataModule, trainer: Trainer, limits: Mapping[str, Any]
) -> Trial:
    """Return an entry with the validation scores of a module; raise a UserError if its forecasts are not finite."""
    begin, validator = time.perf_counter(), trainer_like(trainer, **limits)
    validator.validate(module, datamodule=data, verbose=False)
    monitored = validator.callback_metrics[MONITOR].item()
    return entry._replace(scores=module.scores[MODEL], monitored=monitored, seconds=time.perf_counter() - begin)
