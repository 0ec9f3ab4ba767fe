"""Tests of the options of a model: those that no training could use are refused at once."""

from dataclasses import fields
from typing import Any

import pytest

from armlp.errors import UserError
from armlp.model.settings import NetworkSettings
from armlp.training.module import ForecastModule
from armlp.training.settings import ModelSettings

REFUSED = [
    ({"effort": 1.5}, "`effort`: 1.5 is not a whole number; give another value"),
    ({"members": True}, "`members`: True is not a whole number; give another value"),
    ({"gradient": "half"}, "`gradient`: 'half' is not known; use full, last or a number of patches"),
    ({"gradient": 0}, "`gradient`: 0 is not known; use full, last or a number of patches"),
    ({"gradient": -2}, "`gradient`: -2 is not known"),
    ({"dropout": 1.0}, "`dropout`: 1.0 is not a share between 0 and 1"),
    ({"hidden_sizes": [4, 0]}, "`hidden_sizes`: [4, 0] holds a width below 1"),
    ({"head": "cauchy"}, "`head`: 'cauchy' is not known; use one of"),
    ({"scaler": "minmax"}, "`scaler`: 'minmax' is not known; use one of"),
    ({"activation": "elu"}, "`activation`: 'elu' is not known; use one of relu, gelu, silu, tanh"),
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
        {"objective": "energy", "lead_weighting": "far"},
    ],
)
def test_an_option_at_the_end_of_its_range_is_taken(options: dict[str, Any]):
    assert vars(ForecastModule(**options).settings).items() >= options.items()


def test_a_head_of_auto_is_left_to_the_data():
    assert ModelSettings(head="auto") == ModelSettings()


def test_a_module_has_its_network_at_once_where_nothing_is_left_to_the_data():
    module = ForecastModule(**WHOLE)
    assert module.network.context_length == 8
    for name in WHOLE:
        assert not hasattr(ForecastModule(**{**WHOLE, name: None}), "network")


def test_members_are_left_to_the_data_only_where_more_work_is_allowed():
    assert ModelSettings().with_default_members().members == 1
    assert ModelSettings(effort=2).with_default_members().members is None
    assert not ForecastModule(**WHOLE, effort=2).settings.is_settled


def test_a_network_has_the_options_that_it_is_given():
    settings = ModelSettings(**WHOLE, members=2)
    network = settings.network()
    names = {one.name for one in fields(NetworkSettings)}
    kept = {name: value for name, value in vars(network).items() if name in names and type(value) is int}
    assert kept == {name: getattr(settings, name) for name in kept}
    assert len(kept) >= 5


@pytest.mark.parametrize("objective", ["crps", "energy"])
@pytest.mark.parametrize("kind", [{"head": "point"}, {"head": "symbols", "symbols": 4}])
def test_scores_of_paths_are_refused_where_there_is_nothing_to_score(objective: str, kind: dict[str, Any]):
    with pytest.raises(UserError, match=rf"`objective`: {objective} needs sampled numbers.*'{kind['head']}'"):
        ForecastModule(**WHOLE | kind, objective=objective)


def test_a_ridge_needs_a_linear_skip_to_start():
    with pytest.raises(UserError, match=r"`ridge_init`.*`linear_skip`"):
        ForecastModule(**WHOLE, ridge_init=True, linear_skip=False)
