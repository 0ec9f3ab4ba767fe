"""Events of a training, for reports to listen to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from lightning.pytorch import Callback


class Trial(NamedTuple):
    """One way to train, and the scores of its forecasts at the validation origins."""

    name: str
    options: dict[str, Any]  # of `ForecastModule`, and `max_steps`, that differ from the recipe's choice
    scores: Mapping[str, float] = MappingProxyType({})  # by metric; empty if not finite
    monitored: float = math.inf  # the score to minimise
    seconds: float = 0.0


class FitListener:
    """Receives the events of a training. Methods do nothing here; a report overrides those that it shows."""

    def progress_bar(self, description: str, steps: int | None) -> list[Callback]:
        """Return callbacks that show the progress of one part of a training."""
        return []

    def trials_ended(self, trials: Sequence[Trial]) -> None:
        """Receive the trials and their scores."""

    def refit_ended(self, name: str, steps: int) -> None:
        """Receive the name of a checkpoint that was trained anew on the validation rows too, for so many steps."""

    def backtest_ended(
        self, scores: Mapping[str, Mapping[str, float]], num_origins: int, horizon: int, refit: int, table: Any
    ) -> None:
        """Receive the scores and the table of a backtest that trained anew every `refit` origins."""
