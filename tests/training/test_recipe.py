"""Tests of what is chosen from the data: always something that can be trained, and said in plain values."""

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.panel import Panel
from armlp.data.split import Split
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.settings import network_options
from armlp.training.recipe import SHORT, Choice, _training_values
from armlp.training.recipe import recipe as recipe_of

LENGTHS = st.lists(st.integers(1, 3000), min_size=1, max_size=5)


def data_of(panel: Panel, horizon: int, season_length: int = 1, val_windows: int = 1, test_windows: int = 0) -> Any:
    """What the recipe asks of a data module that has read a panel without covariates."""
    return SimpleNamespace(
        panel=panel,
        split=Split(horizon, val_windows, test_windows),
        season_length=season_length,
        covariate_sizes={"known": [], "past": [], "static": []},
        calendar_size=0,
        num_val_windows=len(panel) * val_windows,
        chooses_cycles=True,
    )


def cut(panel: Panel, most: int) -> Panel:
    """The same panel, which is read in blocks of so many rows."""

    class Cut(Panel):
        def blocks(self, rows: int = most) -> Any:
            return super().blocks(most)

    return Cut(**{one.name: getattr(panel, one.name) for one in fields(panel)})


def recipe(*args: int | Panel) -> dict[str, Choice]:
    return recipe_of(data_of(*args))


@given(
    LENGTHS, st.integers(1, 60), st.sampled_from([1, 4, 7, 12, 24, 48, 96, 336]), st.integers(1, 2), st.integers(0, 2)
)
@settings(max_examples=100)
def test_every_choice_fits_the_data(
    make_panel: Any, lengths: list[int], horizon: int, season_length: int, val_windows: int, test_windows: int
):
    panel = make_panel(lengths)
    data = data_of(panel, horizon, season_length, val_windows, test_windows)
    choices = recipe_of(data)
    ends = data.split.train_ends(panel.lengths)
    trainable = ends[ends >= 2]  # the others have no say
    typical = int(trainable.float().median()) if len(trainable) else 1
    context, patch = choices["context_length"].value, choices["patch_length"].value
    # Half of a typical series is left to learn from, and a context of less than the wish is whole seasons.
    assert 1 <= context <= max(1, typical // 2)
    assert context % season_length == 0 or context < season_length or context in (horizon, 10)
    assert 1 <= patch <= horizon
    assert choices["unroll"].value >= 1
    assert choices["max_steps"].value >= 100
    unsaid = {
        "symbols",
        "members",
        "covariate_sizes",
        "calendar_inputs",
        *("loss_units", "optimizer", "learning_rate", "weight_decay", "theta_share", "min_spread"),
    }  # there are none, or the usual ones
    unsaid -= {"theta_share"} if typical < SHORT else set()
    unsaid -= {"min_spread"} if typical < SHORT and data.num_val_windows < MIN_WINDOWS else set()
    assert {name for name, choice in choices.items() if not choice.why} == unsaid


@given(LENGTHS, st.integers(1, 60), st.sampled_from([1, 12, 24, 336]))
@settings(max_examples=20)
def test_choices_are_plain_values_that_make_a_network(
    make_panel: Any, lengths: list[int], horizon: int, season_length: int
):
    choices = recipe(make_panel(lengths), horizon, season_length)
    values = {name: choice.value for name, choice in choices.items()}
    plain = (int, float, str, bool)
    assert values.pop("covariate_sizes") == {}
    assert values.pop("calendar_inputs") == []
    for value in values.values():
        assert type(value) in plain or (type(value) is list and all(type(item) in plain for item in value))
    options = {name: value for name, value in values.items() if name in network_options()}
    network = AutoregressiveMLP(**options)
    patch = network(torch.randn(2, options["context_length"]).cumsum(1)).mean
    assert patch.shape == (2, options["patch_length"])
    assert patch.isfinite().all()


def test_a_mask_is_an_input_only_where_something_can_be_missing(make_panel: Any):
    assert recipe(make_panel([200, 300]), 6, 24)["mask_input"].value is False
    assert recipe(make_panel([200, 300], missing=0.1), 6, 24)["mask_input"].value is True
    assert recipe(make_panel([20, 300, 300]), 6, 24)["mask_input"].value is True  # padded


@pytest.mark.parametrize("windows", [0, 3])
def test_what_is_held_out_has_no_say(windows: int, make_panel: Any):
    held_out = make_panel([300 + 6 * windows, 400 + 6 * windows])
    cut = make_panel([300, 400])
    choices = [recipe(held_out, 6, 24, 1, windows), recipe(cut, 6, 24)]
    assert choices[0] == choices[1]


def test_series_too_short_to_train_on_have_no_say(make_panel: Any):
    long = [1000] * 5
    with_short = recipe(make_panel([*long, *[6] * 30]), 7, 7)
    assert with_short == recipe(make_panel(long), 7, 7)


def test_the_head_is_chosen_by_the_kind_of_values(make_panel: Any):
    panel = make_panel([500])
    generator = torch.Generator().manual_seed(0)
    few, many = (torch.poisson(torch.full((500, 1), mean), generator=generator) for mean in (2.0, 80.0))
    cases = [
        (panel.values, "quantile", False),
        (panel.values - panel.values.min() + 0.5, "quantile", True),
        (few, "negative_binomial", True),
        (many, "quantile", True),
        (few - 1, "quantile", False),
    ]
    for values, head, non_negative in cases:
        choices = recipe(replace(panel, values=values), 6)
        assert (choices["head"].value, choices["non_negative"].value) == (head, non_negative)


def counts_of(kind: str, rows: int, generator: torch.Generator) -> torch.Tensor:
    """`[rows, 1]` whole numbers from 0."""
    poisson = torch.poisson(torch.full((rows, 1), 3.0), generator=generator)
    uniform = torch.rand(rows, 1, generator=generator)
    season = torch.tensor([2.0, 3.0, 5.0, 8.0, 5.0, 3.0, 2.0])
    return {
        "constant": torch.full((rows, 1), 7.0),
        "nearly constant": 7 + (uniform < 0.25).float(),
        "a season": season.repeat(rows)[:rows, None],
        "a slow walk": 8 + ((uniform < 0.1).float() - (uniform > 0.9).float()).cumsum(0).clamp(-6, 2),
        "poisson": poisson,
        "intermittent": poisson * (uniform < 0.2),
        "a trend": torch.poisson(torch.linspace(0.5, 12, rows)[:, None], generator=generator),
        "spread": torch.poisson(8 * uniform, generator=generator),
        "zeros": torch.zeros(rows, 1),
    }[kind]


@pytest.mark.parametrize("rows", [20, 60, 500])
@pytest.mark.parametrize(
    ("kinds", "counts"),
    [
        (["constant"], False),
        (["nearly constant"], False),
        (["a season"], False),
        (["a slow walk"], False),
        (["constant", *["poisson"] * 8], False),
        (["constant", *["zeros"] * 99], False),
        (["poisson"], True),
        (["intermittent"] * 5, True),
        (["a trend"], True),
        (["spread"] * 3, True),
        (["zeros"], True),
        (["constant", *["intermittent"] * 200], True),  # one series has no say over so many
    ],
)
def test_counts_have_a_head_of_counts_unless_they_vary_less_than_any_of_its_laws(
    make_panel: Any, kinds: list[str], counts: bool, rows: int
):
    generator = torch.Generator().manual_seed(0)
    panel = make_panel([rows + 6] * len(kinds))
    values = [torch.cat([counts_of(kind, rows, generator), torch.full((6, 1), 9.0)]) for kind in kinds]
    panel = replace(panel, values=torch.cat(values))  # the last six values are held out, and have no say
    assert (recipe(panel, 6, 7)["head"].value == "negative_binomial") == counts


def test_how_counts_vary_does_not_depend_on_how_the_store_is_cut(make_panel: Any):
    generator = torch.Generator().manual_seed(0)
    panel = make_panel([40, 9, 100], missing=0.1)
    panel = replace(panel, values=torch.cat([counts_of("nearly constant", 49, generator), torch.full((100, 1), 2.0)]))
    found = set()
    for most in (1, 7, 1 << 17):
        found.add(_training_values(cut(panel, most), Split(2, 1), 7))
    assert len(found) == 1
    assert found.pop().narrow > 0.5


def test_symbols_are_told_as_what_they_are(make_panel: Any):
    panel = make_panel([500])
    panel = replace(panel, values=torch.randint(0, 3, (500, 1)).float(), symbols=("a", "b", "c"))
    choices = {name: choice.value for name, choice in recipe(panel, 6).items()}
    expected = {"head": "symbols", "symbols": 3, "scaler": "none", "patch_length": 1, "non_negative": False}
    assert {name: choices[name] for name in expected} == expected
    assert choices["input_noise"] == 0


KINDS = {
    "counts": lambda noise: noise.abs().round(),
    "whole": torch.round,
    "positive": torch.abs,
    "any": lambda noise: noise,
}


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 10),
    st.integers(1, 30),
    st.integers(0, 9),
)
@settings(max_examples=60)
def test_a_summary_of_training_values_does_not_depend_on_the_size_of_blocks(
    make_panel: Any, lengths: list[int], kind: str, held: int, most: int, seed: int
):
    panel = make_panel(lengths, missing=0.2, seed=seed)
    panel.values.copy_(KINDS[kind](4 * torch.randn(panel.values.shape, generator=torch.Generator().manual_seed(seed))))
    split = Split(held, 1)
    values = torch.cat(
        [
            panel.series(index)[: max(1, length - held)][
                panel.observed[panel.offsets[index] : panel.offsets[index + 1]][: max(1, length - held)]
            ]
            for index, length in enumerate(lengths)
        ]
    )
    seen = _training_values(cut(panel, most), split)
    non_negative, whole = bool((values >= 0).all()), bool((values == values.round()).all())
    assert (seen.non_negative, seen.whole) == (non_negative, whole)
    if non_negative and whole:
        assert seen.median == values.median()


def test_the_median_of_many_counts_is_near_that_of_a_sample_and_always_the_same(make_panel: Any):
    panel = make_panel([40_000])
    panel.values.copy_(torch.randint(0, 1000, panel.values.shape, generator=torch.Generator().manual_seed(0)))
    split = Split(10, 1)
    sampled = _training_values(panel, split, sampled=4000)
    assert sampled.median == pytest.approx(500, abs=40)  # five standard deviations
    assert sampled == _training_values(panel, split, sampled=4000)
