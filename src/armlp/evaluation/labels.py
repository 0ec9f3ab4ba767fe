"""Names, order and format of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Label(NamedTuple):
    """How tables show a score."""

    heading: str
    order: float = math.inf
    priority: float | None = None
    format: str = ",.4g"
    higher_is_better: bool | None = False


_LABELS = {
    "mae": Label("MAE", 1, 3),
    "rmse": Label("RMSE", 2, 14),
    "smape": Label("sMAPE", 3, 4),
    "mase": Label("MASE", 4, 2),
    "rmsse": Label("RMSSE", 5, 12),
    "wql": Label("wQL", 6, 6),
    "crps": Label("CRPS", 7, 5),
    "scaled_crps": Label("scaled CRPS"),
    "coverage_80": Label("in 80%", 8, 7, ".0%", None),
    "coverage_95": Label("in 95%", 9, 8, ".0%", None),
    "error_rate": Label("wrong", 10, 9, ".0%"),
    "nll": Label("NLL", 11, 11),
    "perplexity": Label("perplexity", 12, 10),
    "owa": Label("OWA", 13, 13, ".3f"),
    "skill": Label("skill", 14, 1, ".3f", True),
}


def label(name: str) -> Label:
    """Return how tables show a score."""
    kind, _, level = name.replace("-", "_").partition("_")
    return _LABELS.get(name, Label(f"in {level}%", format=".0%") if kind == "coverage" else Label(name))


def format_score(name: str, value: float) -> str:
    """Return a score as tables show it; nothing where there is none."""
    return "" if math.isnan(value) else format(value, label(name).format)


def shown(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the scores that tables show and that have a value, the most important first."""
    ranked = sorted((one.priority, name) for name, one in _LABELS.items() if one.priority is not None)
    return [name for _, name in ranked if any(not math.isnan(row.get(name, math.nan)) for row in scores.values())]


def best_score(name: str, values: Sequence[float]) -> float | None:
    """Return the best of the values; None where there are not two different ones, or the score has no better side."""
    known = {value for value in values if not math.isnan(value)}
    better = label(name).higher_is_better
    return None if len(known) < 2 or better is None else max(known) if better else min(known)
