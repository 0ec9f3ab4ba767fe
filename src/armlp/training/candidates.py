"""Candidates: what is tried beside the recipe's choice, and how a trial of one ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from armlp.data.datamodule import SeriesDataModule
from armlp.training.recipe import SHORT, Choice

RECIPE = "recipe"  # the name of what the recipe itself chose
# By so much two seeds differ: what is not better by more than that is no reason to leave the recipe.
_BETTER = 1.01


class Trial(NamedTuple):
    """One way to train, and how good its forecasts of the validation origins were.

    Attributes:
        name: Of the candidate.
        options: Of `ForecastModule`, and `max_steps`, where they differ from what the recipe chose.
        scores: Of its forecasts, by metric; empty where they were not finite.
        monitored: What the best has least of.
        seconds: That it took.
    """

    name: str
    options: dict[str, Any]
    scores: Mapping[str, float] = MappingProxyType({})
    monitored: float = math.inf
    seconds: float = 0.0


def best_of(trials: Sequence[Trial]) -> Trial:
    """The one to train: the recipe's, unless another is clearly better."""
    return min(trials, key=lambda trial: trial.monitored * (1 if trial.name == RECIPE else _BETTER))


def candidates(data: SeriesDataModule, choices: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """What is worth a trial beside the recipe's own choice, the most promising first; scripts/LOG.md says why these.

    Args:
        data: The data.
        choices: Of the recipe.

    Returns:
        By a short name, options of `ForecastModule`, and `max_steps`, in place of what the recipe chose. Those that the
        user has settled otherwise, or that the data have no use for, are left out by `try_candidates`.
    """
    if data.panel.symbols or choices["optimizer"].value == "muon":
        return {}
    typical, context = data.split.typical_length(data.panel.lengths), choices["context_length"].value
    longer = {"context_length": 2 * context} if 2 * context <= typical // 4 else {}
    tried: dict[str, dict[str, Any]] = {
        "linear": {"hidden_sizes": [], "residual_blocks": 0, "ridge_init": True, "max_steps": 300, **longer},
        "narrow": {"hidden_sizes": [64], "residual_blocks": 1, "dropout": 0.3, "input_noise": 0.2, "max_steps": 600},
    }
    if typical < SHORT:
        tried["wide"] = {"hidden_sizes": [128], "dropout": 0.2, "input_noise": 0.0, "max_steps": 600}
    return tried


def trial_steps(data: SeriesDataModule) -> int:
    """For how many steps a candidate is tried at most: where series are short, for all of its training."""
    return 600 if data.split.typical_length(data.panel.lengths) < SHORT else 300
