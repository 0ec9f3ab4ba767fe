"""Tests of settling: what is left out is chosen from the data, and nothing but what is returned changes."""

from typing import Any

import pytest
import torch

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice, recipe
from armlp.training.settings import ModelSettings
from armlp.training.settle import settle_model

CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "some": {"hidden_sizes": [4], "patch_length": 2, "head": "normal"},
    "an objective of samples": {"objective": "crps", "unroll": 2},
    "linear": {"hidden_sizes": []},
    "effort": {"effort": 3},
    "recalibrated": {"conformal": "split"},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_settling_is_pure_and_settled_settings_stay(options: dict[str, Any], make_table: Any):
    data = SeriesDataModule(make_table(), horizon=6)
    data.setup()
    settings = ModelSettings(**options)
    before = dict(vars(data)), dict(data.hparams), dict(vars(settings)), torch.get_rng_state()
    first, second = settle_model(settings, data), settle_model(settings, data)
    assert first == second
    assert (dict(vars(data)), dict(data.hparams), dict(vars(settings))) == before[:3]
    assert torch.equal(torch.get_rng_state(), before[3])
    assert vars(first.settings).items() >= settings.non_defaults().items()
    again = settle_model(first.settings, data)
    assert again.settings == first.settings
    assert again.applied == {}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_module_of_settled_settings_has_its_network_at_once(options: dict[str, Any], make_table: Any):
    data, given = SeriesDataModule(make_table(), horizon=6), ModelSettings(**options)
    settled = settle_model(given, data)
    module = ForecastModule.of(settled)
    assert module.settings.flat() == settled.settings.flat()
    assert module.reasons == settled.applied
    assert module.network.context_length == settled.settings.context_length
    assert module.windowing.context_length == module.network.context_length
    assert dict(module.hparams) == settled.settings.flat()


def test_every_reason_is_of_an_option_that_was_left_out(make_table: Any):
    data, given = SeriesDataModule(make_table(), horizon=6), {"dropout": 0.2, "head": "normal"}
    settled = settle_model(ModelSettings(**given), data)
    assert not settled.applied.keys() & given.keys()
    named = {name: choice.value for name, choice in settled.applied.items() if name != "calendar_inputs"}
    assert vars(settled.settings).items() >= named.items()


def test_preferred_options_override_the_recipe_but_not_given_options(make_table: Any):
    data = SeriesDataModule(make_table(), horizon=6)
    from_trials = {"hidden_sizes": Choice([3], "tried"), "max_steps": Choice(7, "tried")}
    settled = settle_model(ModelSettings(), data, from_trials)
    assert settled.settings.hidden_sizes == [3]
    assert settled.max_steps == from_trials["max_steps"]
    assert settled.applied["hidden_sizes"] == from_trials["hidden_sizes"]
    assert settled.from_trials == from_trials
    # A choice of trials is none by hand, which would leave Theta out.
    assert settled.settings.theta_share == settle_model(ModelSettings(), data).settings.theta_share > 0
    assert settle_model(ModelSettings(hidden_sizes=[3]), data).settings.theta_share == 0


def test_cycles_of_the_calendar_have_a_reason_unless_they_were_given(make_table: Any, settled: Any):
    for rows, cycles, why in ((30, [], ""), (500, ["day", "week"], "cycles that repeat at least twice in 494 steps")):
        module = settled(SeriesDataModule(make_table(rows=rows), horizon=6))
        assert module.reasons["calendar_inputs"] == Choice(cycles, why)
        assert module.settings.covariate_sizes == ({"calendar": [0] * 4} if cycles else {})
        assert "calendar_inputs" not in module.hparams
        given = SeriesDataModule(make_table(rows=rows), horizon=6, calendar_inputs=["week"])
        assert recipe(given)["calendar_inputs"] == Choice(["week"], "")


@pytest.mark.parametrize("options", [{"hidden_sizes": []}, {"covariate_sizes": {}}])
def test_a_model_that_cannot_use_the_calendar_leaves_it_out_unless_it_is_given(
    options: dict[str, Any], make_table: Any, settled: Any
):
    data = SeriesDataModule(make_table(rows=500), horizon=6)
    module = settled(data, **options)
    assert module.settings.covariate_sizes == {}
    assert not module.windowing.calendar
    with pytest.raises(UserError, match=r"`hidden_sizes`|`calendar_inputs`"):
        settled(SeriesDataModule(make_table(rows=500), horizon=6, calendar_inputs=True), **options)


def test_the_chain_reaches_the_horizon_whatever_the_patch_that_was_given(make_table: Any):
    data = SeriesDataModule(make_table(rows=500), horizon=6)
    for patch, chain in ((1, 6), (4, 2), (6, 1), (20, 1)):
        settings = settle_model(ModelSettings(patch_length=patch), data).settings
        assert (settings.unroll, settings.feed) == (chain, "truth")


def test_a_network_without_layers_or_a_torch_without_muon_is_not_trained_by_it(monkeypatch: pytest.MonkeyPatch):
    data = SeriesDataModule("lorenz")

    def optimizer_of(**options: Any) -> str | None:
        return settle_model(ModelSettings(**options), data).settings.optimizer

    assert optimizer_of() == "muon"
    assert optimizer_of(hidden_sizes=[]) == "adamw"
    assert optimizer_of(hidden_sizes=[], optimizer="muon") == "muon"  # as it was given
    monkeypatch.delattr(torch.optim, "Muon")
    assert optimizer_of() == "adamw"


def test_effort_goes_into_members_or_where_nothing_is_noise_into_steps(make_table: Any):
    sources = SeriesDataModule(make_table(), horizon=5), SeriesDataModule("lorenz", horizon=5)

    def work(data: SeriesDataModule, **options: Any) -> tuple[int | None, int]:
        settled = settle_model(ModelSettings(**options), data)
        return settled.settings.members, settled.max_steps.value

    table, equation = sources
    (one, few), (single, many) = work(table), work(equation)
    assert one == single == 1
    assert work(table, effort=5) == (5, few)
    assert work(equation, effort=5) == (1, 5 * many)
    assert work(table, effort=5, members=2) == (2, few)
    assert work(table, effort=5, members=1) == (1, few)


def test_effort_is_not_lost_where_all_else_was_given(make_table: Any, settled: Any):
    data = SeriesDataModule(make_table(), horizon=5)
    options = vars(settle_model(ModelSettings(), data).settings)
    options = {name: value for name, value in options.items() if name not in ("members", "effort")}
    module = settled(data, **options, effort=3)
    assert module.network.members == module.settings.members == 3
