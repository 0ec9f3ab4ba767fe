"""Tests of the ridge AR, with numpy's least squares as the oracle."""

import numpy as np
import pytest
import torch

from armlp.evaluation.baselines import History
from armlp.evaluation.baselines.naive import naive_errors, seasonal_naive
from armlp.evaluation.baselines.ridge import RidgeAR


def test_the_ridge_ar_is_the_least_squares_of_numpy_where_no_penalty_is_needed(make_panel):
    panel = make_panel([400, 300], seed=3)
    generator = np.random.default_rng(0)
    for index in (0, 1):  # an autoregression that a ridge of 3 inputs can learn
        values = [0.0, 1.0, 0.5]
        while len(values) < panel.lengths[index]:
            values.append(1.5 * values[-1] - 0.8 * values[-2] + 0.3 * values[-3] + 0.1 * generator.normal())
        panel.series(index)[:, 0] = torch.tensor(values)
    ends = panel.lengths - 20
    unit = naive_errors(panel, ends, 4)[0]
    method = RidgeAR(History(panel, ends, unit, 6, 5, 4))
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
        assert method.forecast(series, origin, 5)[row, :, 0].numpy() == pytest.approx(expected, abs=1e-3)


def test_the_ridge_ar_is_the_seasonal_naive_where_nothing_can_be_learnt(make_panel):
    panel = make_panel([60, 3, 1])
    panel.series(0)[:] = 5.0  # constant, and the others too short for a unit
    ends = panel.lengths - 2
    method = RidgeAR(History(panel, ends, naive_errors(panel, ends, 4)[0], 8, 6, 4))
    arguments = torch.tensor([0, 1, 2]), torch.tensor([58, 2, 1])
    assert method.forecast(*arguments, 6).equal(seasonal_naive(panel, *arguments, 6, 4).double())


@pytest.mark.parametrize("lengths", [[2], [3, 2], [6] * 40])
def test_the_ridge_ar_of_few_or_short_series_is_finite(lengths, make_panel):
    panel = make_panel(lengths)
    series = torch.arange(len(lengths))
    method = RidgeAR(History(panel, panel.lengths, naive_errors(panel, panel.lengths, 1)[0], 4, 3, 1))
    forecast = method.forecast(series, panel.lengths, 3)
    assert forecast.isfinite().all()
    naive = seasonal_naive(panel, series, panel.lengths, 3, 1)
    assert torch.allclose(forecast, naive.double()) == (len(lengths) < 40)


def test_the_ridge_ar_of_a_shorter_horizon_is_the_beginning(make_panel):
    panel = make_panel([60, 50])
    method = RidgeAR(History(panel, panel.lengths, naive_errors(panel, panel.lengths, 4)[0], 6, 9, 4))
    arguments = torch.tensor([0, 1]), panel.lengths
    assert torch.allclose(method.forecast(*arguments, 5), method.forecast(*arguments, 9)[:, :5])
