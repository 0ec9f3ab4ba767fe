"""Tests of the trials: the best on the validation origins is trained, and nothing else of them is left."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

from armlp import Forecaster, UserError
from armlp.data.datamodule import SeriesDataModule
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.loop.listener import FitListener
from armlp.training.loop.trainer import TRAINER, quiet
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.training.settings import ModelSettings
from armlp.training.settle import settle_model
from armlp.training.trials import RECIPE, Trial, best_of, candidates, list_trials, num_trials, try_candidates

MakeTable = Callable[..., pd.DataFrame]
QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
SHORT: dict[str, Any] = {"trials": 3, "val_paths": 10}


def trainer(**options: Any) -> Trainer:
    quiet()
    return Trainer(**TRAINER | QUIET | options)


class Trials(FitListener):
    """Keeps the trials."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def trials_ended(self, trials: Sequence[Trial]) -> None:
        self.trials = list(trials)


def tried(data: SeriesDataModule, steps: int = 4, **options: Any) -> tuple[list[Trial], dict[str, Choice]]:
    """The trials of a training, and the options that they have settled."""
    listener = Trials()
    from_trials = try_candidates(ModelSettings(**SHORT | options), data, trainer(max_steps=steps), listener)
    return listener.trials, from_trials


def test_trials_leave_no_trace_but_the_best_of_them(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    data = SeriesDataModule(make_table(), horizon=6)
    data.setup()
    seed_everything(5, verbose=False)
    before = dict(vars(data)), dict(data.hparams), torch.get_rng_state(), random.getstate()
    trials, from_trials = tried(data)
    assert vars(data) == before[0]
    assert data.hparams == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert random.getstate() == before[3]
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")

    names = [name for one in (RECIPE, "linear", "narrow", "wide") for name in (one, f"{one}, without Theta")]
    assert [trial.name for trial in trials] == names
    assert all(trial.monitored == pytest.approx(trial.scores["scaled_crps"]) for trial in trials)
    best = min(trials, key=lambda trial: trial.monitored)
    assert best.name.startswith("linear")  # it starts at the solution, and the others have had four steps
    assert {name: choice.value for name, choice in from_trials.items()} == best.options
    assert {choice.why for choice in from_trials.values()} == {f"best of {len(trials)} tried on validation"}


def test_trials_that_diverge_have_no_scores_and_settle_nothing(make_table: MakeTable):
    trials, from_trials = tried(SeriesDataModule(make_table(), horizon=6), trials=1, learning_rate=1e30)
    assert [trial.scores for trial in trials] == [{}, {}]
    assert from_trials == {}


def test_a_trial_scores_what_a_training_by_hand_would_score(make_table: MakeTable):
    seed_everything(5, verbose=False)
    trials = {trial.name: trial for trial in tried(SeriesDataModule(make_table(), horizon=6), trials=2)[0]}
    data = SeriesDataModule(make_table(), horizon=6)
    options = trials["narrow"].options | {"val_paths": 10}
    seed_everything(5, verbose=False)
    by_hand = ForecastModule(**options, theta_share=0.35)
    trainer(max_steps=4, limit_val_batches=0).fit(by_hand, datamodule=data)
    trainer().validate(by_hand, datamodule=data, verbose=False)
    assert by_hand.scores["armlp"] == trials["narrow"].scores
    alone = ForecastModule(**by_hand.settings.flat() | {"theta_share": 0.0})
    alone.load_state_dict(by_hand.state_dict())
    trainer().validate(alone, datamodule=data, verbose=False)
    assert alone.scores["armlp"] == trials["narrow, without Theta"].scores


@pytest.mark.parametrize("name", ["linear", "narrow", "wide"])
@pytest.mark.parametrize("alone", [False, True])
def test_what_trials_have_settled_is_as_if_it_had_been_given_by_hand(name: str, alone: bool, make_table: MakeTable):
    data = SeriesDataModule(make_table(), horizon=6)
    settled = settle_model(ModelSettings(), data)
    options = candidates(data, settled.recommended)[name] | ({"theta_share": 0.0} if alone else {})
    from_trials = {option: Choice(value, "tried") for option, value in options.items()}
    chosen = settle_model(ModelSettings(), data, from_trials)
    given = {"theta_share": 0.35} | {option: value for option, value in options.items() if option != "max_steps"}
    assert chosen.settings == settle_model(ModelSettings(**given), data).settings
    assert chosen.max_steps.value == options["max_steps"]


@pytest.mark.parametrize(
    ("options", "given", "expected"),
    [
        ({}, {}, [RECIPE, "linear", "narrow", "wide"]),
        ({"trials": 1}, {}, [RECIPE, "linear"]),
        ({"trials": 0}, {}, []),
        ({"hidden_sizes": [8]}, {}, []),
        ({"residual_blocks": 1}, {}, [RECIPE, "narrow", "wide"]),
        ({"dropout": 0.1}, {}, [RECIPE, "linear"]),
        ({"linear_skip": False}, {}, [RECIPE, "narrow", "wide"]),
        ({"theta_share": 0.2}, {}, [RECIPE, "linear", "narrow", "wide"]),
        ({}, {"max_steps": 3}, []),
        ({}, {"max_epochs": 3}, []),
        ({}, {"max_time": "00:00:01:00"}, []),
        ({}, {"limit_train_batches": 1}, []),
        ({}, {"overfit_batches": 1}, []),
        ({}, {"fast_dev_run": True}, []),
        ({}, {"limit_val_batches": 0}, []),
        ({"trials": 5}, {"max_steps": 3}, [RECIPE, "linear", "narrow", "wide"]),
    ],
)
def test_what_is_tried_contradicts_nothing_that_was_given(
    options: dict[str, Any], given: dict[str, Any], expected: list[str], make_table: MakeTable
):
    data, settings, like = (
        SeriesDataModule(make_table(MIN_WINDOWS), horizon=6),
        ModelSettings(**options),
        trainer(**given),
    )
    number = num_trials(settings, data, like)
    entries = list_trials(settings, data, like, number) if number != 0 else []
    assert [entry.name for entry in entries if len(entries) > 1] == expected
    for entry in entries:
        assert not entry.options.keys() & settings.non_defaults().keys()
        assert "max_steps" not in given or "max_steps" not in entry.options


def test_what_cannot_be_trained_on_the_data_is_not_tried(make_table: MakeTable):
    priced = make_table().assign(price=1.0)
    for options in ({"known_covariates": "price"}, {"calendar_inputs": True}):
        data = SeriesDataModule(priced, horizon=6, target_columns="y", **options)
        assert "linear" not in [entry.name for entry in list_trials(ModelSettings(), data, trainer(), None)]
    symbols = SeriesDataModule("markov", horizon=6)
    assert [entry.name for entry in list_trials(ModelSettings(), symbols, trainer(), None)] == [RECIPE]


def test_a_few_windows_choose_nothing(make_table: MakeTable):
    few, enough = (SeriesDataModule(make_table(series), horizon=6) for series in (MIN_WINDOWS - 1, MIN_WINDOWS))
    assert num_trials(ModelSettings(), few, trainer()) == 0
    assert num_trials(ModelSettings(trials=1), few, trainer()) == 1
    assert num_trials(ModelSettings(), enough, trainer()) is None


def test_several_processes_share_no_trials(make_table: MakeTable):
    two: Any = SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match=r"`trials`: 2 processes"):
        num_trials(ModelSettings(trials=2), SeriesDataModule(make_table(), horizon=6), two)


FIT = (
    "fit", "--data.source=table.parquet", "--data.horizon=6", "--trainer.logger=false", "--model.trials=1",
    "--model.refit=false", "--model.val_paths=10",
)  # fmt: skip


def test_fit_lists_its_trials_and_a_run_that_goes_on_keeps_what_they_have_settled(program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    printed = program(*FIT, "--trainer.max_steps=2")
    assert printed.index("Tried on validation") < printed.index("Chosen from the data")
    assert "│ linear │ hidden_sizes []" in printed
    assert "best of 2 tried on validation" in " ".join(printed.replace("│", " ").split())
    last = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    first = read_checkpoint(last)
    assert first["preferred"]["hidden_sizes"] == [[], "best of 2 tried on validation"]
    printed = program(*FIT, "--trainer.max_steps=4", "--ckpt_path", last)
    assert "Tried" not in printed
    resumed = read_checkpoint(last)
    assert (first["global_step"], resumed["global_step"]) == (2, 4)
    assert resumed["hyper_parameters"] == first["hyper_parameters"]
    assert resumed["preferred"] == first["preferred"]


def test_the_recipe_stays_unless_another_is_clearly_better():
    recipe = Trial(RECIPE, {}, monitored=1.0)
    assert best_of([recipe, Trial("linear", {}, monitored=0.995)]) is recipe
    clearly = Trial("linear", {}, monitored=0.98)
    assert best_of([recipe, clearly, Trial("failed", {})]) is clearly


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["random walk", "noisy season"])
def test_the_model_is_not_worse_than_what_is_simpler(kind: str):
    noise = np.random.default_rng(0).normal(size=(6, 120))
    season = 5 * np.sin(np.arange(120) * 2 * np.pi / 12) + 0.3 * noise
    values = noise.cumsum(1) if kind == "random walk" else season
    table = pd.DataFrame(values.T, columns=list("abcdef")).assign(ds=range(120))
    options = {"season_length": 12, "val_windows": 2, "refit": False, "val_paths": 20, "enable_progress_bar": False}
    forecaster = Forecaster(horizon=6, logger=False, **options).fit(table)
    measured = {name: row["scaled_crps"] for name, row in forecaster.scores.items()}
    assert measured["armlp"] < min(measured["ridge AR"], measured["seasonal naive"])
