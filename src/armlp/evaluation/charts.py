"""Charts of forecasts, of errors by lead, of calibration and of residuals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, cycle, repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.errors import UserError
from armlp.evaluation.baselines.naive import seasonal_naive
from armlp.evaluation.diagnostics import Autocorrelation
from armlp.evaluation.quantiles import finite_quantiles, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart.
INK, BLUE, ORANGE, GREY, GREEN, PURPLE = "#222222", "#0072B2", "#D55E00", "#999999", "#009E73", "#CC79A7"
# Four colours and five dashes give twenty different curves.
_COLORS = (ORANGE, GREEN, GREY, PURPLE)
_DASHES = ((0, (4, 1.5)), ":", "-.", (0, (6, 1, 1, 1)), (0, (1, 3)))
_THUMBNAIL = 4.2, 3.1  # inches; legible where TensorBoard shows three pictures side by side
# A baseline with more than this many times the lowest error is not drawn: it would flatten the other curves.
MAX_TIMES = 4


class Fan(NamedTuple):
    """The contents of a chart of one forecast, data units."""

    title: str
    history: Tensor  # [n] values before the origin
    history_times: np.ndarray  # [n]
    paths: Tensor  # [P, H]
    times: np.ndarray  # [H]
    truth: Tensor | None = None  # [H]
    baseline: Tensor | None = None  # [H] the seasonal naive
    label: str = ""  # name of the values


def series_fan(panel: Panel, series: int, origin: int, paths: Tensor, season_length: int, history: int) -> Fan:
    """Return the chart of a forecast `[P, H, V]`, data units; for a vector series, of its first channel.

    `origin` is the row of the first forecast value, `history` the maximum number of rows to show before it.
    """
    values, horizon, first = panel.series(series)[:, 0], paths.shape[1], max(0, origin - history)

    def times(begin: int, end: int) -> np.ndarray:
        return panel.calendar.instants(panel.calendar.shift(panel.starts[[series]], np.arange(begin, end)))

    baseline = seasonal_naive(panel, torch.tensor([series]), torch.tensor([origin]), horizon, season_length)[0]
    truth = values[origin : origin + horizon]
    return Fan(
        title=str(panel.ids[series]),
        history=values[first:origin],
        history_times=times(first, origin),
        paths=paths[..., 0].cpu(),
        times=times(origin, origin + horizon),
        truth=truth if len(truth) == horizon else None,
        baseline=baseline[:, 0],
        label=str(panel.channels[0]),
    )


def fan_charts(fans: Sequence[Fan], levels: Sequence[float] = (80, 95), small: bool = False) -> Figure:
    """Draw one chart per series, two side by side, with intervals of `levels` in percent; `small` makes a thumbnail."""
    columns = min(2, len(fans))
    rows = -(-len(fans) // columns)
    figure = _blank_figure(*(_THUMBNAIL if small else (9, 4) if columns == 1 else (12, 3.2 * rows)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, fan in zip(axes, fans, strict=False):
        _draw_fan(axis, fan, sorted(levels, reverse=True))
    for axis in axes[len(fans) :]:
        axis.remove()
    shown = [axis.get_legend_handles_labels() for axis in axes[: len(fans)]]
    named = {label: handle for chart in shown for handle, label in zip(*chart, strict=True)}
    _legend_below(figure, named.values(), named.keys(), ncols=3 if small else len(named))
    return figure


def _draw_fan(axis: Axes, fan: Fan, levels: Sequence[float]) -> None:
    from matplotlib.dates import HOURLY, MINUTELY, SECONDLY, AutoDateLocator, ConciseDateFormatter

    axis.plot(fan.history_times, fan.history, color="#777777", linewidth=1.2, label="history")
    if fan.truth is not None:
        axis.plot(fan.times, fan.truth, color=INK, linewidth=1.2, label="truth", zorder=4)
    if fan.baseline is not None:
        (line,) = axis.plot(fan.times, fan.baseline, color=ORANGE, linewidth=1.2, label="seasonal naive", zorder=3)
        line.set_linestyle((0, (4, 1.5)))
    if len(fan.paths) > 1:
        for shade, level in enumerate(levels):
            low, high = finite_quantiles(fan.paths, interval(level))
            axis.fill_between(
                fan.times, low, high, color=BLUE, alpha=0.16 + 0.14 * shade, linewidth=0, label=f"{level:g}% interval"
            )
    axis.plot(fan.times, finite_quantiles(fan.paths, [0.5])[0], color=BLUE, linewidth=1.8, label="armlp")
    _style_axis(axis, fan.title, ylabel=fan.label)
    axis.margins(x=0.01)
    if np.issubdtype(fan.times.dtype, np.datetime64):
        # Labels with times of day are long, so show fewer.
        locator = AutoDateLocator(minticks=3, maxticks=dict.fromkeys((HOURLY, MINUTELY, SECONDLY), 8))
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def lead_chart(curves: Mapping[str, Tensor], label: str) -> Figure:
    """Draw the error at each lead `[H]` of every forecaster, the model first; far worse baselines are left out."""
    figure, axis = _thumbnail()
    means = {name: float(curve.nanmean()) for name, curve in curves.items()}
    lowest = min((mean for mean in means.values() if not math.isnan(mean)), default=math.nan)
    styles = chain([(BLUE, "-", 1.8)], zip(cycle(_COLORS), cycle(_DASHES), repeat(1.2)))
    for index, ((name, curve), (color, dashes, width)) in enumerate(zip(curves.items(), styles, strict=False)):
        if index and not means[name] <= MAX_TIMES * lowest:
            continue
        leads, marker = np.arange(1, len(curve) + 1), ("o" if len(curve) == 1 else None)
        axis.plot(leads, curve, color=color, linestyle=dashes, linewidth=width, marker=marker, label=name)
    axis.set_ylim(bottom=0)
    axis.margins(x=0.01)
    axis.locator_params("x", integer=True)
    _legend_below(figure)
    _style_axis(axis, f"{label} by lead", "lead, steps")
    return figure


def pit_chart(mass: Tensor) -> Figure:
    """Draw the histogram of the probability integral transform from the number of values in each bin, `[bins]`.

    It is flat where forecasts are calibrated. If values were independent, 95 of 100 bins would lie inside the band;
    those of one window are dependent, so more lie outside.
    """
    bins = len(mass)
    histogram = mass / mass.mean()
    chance = 1.96 * math.sqrt((bins - 1) / float(mass.sum()))
    figure, axis = _thumbnail()
    axis.axhspan(1 - chance, 1 + chance, color=GREY, alpha=0.35, linewidth=0, label="95% by chance", zorder=2)
    edges = np.linspace(0, 1, bins + 1)
    axis.bar(edges[:-1], histogram.numpy(), 1 / bins, align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
    axis.axhline(1, color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)), label="calibrated")
    axis.set(xlim=(0, 1), ylim=(0, max(2.0, 1.2 * float(histogram.max()))))
    axis.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    _style_axis(axis, f"PIT: {_describe_shape(histogram)}", "share of the forecast below the truth", "density")
    return figure


def _describe_shape(histogram: Tensor) -> str:
    """Describe a histogram of the probability integral transform in a few words."""
    tenth = max(1, len(histogram) // 10)
    tails = float(histogram[:tenth].mean() + histogram[-tenth:].mean()) / 2
    lower_half = float(histogram[: len(histogram) // 2].mean())
    if lower_half > 1.3:
        return "forecasts too high"
    if lower_half < 0.7:
        return "forecasts too low"
    if tails > 1.4:
        return "intervals too narrow"
    return "intervals too wide" if tails < 0.6 else "near calibrated"


def reliability_chart(coverage: Mapping[float, float], sums: Mapping[float, float] | None = None) -> Figure:
    """Draw the share of the truth inside each interval, by level in percent, ascending, with 80 among the levels.

    `sums` is the same of sums over the horizon.
    """
    nominal = np.array([0.0, *coverage, 100.0]) / 100
    shares = np.array([0.0, *coverage.values(), 1.0])  # an interval of level 0 holds nothing, one of 100 all
    figure, axis = _thumbnail()
    axis.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)), label="calibrated")
    axis.plot(nominal, shares, color=BLUE, linewidth=1.8, marker="o", markersize=4, label="single values")
    if sums:
        of_sums = np.array([0.0, *sums.values(), 1.0])
        axis.plot(
            nominal, of_sums, color=ORANGE, linewidth=1.4, marker="s", markersize=3, label="sums over the horizon"
        )
    axis.fill_between(nominal, nominal, shares, color=BLUE, alpha=0.16, linewidth=0)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.legend(frameon=False, fontsize=9, loc="upper left")
    title = f"Reliability: 80% intervals hold {100 * coverage[80]:.0f}%"
    _style_axis(axis, title, "level of the interval", "share of the truth inside")
    return figure


def dependence_chart(correlations: Tensor) -> Figure:
    """Draw the correlation of deviations `[2, lags]` by their distance: of the paths, and of the truth."""
    figure, axis = _thumbnail()
    lags = np.arange(1, correlations.shape[1] + 1)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.plot(lags, correlations[1], color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)), marker="s", label="truth")
    axis.plot(lags, correlations[0], color=BLUE, linewidth=1.8, marker="o", markersize=4, label="paths")
    axis.set_ylim(min(-0.2, 1.1 * float(correlations.min())), 1)
    axis.legend(frameon=False, fontsize=9)
    title = f"Dependence one step apart: {correlations[0, 0]:.2f}, truth {correlations[1, 0]:.2f}"
    _style_axis(axis, title, "distance, steps", "correlation")
    return figure


def autocorrelation_chart(found: Autocorrelation) -> Figure:
    """Draw the autocorrelation of the residuals, beside that of white noise."""
    figure, axis = _thumbnail()
    lags = np.arange(1, len(found.lags) + 1)
    values = found.lags.numpy()
    outside = np.abs(values) > found.bound
    axis.axhspan(-found.bound, found.bound, color=GREY, alpha=0.25, linewidth=0, label="95% by chance")
    axis.axhline(0, color=INK, linewidth=0.8)
    for chosen, color, label in ((~outside, BLUE, "inside"), (outside, ORANGE, "outside")):
        if chosen.any():
            width = max(1.0, min(4.0, 250 / len(lags)))
            axis.vlines(lags[chosen], 0, values[chosen], color=color, linewidth=width, label=label)
    axis.set_ylim(min(-0.5, 1.1 * values.min()), max(1.0, 1.1 * values.max()))
    _legend_below(figure)
    _style_axis(axis, f"Errors one step ahead: {outside.mean():.0%} of lags outside", "lag, steps", "autocorrelation")
    return figure


def _blank_figure(width: float, height: float) -> Figure:
    """Return a figure, in inches, that needs no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure


def _thumbnail() -> tuple[Figure, Axes]:
    figure = _blank_figure(*_THUMBNAIL)
    return figure, figure.subplots()


def _style_axis(axis: Axes, title: str, xlabel: str = "", ylabel: str = "") -> None:
    """Set the texts of a chart and the style that all charts share."""
    axis.set_title(title, loc="left", fontsize=10, parse_math=False)
    axis.set_xlabel(xlabel, fontsize=9)
    axis.set_ylabel(ylabel, fontsize=9, parse_math=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _legend_below(figure: Figure, *entries: object, ncols: int = 3) -> None:
    figure.legend(*entries, loc="outside lower center", ncols=ncols, frameon=False, fontsize=9)


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Silence warnings about missing letters and close time labels, which users cannot act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        warnings.filterwarnings("ignore", "AutoDateLocator was unable to pick")
        yield


def save_chart(figure: Figure, path: str) -> None:
    """Write a figure to a picture file; raise a UserError if that fails."""
    try:
        with quiet_fonts():
            figure.savefig(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give a path that can be.") from error
