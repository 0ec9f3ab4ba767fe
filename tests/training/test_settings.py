"""Tests of the options: what no training could use is refused at once, by its name on the command line."""

from typing import Any

import pytest

from armlp.errors import UserError
from armlp.training.module import ForecastModule
from armlp.training.settings import CHOSEN, NETWORK_OPTIONS, OPTIMIZATION

# Of every option with a choice or a range, a value out of it, and what the sentence says of it.
REFUSED = [
    ({"objective": "mae"}, "--model.objective: 'mae' is not known; use one of head, crps, energy"),
    ({"loss_units": "metres"}, "--model.loss_units: 'metres' is not known; use one of relative, network, data"),
    ({"feed": "lies"}, "--model.feed: 'lies' is not known; use one of mean, sample, truth"),
    ({"lead_weighting": "odd"}, "--model.lead_weighting: 'odd' is not known; use one of even, near, far"),
    ({"schedule": "step"}, "--model.schedule: 'step' is not known; use one of cosine, constant"),
    ({"optimizer": "sgd"}, "--model.optimizer: 'sgd' is not known; use one of adamw, adam, muon"),
    ({"effort": 1.5}, "--model.effort: 1.5 is no whole number; give one"),
    ({"effort": 0}, "--model.effort: 0 is too small; it must be at least 1"),
    ({"members": True}, "--model.members: True is no whole number; give one"),
    ({"unroll": 0}, "--model.unroll: 0 is too small; it must be at least 1"),
    ({"val_paths": 0}, "--model.val_paths: 0 is too small; it must be at least 1"),
    ({"unroll_growth": -0.1}, "--model.unroll_growth: -0.1 is too small; it must be at least 0"),
    ({"unroll_growth": 1.5}, "--model.unroll_growth: 1.5 is more than the whole training"),
    ({"averaging": -1}, "--model.averaging: -1 is too small; it must be at least 0"),
    ({"averaging": 2}, "--model.averaging: 2 is more than the whole training; give a share up to 1"),
    ({"learning_rate": -1e-3}, "--model.learning_rate: -0.001 is too small; it must be at least 0"),
    ({"weight_decay": -1}, "--model.weight_decay: -1 is too small; it must be at least 0"),
    ({"warmup": -1}, "--model.warmup: -1 is too small; it must be at least 0"),
    ({"input_noise": -1}, "--model.input_noise: -1 is too small; it must be at least 0"),
    ({"gradient": "half"}, "--model.gradient: 'half' is not known; use full, last or a number of patches"),
    ({"gradient": 0}, "--model.gradient: 0 is not known; use full, last or a number of patches"),
    ({"gradient": -2}, "--model.gradient: -2 is not known"),
]
# Enough that the network is built before there are data.
WHOLE = {
    "context_length": 8, "patch_length": 2, "unroll": 1, "feed": "sample", "hidden_sizes": [4], "residual_blocks": 0,
    "dropout": 0.0, "head": "normal", "scaler": "standard", "mask_input": False, "input_noise": 0.0,
    "non_negative": False, "season_length": 1, "channels": 1, "symbols": 0, "covariate_sizes": {},
}  # fmt: skip


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_an_option_out_of_its_range_is_refused_at_once(options: dict[str, Any], sentence: str):
    with pytest.raises(UserError) as error:
        ForecastModule(**options)
    assert str(error.value).startswith(sentence)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    "options",
    [
        {"gradient": "full"},
        {"gradient": "last"},
        {"gradient": 1},
        {"gradient": 7},
        {"unroll_growth": 1.0, "averaging": 1.0},
        {"learning_rate": 0.0, "warmup": 0.0},
        {"objective": "energy", "lead_weighting": "far"},
        {"head": "auto"},
    ],
)
def test_an_option_at_the_end_of_its_range_is_taken(options: dict[str, Any]):
    assert ForecastModule(**options).network is None


def test_what_is_chosen_is_what_may_be_left_out():
    assert {*WHOLE, "members"} == set(CHOSEN) - set(OPTIMIZATION)
    assert all(ForecastModule(effort=2).hparams[name] is None for name in CHOSEN)
    assert ForecastModule().hparams["members"] == 1  # whatever the data
    assert ForecastModule(**WHOLE).network is not None
    assert set(NETWORK_OPTIONS) <= set(ForecastModule().hparams)


@pytest.mark.parametrize("objective", ["crps", "energy"])
@pytest.mark.parametrize("kind", [{"head": "point"}, {"head": "symbols", "symbols": 4}])
def test_scores_of_paths_are_refused_where_there_is_nothing_to_score(objective: str, kind: dict[str, Any]):
    with pytest.raises(UserError, match=rf"`objective`: {objective} scores sampled numbers.*'{kind['head']}'"):
        ForecastModule(**WHOLE | kind, objective=objective)


def test_a_ridge_needs_a_linear_skip_to_start():
    with pytest.raises(UserError, match=r"`ridge_init`.*`linear_skip`"):
        ForecastModule(**WHOLE, ridge_init=True, linear_skip=False)
