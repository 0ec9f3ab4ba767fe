"""Tests of what is refused because it does not go together."""

import pytest

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
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


def test_symbols_take_no_noise():
    with pytest.raises(UserError, match=r"--model\.input_noise: 0\.1 is for numbers"):
        ForecastModule(input_noise=0.1).settle(SeriesDataModule("markov"))
