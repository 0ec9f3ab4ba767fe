"""Tests of the Theta method, with its definition by theta lines, in plain loops, as the oracle."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.evaluation.baselines.naive import Naive2
from armlp.evaluation.baselines.theta import Theta, forecasts

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=5)


def smoothed(values: np.ndarray, rate: float) -> np.ndarray:
    """The level after each value, from the first one on."""
    levels = [values[0]]
    for value in values[1:]:
        levels.append(levels[-1] + rate * (value - levels[-1]))
    return np.array(levels)


def by_theta_lines(values: np.ndarray, rate: float, theta: float, horizon: int) -> tuple[np.ndarray, float]:
    """The weighted mean of the theta line 0 and of the smoothed theta line `theta`; and its one-step squared errors."""
    time = np.arange(len(values) + horizon)
    slope, constant = np.polyfit(time[: len(values)], values, 1)
    line = constant + slope * time
    curved = smoothed(theta * values + (1 - theta) * line[: len(values)], rate)
    one_step = (1 - 1 / theta) * line[1 : len(values)] + curved[:-1] / theta
    ahead = (1 - 1 / theta) * line[len(values) :] + curved[-1] / theta
    return ahead, float(np.square(values[1:] - one_step).sum())


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_theta_lines_and_rates(seed: int):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=25).cumsum() + generator.normal() * np.arange(25)
    rates = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    found = forecasts([torch.tensor(values)], 1, 5, rates)[0].numpy()
    every = [
        by_theta_lines(values, rate, theta, 5) for rate in rates.tolist() for theta in 1 / np.linspace(1, 0.002, 500)
    ]
    closest, least = min(every, key=lambda pair: pair[1])
    np.testing.assert_allclose(found, closest, atol=0.01 * values.std())
    # And nothing between them is better by more than the grid of theta is coarse.
    same = min(every, key=lambda pair: np.abs(pair[0] - found).sum())
    assert same[1] <= least * (1 + 1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_smoothing_never_overshoots(seed: int):
    """Where every change goes on, a rate above 1 would fit best, but what it gives is no smoothing."""
    changes = np.zeros(60)
    for step, shock in enumerate(np.random.default_rng(seed).normal(size=59), start=1):
        changes[step] = 0.95 * changes[step - 1] + shock
    values = changes.cumsum()
    rates, thetas = np.linspace(0.05, 2.0, 40), 1 / np.linspace(1, 0.01, 50)
    errors = {rate: min(by_theta_lines(values, rate, theta, 4)[1] for theta in thetas) for rate in rates}
    assert min(errors, key=lambda rate: errors[rate]) > 1.2
    allowed = [by_theta_lines(values, rate, theta, 4) for rate in rates if rate <= 1 for theta in thetas]
    closest, _ = min(allowed, key=lambda pair: pair[1])
    found = forecasts([torch.tensor(values)], 1, 4)[0].numpy()
    np.testing.assert_allclose(found, closest, atol=0.02 * values.std())


@given(st.floats(-5, 5), st.floats(-100, 100), st.integers(2, 40))
@settings(max_examples=40)
def test_a_line_goes_on(slope: float, start: float, length: int):
    line = start + slope * torch.arange(length + 7).double()
    torch.testing.assert_close(forecasts([line[:length]], 1, 7)[0], line[length:], atol=1e-6, rtol=1e-6)


def test_a_season_is_that_of_naive2_around_the_level():
    season = torch.tensor([3.0, 1.0, 2.0, 6.0]).double()
    torch.testing.assert_close(forecasts([season.repeat(8)], 4, 6)[0], season.repeat(2)[:6])


@given(LENGTHS, st.integers(1, 6), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.data())
@settings(max_examples=40)
def test_an_origin_is_forecast_from_the_rows_before_it_alone(
    make_panel: Any, lengths: list[int], horizon: int, season: int, channels: int, data: Any
):
    panel = make_panel(lengths, channels=channels, missing=0.2)
    series = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6))
    origins = [data.draw(st.integers(1, lengths[index])) for index in series]
    found = Theta(panel, season).forecast(torch.tensor(series), torch.tensor(origins), horizon)
    assert found.shape == Naive2(panel, panel.lengths, season).forecast(
        torch.tensor(series), torch.tensor(origins), horizon
    ).shape  # fmt: skip
    for row, (index, origin) in enumerate(zip(series, origins, strict=True)):
        for channel in range(channels):
            alone = forecasts([panel.series(index)[:origin, channel].double()], season, horizon)
            torch.testing.assert_close(found[row, :, channel], alone[0])


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
def test_it_scales_with_the_series(factor: float):
    values = torch.rand(40, generator=torch.Generator().manual_seed(0)).double() + torch.arange(40) % 4
    torch.testing.assert_close(
        forecasts([factor * values], 4, 9) / factor, forecasts([values], 4, 9), rtol=1e-9, atol=1e-9
    )


def test_of_a_long_series_the_last_rows_count(make_panel: Any):
    panel = make_panel([40, 25])
    found = Theta(panel, 4, max_rows=24).forecast(torch.arange(2), torch.tensor([38, 20]), 5)
    rows = panel.series(0)[14:38, 0].double(), panel.series(1)[:20, 0].double()
    torch.testing.assert_close(found[..., 0], forecasts(list(rows), 4, 5))


def test_many_series_are_forecast_in_parts(make_panel: Any):
    panel = make_panel([30, 5, 17, 1, 22])
    arguments = torch.arange(5), panel.lengths, 3
    whole, parts = (Theta(panel, 4, chunk=chunk).forecast(*arguments) for chunk in (10_000, 30))
    torch.testing.assert_close(parts, whole)
