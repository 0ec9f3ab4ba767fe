"""The pages of a run: lead curves, charts, and the layout of the custom scalars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

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
from armlp.evaluation.scoreboard import MODEL
from armlp.training.module import ForecastModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


# Rows of history in a chart of a short forecast.
_FEWEST = 12
# What a picture of the errors by lead shows: the first of these that there is.
_ERRORS = {"mae": "Mean absolute error", "error_rate": "Share of wrong symbols"}


def add_layout(writer: SummaryWriter, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Lays out four charts, once a run; a baseline that is far worse than the others would flatten them.

    Args:
        writer: Of the run.
        scores: Of a validation, which say what there is to draw. Tags are regular expressions.
    """
    known = {name for name, value in scores[MODEL].items() if not math.isnan(value)}
    loss = "nll" if "nll" in known else "loss"
    error, words = ("error_rate", "Share of wrong symbols") if "error_rate" in known else ("mae", "MAE")
    least = min((row[error] for row in scores.values() if not math.isnan(row[error])), default=math.nan)
    shown = [name for name, row in scores.items() if name == MODEL or row[error] <= MAX_TIMES * least]
    charts = {
        "Negative log-likelihood: training, validation" if loss == "nll" else "Loss": [
            f"^train/{loss}$",
            f"^val/{loss}$",
        ],
        "Skill: above 0 the seasonal naive is beaten": ["^val/skill$"],
        f"{words} by lead, best validation": [f"^{_tag('val_best', error, name)}$" for name in shown],
    }
    if "perplexity" in known:
        charts["Perplexity"] = ["^val/perplexity$"]
    elif "coverage_80" in known:
        charts["Coverage of the 80% and 95% intervals"] = ["^val/coverage_80$", "^val/coverage_95$"]
    writer.add_custom_scalars({"armlp": {title: ["Multiline", tags] for title, tags in charts.items()}})


def add_lead_curves(writer: SummaryWriter, group: str, curves: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes metrics with the lead as the step.

    Args:
        writer: Of the run.
        group: Of the tags.
        curves: By metric and forecaster, `[H]`.
    """
    for metric, rows in curves.items():
        for name, values in rows.items():
            tag = _tag(group, metric, name)
            for lead, value in enumerate(values.tolist(), start=1):
                if not math.isnan(value):
                    writer.add_scalar(tag, value, lead)


@torch.no_grad()
def add_charts(
    writer: SummaryWriter,
    group: str,
    step: int,
    module: ForecastModule,
    forecast: Callable[[Windows], Tensor],
    exemplars: Sequence[Exemplar],
    curves: Mapping[str, Mapping[str, Tensor]] | None = None,
    calibration: Tensor | None = None,
    coverage: Mapping[float, float] | None = None,
    residuals_of: OriginLoader | None = None,
) -> None:
    """Draws the best, the median and the worst forecast, and what else is given: errors, calibration and residuals.

    Only these few are rolled out again; their paths are the same, whatever batch they are in.

    Args:
        writer: Of the run.
        group: Of the tags.
        step: Of the training.
        module: With the weights that forecast.
        forecast: From windows to paths `[B, P, H, V]`, data units, as those were that were scored.
        exemplars: Which to draw.
        curves: By metric and forecaster, `[H]`.
        calibration: `[bins]` masses of the probability integral transform.
        coverage: The share of the truth in the interval of each level, by level in percent.
        residuals_of: Whose rows to look for autocorrelation in.
    """
    figures = _forecast_charts(module, forecast, exemplars) if exemplars else {}
    if curves:
        error = next(name for name in _ERRORS if name in curves)
        figures["leads"] = lead_chart(curves[error], _ERRORS[error])
    if calibration is not None:
        figures["pit"] = pit_chart(calibration)
    if coverage:
        figures["reliability"] = reliability_chart(coverage)
    if residuals_of is not None and exemplars:  # of symbols there are neither
        place = module.datamodule.panel, residuals_of.series, residuals_of.origins, module.evaluation.scoreboard.horizon
        if found := residual_autocorrelation(module.network, *place):
            figures["residuals"] = autocorrelation_chart(found)
    with quiet_fonts():
        for name, figure in figures.items():
            writer.add_figure(f"{group}/{name}", figure, step)


def _forecast_charts(
    module: ForecastModule, forecast: Callable[[Windows], Tensor], exemplars: Sequence[Exemplar]
) -> dict[str, Figure]:
    """A chart of each exemplar."""
    data = module.datamodule
    horizon, panel = module.evaluation.scoreboard.horizon, data.panel
    series, origin = (torch.tensor([getattr(one, name) for one in exemplars]) for name in ("series", "origin"))
    patch = module.network.patch_length
    windows = gather(
        panel, series, origin, module.network.context_length, horizon, covariate_span=-(-horizon // patch) * patch
    )
    paths = forecast(module.trainer.strategy.batch_to_device(windows)).cpu()
    scaled = not module.evaluation.scoreboard.unit[series].isnan().any()
    charts = {}
    for one, own in zip(exemplars, paths, strict=True):
        fan = series_fan(panel, one.series, one.origin, own, data.season_length, max(horizon, _FEWEST))
        error = f"MASE {one.error:.2f}" if scaled else f"MAE {one.error:.3g}"
        title = _short(f"{one.rank.capitalize()} of {one.of:,}: {error}, {fan.title}")
        charts[f"forecast_{one.rank}"] = fan_charts([fan._replace(title=title)], small=True)
    return charts


def _tag(group: str, metric: str, name: str) -> str:
    return f"{group}/lead_{metric}/{name.replace(' ', '_')}"


def _short(title: str) -> str:
    return title if len(title) <= 45 else f"{title[:44]}…"
