"""Tests of the texts of a run: tables, and sentences that compare the model with the baselines."""

import math

import pytest

from armlp.report.texts import compare_with_baselines, score_table, shorten, table


def test_a_cell_with_a_bar_in_it_stays_a_cell():
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |"


def test_scores_have_a_row_for_each_forecaster_and_empty_cells_for_missing_ones():
    scores = {"armlp": {"mae": 1.5, "coverage_80": 0.804, "skill": 0.25}, "drift": {"mae": math.nan, "skill": -1.0}}
    heading, _, *rows = score_table(scores).splitlines()
    assert heading == "| forecaster | MAE | in 80% | skill |"
    assert rows == ["| armlp | 1.5 | 80% | 0.250 |", "| drift |  |  | -1.000 |"]


@pytest.mark.parametrize("length", [1, 4, 5, 6])
def test_a_text_that_is_too_long_ends_in_an_ellipsis(length: int):
    short = shorten("hello", length)
    assert len(short) == min(5, length)
    assert short == "hello" or short == "hello"[: length - 1] + "…"


BASELINES = {
    "armlp": {"skill": 0.2},
    "seasonal naive": {"skill": 0.0},
    "ridge AR": {"skill": 0.1},
    "drift": {"skill": -0.5},
}


@pytest.mark.parametrize(
    ("skill", "words"),
    [
        (0.25, "armlp's error is 25% smaller than that of the seasonal naive."),
        (-0.5, "its error is 50% larger"),
        (0.0, "worse"),
        (math.nan, "no skill to measure"),
    ],
)
def test_the_first_sentence_compares_with_the_seasonal_naive(skill: float, words: str):
    (sentence,) = compare_with_baselines({"armlp": {"skill": skill}, "seasonal naive": {"skill": 0.0}})
    assert words in sentence


@pytest.mark.parametrize(
    ("skills", "said_of_others"),
    [
        ({}, "It beats ridge AR and drift too."),
        ({"ridge AR": 0.4}, "armlp is worse than ridge AR (error 25% smaller): a simpler method does better here."),
        ({"ridge AR": 0.4, "drift": 0.6}, "worse than ridge AR (error 25% smaller) and drift (error 50% smaller):"),
        ({"armlp": -0.25}, "armlp is worse than ridge AR (error 28% smaller):"),
    ],
)
def test_the_comparison_names_every_baseline_that_is_better(skills: dict[str, float], said_of_others: str):
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
