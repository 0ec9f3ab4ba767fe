"""The compare_with_baselines: whether a model is worth using, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from armlp.evaluation.scoreboard import BASELINE, MODEL


def compare_with_baselines(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Whether the model is worth using, in sentences.

    Args:
        scores: Metrics by forecaster, as `Scoreboard.summary` returns them.
    """
    skill = scores[MODEL]["skill"]
    if math.isnan(skill):
        return ["The seasonal naive makes no error here, so there is no skill to measure."]
    if skill > 0:
        sentences = [f"armlp's error is {100 * skill:.0f}% smaller than that of the seasonal naive."]
    else:
        sentences = [
            f"armlp is worse than the seasonal naive here (its error is {-100 * skill:.0f}% larger): use the seasonal "
            "naive, or judge on more windows (`val_windows`, `test_windows`) before you use this model."
        ]
    others = {name: row["skill"] for name, row in scores.items() if name not in (MODEL, BASELINE)}
    better = [
        f"{name} (error {100 * (other - skill) / (1 - skill):.0f}% smaller)"
        for name, other in others.items()
        if other > skill
    ]
    if better:
        sentences.append(f"armlp is worse than {_listed(better)}: what is simpler does better here.")
    elif others and skill > 0:
        sentences.append(f"It beats {_listed(list(others))} too.")
    return sentences


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def format_score(metric: str, value: float) -> str:
    """A score as tables show it; nothing where there is none."""
    if math.isnan(value):
        return ""
    if metric.startswith("coverage") or metric == "error_rate":
        return f"{100 * value:.0f}%"
    return f"{value:.3f}" if metric in ("skill", "owa") else f"{value:,.4g}"
