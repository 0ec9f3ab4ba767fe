"""Charts of a run on TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from armlp.data.loaders import OriginLoader
from armlp.data.windows import Windows, gather
from armlp.evaluation.charts import (
    MAX_TIMES,
    autocorrelation_chart,
    dependence_chart,
    fan_charts,
    lead_chart,
    pit_chart,
    quiet_fonts,
    reliability_chart,
    series_fan,
)
from armlp.evaluation.diagnostics import Exemplar, residual_autocorrelation
from armlp.evaluation.scoreboard import MODEL, Evaluation
from armlp.report.texts import shorten
from armlp.training.module import ForecastModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

_MIN_HISTORY = 12  # rows before the origin in a chart
# The first of these that was measured is drawn by lead.
_ERRORS = {"mae": "MAE", "error_rate": "Error rate"}


class ChartData(NamedTuple):
    """The data of the figures of a validation or a test."""

    exemplars: Sequence[Exemplar] = ()
    curves: Mapping[str, Mapping[str, Tensor]] = {}  # [H] by metric and forecaster
    calibration: Tensor | None = None  # [bins] masses of the probability integral transform
    coverage: Mapping[float, float] = {}  # share of the truth in each interval, by level in percent
    sum_coverage: Mapping[float, float] = {}  # the same of sums over the horizon
    correlations: Tensor | None = None  # [2, lags] of deviations of the paths and of the truth

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation) -> ChartData:
        """Take the results of the last pass over the origins."""
        exemplars = evaluation.diagnostics.exemplars()
        others = {name: getattr(evaluation, name) for name in cls._fields[1:]}
        return cls(exemplars, **others)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ChartData:
        """Restore it from plain values and tensors; missing entries are left empty."""
        exemplars = [Exemplar(*exemplar) for exemplar in state.get("exemplars", ())]
        others = {name: state[name] for name in cls._fields[1:] if name in state}
        return cls(exemplars, **others)

    def state(self) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        exemplars = [tuple(exemplar) for exemplar in self.exemplars]
        coverages = {"coverage": dict(self.coverage), "sum_coverage": dict(self.sum_coverage)}
        return self._asdict() | {"exemplars": exemplars} | coverages


def add_layout(writer: SummaryWriter, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Add the layout of the custom scalar charts, three or four, once a run; far worse baselines are left out.

    `scores` of a validation decide which charts exist. Tags are regular expressions.
    """
    known = {name for name, value in scores[MODEL].items() if not math.isnan(value)}
    loss, loss_title = ("nll", "Negative log-likelihood: training, validation") if "nll" in known else ("loss", "Loss")
    error = next(name for name in reversed(_ERRORS) if name in known or name == "mae")
    least = min((row[error] for row in scores.values() if not math.isnan(row[error])), default=math.nan)
    drawn = [name for name, row in scores.items() if name == MODEL or row[error] <= MAX_TIMES * least]
    charts = {
        loss_title: [f"^train/{loss}$", f"^val/{loss}$"],
        "Skill: above 0 the seasonal naive is beaten": ["^val/skill$"],
        f"{_ERRORS[error]} by lead, best validation": [f"^{_lead_tag('val_best', error, name)}$" for name in drawn],
    }
    if "perplexity" in known:
        charts["Perplexity"] = ["^val/perplexity$"]
    elif "coverage_80" in known:
        charts["Coverage of the 80% and 95% intervals"] = ["^val/coverage_80$", "^val/coverage_95$"]
    writer.add_custom_scalars({"armlp": {title: ["Multiline", tags] for title, tags in charts.items()}})


def add_lead_curves(writer: SummaryWriter, group: str, curves: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write metrics as scalars whose step is the lead."""
    for metric, rows in curves.items():
        for name, values in rows.items():
            for lead, value in enumerate(values.tolist(), start=1):
                if not math.isnan(value):
                    writer.add_scalar(_lead_tag(group, metric, name), value, lead)


def _lead_tag(group: str, metric: str, forecaster: str) -> str:
    return f"{group}/lead_{metric}/{forecaster.replace(' ', '_')}"


@torch.no_grad()
def add_charts(
    writer: SummaryWriter,
    group: str,
    step: int,
    module: ForecastModule,
    forecast: Callable[[Windows], Tensor],
    data: ChartData,
    residuals_of: OriginLoader | None = None,
) -> None:
    """Draw exemplary forecasts, errors by lead, calibration and residuals, as far as `data` has them.

    Only the exemplary forecasts are computed again, by `forecast`, from windows to paths `[B, P, H, V]`, data units;
    their paths do not depend on the batch. The rows of the origins of `residuals_of` are tested for autocorrelation.
    """
    figures = _forecast_charts(module, forecast, data.exemplars) if data.exemplars else {}
    if data.curves:
        error = next(name for name in _ERRORS if name in data.curves)
        figures["leads"] = lead_chart(data.curves[error], _ERRORS[error])
    if data.calibration is not None:
        figures["pit"] = pit_chart(data.calibration)
    if data.coverage:
        figures["reliability"] = reliability_chart(data.coverage, data.sum_coverage)
    if data.correlations is not None:
        figures["dependence"] = dependence_chart(data.correlations)
    if residuals_of is not None and data.exemplars:  # values without an order have none
        panel, horizon = module.datamodule.panel, module.evaluation.scoreboard.horizon
        origins = residuals_of.series, residuals_of.origins
        if autocorrelation := residual_autocorrelation(module.network, panel, *origins, horizon):
            figures["residuals"] = autocorrelation_chart(autocorrelation)
    with quiet_fonts():
        for name, figure in figures.items():
            writer.add_figure(f"{group}/{name}", figure, step)


def _forecast_charts(
    module: ForecastModule, forecast: Callable[[Windows], Tensor], exemplars: Sequence[Exemplar]
) -> dict[str, Figure]:
    """Return a chart of each exemplar, by name."""
    data, scoreboard = module.datamodule, module.evaluation.scoreboard
    horizon, panel = scoreboard.horizon, data.panel
    series, origin = (torch.tensor([getattr(one, name) for one in exemplars]) for name in ("series", "origin"))
    patch = module.network.patch_length
    windows = gather(
        panel, series, origin, module.network.context_length, horizon, covariate_span=-(-horizon // patch) * patch
    )
    forecasts = forecast(module.trainer.strategy.batch_to_device(windows)).cpu()
    is_scaled = not scoreboard.unit[series].isnan().any()
    charts = {}
    for one, paths in zip(exemplars, forecasts, strict=True):
        fan = series_fan(panel, one.series, one.origin, paths, data.season_length, max(horizon, _MIN_HISTORY))
        error = f"MASE {one.error:.2f}" if is_scaled else f"MAE {one.error:.3g}"
        title = shorten(f"{one.rank.capitalize()} of {one.num_ranked:,}: {error}, {fan.title}", 45)
        charts[f"forecast_{one.rank}"] = fan_charts([fan._replace(title=title)], small=True)
    return charts
