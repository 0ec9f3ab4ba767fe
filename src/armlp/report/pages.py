"""The charts of a run on TensorBoard: lead curves, figures, and the layout of the custom scalars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from armlp.data.loaders import OriginLoader
from armlp.data.windows import Windows, gather
from armlp.evaluation.diagnostic_charts import (
    MAX_TIMES,
    autocorrelation_chart,
    lead_chart,
    pit_chart,
    reliability_chart,
)
from armlp.evaluation.diagnostics import Exemplar, residual_autocorrelation
from armlp.evaluation.fan_charts import fan_charts, quiet_fonts, series_fan
from armlp.evaluation.scoreboard import MODEL, Evaluation
from armlp.report.texts import shorten
from armlp.training.module import ForecastModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


_MIN_HISTORY = 12  # rows, in a chart of a short forecast
# The error that is drawn by lead: the first of these that was measured.
_ERRORS = {"mae": "MAE", "error_rate": "Share of wrong symbols"}


class ChartData(NamedTuple):
    """What the figures of a validation or a test show.

    Attributes:
        exemplars: The forecasts to draw.
        curves: By metric and forecaster, `[H]` by lead.
        calibration: `[bins]` masses of the probability integral transform.
        coverage: The share of the truth in the interval of each level, by level in percent.
    """

    exemplars: Sequence[Exemplar] = ()
    curves: Mapping[str, Mapping[str, Tensor]] = {}
    calibration: Tensor | None = None
    coverage: Mapping[float, float] = {}

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation) -> ChartData:
        """Return what the last pass over the origins has found."""
        exemplars = evaluation.diagnostics.exemplars()
        return cls(exemplars, evaluation.curves, evaluation.calibration, evaluation.coverage)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ChartData:
        """Restore it from plain values and tensors; what a checkpoint lacks is left out."""
        exemplars = [Exemplar(*exemplar) for exemplar in state.get("exemplars", ())]
        others = {name: state[name] for name in cls._fields[1:] if name in state}
        return cls(exemplars, **others)

    def state(self) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        exemplars = [tuple(exemplar) for exemplar in self.exemplars]
        return self._asdict() | {"exemplars": exemplars, "coverage": dict(self.coverage)}


def add_layout(writer: SummaryWriter, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Lay out four charts of custom scalars, once a run.

    A baseline that is far worse than the others would flatten their curves, so it is left out.

    Args:
        writer: The writer of the run.
        scores: Scores of a validation, which say what there is to draw. Tags are regular expressions.
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
    """Draw the best, the median and the worst forecast, and errors, calibration and residuals where there are any.

    Only these few forecasts are made again; their paths do not depend on the batch.

    Args:
        writer: The writer of the run.
        group: First part of the tags.
        step: Optimizer step that the figures are shown at.
        module: The module, with the weights that forecast.
        forecast: From windows to paths `[B, P, H, V]`, data units, as those that were scored.
        data: What to draw.
        residuals_of: Origins whose rows are searched for autocorrelation.
    """
    figures = _forecast_charts(module, forecast, data.exemplars) if data.exemplars else {}
    if data.curves:
        error = next(name for name in _ERRORS if name in data.curves)
        figures["leads"] = lead_chart(data.curves[error], _ERRORS[error])
    if data.calibration is not None:
        figures["pit"] = pit_chart(data.calibration)
    if data.coverage:
        figures["reliability"] = reliability_chart(data.coverage)
    if residuals_of is not None and data.exemplars:  # symbols have neither
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
        title = shorten(f"{one.rank.capitalize()} of {one.of:,}: {error}, {fan.title}", 45)
        charts[f"forecast_{one.rank}"] = fan_charts([fan._replace(title=title)], small=True)
    return charts
