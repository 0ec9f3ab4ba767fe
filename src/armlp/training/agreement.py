"""Agreement: whether the options of a model agree with each other, and the model with the data that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from armlp.data.datamodule import SeriesDataModule
from armlp.data.shortages import refuse_no_counts
from armlp.data.time_features import spell_cycles
from armlp.errors import UserError
from armlp.model.heads import HEADS
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.initial import MOST_INPUTS
from armlp.training.recipe import Choice


def refuse_disagreement(options: Mapping[str, Any], network: AutoregressiveMLP) -> None:
    """Refuses options of the training that the network has no use for.

    Raises:
        UserError: Naming the option.
    """
    objective, head = options["objective"], options["head"]
    if objective != "head" and (network.symbols or not network.head.noise):
        raise UserError(
            f"--model.objective: {objective} scores sampled numbers, which the head {head!r} has not; use another "
            "--model.head, or the objective 'head'."
        )
    if objective != "head" and options["feed"] != "sample":
        raise UserError(f"--model.feed: {objective} scores sampled paths, which feed themselves; leave the option out.")
    if objective == "energy" and options["lead_weighting"] != "even":
        raise UserError("--model.lead_weighting: the energy score is of all leads together; leave the option out.")
    if options["ridge_init"]:
        _refuse_ridge(network)
    most = network.context_length // 2
    if network.scaler == "seasonal" and not 1 < network.season_length <= most:
        raise UserError(
            f"--model.scaler: seasonal needs a season of 2 to {most} steps, half the context, but it has "
            f"{network.season_length}; use another scaler, or raise --model.context_length."
        )
    if network.symbols and options["input_noise"]:
        raise UserError(f"--model.input_noise: {options['input_noise']} is for numbers, not for symbols; leave it out.")


def _refuse_ridge(network: AutoregressiveMLP) -> None:
    inputs = network.context_length * network.channels
    if network.linear_skip is None:
        raise UserError("--model.ridge_init: there is no linear skip to start; say --model.linear_skip true.")
    if inputs > MOST_INPUTS:
        raise UserError(
            f"--model.ridge_init: the context has {inputs} inputs, and {MOST_INPUTS} are the most for a ridge "
            "regression; lower --model.context_length, or leave the option out."
        )


def refuse_other_data(options: Mapping[str, Any], data: SeriesDataModule, choices: Mapping[str, Choice]) -> None:
    """Refuses data of another kind than the model is of.

    Args:
        options: Of the model, settled.
        data: The data.
        choices: What the data themselves would choose.

    Raises:
        UserError: Naming what differs.
    """
    panel = data.panel
    trained, found = options["channels"], panel.values.shape[1]
    if trained != found:
        raise UserError(
            f"The model was trained on {trained} values per time step, but {panel.name} has "
            f"{found} ({', '.join(panel.channels)}); choose as many with --data.target_columns."
        )
    trained, found = options["symbols"], choices["symbols"].value
    if trained != found:
        raise UserError(
            f"--data.symbols: the model is of {_alphabet(trained)}, but {panel.name} was read as "
            f"{_alphabet(found)}; leave --data.symbols and --model.symbols out, or train anew."
        )
    trained, found = options["covariate_sizes"], choices["covariate_sizes"].value
    if trained.get("calendar", []) != found.get("calendar", []):
        told = spell_cycles(panel.calendar_cycles) if panel.calendar_cycles else "nothing"
        raise UserError(
            f"--data.calendar_inputs: the model is told {len(trained.get('calendar', []))} features of the calendar, a "
            f"sine and a cosine of each cycle, but of {panel.name}, which steps by {panel.calendar.freq}, {told}; "
            "leave the option out and give times of the frequency of its training, or train anew."
        )
    if trained != found:
        raise UserError(
            f"The model is of covariates of the sizes {trained}, but {panel.name} has {found}; give the covariates of "
            "its training, or train anew."
        )
    head = HEADS.get(options["head"])  # one that is not known is refused where the network is built
    if head is not None and head.discrete and not panel.symbols:
        refuse_no_counts(panel, options["head"])


def _alphabet(symbols: int) -> str:
    return f"{symbols} symbols" if symbols else "numbers"
