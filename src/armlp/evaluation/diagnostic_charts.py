"""Charts of what scores do not tell: whether forecasts are calibrated, and what they left in the residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from armlp.evaluation.charts import BLUE, GREY, INK, ORANGE, THUMBNAIL, blank_figure, dress
from armlp.evaluation.diagnostics import Autocorrelation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pit_chart(histogram: Tensor) -> Figure:
    """The histogram of the probability integral transform: flat where forecasts are calibrated.

    Args:
        histogram: `[bins]` density.
    """
    bins = len(histogram)
    figure = blank_figure(*THUMBNAIL)
    axis = figure.subplots()
    edges = np.linspace(0, 1, bins + 1)
    axis.bar(edges[:-1], histogram.numpy(), 1 / bins, align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
    axis.axhline(1, color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)), label="calibrated")
    axis.set_xlabel("level of the truth in the forecast", fontsize=9)
    axis.set_ylim(0, max(2.0, 1.2 * float(histogram.max())))
    axis.set_xlim(0, 1)
    axis.legend(frameon=False, fontsize=9, loc="upper right")
    dress(axis, f"PIT: {_shape(histogram)}")
    return figure


def reliability_chart(histogram: Tensor) -> Figure:
    """How much of the truth central intervals hold, which follows from the same histogram.

    Args:
        histogram: `[bins]` density; an even number of them, so that intervals end where bins do.
    """
    middle = len(histogram) // 2
    nominal = np.arange(middle + 1) / middle
    below = np.concatenate([[0], histogram.double().cumsum(0).numpy() / len(histogram)])
    covered = np.array([below[middle + step] - below[middle - step] for step in range(middle + 1)])
    figure = blank_figure(*THUMBNAIL)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)), label="calibrated")
    axis.plot(nominal, covered, color=BLUE, linewidth=1.8, marker="o", markersize=4, label="armlp")
    axis.fill_between(nominal, nominal, covered, color=BLUE, alpha=0.16, linewidth=0)
    axis.set_xlabel("level of the interval", fontsize=9)
    axis.set_ylabel("share of the truth inside", fontsize=9)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.legend(frameon=False, fontsize=9, loc="upper left")
    dress(axis, f"Reliability: {100 * float(np.interp(0.8, nominal, covered)):.0f}% inside the 80% interval")
    return figure


def _shape(histogram: Tensor) -> str:
    """What the histogram says, in a few words."""
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
    """The autocorrelation of the residuals, beside what white noise would have.

    Args:
        found: What was measured.
    """
    figure = blank_figure(*THUMBNAIL)
    axis = figure.subplots()
    lags = np.arange(1, len(found.lags) + 1)
    values = found.lags.numpy()
    outside = np.abs(values) > found.bound
    axis.axhspan(-found.bound, found.bound, color=GREY, alpha=0.25, linewidth=0, label="95% of white noise")
    axis.axhline(0, color=INK, linewidth=0.8)
    for those, color, label in ((~outside, BLUE, "inside"), (outside, ORANGE, "outside")):
        if those.any():
            width = max(1.0, min(4.0, 250 / len(lags)))
            axis.vlines(lags[those], 0, values[those], color=color, linewidth=width, label=label)
    axis.set_xlabel("lag, steps", fontsize=9)
    axis.set_ylim(min(-0.5, 1.1 * values.min()), max(1.0, 1.1 * values.max()))
    axis.legend(frameon=False, fontsize=9, loc="upper right", ncols=3)
    dress(axis, f"Errors one step ahead: autocorrelation, {outside.mean():.0%} outside")
    return figure
