"""Tests of the baselines and of the unit of scaled errors, with loops and published figures as the oracle."""

import math
import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.panel import Panel
from armlp.data.tables.read import read_panel
from armlp.evaluation.baselines.naive import drift, naive_error, naive_errors, seasonal_naive
from armlp.evaluation.baselines.naive2 import Naive2
from armlp.evaluation.baselines.ridge import RidgeAR
from armlp.evaluation.metrics.point import MeanAbsoluteScaledError, SymmetricMAPE

BLOCKS = Panel.blocks
LENGTHS = st.lists(st.integers(1, 25), min_size=1, max_size=4)
properties = settings(max_examples=40)


def naive_forecast(values, origin, horizon, season):
    """Grows the series by the value one season ago, or by the last one where there is no whole season yet."""
    grown = list(values[:origin])
    season = season if origin >= season else 1
    for _ in range(horizon):
        grown.append(grown[-season])
    return grown[-horizon:]


@given(LENGTHS, st.integers(1, 30), st.integers(1, 9), st.sampled_from([1, 2]), st.data())
@properties
def test_the_seasonal_naive_equals_the_naive_loop(make_panel, lengths, horizon, season, channels, data):
    panel = make_panel(lengths, channels=channels, missing=0.2)
    series = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    origins = [data.draw(st.integers(1, lengths[index])) for index in series]
    forecast = seasonal_naive(panel, torch.tensor(series), torch.tensor(origins), horizon, season)
    assert forecast.shape == (len(series), horizon, channels)
    forecast = forecast.view(len(series), horizon, channels)
    for row, (index, origin) in enumerate(zip(series, origins, strict=True)):
        for channel in range(channels):
            values = panel.series(index)[:, channel].tolist()
            assert forecast[row, :, channel].tolist() == naive_forecast(values, origin, horizon, season)


@given(LENGTHS, st.integers(1, 6), st.integers(-3, 4), st.sampled_from([1, 2]), st.integers(1, 20))
@properties
def test_the_unit_of_scaled_errors_does_not_depend_on_how_the_store_is_cut(
    make_panel, lengths, season, held, channels, most
):
    panel = make_panel(lengths, channels=channels, missing=0.3)
    whole = naive_error(panel, panel.lengths - held, season)
    with patch.object(Panel, "blocks", lambda self: BLOCKS(self, most)):
        cut = naive_error(panel, panel.lengths - held, season)
    assert torch.equal(cut.nan_to_num(-1), whole.nan_to_num(-1))


def test_the_seasonal_naive_sees_nothing_at_or_after_its_origin(make_panel):
    panel = make_panel([20])
    arguments = torch.tensor([0]), torch.tensor([9]), 15, 4
    before = seasonal_naive(panel, *arguments)
    panel.values[9:] = torch.nan
    assert seasonal_naive(panel, *arguments).equal(before)


@given(LENGTHS, st.integers(1, 6), st.integers(-3, 4), st.sampled_from([1, 2]))
@properties
def test_the_unit_of_scaled_errors_equals_the_naive_loop(make_panel, lengths, season, held, channels):
    panel = make_panel(lengths, channels=channels, missing=0.3)
    ends = panel.lengths - held
    unit = naive_error(panel, ends, season)
    assert unit.shape == (len(lengths), channels)
    unit = unit.view(len(lengths), channels)
    for index, length in enumerate(lengths):
        begin = int(panel.offsets[index])
        for channel in range(channels):
            errors = [
                abs(panel.values[begin + row, channel].item() - panel.values[begin + row - season, channel].item())
                for row in range(season, min(length, int(ends[index])))
                if panel.observed[begin + row, channel] and panel.observed[begin + row - season, channel]
            ]
            expected = sum(errors) / len(errors) if errors else math.nan
            assert unit[index, channel].item() == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_a_series_that_never_changes_or_is_too_short_has_no_unit(make_panel):
    panel = make_panel([10, 3, 10])
    panel.series(0)[:] = 5.0
    assert naive_error(panel, panel.lengths, 4).isnan().tolist() == [True, True, False]


def test_the_unit_looks_at_rows_before_the_end_only(make_panel):
    panel = make_panel([20])
    before = naive_error(panel, torch.tensor([15]), 2)
    panel.values[15:] = 1e6
    assert naive_error(panel, torch.tensor([15]), 2).equal(before)


@given(LENGTHS, st.integers(-3, 4), st.integers(1, 6))
@properties
def test_the_unit_of_squared_errors_is_their_root_mean(make_panel, lengths, held, season):
    panel = make_panel(lengths)
    unit = naive_errors(panel, panel.lengths - held, season)[1]
    for index, length in enumerate(lengths):
        values = panel.series(index)[: max(0, min(length, length - held)), 0].double()
        squares = (values[season:] - values[:-season]).square()
        expected = squares.mean().sqrt().item() if len(squares) else math.nan
        assert unit[index].item() == pytest.approx(expected, rel=1e-6, nan_ok=True)


@given(LENGTHS, st.integers(1, 9), st.sampled_from([1, 2]), st.data())
@properties
def test_the_drift_is_the_line_through_the_first_and_the_last_value(make_panel, lengths, horizon, channels, data):
    panel = make_panel(lengths, channels=channels, missing=0.2)
    series = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    origins = [data.draw(st.integers(1, lengths[index])) for index in series]
    forecast = drift(panel, torch.tensor(series), torch.tensor(origins), horizon)
    assert forecast.shape == (len(series), horizon, channels)
    for row, (index, origin) in enumerate(zip(series, origins, strict=True)):
        values = panel.series(index)[:origin].double().numpy()
        slope = (values[-1] - values[0]) / (origin - 1) if origin > 1 else 0 * values[-1]
        expected = values[-1] + slope * np.arange(1, horizon + 1)[:, None]
        assert np.allclose(forecast[row].view(horizon, channels), expected)


def naive2_by_the_book(values, horizon, season):
    """The R code of the M4 competition, line by line; where a value is not above 0, its additive decomposition."""
    count = len(values)
    seasonal = False
    if season > 1 and count >= 3 * season:
        centred = values - values.mean()
        acf = [(centred[lag:] * centred[: count - lag]).sum() / (centred**2).sum() for lag in range(1, season + 1)]
        limit = 1.645 / math.sqrt(count) * math.sqrt(1 + 2 * sum(correlation**2 for correlation in acf[:-1]))
        seasonal = abs(acf[-1]) > limit
    if not seasonal:
        return np.repeat(values[-1], horizon)
    half = season // 2
    kernel = np.ones(season) / season
    if season % 2 == 0:
        kernel = np.array([0.5, *np.ones(season - 1), 0.5]) / season
    trend = np.full(count, np.nan)
    for row in range(half, count - half):
        trend[row] = (kernel * values[row - half : row + half + 1]).sum()
    multiplicative = (values > 0).all()
    left = values / trend if multiplicative else values - trend
    figure = np.array([np.nanmean(left[phase::season]) for phase in range(season)])
    figure = figure / figure.mean() if multiplicative else figure - figure.mean()
    repeated = np.resize(figure, count + horizon)
    if multiplicative:
        return values[-1] / repeated[count - 1] * repeated[count:]
    return values[-1] - repeated[count - 1] + repeated[count:]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 8), st.booleans(),
    st.sampled_from([1, 2]), st.integers(0, 99),
)  # fmt: skip
@properties
def test_naive2_equals_the_code_of_the_competition(make_panel, lengths, horizon, season, positive, channels, seed):
    panel = make_panel(lengths, channels=channels, seed=seed)
    for index, length in enumerate(lengths):  # some seasonal, some not
        wave = index % 3 * torch.sin(2 * math.pi * torch.arange(length) / season)[:, None]
        panel.series(index)[:] = (
            ((panel.series(index) + wave).abs() + 0.1) if positive else panel.series(index) + wave - 10
        )
    method = Naive2(panel, panel.lengths, season)
    forecast = method.forecast(torch.arange(len(lengths)), panel.lengths, horizon)
    assert forecast.shape == (len(lengths), horizon, channels)
    for index in range(len(lengths)):
        for channel in range(channels):
            values = panel.series(index)[:, channel].double().numpy()
            expected = naive2_by_the_book(values, horizon, season)
            assert forecast[index].view(horizon, channels)[:, channel].numpy() == pytest.approx(expected, rel=1e-6)


def test_naive2_does_not_depend_on_the_batches_and_keeps_its_season_for_later_origins(make_panel):
    panel = make_panel([50, 60, 55])
    panel.values[:] = 20 + panel.values / 10 + 5 * torch.sin(2 * math.pi * torch.arange(165) / 5)[:, None]
    ends = panel.lengths - 12
    series, origin = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([38, 45, 48, 43, 44])
    method = Naive2(panel, ends, 5)
    together = method.forecast(series, origin, 4)
    apart = torch.cat([method.forecast(series[part], origin[part], 4) for part in ([0], [1, 2], [3, 4])])
    assert together.equal(apart)
    panel.values[38:50] = 1.0
    panel.values[44] = 7.0
    later = Naive2(panel, ends, 5).forecast(series[:2], origin[:2], 4)
    assert later[0].equal(together[0])
    season = together[0] / together[0, 0]  # at phases 3, 4, 0, 1
    assert (later[1, 3] / later[1, 0]).item() == pytest.approx((season[0] / season[2]).item())  # phases 3 and 0


def test_the_ridge_ar_is_the_least_squares_of_numpy_where_no_penalty_is_needed(make_panel):
    panel = make_panel([400, 300], seed=3)
    generator = np.random.default_rng(0)
    for index in (0, 1):  # an autoregression that a ridge of 3 inputs can learn
        values = [0.0, 1.0, 0.5]
        while len(values) < panel.lengths[index]:
            values.append(1.5 * values[-1] - 0.8 * values[-2] + 0.3 * values[-3] + 0.1 * generator.normal())
        panel.series(index)[:, 0] = torch.tensor(values)
    ends = panel.lengths - 20
    unit = naive_error(panel, ends, 4)
    method = RidgeAR(panel, ends, unit, 6, 5, 4)
    inputs, outputs = [], []
    for index in (0, 1):
        values = panel.series(index)[: int(ends[index]), 0].double().numpy()
        for origin in range(6, len(values) - 4):
            context = values[origin - 6 : origin]
            inputs.append((context - context.mean()) / unit[index].item())
            outputs.append(
                (values[origin : origin + 5] - np.resize(values[origin - 4 : origin], 5)) / unit[index].item()
            )
    weights = np.linalg.lstsq(np.array(inputs), np.array(outputs), rcond=None)[0]
    series, origin = torch.tensor([0, 1]), panel.lengths - 5
    for row, (index, begin) in enumerate(zip((0, 1), origin.tolist(), strict=True)):
        context = panel.series(index)[begin - 6 : begin, 0].double().numpy()
        expected = np.resize(context[-4:], 5) + (context - context.mean()) @ weights
        assert method.forecast(series, origin)[row].numpy() == pytest.approx(expected, abs=1e-3)


def test_the_ridge_ar_is_the_seasonal_naive_where_nothing_can_be_learnt(make_panel):
    panel = make_panel([60, 3, 1])
    panel.series(0)[:] = 5.0  # constant, and the others too short for a unit
    ends = panel.lengths - 2
    method = RidgeAR(panel, ends, naive_error(panel, ends, 4), 8, 6, 4)
    arguments = torch.tensor([0, 1, 2]), torch.tensor([58, 2, 1])
    assert method.forecast(*arguments).equal(seasonal_naive(panel, *arguments, 6, 4).double())


@pytest.mark.parametrize("lengths", [[2], [3, 2], [6] * 40])
def test_the_ridge_ar_of_few_or_short_series_is_finite(lengths, make_panel):
    panel = make_panel(lengths)
    series = torch.arange(len(lengths))
    method = RidgeAR(panel, panel.lengths, naive_error(panel, panel.lengths, 1), 4, 3, 1)
    forecast = method.forecast(series, panel.lengths)
    assert forecast.isfinite().all()
    naive = seasonal_naive(panel, series, panel.lengths, 3, 1)
    assert torch.allclose(forecast, naive.double()) == (len(lengths) < 40)


@pytest.mark.parametrize("method", ["drift", "Naive2", "ridge AR"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_baseline_sees_nothing_at_or_after_its_origin_and_is_fitted_on_nothing_held_out(method, channels, make_panel):
    panel = make_panel([60, 50], channels=channels)
    ends, series, origin = panel.lengths - 10, torch.tensor([0, 1]), panel.lengths - 10
    before = forecast_by(method, panel, ends, series, origin)
    for index in (0, 1):
        panel.series(index)[-10:] = torch.nan
    assert before.isfinite().all()
    assert forecast_by(method, panel, ends, series, origin).equal(before)


@pytest.mark.parametrize("method", ["seasonal naive", "drift", "Naive2", "ridge AR"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_baseline_shifts_with_the_levels_of_the_series(method, channels, make_panel):
    panel = make_panel([60, 50], channels=channels)
    panel.values[:] -= 30  # not above 0, so that Naive2 is additive
    levels = torch.tensor([[-1e9, 4.0], [0.0, -7.0]], dtype=torch.float64)[:, :channels]
    higher = replace(panel, levels=levels)
    ends, series, origin = panel.lengths - 10, torch.tensor([0, 1]), panel.lengths - 4
    plain, shifted = (forecast_by(method, each, ends, series, origin).view(2, 7, channels) for each in (panel, higher))
    assert torch.allclose(shifted - levels[:, None], plain.double(), atol=1e-5)


@pytest.mark.parametrize("method", ["seasonal naive", "drift", "Naive2", "ridge AR"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_baseline_is_finite_whatever_the_series(method, channels, make_panel):
    panel = make_panel([1, 2, 5, 40, 40, 40, 40], channels=channels, missing=0.4)
    panel.series(3)[:] = 0.0
    panel.series(4)[20:] = 1e30
    panel.series(5)[:] = torch.arange(40)[:, None] % 4 == 0  # mostly zeros
    panel.series(6)[:] *= 1e-30
    series = torch.arange(7).repeat_interleave(2)
    origin = torch.stack([(panel.lengths - 5).clamp(min=1), panel.lengths], 1).flatten()
    assert forecast_by(method, panel, panel.lengths - 5, series, origin).isfinite().all()


def forecast_by(method, panel, ends, series, origin):
    if method == "seasonal naive":
        return seasonal_naive(panel, series, origin, 7, 4)
    if method == "drift":
        return drift(panel, series, origin, 7)
    if method == "Naive2":
        return Naive2(panel, ends, 4).forecast(series, origin, 7)
    return RidgeAR(panel, ends, naive_error(panel, ends, 4), 6, 7, 4).forecast(series, origin)


def test_on_m4_hourly_the_naive_forecasts_score_as_published():
    folder = Path(os.environ.get("ARMLP_DATA", Path(__file__).parents[4] / "shared/data"))
    files = [folder / f"m4_hourly_{part}.parquet" for part in ("train", "test")]
    if not all(file.exists() for file in files):
        pytest.skip(f"the M4 Hourly tables are not in {folder}; ARMLP_DATA can name another folder")
    panel = read_panel(pd.concat(map(pd.read_parquet, files)))
    ends, series = panel.lengths - 48, torch.arange(len(panel))
    unit = naive_error(panel, ends, 24)[:, None]
    truth = torch.stack([panel.series(index)[-48:, 0] for index in range(len(panel))])
    published = {"seasonal naive": (13.912, 1.193), "Naive2": (18.383, 2.395)}
    forecasts = {
        "seasonal naive": seasonal_naive(panel, series, ends, 48, 24),
        "Naive2": Naive2(panel, ends, 24).forecast(series, ends, 48),
    }
    for name, forecast in forecasts.items():
        for make, expected in zip((SymmetricMAPE, MeanAbsoluteScaledError), published[name], strict=True):
            metric = make(48)
            metric.update(forecast[:, None], truth, unit=unit)
            assert metric.compute().item() == pytest.approx(expected, abs=6e-4), name
