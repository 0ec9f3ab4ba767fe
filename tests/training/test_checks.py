"""Tests of what is refused because it does not go together."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.training.checks import warn_of_other_frequency


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"objective": "crps", "head": "point"}, "`objective`: crps needs sampled numbers"),
        ({"objective": "crps", "feed": "mean"}, "`feed`: with `objective` crps the input"),
        ({"objective": "energy", "feed": "truth"}, "`feed`: with `objective` energy the input"),
        ({"objective": "energy", "lead_weighting": "near"}, "`lead_weighting`: the energy score"),
        ({"ridge_init": True, "linear_skip": False}, "`ridge_init`: there is no linear skip"),
        ({"ridge_init": True, "context_length": 5000}, "`ridge_init`: the context has 5000 inputs"),
        ({"scaler": "seasonal", "season_length": 1}, "`scaler`: seasonal needs a season"),
        ({"scaler": "seasonal", "context_length": 30}, "`scaler`: seasonal needs a season of 2 to 15 steps"),
        ({"head": "poisson"}, "`head` poisson is for counts, but series 's00' of the table has"),
        ({"symbols": 3}, "`symbols`: the model is of 3 symbols, but the table was read as numbers"),
        ({"channels": 2}, "trained on 2 values per time step, but the table has 1"),
        ({"covariate_sizes": {"known": [0], "calendar": [0] * 2}}, "The model uses covariates"),
        ({"covariate_sizes": {"calendar": [0] * 4}}, "`calendar_inputs`: the model uses 4 features"),
    ],
)
def test_what_does_not_go_together_is_refused_before_training(options, sentence, make_table, settled):
    with pytest.raises(UserError, match=sentence):
        settled(SeriesDataModule(make_table(), horizon=6), **options)


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
        ({"scaler": "none"}, 1e30, "`scaler` none takes values as they are, .* series 's02' .* standard"),
        ({"scaler": "none"}, 1e-30, "`scaler` none takes values as they are, .* series 's02' .* standard"),
        ({"loss_units": "data"}, 1e30, "`loss_units` data takes values as they are, .* series 's02' .* relative"),
        ({"loss_units": "data"}, 1e-30, None),
        ({"scaler": "none", "loss_units": "data"}, 1e6, None),
        ({}, 1e30, None),
    ],
)
def test_values_that_nothing_scales_are_refused_where_float32_could_not_square_them(
    options, factor, sentence, make_table, settled
):
    table = make_table()
    table["y"] *= table["unique_id"].map({"s02": factor}).fillna(1)
    expectation = nullcontext() if sentence is None else pytest.raises(UserError, match=sentence)
    with expectation:
        settled(SeriesDataModule(table, horizon=6), **options)


def test_symbols_take_no_noise(settled):
    with pytest.raises(UserError, match=r"`input_noise`: 0\.1 is for numbers"):
        settled(SeriesDataModule("markov"), input_noise=0.1)


def lorenz(rows: int = 500) -> pd.DataFrame:
    """A series without noise: the first coordinate of Lorenz's equations."""
    points = solve_ivp(
        lambda _, x: [10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]],
        (0, 0.02 * rows), [1.0, 2.0, 20.0], t_eval=0.02 * np.arange(rows), rtol=1e-8,
    )  # fmt: skip
    return pd.DataFrame({"unique_id": "x", "ds": np.arange(rows), "y": points.y[0]})


def counts(rows: int = 90) -> pd.DataFrame:
    values = np.random.default_rng(0).poisson(2.0, rows)
    return pd.DataFrame({"unique_id": "c", "ds": pd.date_range("2024-01-01", periods=rows), "y": values})


@pytest.mark.parametrize(
    ("table", "usual", "options"),
    [
        (lorenz, "point", {"conformal": "split"}),
        (lorenz, "point", {"conformal": "adaptive"}),
        (lorenz, "point", {"objective": "crps"}),
        (lorenz, "point", {"objective": "energy"}),
        (counts, "negative_binomial", {"conformal": "split"}),
        (counts, "negative_binomial", {"theta_share": 0.3}),
    ],
)
def test_a_head_that_the_recipe_chooses_serves_the_options_that_are_given(
    table: Callable[[], pd.DataFrame], usual: str, options: dict[str, Any], settled: Any
):
    data = SeriesDataModule(table(), horizon=6, val_windows=5)
    assert settled(data).settings.head == usual
    module = settled(data, **options)
    assert module.settings.head == "quantile"
    assert next(iter(options)) in module.reasons["head"].why
    with pytest.raises(UserError, match=next(iter(options))):
        settled(data, head=usual, **options)  # a head that was asked for stays, and is refused
