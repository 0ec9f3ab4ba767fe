"""Tests of what is chosen from the data: always something that can be trained, and said in plain values."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.windows import Split
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.module import NETWORK_OPTIONS
from armlp.training.recipe import recipe

LENGTHS = st.lists(st.integers(1, 3000), min_size=1, max_size=5)


@given(
    LENGTHS, st.integers(1, 60), st.sampled_from([1, 4, 7, 12, 24, 48, 96, 336]), st.integers(1, 2), st.integers(0, 2)
)
@settings(max_examples=100, deadline=None)
def test_every_choice_fits_the_data(
    make_panel: Any, lengths: list[int], horizon: int, season_length: int, val_windows: int, test_windows: int
):
    split = Split(horizon, val_windows, test_windows)
    panel = make_panel(lengths)
    choices = recipe(panel, split, season_length)
    ends = split.train_ends(panel.lengths)
    trainable = ends[ends >= 2]  # the others have no say
    typical = int(trainable.float().median()) if len(trainable) else 1
    context, patch = choices["context_length"].value, choices["patch_length"].value
    # Half of a typical series is left to learn from, and a context of less than the wish is whole seasons.
    assert 1 <= context <= max(1, typical // 2)
    assert context % season_length == 0 or context < season_length or context in (horizon, 10)
    assert 1 <= patch <= horizon
    assert choices["unroll"].value >= 1
    assert choices["max_steps"].value >= 100
    assert all(choice.why for choice in choices.values())


@given(LENGTHS, st.integers(1, 60), st.sampled_from([1, 12, 24, 336]))
@settings(max_examples=20, deadline=None)
def test_choices_are_plain_values_that_make_a_network(
    make_panel: Any, lengths: list[int], horizon: int, season_length: int
):
    choices = recipe(make_panel(lengths), Split(horizon), season_length)
    values = {name: choice.value for name, choice in choices.items()}
    plain = (int, float, str, bool)
    for value in values.values():
        assert type(value) in plain or (type(value) is list and all(type(item) in plain for item in value))
    options = {name: value for name, value in values.items() if name in NETWORK_OPTIONS}
    network = AutoregressiveMLP(**options, season_length=season_length)
    patch = network(torch.randn(2, options["context_length"]).cumsum(1)).mean
    assert patch.shape == (2, options["patch_length"])
    assert patch.isfinite().all()


def test_a_mask_is_an_input_only_where_something_can_be_missing(make_panel: Any):
    split = Split(horizon=6)
    assert recipe(make_panel([200, 300]), split, 24)["mask_input"].value is False
    assert recipe(make_panel([200, 300], missing=0.1), split, 24)["mask_input"].value is True
    assert recipe(make_panel([20, 300, 300]), split, 24)["mask_input"].value is True  # padded


@pytest.mark.parametrize("windows", [0, 3])
def test_what_is_held_out_has_no_say(windows: int, make_panel: Any):
    held_out = make_panel([300 + 6 * windows, 400 + 6 * windows])
    cut = make_panel([300, 400])
    choices = [recipe(held_out, Split(6, 1, windows), 24), recipe(cut, Split(6, 1, 0), 24)]
    assert choices[0] == choices[1]


def test_series_too_short_to_train_on_have_no_say(make_panel: Any):
    long = [1000] * 5
    with_short = recipe(make_panel([*long, *[6] * 30]), Split(7), 7)
    assert with_short == recipe(make_panel(long), Split(7), 7)
