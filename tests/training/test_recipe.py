"""Tests of what is chosen from the data: always something that can be trained, and said in plain values."""

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.windows import Split
from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.module import ForecastModule
from armlp.training.recipe import SHORT, Choice, _training_values
from armlp.training.recipe import recipe as recipe_of
from armlp.training.settings import NETWORK_OPTIONS, OPTIMIZATION

BLOCKS = Panel.blocks
LENGTHS = st.lists(st.integers(1, 3000), min_size=1, max_size=5)


def data_of(panel: Panel, horizon: int, season_length: int = 1, val_windows: int = 1, test_windows: int = 0) -> Any:
    """A data module that has read a panel without covariates."""
    nothing: dict[str, list[Any]] = {"known": [], "past": [], "static": []}
    options = {"horizon": horizon, "season_length": season_length, "covariate_statistics": nothing}
    data = SeriesDataModule(**options, val_windows=val_windows, test_windows=test_windows)
    data._panel = panel
    return data


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
        *OPTIMIZATION,
    }  # there are none, or the usual ones
    unsaid -= {"theta_share"} if typical < SHORT else set()
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
    options = {name: value for name, value in values.items() if name in NETWORK_OPTIONS}
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
        with mock.patch.object(Panel, "blocks", lambda self, most=most: BLOCKS(self, most)):
            found.add(_training_values(panel, Split(2, 1), 7))
    assert len(found) == 1
    assert found.pop().narrow > 0.5


def test_symbols_are_told_as_what_they_are(make_panel: Any):
    panel = make_panel([500])
    panel = replace(panel, values=torch.randint(0, 3, (500, 1)).float(), symbols=("a", "b", "c"))
    choices = {name: choice.value for name, choice in recipe(panel, 6).items()}
    expected = {"head": "symbols", "symbols": 3, "scaler": "none", "patch_length": 1, "non_negative": False}
    assert {name: choices[name] for name in expected} == expected
    assert choices["input_noise"] == 0


def test_cycles_of_the_calendar_are_said_with_their_reason_unless_they_were_given(make_table):
    for rows, cycles, why in (
        (30, [], ""),
        (500, ["day", "week"], "what comes round at least twice in 494 steps"),
    ):
        module, data = ForecastModule(), SeriesDataModule(make_table(rows=rows), horizon=6)
        module.settle(data)
        assert module.chosen["calendar_inputs"] == Choice(cycles, why)
        assert module.hparams["covariate_sizes"] == ({"calendar": [0] * 4} if cycles else {})
        assert "calendar_inputs" not in module.hparams
        given = SeriesDataModule(make_table(rows=rows), horizon=6, calendar_inputs=["week"])
        assert recipe_of(given)["calendar_inputs"] == Choice(["week"], "")


@pytest.mark.parametrize("options", [{"hidden_sizes": []}, {"covariate_sizes": {}}])
def test_a_model_that_cannot_be_told_of_the_calendar_leaves_it_out_unless_it_was_asked_for(options, make_table):
    data = SeriesDataModule(make_table(rows=500), horizon=6)
    for _ in range(2):
        ForecastModule(**options).settle(data)
        assert (data.calendar_size, data.has_covariates, data.hparams["calendar_inputs"]) == (0, False, [])
    with pytest.raises(UserError, match=r"`hidden_sizes`|`calendar_inputs`"):
        ForecastModule(**options).settle(SeriesDataModule(make_table(rows=500), horizon=6, calendar_inputs=True))


def test_the_chain_reaches_the_horizon_whatever_the_patch_that_was_given(make_table):
    for patch, chain in ((1, 6), (4, 2), (6, 1), (20, 1)):
        module = ForecastModule(patch_length=patch)
        module.settle(SeriesDataModule(make_table(rows=500), horizon=6))
        assert (module.hparams["unroll"], module.hparams["feed"]) == (chain, "truth")


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
def test_what_training_values_are_like_is_that_of_all_of_them_however_the_store_is_cut(
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
    with mock.patch.object(Panel, "blocks", lambda self: BLOCKS(self, most)):
        seen = _training_values(panel, split)
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


def test_a_network_without_layers_or_a_torch_without_muon_is_not_trained_by_it(monkeypatch):
    def optimizer_of(**options: Any) -> str:
        module = ForecastModule(**options)
        module.settle(SeriesDataModule("lorenz"))
        return module.hparams["optimizer"]

    assert optimizer_of() == "muon"
    assert optimizer_of(hidden_sizes=[]) == "adamw"
    assert optimizer_of(hidden_sizes=[], optimizer="muon") == "muon"  # as it was given
    monkeypatch.delattr(torch.optim, "Muon")
    assert optimizer_of() == "adamw"


def test_effort_goes_into_members_or_where_nothing_is_noise_into_steps(make_table: Any):
    def settled(source: Any, **options: Any) -> tuple[int, int]:
        module = ForecastModule(**options)
        steps = module.settle(SeriesDataModule(source, horizon=5))["max_steps"].value
        assert module.network.members == module.hparams["members"]
        return module.hparams["members"], steps

    table = make_table()
    (one, few), (equation, many) = settled(table), settled("lorenz")
    assert one == equation == 1
    assert settled(table, effort=5) == (5, few)
    assert settled("lorenz", effort=5) == (1, 5 * many)
    assert settled(table, effort=5, members=2) == (2, few)
    assert settled(table, effort=5, members=1) == (1, few)


def test_effort_is_not_lost_where_all_else_was_given(make_table: Any):
    data = SeriesDataModule(make_table(), horizon=5)
    settled = ForecastModule()
    settled.settle(data)
    options = {name: value for name, value in settled.hparams.items() if name not in ("members", "effort")}
    module = ForecastModule(**options, effort=3)
    module.settle(data)
    assert module.network is not None
    assert module.network.members == module.hparams["members"] == 3
