"""Tests of the texts of a run on TensorBoard."""

import math

import pytest

from armlp.report.texts import score_table, shorten, table


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
