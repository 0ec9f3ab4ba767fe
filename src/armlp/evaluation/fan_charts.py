"""Fan charts: history, truth, median, intervals and baseline of a forecast."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.errors import UserError
from armlp.evaluation.baselines.naive import seasonal_naive
from armlp.evaluation.quantiles import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart.
INK, BLUE, ORANGE, GREY, GREEN, PURPLE = "#222222", "#0072B2", "#D55E00", "#999999", "#009E73", "#CC79A7"
THUMBNAIL = 4.2, 3.1  # inches; legible where TensorBoard shows three pictures side by side


class Fan(NamedTuple):
    """The contents of one chart, data units."""

    title: str
    history: Tensor  # [n] values before the origin
    history_times: np.ndarray  # [n]
    paths: Tensor  # [P, H]
    times: np.ndarray  # [H]
    truth: Tensor | None = None  # [H]
    baseline: Tensor | None = None  # [H] the seasonal naive
    label: str = ""  # name of the values


def fan_charts(fans: Sequence[Fan], levels: Sequence[float] = (80, 95), small: bool = False) -> Figure:
    """Draw one chart per series, two side by side, with intervals of `levels` in percent; `small` makes a thumbnail."""
    columns = min(2, len(fans))
    rows = -(-len(fans) // columns)
    figure = blank_figure(*(THUMBNAIL if small else (9, 4) if columns == 1 else (12, 3.2 * rows)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, fan in zip(axes, fans, strict=False):
        _draw(axis, fan, sorted(levels, reverse=True))
    for axis in axes[len(fans) :]:
        axis.remove()
    shown = [axis.get_legend_handles_labels() for axis in axes[: len(fans)]]
    named = {label: handle for chart in shown for handle, label in zip(*chart, strict=True)}
    side_by_side = 3 if small else len(named)
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=side_by_side, frameon=False, fontsize=9
    )
    return figure


def blank_figure(width: float, height: float) -> Figure:
    """Return a figure, in inches, that needs no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure


def style_axis(axis: Axes, title: str) -> None:
    """Set the title of a chart and the style that all charts share."""
    axis.set_title(title, loc="left", fontsize=10, parse_math=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _draw(axis: Axes, fan: Fan, levels: Sequence[float]) -> None:
    from matplotlib.dates import HOURLY, MINUTELY, SECONDLY, AutoDateLocator, ConciseDateFormatter

    paths = torch.where(fan.paths.isfinite(), fan.paths, torch.nan).double()  # a diverged path would stretch the axis
    axis.plot(fan.history_times, fan.history, color="#777777", linewidth=1.2, label="history")
    if fan.truth is not None:
        axis.plot(fan.times, fan.truth, color=INK, linewidth=1.2, label="truth", zorder=4)
    if fan.baseline is not None:
        (line,) = axis.plot(fan.times, fan.baseline, color=ORANGE, linewidth=1.2, label="seasonal naive", zorder=3)
        line.set_linestyle((0, (4, 1.5)))
    if len(paths) > 1:
        for shade, level in enumerate(levels):
            low, high = (paths.nanquantile(end, 0) for end in interval(level))
            axis.fill_between(
                fan.times, low, high, color=BLUE, alpha=0.16 + 0.14 * shade, linewidth=0, label=f"{level:g}% interval"
            )
    axis.plot(fan.times, paths.nanquantile(0.5, 0), color=BLUE, linewidth=1.8, label="armlp")
    style_axis(axis, fan.title)
    axis.set_ylabel(fan.label, fontsize=9, parse_math=False)
    axis.margins(x=0.01)
    if np.issubdtype(fan.times.dtype, np.datetime64):
        # Labels with times of day are long, so show fewer.
        locator = AutoDateLocator(minticks=3, maxticks=dict.fromkeys((HOURLY, MINUTELY, SECONDLY), 8))
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


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


def series_fan(panel: Panel, series: int, origin: int, paths: Tensor, season_length: int, history: int) -> Fan:
    """Return the chart of a forecast `[P, H, V]`, data units; for a vector series, of its first channel.

    `origin` is the row of the first forecast value, `history` the maximum number of rows to show before it.
    """
    values = panel.series(series)[:, 0]
    sampled = paths[..., 0].cpu()
    horizon = sampled.shape[1]
    first = max(0, origin - history)
    start = panel.starts[[series]]

    def times(begin: int, end: int) -> np.ndarray:
        return panel.calendar.instants(panel.calendar.shift(start, np.arange(begin, end)))

    baseline = seasonal_naive(panel, torch.tensor([series]), torch.tensor([origin]), horizon, season_length)[0]
    truth = values[origin : origin + horizon]
    return Fan(
        title=str(panel.ids[series]),
        history=values[first:origin],
        history_times=times(first, origin),
        paths=sampled,
        times=times(origin, origin + horizon),
        truth=truth if len(truth) == horizon else None,
        baseline=baseline[:, 0],
        label=str(panel.channels[0]),
    )
