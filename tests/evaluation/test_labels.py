"""Tests of how scores are named, ordered and formatted."""

import math

import pytest

from armlp.evaluation.labels import best_score, format_score, label, shown
from armlp.evaluation.metrics.base import METRICS, LeadMetric


@pytest.mark.parametrize("name", [*METRICS, "nll", "perplexity", "owa", "skill"])
def test_every_score_has_a_heading_that_no_other_one_has(name):
    names = [*METRICS, "nll", "perplexity", "owa", "skill"]
    assert label(name).heading
    assert [label(other).heading for other in names].count(label(name).heading) == 1


@pytest.mark.parametrize(
    ("name", "heading", "text"),
    [
        ("mase", "MASE", "0.1235"),
        ("mae", "MAE", "0.1235"),
        ("skill", "skill", "0.123"),
        ("coverage_80", "in 80%", "12%"),
        ("coverage-80", "in 80%", "12%"),  # of a backtest summary
        ("coverage-55", "coverage-55", "12%"),
        ("error_rate", "wrong", "12%"),
        ("unique_id", "unique_id", "0.1235"),
    ],
)
def test_a_score_is_written_alike_everywhere(name, heading, text):
    assert label(name).heading == heading
    assert format_score(name, 0.12345) == text
    assert format_score(name, math.nan) == ""


def test_tables_show_what_has_a_value_and_matters_most_first():
    scores = {
        "armlp": {"rmse": 1.0, "skill": 0.5, "mae": math.nan, "diverged": 0.0, "interval_80": 1.0},
        "b": {"mae": 2.0},
    }
    assert shown(scores) == ["skill", "mae", "rmse"]
    assert sorted(shown(scores), key=lambda name: label(name).order) == ["mae", "rmse", "skill"]


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("mae", [2.0, math.nan, 1.0], 1.0),
        ("skill", [0.2, 0.5], 0.5),
        ("coverage_80", [0.7, 0.8], None),
        ("mae", [1.0, 1.0, math.nan], None),
        ("mae", [], None),
    ],
)
def test_the_best_is_the_lowest_or_the_highest_where_values_differ(name, values, best):
    assert best_score(name, values) == best


def test_a_metric_says_itself_how_it_is_shown():
    @METRICS.register("test_of_labels")
    class Hits(LeadMetric):
        default = False
        heading, order, rank, format = "hits", 1, 2, ".1f"
        higher_is_better = True

        def score(self, forecast, truth, unit):
            return (forecast.median() == truth).double()

    assert label("test_of_labels") == ("hits", 1, 2, ".1f", True)
    assert format_score("test_of_labels", 0.25) == "0.2"
    assert shown({"armlp": {"mae": 1.0, "test_of_labels": 1.0}}) == ["test_of_labels", "mae"]
    assert best_score("test_of_labels", [0.0, 1.0]) == 1.0
