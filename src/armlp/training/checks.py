"""Check options, model and data against each other."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from armlp.data.checks import check_counts
from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.time.calendar import Calendar
from armlp.data.time.features import spell_cycles
from armlp.errors import UserError
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.evaluation.metrics.base import METRICS
from armlp.evaluation.scoreboard import select
from armlp.model.families import HEADS
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import SCALERS
from armlp.training.loop.trainer import MONITOR, all_callbacks
from armlp.training.recipe import Choice
from armlp.training.settings import ModelSettings
from armlp.training.warm_start import MAX_INPUTS

_LARGE = 1e9  # squares of larger values (and of values below 1 / _LARGE) come near the limits of float32


def check_options_agree(settings: ModelSettings, network: AutoregressiveMLP) -> None:
    """Refuse training options that the network cannot use."""
    objective, head = settings.objective, settings.head
    if objective != "head" and (network.symbols or not network.head.noise):
        raise UserError(
            f"`objective`: {objective} needs sampled numbers, and the head {head!r} gives none; use another "
            "`head`, or the objective 'head'."
        )
    if objective != "head" and settings.feed != "sample":
        raise UserError(f"`feed`: with `objective` {objective} the input is always a sample; leave the option out.")
    if objective == "energy" and settings.lead_weighting != "even":
        raise UserError("`lead_weighting`: the energy score is of all leads together; leave the option out.")
    if settings.conformal != "off" and (network.head.discrete or not network.head.noise):
        raise UserError(
            f"`conformal`: {settings.conformal} needs a continuous distribution, which the head {head!r} does not "
            "give; use another `head`, or leave the option out."
        )
    if settings.theta_share and network.head.discrete:
        raise UserError(
            f"`theta_share`: {settings.theta_share} moves forecasts by fractions, which the head {head!r} "
            "cannot represent; give `theta_share` 0."
        )
    inputs = network.context_length * network.channels
    if settings.ridge_init and network.linear_skip is None:
        raise UserError("`ridge_init`: there is no linear skip to start; give `linear_skip` true.")
    if settings.ridge_init and inputs > MAX_INPUTS:
        raise UserError(
            f"`ridge_init`: the context has {inputs} inputs, and {MAX_INPUTS} are the most for a ridge "
            "regression; lower `context_length`, or leave the option out."
        )
    most = network.context_length // 2
    if network.scaler.needs_season and network.scaler.num_shifts(network.context_length) == 1:
        raise UserError(
            f"`scaler`: {settings.scaler} needs a season of 2 to {most} steps, half the context, but it has "
            f"{network.season_length}; use another scaler, or raise `context_length`."
        )
    if network.symbols and settings.input_noise:
        raise UserError(f"`input_noise`: {settings.input_noise} is for numbers, not for symbols; leave it out.")


def check_same_data(settings: ModelSettings, choices: Mapping[str, Choice], data: SeriesDataModule) -> None:
    """Refuse data of another kind than the model was trained on; `choices` are those of the recipe for the data."""
    panel = data.panel
    trained: Any = settings.channels
    found: Any = panel.values.shape[1]
    if trained != found:
        raise UserError(
            f"The model was trained on {trained} values per time step, but {panel.name} has "
            f"{found} ({', '.join(panel.channels)}); choose as many with `target_columns`."
        )
    trained, found = settings.symbols, choices["symbols"].value
    if trained != found:
        raise UserError(
            f"`symbols`: the model is of {_alphabet(trained)}, but {panel.name} was read as "
            f"{_alphabet(found)}; leave the option out, or train anew."
        )
    trained, found = settings.covariate_sizes, choices["covariate_sizes"].value
    if trained.get("calendar", []) != found.get("calendar", []):
        cycles = spell_cycles(panel.calendar_cycles) if panel.calendar_cycles else "nothing"
        raise UserError(
            f"`calendar_inputs`: the model uses {len(trained.get('calendar', []))} features of the calendar, a "
            f"sine and a cosine of each cycle, but {panel.name}, which steps by {panel.calendar.freq}, has {cycles}; "
            "leave the option out and give times of the frequency of its training, or train anew."
        )
    if trained != found:
        raise UserError(
            f"The model uses covariates of the sizes {trained}, but {panel.name} has {found}; give the covariates of "
            "its training, or train anew."
        )
    _check_extremes(settings, panel)
    if HEADS.find(str(settings.head)).distribution.discrete and not panel.symbols:
        check_counts(panel, str(settings.head))


def warn_of_other_frequency(data: SeriesDataModule) -> None:
    """Warn if the frequency differs from that of the training; integers may stand for any frequency of dates."""
    trained, found = data.settings.trained_freq, data.panel.calendar
    if trained is None or found.steps_like(Calendar(trained)):
        return
    warnings.warn(
        f"The model was trained on a step of {trained}, but {data.panel.name} steps by {found.freq}, and the forecast "
        f"takes one for the other: aggregate the table to steps of {trained}, give its true step with `freq`, or "
        "train anew.",
        stacklevel=3,
    )


def warn_of_few_windows(data: SeriesDataModule, conformal: str) -> None:
    """Warn of too few validation windows for recalibration."""
    windows = data.num_val_windows
    if windows < MIN_WINDOWS:
        warnings.warn(
            f"`conformal`: {data.panel.name} has {windows} validation windows, too few to recalibrate by, so "
            f"intervals {'start' if conformal == 'adaptive' else 'stay'} as they are; raise `val_windows` until "
            f"there are {MIN_WINDOWS}, or leave the option out.",
            stacklevel=3,
        )


def _check_extremes(settings: ModelSettings, panel: Panel) -> None:
    """Refuse unscaled values whose squares float32 cannot hold."""
    unscaled = {"scaler": SCALERS.find(str(settings.scaler)).identity, "loss_units": settings.loss_units == "data"}
    for option, instead in (("scaler", "standard"), ("loss_units", "relative")):
        if not unscaled[option] or panel.symbols:
            continue
        largest = panel.values.new_zeros(len(panel))
        for rows in panel.blocks():
            largest.scatter_reduce_(0, panel.locate(rows)[0], panel.values[rows].abs().amax(1), "amax")
        wrong = largest > _LARGE
        if option == "scaler":
            wrong |= (largest > 0) & (largest < 1 / _LARGE)
        if wrong.any():
            series = int(wrong.int().argmax())
            raise UserError(
                f"`{option}` {getattr(settings, option)} takes values as they are, but the largest of series "
                f"'{panel.ids[series]}' of {panel.name} is {largest[series]:g}, beyond what a network can compute with "
                f"({1 / _LARGE:g} to {_LARGE:g}): use `{option}` {instead}."
            )


def _alphabet(symbols: int) -> str:
    return f"{symbols} symbols" if symbols else "numbers"


_TRAINING = ("loss", "nll", "learning_rate", "unroll", "gradient_norm", "windows_per_second")
_VALIDATION = ("skill", "nll", "diverged")
_NUMBERS, _SYMBOLS = ("owa",), ("perplexity",)


def check_monitors(trainer: Trainer, data: SeriesDataModule, metrics: Sequence[str] = ()) -> None:
    """Refuse, before the training, a monitored metric that nothing logs; third-party callbacks may log any."""
    if any(type(one).__module__.split(".")[0] not in ("armlp", "lightning") for one in all_callbacks(trainer)):
        return
    known = _known(data, metrics)
    for option, monitor in _monitored(trainer):
        # Checkpoints may monitor epochs and steps; names of LearningRateMonitor depend on the optimizer.
        counted = option == "checkpoint" and monitor in ("epoch", "step")
        if monitor not in known and not counted and not monitor.startswith("lr-"):
            raise UserError(f"--{option}.monitor: {monitor!r} is not logged; use one of {', '.join(known)}.")


def check_monitors_defined(
    trainer: Trainer, data: SeriesDataModule, logged: Collection[str], metrics: Sequence[str] = ()
) -> None:
    """Refuse, at the first validation, a monitored metric that is not defined for these data or this model."""
    known = _known(data, metrics)
    for option, monitor in _monitored(trainer):
        if monitor in known and monitor not in logged and monitor not in trainer.callback_metrics:
            raise UserError(
                f"--{option}.monitor: {monitor!r} is not defined for these data and this model; use {MONITOR}, which "
                "always is."
            )


def _known(data: SeriesDataModule, metrics: Sequence[str]) -> list[str]:
    """Return the metrics that a training of any model may log."""
    symbols = bool(data.panel.symbols)
    scores = (*select(METRICS, metrics, not symbols), *(_SYMBOLS if symbols else _NUMBERS), *_VALIDATION)
    return [MONITOR, *(f"val/{name}" for name in scores), *(f"train/{name}" for name in _TRAINING)]


def _monitored(trainer: Trainer) -> list[tuple[str, str]]:
    """Return the options and the metrics that callbacks cannot do without."""
    found: list[tuple[str, str]] = []
    for callback in all_callbacks(trainer):
        one: Any = callback
        if isinstance(one, ModelCheckpoint) and one.monitor is not None:
            found.append(("checkpoint", one.monitor))
        elif isinstance(one, EarlyStopping) and one.strict:
            found.append(("early_stopping", one.monitor))
    return found
