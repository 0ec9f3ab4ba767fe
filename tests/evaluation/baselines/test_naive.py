"""Tests of the seasonal naive, the drift and the unit of scaled errors, with loops as the oracle."""

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.panel import Panel
from armlp.evaluation.baselines import History
from armlp.evaluation.baselines.naive import Drift, naive_errors, seasonal_naive

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
    whole = naive_errors(panel, panel.lengths - held, season)[0]
    with patch.object(Panel, "blocks", lambda self: BLOCKS(self, most)):
        cut = naive_errors(panel, panel.lengths - held, season)[0]
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
    unit = naive_errors(panel, ends, season)[0]
    assert unit.shape == (len(lengths), channels)
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
    assert naive_errors(panel, panel.lengths, 4)[0].isnan().flatten().tolist() == [True, True, False]


def test_the_unit_looks_at_rows_before_the_end_only(make_panel):
    panel = make_panel([20])
    before = naive_errors(panel, torch.tensor([15]), 2)[0]
    panel.values[15:] = 1e6
    assert naive_errors(panel, torch.tensor([15]), 2)[0].equal(before)


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
    history = History(panel, panel.lengths, torch.ones(len(panel), channels), 1, horizon, season_length=1)
    forecast = Drift(history).forecast(torch.tensor(series), torch.tensor(origins), horizon)
    assert forecast.shape == (len(series), horizon, channels)
    for row, (index, origin) in enumerate(zip(series, origins, strict=True)):
        values = panel.series(index)[:origin].double().numpy()
        slope = (values[-1] - values[0]) / (origin - 1) if origin > 1 else 0 * values[-1]
        expected = values[-1] + slope * np.arange(1, horizon + 1)[:, None]
        assert np.allclose(forecast[row].view(horizon, channels), expected)
