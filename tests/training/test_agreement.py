"""Tests of what is refused because it does not go together."""

from contextlib import nullcontext

import pytest

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.training.agreement import warn_of_other_frequency
from armlp.training.module import ForecastModule


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"objective": "crps", "head": "point"}, "--model.objective: crps scores sampled numbers"),
        ({"objective": "crps", "feed": "mean"}, "--model.feed: crps scores sampled paths"),
        ({"objective": "energy", "feed": "truth"}, "--model.feed: energy scores sampled paths"),
        ({"objective": "energy", "lead_weighting": "near"}, "--model.lead_weighting: the energy score"),
        ({"ridge_init": True, "linear_skip": False}, "--model.ridge_init: there is no linear skip"),
        ({"ridge_init": True, "context_length": 5000}, "--model.ridge_init: the context has 5000 inputs"),
        ({"scaler": "seasonal", "season_length": 1}, "--model.scaler: seasonal needs a season"),
        ({"scaler": "seasonal", "context_length": 30}, "--model.scaler: seasonal needs a season of 2 to 15 steps"),
        ({"head": "poisson"}, "--model.head poisson is for counts, but series 's00' of the table has"),
        ({"symbols": 3}, "--data.symbols: the model is of 3 symbols, but the table was read as numbers"),
        ({"channels": 2}, "trained on 2 values per time step, but the table has 1"),
        ({"covariate_sizes": {"known": [0], "calendar": [0] * 2}}, "The model is of covariates"),
        ({"covariate_sizes": {"calendar": [0] * 4}}, "--data.calendar_inputs: the model is told 4 features"),
    ],
)
def test_what_does_not_go_together_is_refused_before_training(options, sentence, make_table):
    with pytest.raises(UserError, match=sentence):
        ForecastModule(**options).settle(SeriesDataModule(make_table(), horizon=6))


@pytest.mark.parametrize(
    ("trained", "found", "alike"),
    [("60min", "h", True), ("h", "D", False), ("D", "h", False), (None, "h", True), (1, "h", True), ("h", 1, True)],
)
def test_data_of_another_frequency_than_that_of_training_are_warned_of(trained, found, alike, make_table):
    data = SeriesDataModule(make_table(freq=found), trained_freq=trained)
    sentence = f"trained on a step of {trained}, but the table steps by {found}"
    with nullcontext() if alike else pytest.warns(UserWarning, match=sentence):
        warn_of_other_frequency(data)


@pytest.mark.parametrize(
    ("options", "factor", "sentence"),
    [
        ({"scaler": "none"}, 1e30, "--model.scaler none takes values as they are, .* series 's02' .* standard"),
        ({"scaler": "none"}, 1e-30, "--model.scaler none takes values as they are, .* series 's02' .* standard"),
        ({"loss_units": "data"}, 1e30, "--model.loss_units data takes values as they are, .* series 's02' .* relative"),
        ({"loss_units": "data"}, 1e-30, None),
        ({"scaler": "none", "loss_units": "data"}, 1e6, None),
        ({}, 1e30, None),
    ],
)
def test_values_that_nothing_scales_are_refused_where_float32_could_not_square_them(
    options, factor, sentence, make_table
):
    table = make_table()
    table["y"] *= table["unique_id"].map({"s02": factor}).fillna(1)
    expectation = nullcontext() if sentence is None else pytest.raises(UserError, match=sentence)
    with expectation:
        ForecastModule(**options).settle(SeriesDataModule(table, horizon=6))


def test_symbols_take_no_noise():
    with pytest.raises(UserError, match=r"--model\.input_noise: 0\.1 is for numbers"):
        ForecastModule(input_noise=0.1).settle(SeriesDataModule("markov"))
