"""Tests of the diagnostics: which paths diverged, which forecasts are shown, and what residuals resemble."""

import numpy as np
import pandas as pd
import pytest
import torch

from armlp.data.windows import gather
from armlp.evaluation.charts import autocorrelation_chart, lead_chart, pit_chart, reliability_chart
from armlp.evaluation.diagnostics import (
    Autocorrelation,
    Diagnostics,
    PathCorrelation,
    diverged,
    residual_autocorrelation,
)
from armlp.evaluation.labels import format_score
from armlp.evaluation.quantiles import forecast_columns
from armlp.evaluation.scoreboard import MODEL, Scoreboard
from armlp.model.mlp import AutoregressiveMLP

HORIZON, CONTEXT = 4, 12


def windows_of(panel, back=HORIZON):
    series = torch.arange(len(panel))
    return gather(panel, series, panel.lengths - back, CONTEXT, HORIZON)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_path_that_is_no_number_or_absurdly_far_has_diverged_and_no_other(make_panel, channels):
    panel = make_panel([40, 30], channels)
    windows = windows_of(panel)
    paths = windows.target[:, None].repeat(1, 6, 1, 1)
    span = float(windows.context.max() - windows.context.min())
    wrong = {1: torch.nan, 2: torch.inf, 3: -torch.inf, 4: 1e6 * span}
    for path, value in wrong.items():
        paths[1, path].view(-1)[-1] = value
    assert diverged(paths, windows, panel).tolist() == [[False] * 6, [path in wrong for path in range(6)]]


def test_a_series_that_never_changed_may_begin_to(make_panel):
    panel = make_panel([40])
    panel.values.fill_(3.0)
    windows = windows_of(panel)
    paths = torch.tensor([[[3.0, 5.0, 1e9, 3.0], [3.0, 3.0, torch.nan, 3.0]]])[..., None]
    assert diverged(paths, windows, panel).tolist() == [[False, True]]


@pytest.mark.parametrize("series", [1, 2, 3, 8])
def test_the_best_the_median_and_the_worst_forecast_are_shown(make_panel, series):
    panel = make_panel([40] * series)
    found = Diagnostics(panel, torch.ones(series, 1, dtype=torch.float64), HORIZON)
    windows = windows_of(panel)
    miss = torch.randperm(series, generator=torch.Generator().manual_seed(1)) + 1.0
    paths = (windows.target + miss[:, None, None])[:, None].repeat(1, 3, 1, 1)
    half = series // 2
    for part in (slice(None, half), slice(half, None)):  # in two batches
        batch = windows._replace(
            **{name: value[part] for name, value in windows._asdict().items() if value is not None}
        )
        found.update(paths[part], batch)
    shown = found.exemplars()
    ranks = {1: ["best"], 2: ["best", "worst"]}.get(series, ["best", "median", "worst"])
    assert [one.rank for one in shown] == ranks
    wanted = {"best": 1, "median": series // 2 + 1, "worst": series}
    for one in shown:
        assert one.error == pytest.approx(wanted[one.rank], abs=1e-4)
        assert miss[one.series] == wanted[one.rank]
        assert one.origin == 36
        assert one.num_ranked == series
    found.reset()
    assert found.exemplars() == []


def test_a_forecast_that_diverged_is_the_worst_and_one_without_truth_is_none(make_panel):
    panel = make_panel([40] * 4)
    found = Diagnostics(panel, torch.ones(4, 1, dtype=torch.float64), HORIZON)
    windows = windows_of(panel)
    paths = windows.target[:, None].repeat(1, 3, 1, 1)
    paths[2] = torch.nan
    windows.target_observed[3] = False
    found.update(paths, windows)
    shown = found.exemplars()
    assert {one.series for one in shown} == {0, 1, 2}
    assert shown[-1].series == 2
    assert found.share_diverged() == 0.25


def test_without_any_unit_errors_are_those_of_the_data(make_panel):
    panel = make_panel([40, 40])
    found = Diagnostics(panel, torch.full((2, 1), torch.nan, dtype=torch.float64), HORIZON)
    windows = windows_of(panel)
    found.update((windows.target + torch.tensor([[[5.0]], [[2.0]]]))[:, None], windows)
    assert [(one.series, round(one.error, 3)) for one in found.exemplars()] == [(1, 2.0), (0, 5.0)]
    assert found.calibration() is None  # one path does not spread
    assert found.coverage() == {}


@torch.no_grad()
def test_the_autocorrelation_is_that_of_the_errors_one_step_ahead(make_panel):
    panel = make_panel([200, 120])
    torch.manual_seed(0)
    network = AutoregressiveMLP(CONTEXT, hidden_sizes=[4], residual_blocks=0, head="normal").eval()
    origins = torch.tensor([100, 140, 60, 100])
    found = residual_autocorrelation(network, panel, torch.tensor([0, 0, 1, 1]), origins, 20)
    assert found is not None
    total, rows = np.zeros(31), 0
    for series, first in enumerate((100, 60)):
        values = panel.series(series)[:, 0]
        errors = []
        for row in range(first, first + 60):
            context = values[row - CONTEXT : row][None]
            errors.append(float(values[row] - network(context).mean[0, 0]))
        errors = np.array(errors) / np.sqrt(np.mean(np.square(errors)))
        total += [np.sum(errors[lag:] * errors[: len(errors) - lag]) for lag in range(31)]
        rows += len(errors)
    assert np.allclose(found.lags, total[1:] / total[0], atol=1e-5)
    assert found.bound == pytest.approx(1.96 / np.sqrt(rows))


def test_too_few_rows_have_no_autocorrelation(make_panel):
    network = AutoregressiveMLP(CONTEXT, hidden_sizes=[4], residual_blocks=0, head="normal").eval()
    assert residual_autocorrelation(network, make_panel([40]), torch.tensor([0]), torch.tensor([36]), 4) is None


def test_reliability_is_drawn_from_nothing_to_all():
    (axis,) = reliability_chart({50: 0.25, 80: 0.5}).axes
    line = next(line for line in axis.get_lines() if line.get_label() == "single values")
    assert np.allclose(line.get_xdata(), [0, 0.5, 0.8, 1])
    assert np.allclose(line.get_ydata(), [0, 0.25, 0.5, 1])
    assert axis.get_title(loc="left") == "Reliability: 80% intervals hold 50%"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["numbers", "counts", "ties", "few paths"])
def test_coverage_is_one_number_in_the_table_the_picture_and_the_backtest(make_panel, kind, channels):
    panel = make_panel([40] * 30, channels, missing=0.2)
    whole = kind in ("counts", "ties")
    if whole:
        panel.values.round_()
    windows = windows_of(panel)
    generator = torch.Generator().manual_seed(5)
    spread = {"numbers": 1.5, "counts": 2.0, "ties": 0.4, "few paths": 1.5}[kind]
    noise = torch.randn(30, 6 if kind == "few paths" else 50, *windows.target.shape[1:], generator=generator)
    paths = windows.target[:, None] + spread * (noise + noise[:, :1])
    paths = paths.round() if whole else paths
    board = Scoreboard(panel, panel.lengths - HORIZON, HORIZON, 1)
    found = Diagnostics(panel, board.unit, HORIZON)
    for one in (board, found):
        one.update(paths, windows, whole)
    # By hand, from the quantiles that forecast tables have, with numpy and pandas.
    truth = windows.target.where(windows.target_observed, torch.nan).numpy()
    rows = pd.DataFrame({"y": truth.ravel()})
    shares = {}
    for level in (80, 95, 10, 50):
        tail = 0.5 - level / 200
        low, high = np.quantile(paths.numpy(), [tail, 1 - tail], axis=1, method="inverted_cdf" if whole else "hazen")
        rows[f"lo-{level}"], rows[f"hi-{level}"] = low.ravel(), high.ravel()
        inside = rows["y"].between(rows[f"lo-{level}"], rows[f"hi-{level}"])
        shares[level] = inside[rows["y"].notna()].mean()
    own = board.summary()[MODEL]
    assert own["coverage_80"] == pytest.approx(shares[80])
    assert own["coverage_95"] == pytest.approx(shares[95])
    coverage = found.coverage()
    assert {level: coverage[level] for level in shares} == pytest.approx(shares)
    (axis,) = reliability_chart(coverage).axes
    assert axis.get_title(loc="left").endswith(f"hold {format_score('coverage_80', own['coverage_80'])}")
    columns = forecast_columns(paths.flatten(2), (80,), whole=whole)
    for side in ("lo", "hi"):
        assert np.allclose(columns[f"armlp-{side}-80"].flatten(), rows[f"{side}-80"], atol=1e-4)
    assert 0 < shares[10] < shares[80]


@pytest.mark.parametrize(
    ("histogram", "words"),
    [
        ([1.0] * 20, "near calibrated"),
        ([3.0] * 2 + [0.75] * 16 + [3.0] * 2, "too narrow"),
        ([0.0] * 2 + [1.25] * 16 + [0.0] * 2, "too wide"),
        ([2.0] * 10 + [0.0] * 10, "too high"),
        ([0.0] * 10 + [2.0] * 10, "too low"),
    ],
)
def test_the_histogram_says_what_is_wrong_with_the_forecasts(histogram, words):
    (axis,) = pit_chart(torch.tensor(histogram)).axes
    assert words in axis.get_title(loc="left")
    assert [bar.get_height() for bar in axis.containers[0]] == pytest.approx(np.divide(histogram, np.mean(histogram)))


def test_the_band_of_the_histogram_holds_95_of_100_bins_of_values_that_are_even_by_chance():
    masses = torch.from_numpy(np.random.default_rng(0).multinomial(400, [1 / 20] * 20, size=200)).double()
    (axis,) = pit_chart(masses[0]).axes
    low, high = axis.patches[0].get_extents().transformed(axis.transData.inverted()).intervaly
    assert ((masses > 20 * low) & (masses < 20 * high)).double().mean() == pytest.approx(0.95, abs=0.02)


def test_errors_by_lead_are_drawn_but_for_a_baseline_that_would_flatten_them():
    curves = {"armlp": torch.tensor([5.0, 6.0]), "Naive2": torch.tensor([1.0, 2.0]), "drift": torch.tensor([9.0, 99.0])}
    (axis,) = lead_chart(curves, "Error").axes
    lines = {line.get_label(): line.get_ydata() for line in axis.get_lines()}
    assert set(lines) == {"armlp", "Naive2"}
    assert np.allclose(lines["armlp"], [5, 6])
    assert axis.get_ylim()[0] == 0


def test_any_number_of_curves_is_drawn():
    curves = {f"forecaster {number}": torch.tensor([1.0 + number / 100, 2.0]) for number in range(12)}
    (axis,) = lead_chart(curves, "Error").axes
    assert [line.get_label() for line in axis.get_lines()] == list(curves)


def test_lags_that_white_noise_would_not_show_stand_out():
    (axis,) = autocorrelation_chart(Autocorrelation(torch.tensor([0.9, 0.1, -0.7, 0.0]), 0.5)).axes
    drawn = {
        lines.get_label(): len(lines.get_segments()) for lines in axis.collections if hasattr(lines, "get_segments")
    }
    assert drawn == {"inside": 2, "outside": 2}


def test_the_correlation_of_paths_and_of_the_truth_is_found_at_every_distance():
    """Paths of one autoregression and truths of another give the powers of their coefficients."""
    rng = np.random.default_rng(0)

    def draw(coefficient: float, *shape: int) -> torch.Tensor:
        correlation = coefficient ** np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
        return torch.from_numpy(rng.standard_normal((*shape, 6)) @ np.linalg.cholesky(correlation).T)[..., None]

    metric = PathCorrelation(6)
    for _ in range(4):
        truth = draw(0.3, 1000)
        observed = torch.from_numpy(rng.random(truth.shape) < 0.8)
        metric.update(5 + 2 * draw(0.8, 1000, 50), 5 + 2 * truth, observed)
    paths, truths = metric.compute()
    assert paths.numpy() == pytest.approx(0.8 ** np.arange(1, 6), abs=0.03)
    assert truths.numpy() == pytest.approx(0.3 ** np.arange(1, 6), abs=0.05)
