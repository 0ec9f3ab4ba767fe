"""Tests of the trials: the best on the validation origins is trained, and nothing else of them is left."""

import random
from collections.abc import Callable
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from armlp.training.candidates import RECIPE, Trial, best_of
from lightning.pytorch import Trainer, seed_everything

from armlp import Forecaster, UserError
from armlp.data.datamodule import SeriesDataModule
from armlp.evaluation.conformal import MIN_WINDOWS
from armlp.training import recipe, trials
from armlp.training.checkpoint import read_checkpoint
from armlp.training.module import ForecastModule
from armlp.training.trainer import TRAINER, quiet

MakeTable = Callable[..., pd.DataFrame]
NO_RUN: dict[str, Any] = {"logger": False, "enable_progress_bar": False}
QUIET = NO_RUN | {"enable_checkpointing": False}
CANDIDATES: dict[str, dict[str, Any]] = {
    "noisy": {"hidden_sizes": [4], "residual_blocks": 1, "dropout": 0.3, "max_steps": 7},
    "linear": {"hidden_sizes": [], "residual_blocks": 0, "ridge_init": True},  # is told nothing of the calendar
    "other windows": {"context_length": 5, "patch_length": 2, "head": "normal"},
    "diverging": {"learning_rate": 1e30},
}


@pytest.fixture(autouse=True)
def few_windows_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of tests are small."""
    monkeypatch.setattr(trials, "MIN_WINDOWS", 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks, short trainings, and candidates of every kind."""
    monkeypatch.setattr(recipe, "_size", lambda typical, rows: recipe._Size(8, 0, 0.0, 0.1, 10))
    monkeypatch.setattr(trials, "candidates", lambda data, choices: CANDIDATES)


def tried(module: ForecastModule, data: SeriesDataModule, **options: Any) -> dict[str, Trial]:
    """What is tried for a training, by name."""
    quiet()
    trials.try_candidates(Trainer(**TRAINER | QUIET | options), module, data)
    return {trial.name: trial for trial in module.tried}


def rig(monkeypatch: pytest.MonkeyPatch, winner: str) -> None:
    """Has one of the candidates win, after all have been tried."""
    judged = trials._judged

    def rigged(entry: Trial, *args: Any) -> Trial:
        return judged(entry, *args)._replace(monitored=float(entry.name != winner))

    monkeypatch.setattr(trials, "_judged", rigged)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "winner",
    [
        RECIPE,
        "noisy alone",
        "linear",
        "other windows",
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in (f"{RECIPE} alone", "noisy")),
    ],
)
def test_what_trials_have_settled_trains_as_if_it_had_been_given_by_hand(
    winner: str, make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained = winner.removesuffix(" alone")
    few = {name: CANDIDATES[name] for name in {trained, "noisy"} if name in CANDIDATES}
    monkeypatch.setattr(trials, "candidates", lambda data, choices: few)
    rig(monkeypatch, winner)
    options = {"horizon": 6, "seed": 3, "default_root_dir": tmp_path} | NO_RUN
    chosen = Forecaster(**options, refit=False).fit(make_table())
    by_hand = {"max_steps": 10, "theta_share": 0.35 if winner == trained else 0.0} | CANDIDATES.get(trained, {})
    given = Forecaster(**options, **by_hand).fit(make_table())
    ours, theirs = chosen._fitted(), given._fitted()
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())
    assert ours["datamodule_hyper_parameters"] == theirs["datamodule_hyper_parameters"]
    assert ours["hyper_parameters"] == theirs["hyper_parameters"]
    assert ours["loops"]["fit_loop"]["epoch_loop.state_dict"] == theirs["loops"]["fit_loop"]["epoch_loop.state_dict"]
    pd.testing.assert_frame_equal(chosen.predict(), given.predict())


@pytest.mark.usefixtures("small")
def test_trials_leave_no_trace_but_the_best_of_them(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    data, module = SeriesDataModule(make_table(), horizon=6), ForecastModule()
    data.setup()
    seed_everything(5, verbose=False)
    before = copy(vars(data)), dict(data.hparams), torch.get_rng_state(), random.getstate()
    found = tried(module, data)
    assert vars(data) == before[0]
    assert data.hparams == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert random.getstate() == before[3]
    assert module.network is None
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")

    moved = [name for name in (RECIPE, *CANDIDATES) if name != "diverging"]
    assert list(found) == [*(each for name in moved for each in (name, f"{name} alone")), "diverging"]
    assert found["diverging"].scores == {}
    best = min(found.values(), key=lambda trial: trial.monitored)
    least = min(trial.scores["scaled_crps"] for trial in found.values() if trial.scores)
    assert best.monitored == pytest.approx(least)
    assert best.name != RECIPE
    assert {name: choice.value for name, choice in module.preferred.items()} == best.options
    assert {choice.why for choice in module.preferred.values()} == {f"best of {len(found)} tried on validation"}
    kept = {name: value for name, value in module.hparams.items() if value != ForecastModule().hparams[name]}
    assert kept == {name: value for name, value in best.options.items() if name != "max_steps"}


@pytest.mark.usefixtures("small")
def test_a_trial_scores_what_a_training_by_hand_would_score(make_table: MakeTable):
    module, data = ForecastModule(), SeriesDataModule(make_table(), horizon=6)
    seed_everything(5, verbose=False)
    found = tried(module, data)
    own = SeriesDataModule(make_table(), horizon=6)
    seed_everything(5, verbose=False)
    by_hand = ForecastModule(hidden_sizes=[4], residual_blocks=1, dropout=0.3, theta_share=0.35)
    Trainer(**TRAINER | QUIET, max_steps=7, limit_val_batches=0).fit(by_hand, datamodule=own)
    Trainer(**QUIET).validate(by_hand, datamodule=own, verbose=False)
    assert by_hand.scores["armlp"] == found["noisy"].scores
    by_hand.hparams["theta_share"] = 0.0
    Trainer(**QUIET).validate(by_hand, datamodule=own, verbose=False)
    assert by_hand.scores["armlp"] == found["noisy alone"].scores


@pytest.mark.parametrize(
    ("options", "trainer", "expected"),
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
    options: dict[str, Any],
    trainer: dict[str, Any],
    expected: list[str],
    make_table: MakeTable,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(trials, "_trials", lambda trainer, given, entry, *args: [entry])
    module, data = ForecastModule(**options), SeriesDataModule(make_table(), horizon=6)
    found = tried(module, data, **trainer)
    assert list(found) == expected
    if "max_steps" in trainer:
        assert all("max_steps" not in trial.options for trial in found.values())


def test_what_cannot_be_trained_on_the_data_is_not_tried(make_table: MakeTable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trials, "_trials", lambda trainer, given, entry, *args: [entry])
    priced = make_table().assign(price=1.0)
    for options in ({"known_covariates": "price"}, {"calendar_inputs": True}):
        data = SeriesDataModule(priced, horizon=6, target_columns="y", **options)
        assert "linear" not in tried(ForecastModule(), data)
    assert tried(ForecastModule(), SeriesDataModule("markov", horizon=6)) == {}


def test_a_few_windows_choose_nothing(make_table: MakeTable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trials, "_trials", lambda trainer, given, entry, *args: [entry])
    monkeypatch.setattr(trials, "MIN_WINDOWS", MIN_WINDOWS)
    few, enough = (make_table(series=series) for series in (MIN_WINDOWS - 1, MIN_WINDOWS))
    assert tried(ForecastModule(), SeriesDataModule(few, horizon=6)) == {}
    assert RECIPE in tried(ForecastModule(trials=1), SeriesDataModule(few, horizon=6))
    assert RECIPE in tried(ForecastModule(), SeriesDataModule(enough, horizon=6))


def test_several_processes_share_no_trials():
    with pytest.raises(UserError, match=r"`trials`: 2 processes"):
        trials._wanted(SimpleNamespace(world_size=2), ForecastModule(trials=2), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["random walk", "noisy season"])
def test_the_model_is_not_worse_than_what_is_simpler(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipe, "_size", lambda typical, rows: recipe._Size(8, 0, 0.0, 0.1, 30))
    monkeypatch.setattr(trials, "trial_steps", lambda data: 10)
    noise = np.random.default_rng(0).normal(size=(6, 120))
    season = 5 * np.sin(np.arange(120) * 2 * np.pi / 12) + 0.3 * noise
    values = noise.cumsum(1) if kind == "random walk" else season
    table = pd.DataFrame(values.T, columns=list("abcdef")).assign(ds=range(120))
    options = {
        "season_length": 12,
        "val_windows": 2,
        "refit": False,
        "val_paths": 20,
        "default_root_dir": tmp_path,
    } | NO_RUN
    forecaster = Forecaster(horizon=6, **options).fit(table)
    measured = {name: row["scaled_crps"] for name, row in forecaster.scores.items()}
    assert measured["armlp"] < min(measured["ridge AR"], measured["seasonal naive"])


@pytest.mark.usefixtures("small")
def test_fit_lists_its_trials_and_says_what_they_have_settled(program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    printed = program("fit", "--data.source=table.parquet", "--data.horizon=6", "--trainer.logger=false")
    assert printed.index("Tried on validation") < printed.index("Chosen from the data")
    assert "│ noisy │ hidden_sizes [4]" in printed
    assert "best of 9 tried on validation" in " ".join(printed.replace("│", " ").split())
    printed = program("fit", "--config=fast", "--data.source=table.parquet", "--trainer.logger=false")
    assert "Tried" not in printed


@pytest.mark.usefixtures("small")
def test_a_run_that_goes_on_keeps_what_its_trials_have_settled(
    program: Any, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
):
    make_table().to_parquet("table.parquet")
    fit = ("fit", "--data.source=table.parquet", "--data.horizon=6", "--trainer.logger=false", "--model.refit=false")
    last = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    with monkeypatch.context() as patch:
        rig(patch, "noisy")
        program.breaks_off(lambda module: module.trainer.checkpoint_callbacks and module.global_step == 5, *fit)
    first = read_checkpoint(last)
    assert first["global_step"] == 5
    monkeypatch.setattr(trials, "_trials", None)  # there are no others
    printed = program(*fit, "--ckpt_path", last)
    assert read_checkpoint(last)["global_step"] == 7  # and not the 10 of the recipe
    assert read_checkpoint(last)["hyper_parameters"] == first["hyper_parameters"]
    assert "│ max_steps │ 7 │ best of 9 tried on validation │" in printed


def test_the_recipe_stays_unless_another_is_clearly_better():
    recipe = Trial(RECIPE, {}, monitored=1.0)
    assert best_of([recipe, Trial("linear", {}, monitored=0.995)]) is recipe
    clearly = Trial("linear", {}, monitored=0.98)
    assert best_of([recipe, clearly, Trial("failed", {})]) is clearly
