"""Sentences that compare a model with the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from armlp.evaluation.scoreboard import BASELINE, MODEL


def compare_with_baselines(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return sentences that say whether the model is worth using, from the metrics by forecaster."""
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
        sentences.append(f"armlp is worse than {_enumeration(better)}: a simpler method does better here.")
    elif others and skill > 0:
        sentences.append(f"It beats {_enumeration(list(others))} too.")
    return sentences


def _enumeration(names: Sequence[str]) -> str:
    """Join names as English does: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
