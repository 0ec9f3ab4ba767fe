"""Forecasts from many origins beside the seasonal naive: the summary that says whether a model is worth using."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection

from armlp.data.panel import Panel
from armlp.data.windows import Windows
from armlp.evaluation.baselines import naive_error, seasonal_naive
from armlp.evaluation.metrics import (
    ContinuousRankedProbabilityScore,
    Coverage,
    ErrorRate,
    LeadMetric,
    MeanAbsoluteError,
    MeanAbsoluteScaledError,
    ScaledCRPS,
    SymmetricMAPE,
)

MODEL, BASELINE = "armlp", "seasonal naive"
_SKILL_ON = ("mase", "mae", "error_rate")


class Scoreboard:
    """Scores of the model and of the seasonal naive over the same origins.

    Args:
        panel: Whose origins are forecast.
        ends: `[S]` int64 row at which each series' rows before the first origin end; the unit of MASE is
            measured inside them.
        horizon: `H`.
        season_length: Of the baseline.
    """

    def __init__(self, panel: Panel, ends: Tensor, horizon: int, season_length: int) -> None:
        self.panel = panel
        self.horizon = horizon
        self.season_length = season_length
        self.unit = naive_error(panel, ends, season_length)
        metrics = MetricCollection(
            {"error_rate": ErrorRate(horizon)}
            if panel.symbols
            else {
                "mae": MeanAbsoluteError(horizon),
                "smape": SymmetricMAPE(horizon),
                "mase": MeanAbsoluteScaledError(horizon),
                "crps": ContinuousRankedProbabilityScore(horizon),
                "scaled_crps": ScaledCRPS(horizon),
                "coverage_80": Coverage(horizon, 80),
                "coverage_95": Coverage(horizon, 95),
            },
            compute_groups=False,
        )
        self.boards: dict[str, MetricCollection] = {MODEL: metrics, BASELINE: metrics.clone()}
        self.likelihood = MetricCollection({"nll": MeanMetric()})

    def update(self, paths: Tensor, windows: Windows) -> None:
        """Adds the forecasts of a batch.

        Args:
            paths: `[B, P, H(, V)]`, data units.
            windows: Whose targets are the truth.
        """
        # The panel and the sums lie on the CPU, whatever device the model runs on.
        paths, target, observed, series, origin = (part.cpu() for part in (paths, *windows[2:6]))
        target = self.panel.in_data_units(series, target)
        baseline = seasonal_naive(self.panel, series, origin, self.horizon, self.season_length)
        unit = self.unit[series][:, None]
        for name, forecast in {MODEL: paths, BASELINE: baseline[:, None]}.items():
            self.boards[name].update(forecast, target, observed, unit)

    def update_likelihood(self, total: Tensor, count: Tensor) -> None:
        """Adds the model's negative log-likelihood of `count` values, `total` in all, data units."""
        mean = (total / count.clamp(min=1)).nan_to_num(nan=math.inf)  # the metric would leave out what diverged
        self.likelihood.update(value=mean.cpu(), weight=count.cpu())

    def summary(self, device: torch.device | str = "cpu") -> dict[str, dict[str, float]]:
        """Every metric of the model and of the baseline, and the model's skill.

        Skill is measured on MASE, which weighs all series alike; where no series has a unit, on MAE; of symbols on the
        share that is wrong. The baseline has no interval, so no coverage.

        Args:
            device: Where processes can exchange their sums: that of the model.
        """
        rows = {}
        for name, board in self.boards.items():
            rows[name] = {metric: value.item() for metric, value in board.to(device).compute().items()}
            board.to("cpu")
        for metric in ("coverage_80", "coverage_95"):
            rows[BASELINE].pop(metric, None)
        measured = [name for name in _SKILL_ON if not math.isnan(rows[BASELINE].get(name, math.nan))]
        on = measured[0] if measured else next(iter(rows[BASELINE]))  # where nothing was observed there is no skill
        ours, theirs = rows[MODEL][on], rows[BASELINE][on]
        rows[MODEL]["skill"] = 1 - ours / theirs if theirs > 0 else float("nan")
        rows[BASELINE]["skill"] = 0.0
        if self.likelihood["nll"].update_called:
            rows[MODEL] |= {metric: value.item() for metric, value in self.likelihood.to(device).compute().items()}
            self.likelihood.to("cpu")
            if self.panel.symbols:
                rows[MODEL]["perplexity"] = torch.tensor(rows[MODEL]["nll"]).exp().item()
        return rows

    def by_lead(self, metric: str) -> dict[str, Tensor]:
        """One metric at each lead, `[H]`, for the model and the baseline."""
        return {name: cast(LeadMetric, board[metric]).by_lead() for name, board in self.boards.items()}

    def reset(self) -> None:
        """Forgets all batches."""
        for board in (*self.boards.values(), self.likelihood):
            board.reset()
