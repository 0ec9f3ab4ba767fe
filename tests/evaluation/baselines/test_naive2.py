"""Tests of Naive2, with the code of the M4 competition as the oracle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.evaluation.baselines.naive import Naive2


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
@settings(max_examples=40)
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
            assert forecast[index, :, channel].numpy() == pytest.approx(expected, rel=1e-6)


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
