"""The scoreboard: a model beside the baselines, by metric and by lead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection

from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.baselines.naive import drift, naive_errors, seasonal_naive
from armlp.evaluation.baselines.naive2 import Naive2
from armlp.evaluation.baselines.ridge import RidgeAR
from armlp.evaluation.diagnostics import Diagnostics
from armlp.evaluation.metrics.base import LeadMetric, Paths
from armlp.evaluation.metrics.calibration import Coverage, IntervalScore
from armlp.evaluation.metrics.point import (
    ErrorRate,
    MeanAbsoluteError,
    MeanAbsoluteScaledError,
    RootMeanSquaredError,
    RootMeanSquaredScaledError,
    SymmetricMAPE,
)
from armlp.evaluation.metrics.probabilistic import ContinuousRankedProbabilityScore, ScaledCRPS, WeightedQuantileLoss
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.objective import one_step_nll

MODEL, BASELINE, NAIVE2, DRIFT, RIDGE = "armlp", "seasonal naive", "Naive2", "drift", "ridge AR"
_SKILL_ON = ("mase", "mae", "error_rate")


class Scoreboard:
    """Scores of the model and of the baselines over the same origins.

    The baselines do not change from one pass over the origins to the next, so they forecast once. Every pass has to
    bring the same windows in the same order; it may end before the others did.

    Args:
        panel: Whose origins are forecast.
        ends: `[S]` int64 row at which each series' rows before the first origin end; the units of scaled errors are
            measured, and the baselines fitted, inside them.
        horizon: `H`.
        season_length: Of the baselines.
    """

    def __init__(self, panel: Panel, ends: Tensor, horizon: int, season_length: int) -> None:
        self.panel = panel
        self.ends = ends
        self.horizon = horizon
        self.season_length = season_length
        self.unit, self.root_unit = naive_errors(panel, ends, season_length)
        self._naive2 = Naive2(panel, ends, season_length)
        self._ridge: RidgeAR | None = None  # until the first windows say how long a context is
        names = [BASELINE] if panel.symbols else [BASELINE, NAIVE2, DRIFT, RIDGE]
        point, intervals = self._metrics()
        baselines = {name: MetricCollection(point, compute_groups=False).clone() for name in names}
        self.boards = {MODEL: MetricCollection({**point, **intervals}, compute_groups=False), **baselines}
        self.likelihood = MetricCollection({"nll": MeanMetric()})
        self._passed = self._compared = 0  # windows of this pass, and windows that the baselines have forecast

    def _metrics(self) -> tuple[dict[str, Metric | MetricCollection], dict[str, Metric | MetricCollection]]:
        """Metrics of any forecast, and those of intervals, which point forecasts have none of."""
        horizon = self.horizon
        # A process without windows of its own has nothing new to compute, but others wait for it.
        options: dict[str, Any] = {"compute_with_cache": False}
        if self.panel.symbols:
            return {"error_rate": ErrorRate(horizon, **options)}, {}
        return {
            "mae": MeanAbsoluteError(horizon, **options),
            "rmse": RootMeanSquaredError(horizon, **options),
            "smape": SymmetricMAPE(horizon, **options),
            "mase": MeanAbsoluteScaledError(horizon, **options),
            "rmsse": RootMeanSquaredScaledError(horizon, **options),
            "wql": WeightedQuantileLoss(horizon, **options),
            "crps": ContinuousRankedProbabilityScore(horizon, **options),
            "scaled_crps": ScaledCRPS(horizon, **options),
        }, {
            f"{name}_{level}": metric(horizon, level, **options)
            for name, metric in {"coverage": Coverage, "interval": IntervalScore}.items()
            for level in (80, 95)
        }

    def update(self, paths: Tensor, windows: Windows, whole: bool = False) -> None:
        """Adds the forecasts of a batch.

        Args:
            paths: `[B, P, H, V]`, data units.
            windows: Whose targets are the truth.
            whole: Whether the paths are counts, as `forecast_columns` has it.
        """
        # The panel and the sums lie on the CPU, whatever device the model runs on.
        paths, target, observed, series, origin = (part.cpu() for part in (paths, *windows[2:6]))
        target = self.panel.in_data_units(series, target)
        forecasts = {MODEL: paths}
        if not len(series):  # the last batch of a process that has fewer than the others
            forecasts = dict.fromkeys(self.boards, paths)
        elif self._passed >= self._compared:
            forecasts |= self._baselines(series, origin, windows.context.shape[1])
        self._passed += len(series)
        self._compared = max(self._compared, self._passed)
        units = self.unit[series][:, None], self.root_unit[series][:, None]
        for name, values in forecasts.items():
            forecast = Paths(values, even=True, whole=whole and name == MODEL)
            for metric, score in self.boards[name].items():
                score.update(forecast, target, observed, units[metric == "rmsse"])

    def _baselines(self, series: Tensor, origin: Tensor, context_length: int) -> dict[str, Tensor]:
        """The forecast of every baseline, `[B, 1, H, V]`, data units."""
        panel, horizon, season_length = self.panel, self.horizon, self.season_length
        forecasts = {BASELINE: seasonal_naive(panel, series, origin, horizon, season_length)}
        if not panel.symbols:
            if self._ridge is None:
                self._ridge = RidgeAR(panel, self.ends, self.unit, context_length, horizon, season_length)
            forecasts[NAIVE2] = self._naive2.forecast(series, origin, horizon)
            forecasts[DRIFT] = drift(panel, series, origin, horizon)
            forecasts[RIDGE] = self._ridge.forecast(series, origin)
        return {name: forecast[:, None] for name, forecast in forecasts.items()}

    def update_likelihood(self, total: Tensor, count: Tensor) -> None:
        """Adds the model's negative log-likelihood of `count` values, `total` in all, data units."""
        mean = (total / count.clamp(min=1)).nan_to_num(nan=math.inf)  # the metric would leave out what diverged
        self.likelihood.update(value=mean.cpu(), weight=count.cpu())

    def join(self, other: Scoreboard) -> None:
        """Adds the forecasts that another board has judged, such as those of an earlier model from earlier origins."""
        for name, board in self.boards.items():
            for metric, score in board.items():
                for state, value in other.boards[name][metric].metric_state.items():
                    setattr(score, state, getattr(score, state) + value)
        likelihood = cast(MeanMetric, other.likelihood["nll"])
        if likelihood.update_called:
            self.likelihood.update(value=likelihood.mean_value / likelihood.weight, weight=likelihood.weight)

    def summary(self, device: torch.device | str = "cpu") -> dict[str, dict[str, float]]:
        """Every metric of the model and of the baselines, with their skill and their OWA.

        Skill is measured on MASE, which weighs all series alike; where no series has a unit, on MAE; of symbols on the
        share that is wrong. The baselines have no intervals, so no coverage.

        Args:
            device: Where processes can exchange their sums: that of the model.
        """
        rows = {}
        for name, board in self.boards.items():
            rows[name] = {metric: value.item() for metric, value in board.to(device).compute().items()}
            board.to("cpu")
        reference = dict(rows[BASELINE])
        measured = [name for name in _SKILL_ON if not math.isnan(reference.get(name, math.nan))]
        on = measured[0] if measured else next(iter(reference))  # where nothing was observed there is no skill
        for row in rows.values():
            if not self.panel.symbols:
                row["owa"] = sum(_ratio(row[part], rows[NAIVE2][part]) for part in ("smape", "mase")) / 2
            row["skill"] = 1 - _ratio(row[on], reference[on])
        if self.likelihood["nll"].update_called:
            rows[MODEL] |= {metric: value.item() for metric, value in self.likelihood.to(device).compute().items()}
            self.likelihood.to("cpu")
            if self.panel.symbols:
                rows[MODEL]["perplexity"] = torch.tensor(rows[MODEL]["nll"]).exp().item()
        return rows

    def by_lead(self, metric: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """One metric at each lead, `[H]`, for the model and the baselines that have it; `device` as in `summary`."""
        curves = {}
        for name, board in self.boards.items():
            if metric in board:
                score = cast(LeadMetric, board[metric]).to(device)
                with score.sync_context():
                    curves[name] = score.by_lead().cpu()
                score.to("cpu")
        return curves

    def reset(self) -> None:
        """Forgets the forecasts of the model; the next pass brings the same windows."""
        self._passed = 0
        for board in (self.boards[MODEL], self.likelihood):
            board.reset()


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs > 0 else math.nan


# What the best checkpoint is chosen by: the first of these that there is. Of symbols there are no errors to measure.
_MONITORED = ("perplexity", "scaled_crps", "crps", "error_rate")
_BY_LEAD = ("mae", "crps", "coverage_80", "coverage_95", "error_rate")


class Evaluation:
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
            paths: `[B, P, H, V]`, data units.
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
            raise UserError("The validation forecasts are not finite: train with a lower `learning_rate`.")
        return measured[0]

    def reset(self) -> None:
        """Forgets the forecasts; the next pass brings the same windows."""
        self.scoreboard.reset()
        self.diagnostics.reset()
