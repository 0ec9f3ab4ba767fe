"""Tests of the fan charts: what they show, for one series and for several."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch

from armlp.data.datamodule import SeriesDataModule
from armlp.evaluation.charts import Fan, fan_charts, series_fan


def fan(title="s", paths=20, truth=True, baseline=True, dated=True):
    times = np.datetime64("2024-01-01") + np.arange(40) if dated else np.arange(40)
    generator = torch.Generator().manual_seed(0)
    return Fan(
        title,
        torch.randn(30, generator=generator),
        times[:30],
        torch.randn(paths, 10, generator=generator),
        times[30:],
        torch.randn(10, generator=generator) if truth else None,
        torch.randn(10, generator=generator) if baseline else None,
    )


def legend(figure):
    (box,) = figure.legends
    return [text.get_text() for text in box.get_texts()]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("dated", [True, False])
def test_there_is_one_chart_per_series_and_it_can_be_drawn(count, truth, dated):
    figure = fan_charts([fan(f"series {i}", truth=truth, dated=dated) for i in range(count)])
    assert [axis.get_title(loc="left") for axis in figure.axes] == [f"series {i}" for i in range(count)]
    file = BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_the_legend_names_each_thing_once():
    figure = fan_charts([fan(), fan()])
    assert legend(figure) == ["history", "truth", "seasonal naive", "95% interval", "80% interval", "armlp"]


def test_the_legend_leaves_out_what_is_not_there():
    assert legend(fan_charts([fan(truth=False, baseline=False, paths=1)])) == ["history", "armlp"]
    assert legend(fan_charts([fan(truth=False)], levels=[50.5])) == [
        "history",
        "seasonal naive",
        "50.5% interval",
        "armlp",
    ]


def test_the_legend_names_what_only_a_later_chart_shows():
    labels = legend(fan_charts([fan(truth=False, baseline=False), fan()]))
    assert sorted(labels) == sorted(legend(fan_charts([fan()])))


def test_lines_are_the_numbers_that_they_stand_for():
    shown = fan()
    (axis,) = fan_charts([shown]).axes
    lines = {line.get_label(): line.get_ydata() for line in axis.get_lines()}
    assert np.allclose(lines["history"], shown.history)
    assert np.allclose(lines["truth"], shown.truth)
    assert np.allclose(lines["seasonal naive"], shown.baseline)
    assert np.allclose(lines["armlp"], np.median(shown.paths, axis=0))


def test_intervals_are_the_quantiles_of_the_paths():
    shown = fan(paths=200)
    (axis,) = fan_charts([shown], levels=[80]).axes
    (band,) = axis.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(np.quantile(shown.paths, 0.1, axis=0, method="hazen").min(), abs=1e-5)
    assert heights.max() == pytest.approx(np.quantile(shown.paths, 0.9, axis=0, method="hazen").max(), abs=1e-5)


@pytest.mark.parametrize("unit", ["s", "m", "h", "D", "M"])
@pytest.mark.parametrize("steps", [7, 26, 62, 100, 170])
def test_times_of_any_span_have_a_few_labels(unit, steps):
    times = np.datetime64("2024-01-01", unit) + np.arange(steps + 10)
    shown = fan()._replace(history=torch.randn(steps), history_times=times[:steps].astype("M8[us]"))
    figure = fan_charts([shown._replace(times=times[steps:].astype("M8[us]"))], small=True)
    figure.savefig(BytesIO(), format="png")  # a warning fails
    assert 2 <= len(figure.axes[0].get_xticks()) <= 12


def test_a_fan_shows_history_truth_and_baseline_where_they_are(make_table: Any):
    panel = SeriesDataModule(make_table(), horizon=6).panel
    paths = torch.zeros(5, 6, 1)
    values = panel.series(1)[:, 0]
    within = series_fan(panel, 1, 80, paths, 24, history=18)
    assert torch.equal(within.history, values[62:80])
    assert within.truth is not None
    assert torch.equal(within.truth, values[80:86])
    assert within.baseline is not None
    assert torch.equal(within.baseline, values[56:62])
    assert within.times[0] - within.history_times[-1] == np.timedelta64(1, "h")
    assert (len(within.history_times), len(within.times)) == (18, 6)
    beyond = series_fan(panel, 1, len(values), paths, 24, history=1000)
    assert beyond.truth is None
    assert len(beyond.history) == len(values)
    assert beyond.title == "s01"
