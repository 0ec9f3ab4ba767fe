"""Tests of the tables that `fit`, `validate` and `test` print."""

import math
from typing import Any

import pandas as pd
import pytest
import torch

from armlp.data.summary import summarize
from armlp.data.tables.read import read_panel
from armlp.data.windows import Split
from armlp.report.comparison import compare_with_baselines
from armlp.report.console import print_choices, print_scores, print_summary
from armlp.training.recipe import Choice

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


@pytest.mark.parametrize(
    ("skill", "compare_with_baselines"),
    [
        (0.25, "armlp's error is 25% smaller than that of the seasonal naive."),
        (-0.5, "its error is 50% larger"),
        (0.0, "worse"),
        (math.nan, "no skill to measure"),
    ],
)
def test_the_verdict_says_who_is_better(skill: float, compare_with_baselines: str, capsys: pytest.CaptureFixture[str]):
    print_scores({name: row | {"skill": skill} for name, row in SCORES.items()}, "Test")
    assert compare_with_baselines in said(capsys)


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


@pytest.mark.parametrize(
    ("skills", "said_of_others"),
    [
        ({}, "It beats ridge AR and drift too."),
        ({"ridge AR": 0.4}, "armlp is worse than ridge AR (error 25% smaller): a simpler method does better here."),
        ({"ridge AR": 0.4, "drift": 0.6}, "worse than ridge AR (error 25% smaller) and drift (error 50% smaller):"),
        ({"armlp": -0.25}, "armlp is worse than ridge AR (error 28% smaller):"),
    ],
)
def test_the_verdict_names_every_baseline_that_is_better(skills: dict[str, float], said_of_others: str):
    scores = {name: row | {"skill": skills.get(name, row["skill"])} for name, row in BASELINES.items()}
    sentences = compare_with_baselines(scores)
    assert len(sentences) == 2
    assert said_of_others in sentences[1]


def test_a_model_worse_than_every_baseline_beats_none():
    sentences = compare_with_baselines(
        {name: row | {"skill": -float(name == "armlp")} for name, row in BASELINES.items()}
    )
    assert "worse than the seasonal naive" in sentences[0]
    assert sentences[1].startswith("armlp is worse than ridge AR (error 50% smaller) and drift (error 50% smaller)")


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
