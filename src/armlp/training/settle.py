"""Settle a model: choose from the data what its settings leave out, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from armlp.data.datamodule import SeriesDataModule
from armlp.training.checks import check_same_data
from armlp.training.recipe import Choice, recipe
from armlp.training.settings import SETTLED, ModelSettings

# A user who gives one of these has a network in mind.
_BY_HAND = ("context_length", "patch_length", "unroll", "hidden_sizes", "residual_blocks", "head", "scaler")


class Settled(NamedTuple):
    """Settings in which nothing is left out.

    Attributes:
        settings: The options.
        choices: What the data would choose, of every option, and of `max_steps`.
        reasons: The choices that were made, for the table that `fit` prints; empty where nothing was left out.
        preferred: The choices of trials, which are among those of the data.
    """

    settings: ModelSettings
    choices: dict[str, Choice]
    reasons: dict[str, Choice]
    preferred: dict[str, Choice]

    @property
    def max_steps(self) -> Choice:
        """How many optimizer steps the data are worth."""
        return self.choices["max_steps"]


def settle(settings: ModelSettings, data: SeriesDataModule, preferred: Mapping[str, Choice] | None = None) -> Settled:
    """Return settings in which what was left out is chosen from the data.

    Args:
        settings: The settings as given.
        data: The data, which stay as they are.
        preferred: Options that trials have found better than the choice of the recipe; `max_steps` may be one.

    Raises:
        UserError: The settings and the data do not go together.
    """
    preferred = dict(preferred or {})
    found = {name: one.value for name, one in preferred.items() if hasattr(settings, name)}
    settings = replace(settings.with_members(), **found)
    sizes = settings.covariate_sizes
    # A model without a layer has no use for the calendar, and a trained network takes what it takes.
    calendar = not (settings.hidden_sizes == [] or (sizes is not None and "calendar" not in sizes))
    choices = recipe(data, settings.patch_length, settings.effort, calendar or not data.chooses_cycles) | preferred
    missing = [name for name in SETTLED if getattr(settings, name) is None]
    if not missing:
        check_same_data(settings, choices, data)
        return Settled(settings, choices, {}, preferred)
    choices |= _implied(settings, preferred, choices["head"].value)
    reasons = {name: choices[name] for name in missing}
    settings = replace(settings, **{name: choice.value for name, choice in reasons.items()})
    reasons |= {name: choice for name, choice in preferred.items() if hasattr(settings, name)}
    reasons["calendar_inputs"] = choices["calendar_inputs"]
    check_same_data(settings, choices, data)
    return Settled(settings, choices, reasons, preferred)


def _implied(settings: ModelSettings, preferred: Mapping[str, Choice], head: str) -> dict[str, Choice]:
    """Return the choices that follow from options that were given, and not from trials; `head` is the recipe's."""
    choices, samples = {}, settings.objective != "head"
    stretched = settings.conformal != "off"
    if (head == "point" and (samples or stretched)) or (
        head == "negative_binomial" and (stretched or settings.theta_share)
    ):
        what = "conformal" if stretched else "objective" if samples else "theta_share"
        choices["head"] = Choice("quantile", f"{what} needs forecasts that spread on a scale")
    if settings.hidden_sizes == []:
        choices["residual_blocks"] = Choice(0, "no layer before them")
        choices["optimizer"] = Choice("adamw", "")  # muon trains layers
    if any(getattr(settings, name) is not None for name in _BY_HAND if name not in preferred):
        choices["theta_share"] = Choice(0.0, "")  # a user who chooses the network wants to see its forecasts
    if samples and settings.unroll is None:
        choices["unroll"] = Choice(1, "the objective samples its own patches")
    if samples or settings.unroll is not None:
        choices["feed"] = Choice("sample", "its own output")
    return choices
