"""Names, order and format of scores in tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from armlp.evaluation.metrics.base import METRICS


class Label(NamedTuple):
    """How a score is shown; the fields are those of `LeadMetric`."""

    heading: str
    order: float = 105
    rank: float | None = 90
    format: str = ",.4g"
    higher_is_better: bool | None = False


# Scores that are not in METRICS.
_DERIVED = {
    "nll": Label("NLL", 110, 100),
    "perplexity": Label("perplexity", 120, 90),
    "owa": Label("OWA", 130, 120, ".3f"),
    "skill": Label("skill", 140, 10, ".3f", higher_is_better=True),
    "diverged": Label("diverged", 150, None),
}


def label(name: str) -> Label:
    """Return how a score, or a column of a backtest summary, is shown.

    An interval whose level is not registered, such as `coverage-50`, looks like those of other levels.
    """
    known = name.replace("-", "_")
    if known in _DERIVED:
        return _DERIVED[known]
    if known in METRICS:
        kind = METRICS[known]
        return Label(kind.heading or name, kind.order, kind.rank, kind.format, kind.higher_is_better)
    stem = known.rstrip("0123456789.")
    alike = [label(other) for other in METRICS if stem.endswith("_") and other.startswith(stem)]
    return alike[0]._replace(heading=name) if alike else Label(name)


def format_score(name: str, value: float) -> str:
    """Format a score for a table; nan gives an empty text."""
    return "" if math.isnan(value) else format(value, label(name).format)


def shown(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the names of the scores to show, the most important first; scores that are nan everywhere are left out."""
    names = {name for row in scores.values() for name, value in row.items() if not math.isnan(value)}
    ranked = [(rank, name) for name in names if (rank := label(name).rank) is not None]
    return [name for _, name in sorted(ranked)]


def best_score(name: str, values: Iterable[float]) -> float | None:
    """Return the best value that is not nan; None if no value is better than another."""
    known = [value for value in values if not math.isnan(value)]
    higher = label(name).higher_is_better
    if higher is None or len(set(known)) < 2:
        return None
    return max(known) if higher else min(known)
