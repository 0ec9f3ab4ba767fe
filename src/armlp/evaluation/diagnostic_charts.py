"""Charts of errors by lead, of calibration, and of the autocorrelation of residuals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain, cycle, repeat
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from armlp.evaluation.diagnostics import Autocorrelation
from armlp.evaluation.fan_charts import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, THUMBNAIL, blank_figure, style_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A baseline with more than this many times the lowest error is not drawn: it would flatten the other curves.
MAX_TIMES = 4
# Four colours and five dashes give twenty different curves.
_COLORS = (ORANGE, GREEN, GREY, PURPLE)
_DASHES = ((0, (4, 1.5)), ":", "-.", (0, (6, 1, 1, 1)), (0, (1, 3)))


def lead_chart(curves: Mapping[str, Tensor], label: str) -> Figure:
    """Draw the error at each lead `[H]` of every forecaster, the model first; far worse baselines are left out."""
    figure = blank_figure(*THUMBNAIL)
    axis = figure.subplots()
    means = {name: float(curve.nanmean()) for name, curve in curves.items()}
    lowest = min((mean for mean in means.values() if not math.isnan(mean)), default=math.nan)
    styles = chain([(BLUE, "-", 1.8)], zip(cycle(_COLORS), cycle(_DASHES), repeat(1.2)))
    for index, ((name, curve), (color, dashes, width)) in enumerate(zip(curves.items(), styles, strict=False)):
        if index and not means[name] <= MAX_TIMES * lowest:
            continue
        leads, marker = np.arange(1, len(curve) + 1), ("o" if len(curve) == 1 else None)
        axis.plot(leads, curve, color=color, linestyle=dashes, linewidth=width, marker=marker, label=name)
    axis.set_xlabel("lead, steps", fontsize=9)
    axis.set_ylim(bottom=0)
    axis.margins(x=0.01)
    axis.locator_params("x", integer=True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    style_axis(axis, f"{label} by lead")
    return figure


def pit_chart(mass: Tensor) -> Figure:
    """Draw the histogram of the probability integral transform from the number of values in each bin, `[bins]`.

    It is flat where forecasts are calibrated. If values were independent, 95 of 100 bins would lie inside the band;
    those of one window are dependent, so more lie outside.
    """
    bins = len(mass)
    histogram = mass / mass.mean()
    chance = 1.96 * math.sqrt((bins - 1) / float(mass.sum()))
    figure = blank_figure(*THUMBNAIL)
    axis = figure.subplots()
    axis.axhspan(1 - chance, 1 + chance, color=GREY, alpha=0.35, linewidth=0, label="95% by chance", zorder=2)
    edges = np.linspace(0, 1, bins + 1)
    axis.bar(edges[:-1], histogram.numpy(), 1 / bins, align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
    axis.axhline(1, color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)), label="calibrated")
    axis.set_xlabel("level of the truth in the forecast", fontsize=9)
    axis.set_ylabel("density", fontsize=9)
    axis.set_ylim(0, max(2.0, 1.2 * float(histogram.max())))
    axis.set_xlim(0, 1)
    axis.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    style_axis(axis, f"PIT: {_shape(histogram)}")
    return figure


def reliability_chart(coverage: Mapping[float, float]) -> Figure:
    """Draw the share of the truth inside each interval, by level in percent, ascending, with 80 among the levels."""
    nominal = np.array([0.0, *coverage, 100.0]) / 100
    shares = np.array([0.0, *coverage.values(), 1.0])  # an interval of level 0 holds nothing, one of 100 all
    figure = blank_figure(*THUMBNAIL)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)), label="calibrated")
    axis.plot(nominal, shares, color=BLUE, linewidth=1.8, marker="o", markersize=4, label="armlp")
    axis.fill_between(nominal, nominal, shares, color=BLUE, alpha=0.16, linewidth=0)
    axis.set_xlabel("level of the interval", fontsize=9)
    axis.set_ylabel("share of the truth inside", fontsize=9)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.legend(frameon=False, fontsize=9, loc="upper left")
    style_axis(axis, f"Reliability: 80% intervals hold {100 * coverage[80]:.0f}%")
    return figure


def _shape(histogram: Tensor) -> str:
    """Describe the histogram in a few words."""
    tenth = max(1, len(histogram) // 10)
    tails = float(histogram[:tenth].mean() + histogram[-tenth:].mean()) / 2
    lean = float(histogram[: len(histogram) // 2].mean())
    if lean > 1.3:
        return "forecasts too high"
    if lean < 0.7:
        return "forecasts too low"
    if tails > 1.4:
        return "intervals too narrow"
    return "intervals too wide" if tails < 0.6 else "near calibrated"


def autocorrelation_chart(found: Autocorrelation) -> Figure:
    """Draw the autocorrelation of the residuals, beside that of white noise."""
    figure = blank_figure(*THUMBNAIL)
    axis = figure.subplots()
    lags = np.arange(1, len(found.lags) + 1)
    values = found.lags.numpy()
    outside = np.abs(values) > found.bound
    axis.axhspan(-found.bound, found.bound, color=GREY, alpha=0.25, linewidth=0, label="95% by chance")
    axis.axhline(0, color=INK, linewidth=0.8)
    for chosen, color, label in ((~outside, BLUE, "inside"), (outside, ORANGE, "outside")):
        if chosen.any():
            width = max(1.0, min(4.0, 250 / len(lags)))
            axis.vlines(lags[chosen], 0, values[chosen], color=color, linewidth=width, label=label)
    axis.set_xlabel("lag, steps", fontsize=9)
    axis.set_ylabel("autocorrelation", fontsize=9)
    axis.set_ylim(min(-0.5, 1.1 * values.min()), max(1.0, 1.1 * values.max()))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    style_axis(axis, f"Errors one step ahead: {outside.mean():.0%} of lags outside")
    return figure
