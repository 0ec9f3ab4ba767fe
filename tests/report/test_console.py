"""Tests of the tables that `fit`, `validate` and `test` print."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.data.split import Split
from armlp.data.summary import summarize
from armlp.data.tables.read import read_panel
from armlp.report.console import ConsoleListener, print_choices, print_scores, print_summary
from armlp.report.progress import StepBar
from armlp.report.texts import compare_with_baselines, judge_intervals
from armlp.training.loop.listener import Trial
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.training.settle import Settled
from armlp.training.trials import RECIPE

SCORES = {
    "armlp": {"mae": 1234.5678, "smape": 2.5, "mase": math.nan, "crps": 0.25, "coverage_80": 0.804, "skill": 0.1234},
    "seasonal naive": {"mae": 1.5, "smape": 3.5, "mase": math.nan, "crps": 1.5, "skill": 0.0},
}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without line breaks."""
    return " ".join(capsys.readouterr().out.split())


def test_scores_stand_beside_those_of_the_baseline(capsys: pytest.CaptureFixture[str]):
    print_scores(SCORES, "Test of a table", "A caution.")
    printed = said(capsys)
    for words in ("Test of a table", "MAE", "sMAPE", "CRPS", "in 80%", "80%", "1,235", "0.123", "A caution."):
        assert words in printed
    assert "seasonal" in printed
    assert "nan" not in printed
    assert "MASE" not in printed  # nobody has one


def test_the_comparison_is_printed_below_the_scores(capsys: pytest.CaptureFixture[str]):
    print_scores(SCORES, "Test")
    assert said(capsys).endswith(" ".join(compare_with_baselines(SCORES)))


def test_the_data_are_printed_as_they_are_named_within_80_columns(capsys: pytest.CaptureFixture[str]):
    panel = read_panel(pd.DataFrame({"unique_id": "a", "ds": range(9), "y": range(9)}))
    names = [f"[red]column {index}[/]" for index in range(9)]
    summary = summarize(panel, Split(2), 1, 1234567)._replace(name="data[1].csv", covariates={"known": names})
    print_summary(summary)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    words = " ".join(printed.replace("│", " ").split())
    assert words.startswith("The data: data[1].csv")
    for label, text in summary.rows().items():
        assert f"{label} {text}" in words
    assert "known [red]column 0[/], [red]column 1[/]" in words
    assert "1,234,567 windows an epoch" in words


def test_choices_are_printed_with_their_reasons(capsys: pytest.CaptureFixture[str]):
    print_choices({"context_length": Choice(48, "a season of [24] steps, twice")})
    printed = said(capsys)
    assert all(words in printed for words in ("context_length", "48", "a season of [24] steps, twice"))


def test_a_listener_prints_the_data_then_the_trials_then_the_choices(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    listener = ConsoleListener()
    best = Trial("wide", {"dropout": 0.2}, {"skill": 0.25, "scaled_crps": 0.5}, 0.5, 1.25)
    listener.trials_ended([Trial(RECIPE, {}, {"skill": 0.125, "scaled_crps": 1.5}, 1.5, 2.5), best])
    module = ForecastModule(hidden_sizes=[4])
    module.settled = Settled(module.settings, from_trials={"dropout": Choice(0.2, "best of 2 tried on validation")})
    assert not capsys.readouterr().out
    trainer = Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, callbacks=[listener], enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=SeriesDataModule(trained.table, horizon=6))
    printed = said(capsys).replace("│ ", "").replace("┃ ", "")
    titles = ("The data: ", "Tried on validation", "tried with skill scaled CRPS seconds", "Chosen from the data")
    found = [printed.find(words) for words in titles]
    assert found == sorted(found)
    assert found[0] >= 0
    assert "recipe the recipe's choices 0.125 1.5 2.5" in printed
    assert "wide dropout 0.2 0.250 0.5 1.2" in printed
    assert "dropout 0.2 best of 2 tried on validation" in printed


def test_a_listener_prints_the_final_training_and_a_backtest_that_trained_anew(capsys: pytest.CaptureFixture[str]):
    listener = ConsoleListener()
    listener.refit_ended("best.ckpt", 40)
    assert "best.ckpt was then trained anew on the validation rows too, for 40 steps" in said(capsys)
    rows = [(name, step, 1.0 + step) for name in ("a", "b") for step in range(8)]
    table = pd.DataFrame(rows, columns=["unique_id", "ds", "y"]).assign(cutoff=-1, armlp=1.0)
    for refit, words in {1: "every origin", 3: "every 3 origins"}.items():
        listener.backtest_ended(SCORES, 6, 8, refit, table)
        printed = said(capsys)
        assert f"Test, 6 x 8 steps, trained anew for {words}" in printed
        by_lead, by_series = printed.split("Test by lead")[1].split("Test by series, the worst 2 of 2 first")
        assert "lead count MAE RMSE sMAPE" in by_lead
        assert [lead for lead in range(1, 9) if f" {lead} 2 {lead - 1} {lead - 1} " in by_lead] == [1, 2, 4, 5, 7, 8]
        assert "a 8 3.5 " in by_series


@pytest.mark.parametrize("progress", [True, False])
def test_trainings_within_a_fit_have_a_bar_where_bars_are_shown(progress: bool):
    bars = ConsoleListener(progress).progress_bar("trying wide, 2 of 3", 40)
    assert [(type(bar), bar.description, bar.steps) for bar in bars if isinstance(bar, StepBar)] == [
        (StepBar, "trying wide, 2 of 3", 40)
    ] * progress
    assert len(bars) == progress


def test_fit_says_what_it_chose_how_good_it_is_and_where_it_lies(trained: Any):
    printed = " ".join(trained.printed.split())
    for words in (
        "The data: ",
        "96 steps",
        "3 origins x 6 steps",
        "Chosen from the data",
        "context_length",
        "Validation, best checkpoint",
        "skill",
        "best checkpoint:",
    ):
        assert words in printed
    assert "version_0/checkpoints/best.ckpt" in printed
    assert "tensorboard --logdir" in printed
    assert "hidden_sizes" not in printed  # that was given


def test_a_run_without_tensorboard_names_no_command_for_it(program: Any, trained: Any):
    options = ("--trainer.logger=false", "--trainer.max_steps=1", "--model.hidden_sizes=[4]", "--data.horizon=6")
    printed = program("fit", "--data.source", trained.source, *options)
    assert "best checkpoint: lightning_logs/version_0/checkpoints/best.ckpt" in printed
    assert "tensorboard" not in printed


def test_validate_prints_the_scores_of_the_checkpoint(program: Any, trained: Any):
    printed = program("validate", "--ckpt_path", trained.best)
    assert "seasonal naive" in printed
    scores = trained.printed.split("Validation, best checkpoint")[1]
    line = next(line for line in scores.splitlines() if "armlp" in line)
    assert " ".join(line.split()) in printed


BASELINES = {
    "armlp": {"mase": 0.8, "mae": 3.0, "coverage_80": 0.9, "skill": 0.2},
    "seasonal naive": {"mase": 1.0, "mae": 4.0, "skill": 0.0},
    "ridge AR": {"mase": 0.9, "mae": 2.0, "skill": 0.1},
    "drift": {"mase": 1.5, "mae": 4.0, "skill": -0.5},
}


def test_the_best_of_each_column_is_marked_where_it_is_not_alone(capsys: pytest.CaptureFixture[str]):
    print_scores(BASELINES, "Test")
    lines = {line.split("  ")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert lines["armlp"].split()[1:] == ["3", "0.8*", "90%", "0.200*"]
    assert lines["ridge AR"].split()[2:] == ["2*", "0.9", "0.100"]
    assert "*" not in lines["drift"]


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_a_table_of_scores_is_as_wide_as_the_terminal_at_most_and_ends_in_skill(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", str(width))
    row = {name: 123456.789 for name in ("mae", "rmse", "smape", "mase", "rmsse", "wql", "crps", "nll")}
    row |= {"coverage_80": 0.8, "coverage_95": 0.95, "skill": -12.345, "owa": 0.5}
    print_scores({"armlp": row, "seasonal naive": row}, "Test")
    table = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= width
    heading = table[2].split()
    assert heading[-1] == "skill"
    assert ("RMSE" in heading) == (width == 160)
    assert "…" not in "".join(table)


@pytest.mark.parametrize("seasonal_skip", [pytest.param("true", marks=pytest.mark.exhaustive), "false"])
def test_a_model_with_shuffled_weights_is_called_worse_than_the_baseline(
    program: Any, trained: Any, seasonal_skip: str
):
    # Without the seasonal skip even the season is in the weights.
    learned = ("--trainer.max_steps=150", "--trainer.val_check_interval=50", f"--model.seasonal_skip={seasonal_skip}")
    run = program.fit(trained.source, "--data.horizon=6", "--data.test_windows=2", *learned, "--model.dropout=0")
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, value in checkpoint["state_dict"].items():
        place = torch.randperm(value.numel(), generator=generator)
        checkpoint["state_dict"][name] = value.flatten()[place].view_as(value)
    torch.save(checkpoint, "shuffled.ckpt")
    for command, options in {"validate": (), "test": ("--forecast.output=b.parquet",)}.items():
        whole = program(command, "--ckpt_path", run / "checkpoints" / "best.ckpt", *options)
        assert "smaller than that of the seasonal naive" in whole
        printed = program(command, "--ckpt_path", "shuffled.ckpt", *options)
        assert "armlp is worse than the seasonal naive here" in printed
        assert "use the seasonal naive" in printed
        assert "smaller than that of the seasonal naive" not in printed


def test_intervals_are_judged_by_the_number_of_windows():
    scores = {"coverage_80": 0.5, "coverage_95": 0.7, "sum_coverage_80": 0.99}
    assert judge_intervals(scores, 400) == [
        "80% intervals of values are too narrow: they held 50%.",
        "95% intervals of values are too narrow: they held 70%.",
        "80% intervals of sums over the horizon are too wide: they held 99%.",
    ]
    assert judge_intervals({"coverage_80": 0.7, "coverage_95": 0.9, "sum_coverage_80": 0.7}, 40) == []
    (few,) = judge_intervals(scores, 1)
    assert few == "80% intervals held 50% of the values of 1 window, which are too few to judge them by."
    assert judge_intervals({"mae": 1.0}, 400) == []
