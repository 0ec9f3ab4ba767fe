"""Scores of a model and of the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection

from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.baselines import BASELINES, Baseline, History
from armlp.evaluation.baselines.naive import naive_errors
from armlp.evaluation.diagnostics import Diagnostics, on_device
from armlp.evaluation.metrics.base import METRICS, LeadMetric, Paths
from armlp.evaluation.one_step import one_step_nll
from armlp.evaluation.quantiles import MODEL as MODEL
from armlp.model.mlp import AutoregressiveMLP
from armlp.registry import Registry

BASELINE = "seasonal naive"
K = TypeVar("K", LeadMetric, Baseline)
_OWA_REFERENCE = "Naive2"
_SKILL_ON = ("mase", "mae", "error_rate")
# The first of these that is finite selects the best checkpoint.
_MONITORED = ("perplexity", "scaled_crps", "crps", "error_rate")


class Scoreboard:
    """Scores of the model and of the baselines over the same origins.

    Baselines forecast in the first pass only, so every pass must bring the same windows in the same order; it may end
    earlier. They are fitted, and the units of scaled errors measured, on the rows before `ends [S]`, int64.

    Raises:
        UserError: A name or class path of a further metric or baseline is not known, or does not suit the panel.
    """

    def __init__(
        self,
        panel: Panel,
        ends: Tensor,
        horizon: int,
        season_length: int,
        metrics: Sequence[str] = (),
        baselines: Sequence[str] = (),
    ) -> None:
        self.panel, self.ends, self.horizon, self.season_length = panel, ends, horizon, season_length
        self.unit, self.root_unit = naive_errors(panel, ends, season_length)
        self._baseline_kinds = select(BASELINES, baselines, panel.is_numeric)
        self._baselines: dict[str, Baseline] = {}  # fitted in the first update, which shows the context length
        kinds = select(METRICS, metrics, panel.is_numeric)
        point = {name: kind for name, kind in kinds.items() if kind.needs == "point"}
        self.boards = {MODEL: self._board(kinds), **{name: self._board(point) for name in self._baseline_kinds}}
        self.likelihood = MeanMetric()
        self._passed = self._compared = 0  # windows of this pass, and windows that the baselines have forecast

    def _board(self, kinds: Mapping[str, type[LeadMetric]]) -> MetricCollection:
        # A process without windows has nothing new to compute, but must exchange its sums with the others.
        metrics: dict[str, Any] = {name: kind(self.horizon, compute_with_cache=False) for name, kind in kinds.items()}
        return MetricCollection(metrics, compute_groups=False)

    def update(self, paths: Tensor, windows: Windows, whole: bool = False) -> None:
        """Add the forecasts of a batch: paths `[B, P, H, V]`, data units; `whole` if they are counts."""
        # The panel and the sums are on the CPU, whatever device the model runs on.
        paths, target, observed, series, origin = (part.cpu() for part in (paths, *windows[2:6]))
        target = self.panel.in_data_units(series, target)
        forecasts = {MODEL: paths}
        if not len(series):  # the last batch of a process with fewer windows
            forecasts = dict.fromkeys(self.boards, paths)
        elif self._passed >= self._compared:
            if not self._baselines:
                length = windows.context.shape[1]
                history = History(self.panel, self.ends, self.unit, length, self.horizon, self.season_length)
                self._baselines = {name: kind.fit(history) for name, kind in self._baseline_kinds.items()}
            for name, baseline in self._baselines.items():
                forecasts[name] = baseline.forecast(series, origin, self.horizon)[:, None]
        self._passed += len(series)
        self._compared = max(self._compared, self._passed)
        units = {"mae": self.unit[series][:, None], "rmse": self.root_unit[series][:, None]}
        for name, values in forecasts.items():
            forecast = Paths(values, even=True, whole=whole and name == MODEL)
            for metric in cast("Mapping[str, LeadMetric]", self.boards[name]).values():
                # A single path has no score of whole paths, but torchmetrics warns of metrics that were never updated.
                truth = target[:0] if metric.needs == "paths" and values.shape[1] == 1 else target
                metric.update(forecast, truth, observed, units[metric.unit])

    def update_likelihood(self, total: Tensor, count: Tensor) -> None:
        """Add the model's negative log-likelihood: the sum over `count` values, data units."""
        mean = (total / count.clamp(min=1)).nan_to_num(nan=math.inf)  # MeanMetric would skip nan
        self.likelihood.update(value=mean.cpu(), weight=count.cpu())

    def join(self, other: Scoreboard) -> None:
        """Add the forecasts of another scoreboard, such as those of an earlier model from earlier origins."""
        for name, board in self.boards.items():
            for metric, score in board.items():
                score.merge_state(other.boards[name][metric])
        likelihood = other.likelihood
        if likelihood.update_called:
            self.likelihood.update(value=likelihood.mean_value / likelihood.weight, weight=likelihood.weight)

    def summary(self, device: torch.device | str = "cpu") -> dict[str, dict[str, float]]:
        """Return every metric by forecaster, with skill and OWA; `device` is where processes can exchange sums.

        Skill is measured on MASE, in which all series have the same weight; on MAE where no series has a unit; for
        values that are no numbers on the error rate.
        """
        rows = {}
        for name, board in self.boards.items():
            with on_device(board, device):
                rows[name] = {metric: value.item() for metric, value in board.compute().items()}
        reference = dict(rows[BASELINE])
        measured = [name for name in _SKILL_ON if not math.isnan(reference.get(name, math.nan))]
        on = measured[0] if measured else next(iter(reference))  # where nothing was observed there is no skill
        for row in rows.values():
            if _OWA_REFERENCE in rows:
                row["owa"] = sum(_ratio(row[part], rows[_OWA_REFERENCE][part]) for part in ("smape", "mase")) / 2
            row["skill"] = 1 - _ratio(row[on], reference[on])
        if self.likelihood.update_called:
            with on_device(self.likelihood, device):
                rows[MODEL]["nll"] = self.likelihood.compute().item()
            if not self.panel.is_numeric:
                rows[MODEL]["perplexity"] = torch.tensor(rows[MODEL]["nll"]).exp().item()
        return rows

    def by_lead(self, metric: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Return a metric at each lead, `[H]`, by forecaster; `device` as in `summary`."""
        curves = {}
        for name, board in self.boards.items():
            if metric in board:
                with on_device(cast("LeadMetric", board[metric]), device) as score, score.sync_context():
                    curves[name] = score.by_lead().cpu()
        return curves

    def curves(self, device: torch.device | str = "cpu") -> dict[str, dict[str, Tensor]]:
        """Return `by_lead` of every metric with `curve = True`."""
        metrics = cast("Mapping[str, LeadMetric]", self.boards[MODEL])
        return {name: self.by_lead(name, device) for name, metric in metrics.items() if metric.curve}

    def reset(self) -> None:
        """Remove the forecasts of the model; the next pass brings the same windows."""
        self._passed = 0
        for board in (self.boards[MODEL], self.likelihood):
            board.reset()


def select(registry: Registry[K], extra: Sequence[str], numeric: bool) -> dict[str, type[K]]:
    """Return the metrics or baselines of a scoreboard by name, in display order.

    `extra` holds names or class paths besides the default ones; a UserError says which is not known or does not suit.
    A class that is not registered has the name of the class.
    """
    suitable = (numeric, None)
    asked = [registry.find(name) for name in extra]
    for name, kind in zip(extra, asked, strict=True):
        if kind.numeric not in suitable:
            raise UserError(
                f"`{registry.option}`: {name} is {'not for numbers' if numeric else 'for numbers only'}; leave it out."
            )
    found = {
        name: kind for name, kind in registry.items() if kind in asked or (kind.default and kind.numeric in suitable)
    }
    found |= {kind.__name__: kind for kind in asked if kind not in registry.values()}
    return dict(sorted(found.items(), key=lambda item: item[1].order))


def _ratio(score: float, reference: float) -> float:
    return score / reference if reference > 0 else math.nan


class Evaluation:
    """Scores and diagnostics of the last pass of a validation, or of a test if `part` is `test`."""

    def __init__(
        self,
        data: SeriesDataModule,
        part: str,
        horizon: int,
        metrics: Sequence[str] = (),
        baselines: Sequence[str] = (),
    ) -> None:
        split = data.test_split if part == "test" else data.split
        ends = split.train_ends(data.panel.lengths)
        self.scoreboard = Scoreboard(data.panel, ends, horizon, data.season_length, metrics, baselines)
        self.diagnostics = Diagnostics(data.panel, self.scoreboard.unit, horizon)
        self.scores: dict[str, dict[str, float]] = {}  # by forecaster and metric
        self.curves: dict[str, dict[str, Tensor]] = {}  # [H] by metric and forecaster
        self.calibration: Tensor | None = None  # [bins] masses of the probability integral transform
        self.coverage: Mapping[float, float] = {}  # share of the truth in each interval, by level in percent
        self.sum_coverage: Mapping[float, float] = {}  # the same of sums over the horizon
        self.correlations: Tensor | None = None  # [2, lags] of deviations of the paths and of the truth

    def update(self, network: AutoregressiveMLP, paths: Tensor, windows: Windows) -> None:
        """Add the forecasts of a batch: paths `[B, P, H, V]` of the network, data units."""
        self.scoreboard.update(paths, windows, network.head.discrete)
        self.diagnostics.update(paths, windows, network.head.discrete)
        if network.head.has_density:
            self.scoreboard.update_likelihood(*one_step_nll(network, windows))

    def sum_up(self, device: torch.device) -> None:
        """Compute scores, curves and calibration; processes exchange sums on `device`."""
        self.scores = self.scoreboard.summary(device)
        self.scores[MODEL]["diverged"] = self.diagnostics.share_diverged(device)
        self.curves = self.scoreboard.curves(device)
        self.calibration = self.diagnostics.calibration(device)
        self.coverage = self.diagnostics.coverage(device)
        self.sum_coverage = self.diagnostics.sum_coverage(device)
        self.correlations = self.diagnostics.correlations(device)

    @property
    def monitored(self) -> float:
        """The score that selects the best checkpoint, lower is better; raise a UserError if none is finite."""
        scores = self.scores[MODEL]
        measured = [scores[name] for name in _MONITORED if math.isfinite(scores.get(name, math.nan))]
        if not measured:
            raise UserError("The validation forecasts are not finite: train with a lower `learning_rate`.")
        return measured[0]

    def reset(self) -> None:
        """Remove the forecasts; the next pass brings the same windows."""
        self.scoreboard.reset()
        self.diagnostics.reset()
