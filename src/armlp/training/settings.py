"""Options of `ForecastModule`: what they may be, and how the data settle what was left out."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError, check_bounds
from armlp.model.mlp import check_network_options, network_options
from armlp.training.objective import FEEDS, GRADIENTS, LEAD_WEIGHTS, LOSS_UNITS, OBJECTIVES
from armlp.training.optimizers import OPTIMIZERS, SCHEDULES
from armlp.training.recipe import Choice, recipe

# What of the options shapes the network itself.
NETWORK_OPTIONS = network_options()

# What of them only says how it is trained, or what comes after it, so that it can be built without.
OPTIMIZATION = ("loss_units", "optimizer", "learning_rate", "weight_decay", "theta_share")

# What is settled from the data where it is left out.
CHOSEN = (
    "context_length", "patch_length", "unroll", "feed", "hidden_sizes", "residual_blocks", "dropout", "head", "scaler",
    "mask_input", "input_noise", "non_negative", "members", "season_length", "channels", "symbols", "covariate_sizes",
    *OPTIMIZATION,
)  # fmt: skip

# Whoever gives one of these has a network of his own in mind.
_BY_HAND = ("context_length", "patch_length", "unroll", "hidden_sizes", "residual_blocks", "head", "scaler")

_CHOICES = {
    "objective": OBJECTIVES,
    "loss_units": LOSS_UNITS,
    "feed": FEEDS,
    "lead_weighting": LEAD_WEIGHTS,
    "schedule": SCHEDULES,
    "optimizer": OPTIMIZERS,
    "conformal": ("off", "split", "adaptive"),
}
_LEAST = {
    "unroll": 1, "val_paths": 1, "unroll_growth": 0, "learning_rate": 0, "weight_decay": 0, "warmup": 0,
    "input_noise": 0, "averaging": 0, "trials": 0, "theta_share": 0, "members": 1, "effort": 1,
}  # fmt: skip


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses what no training and no network could use.

    Raises:
        UserError: Naming the option.
    """
    for name, choices in _CHOICES.items():
        if options[name] is not None and options[name] not in choices:
            raise UserError(f"`{name}`: {options[name]!r} is not known; use one of {', '.join(choices)}.")
    for name, least in _LEAST.items():
        check_bounds(name, options[name], least)
    shares = {"unroll_growth": "training", "averaging": "training", "warmup": "training", "theta_share": "forecast"}
    for name, whole in shares.items():
        if options[name] is not None and not options[name] <= 1:
            raise UserError(f"`{name}`: {options[name]} is more than the whole {whole}; give a share up to 1.")
    check_network_options(options)
    gradient = options["gradient"]
    if gradient not in GRADIENTS and not (isinstance(gradient, int) and gradient >= 1):
        raise UserError(f"`gradient`: {gradient!r} is not known; use {', '.join(GRADIENTS)} or a number of patches.")


def settle_options(
    options: MutableMapping[str, Any], data: SeriesDataModule, preferred: dict[str, Choice]
) -> tuple[dict[str, Choice], dict[str, Choice]]:
    """Settles what was left to the data.

    Args:
        options: Of the module; what is None is settled in place.
        data: The data; where the network cannot be told of the calendar, they will not tell of it.
        preferred: What trials have shown to be better than the recipe's choice.

    Returns:
        What the data would choose, of every option, and what was chosen of those left out; nothing where none was.
    """
    sizes = options["covariate_sizes"]
    if options["hidden_sizes"] == [] or (sizes is not None and "calendar" not in sizes):
        data.leave_out_calendar()  # without a layer nothing can be told, and a built network takes what it takes
    choices = recipe(data, options["patch_length"], options["effort"]) | preferred
    missing = [name for name in CHOSEN if options[name] is None]
    if not missing:
        return choices, {}
    choices |= _implied(options, preferred, choices["head"].value)
    chosen = {name: choices[name] for name in missing}
    options.update({name: choice.value for name, choice in chosen.items()})
    chosen |= {name: choice for name, choice in preferred.items() if name in options}
    return choices, chosen | {"calendar_inputs": choices["calendar_inputs"]}


def _implied(options: Mapping[str, Any], preferred: Mapping[str, Choice], head: str) -> dict[str, Choice]:
    """What options that were given leave no choice of, beside those that trials have set and the head of the recipe."""
    choices, samples = {}, options["objective"] != "head"
    stretched = options["conformal"] != "off"
    if (head == "point" and (samples or stretched)) or (
        head == "negative_binomial" and (stretched or options["theta_share"])
    ):
        what = "conformal" if stretched else "objective" if samples else "theta_share"
        choices["head"] = Choice("quantile", f"{what} needs forecasts that spread on a scale")
    if options["hidden_sizes"] == []:
        choices["residual_blocks"] = Choice(0, "no layer before them")
        choices["optimizer"] = Choice("adamw", "")  # muon trains layers
    if any(options[name] is not None for name in _BY_HAND if name not in preferred):
        choices["theta_share"] = Choice(0.0, "")  # who chooses the network himself wants to see what it does
    if samples and options["unroll"] is None:
        choices["unroll"] = Choice(1, "the objective samples its own patches")
    if samples or options["unroll"] is not None:
        choices["feed"] = Choice("sample", "its own output")
    return choices
