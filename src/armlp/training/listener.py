"""What a training tells while it runs, and a listener that does nothing, for others to extend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from lightning.pytorch import Callback

from armlp.training.recipe import Choice


class Trial(NamedTuple):
    """One way to train, and how good its forecasts of the validation origins were.

    Attributes:
        name: The name of the candidate.
        options: Options of `ForecastModule`, and `max_steps`, where they differ from the recipe's choice.
        scores: The scores of its forecasts, by metric; empty where they were not finite.
        monitored: The score that the best trial has least of.
        seconds: How long it took.
    """

    name: str
    options: dict[str, Any]
    scores: Mapping[str, float] = MappingProxyType({})
    monitored: float = math.inf
    seconds: float = 0.0


class FitListener:
    """Listens to a training. Every method does nothing here; a report overrides those that it shows."""

    def progress_bar(self, description: str, steps: int | None) -> list[Callback]:
        """Return the callbacks that show the progress of one part of a training."""
        return []

    def trials_ended(self, trials: Sequence[Trial]) -> None:
        """Take in the trials and their scores."""

    def settled(self, choices: Mapping[str, Choice]) -> None:
        """Take in what was chosen from the data, and why."""

    def final_training_ended(self, name: str, steps: int) -> None:
        """Take in that the checkpoint of a name was trained anew on the validation rows too."""

    def backtest_ended(
        self, scores: Mapping[str, Mapping[str, float]], num_origins: int, horizon: int, refit: int, table: Any
    ) -> None:
        """Take in the scores and the table of a backtest that trained anew every `refit` origins."""
