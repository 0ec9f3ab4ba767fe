"""What a fit tells whoever reports on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from armlp.training.candidates import Trial
    from armlp.training.recipe import Choice


class FitListener:
    """Hears what a fit or a backtest finds out; all methods do nothing here."""

    def progress_bar(self, description: str, steps: int | None) -> list[Callback]:
        """Return the callbacks that show the progress of a training within a fit."""
        return []

    def trials_ended(self, trials: Sequence[Trial]) -> None:
        """Take the scores of all candidates."""

    def settled(self, choices: Mapping[str, Choice]) -> None:
        """Take what was chosen from the data."""

    def final_training_ended(self, name: str, steps: int) -> None:
        """Take the name of the checkpoint that was trained on the validation rows too."""

    def backtest_ended(
        self, scores: Mapping[str, Mapping[str, float]], num_origins: int, horizon: int, refit: int, table: Any
    ) -> None:
        """Take the scores and the table of a backtest that trains anew on its way."""
