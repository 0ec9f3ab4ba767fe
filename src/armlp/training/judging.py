"""Judging: all that a pass over held-out origins measures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.backtest import MODEL, Scoreboard
from armlp.evaluation.diagnostics import Diagnostics
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.objective import one_step_nll

# What the best checkpoint is chosen by: the first of these that there is. Of symbols there are no errors to measure.
_MONITORED = ("perplexity", "scaled_crps", "crps", "error_rate")
_BY_LEAD = ("mae", "crps", "coverage_80", "coverage_95", "error_rate")


class Judge:
    """Sums up the forecasts of a validation or a test.

    Args:
        data: Whose origins are forecast.
        part: `test`, or another one for validation.
        horizon: How far the forecasts reach.

    Attributes:
        scoreboard: The scores of the model and of the baselines.
        diagnostics: What scores do not tell.
        scores: Of the last pass, by forecaster and metric.
        curves: Of the last pass, by metric and forecaster: `[H]` by lead.
        calibration: Of the last pass, `[bins]` masses of the probability integral transform; None where there is none.
        coverage: Of the last pass, the share of the truth in the interval of each level, by level in percent.
    """

    def __init__(self, data: SeriesDataModule, part: str, horizon: int) -> None:
        split = data.test_split if part == "test" else data.split
        self.scoreboard = Scoreboard(data.panel, split.train_ends(data.panel.lengths), horizon, data.season_length)
        self.diagnostics = Diagnostics(data.panel, self.scoreboard.unit, horizon)
        self.scores: dict[str, dict[str, float]] = {}
        self.curves: dict[str, dict[str, Tensor]] = {}
        self.calibration: Tensor | None = None
        self.coverage: Mapping[float, float] = {}

    def update(self, network: AutoregressiveMLP, paths: Tensor, windows: Windows) -> None:
        """Adds the forecasts of a batch.

        Args:
            network: That made them.
            paths: `[B, P, H(, V)]`, data units.
            windows: Whose targets are the truth.
        """
        self.scoreboard.update(paths, windows, network.head.discrete)
        self.diagnostics.update(paths, windows, network.head.discrete)
        if network.head.has_density:
            self.scoreboard.update_likelihood(*one_step_nll(network, windows))

    def sum_up(self, device: torch.device) -> None:
        """Settles scores, curves and calibration, over all processes, which exchange their sums on a device."""
        self.scores = self.scoreboard.summary(device)
        self.scores[MODEL]["diverged"] = self.diagnostics.share_diverged(device)
        curves = {metric: self.scoreboard.by_lead(metric, device) for metric in _BY_LEAD}
        self.curves = {metric: rows for metric, rows in curves.items() if rows}
        self.calibration = self.diagnostics.calibration(device)
        self.coverage = self.diagnostics.coverage(device)

    @property
    def monitored(self) -> float:
        """What the best checkpoint has least of.

        Raises:
            UserError: It is not finite.
        """
        scores = self.scores[MODEL]
        measured = [scores[name] for name in _MONITORED if math.isfinite(scores.get(name, math.nan))]
        if not measured:
            raise UserError("The validation forecasts are not finite: train with a lower --model.learning_rate.")
        return measured[0]

    def reset(self) -> None:
        """Forgets the forecasts; the next pass brings the same windows."""
        self.scoreboard.reset()
        self.diagnostics.reset()
