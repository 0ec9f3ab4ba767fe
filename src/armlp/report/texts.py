"""Texts about a run: Markdown for TensorBoard, and sentences that compare a model with the baselines."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from armlp.evaluation.labels import format_score, label, shown
from armlp.evaluation.scoreboard import BASELINE, MODEL
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.version import __version__

_PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "pandas", "tensorboard")
_DATA_ROWS = ("series", "length", "frequency", "season", "training", "validation", "test")
_MIN_ORIGINS = 10  # below it the model card warns


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def shorten(text: str, length: int) -> str:
    """Truncate a text to `length` letters, with an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def data_table(module: ForecastModule) -> str:
    """Return a table of the data and their split."""
    summary = module.datamodule.summary()
    return table(("data", summary.name), summary.rows().items())


def choice_rows(choices: Mapping[str, Choice]) -> list[tuple[str, str, str]]:
    """Return options, values and reasons as strings; leave out options without a reason."""
    return [(name, str(choice.value), choice.why) for name, choice in choices.items() if choice.why]


def choice_table(module: ForecastModule) -> str:
    """Return a table of the options chosen from the data, with reasons; empty if every option was set."""
    chosen = choice_rows(module.reasons)
    return table(("option", "chosen", "because"), chosen) if chosen else ""


def option_table(options: Mapping[str, Any]) -> str:
    """Return a table of the value of every option."""
    return table(("option", "value"), [(name, shorten(str(value), 80)) for name, value in sorted(options.items())])


def version_table(module: ForecastModule) -> str:
    """Return a table of package versions, platform and device."""
    rows = [("armlp", __version__), ("python", platform.python_version())]
    rows += [(name, version(name)) for name in _PACKAGES]
    rows += [("platform", platform.platform()), ("device", str(module.device))]
    return table(("what", "version"), rows)


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table of the scores by forecaster."""
    metrics = sorted(shown(scores), key=lambda name: label(name).order)
    rows = [
        [name, *(format_score(metric, row.get(metric, math.nan)) for metric in metrics)] for name, row in scores.items()
    ]
    return table(["forecaster", *(label(name).heading for name in metrics)], rows)


def model_card(module: ForecastModule, scores: Mapping[str, Mapping[str, float]], step: int) -> str:
    """Return a description of the model: data, weights, scores of the best validation, and limits.

    Margaret Mitchell et al. (2019), Model Cards for Model Reporting, https://arxiv.org/abs/1810.03993
    """
    options, summary = module.settings.flat(), module.datamodule.summary()
    weights = sum(weight.numel() for weight in module.network.parameters())
    rows = summary.rows()
    parts = [
        f"## armlp on {summary.name}",
        f"An autoregressive MLP of armlp {__version__} with {weights:,} weights and the head "
        f"`{options['head']}`: from the last {options['context_length']:,} values it forecasts the next "
        f"{options['patch_length']:,}, and from its own output what comes after. Trained for {step:,} steps at most; "
        "the checkpoint is that of the best validation.",
        table(("data", ""), [(name, rows[name]) for name in _DATA_ROWS]),
        "### How good it is",
        f"On the validation part, {summary.horizon:,} steps ahead:",
        score_table(scores),
        " ".join(compare_with_baselines(scores)),
        "### Limits",
        "\n".join(f"* {limit}" for limit in _limits(module, scores)),
    ]
    return "\n\n".join(parts)


def _limits(module: ForecastModule, scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the limits of a model as sentences."""
    summary, model_scores = module.datamodule.summary(), scores[MODEL]
    limits = ["The checkpoint was chosen on the same validation part, so its score is too good; use `armlp test`."]
    origins = summary.val.windows if summary.val else 0
    if origins < _MIN_ORIGINS:
        only = "1 origin" if origins == 1 else f"{origins} origins"
        limits.append(f"It was judged from {only} only, so chance has a part in its scores.")
    if not module.has_distribution:
        limits.append("Its head gives one number and no interval.")
    if module.has_distribution:
        limits += judge_intervals(model_scores, origins)
    if model_scores.get("diverged", 0) > 0:
        limits.append(f"{100 * model_scores['diverged']:.2g}% of its sampled paths diverged: see the worst forecasts.")
    end = summary.train.ends if summary.train else "the split"
    limits.append(f"It was trained on values up to {end}, and expects the future to behave alike.")
    return limits


def judge_intervals(scores: Mapping[str, float], windows: int) -> list[str]:
    """Return sentences that say whether the intervals of a model hold, from its metrics on so many windows."""
    found = scores.get("coverage_80", math.nan)
    if math.isnan(found):
        return []
    if windows < _MIN_ORIGINS:
        only = "1 window" if windows == 1 else f"{windows} windows"
        return [f"80% intervals held {found:.0%} of the values of {only}, which are too few to judge them by."]
    tolerance = max(0.05, 0.8 / math.sqrt(windows))  # two standard errors, as the errors of a window are alike
    sentences = []
    for name, level, what in (
        ("coverage_80", 80, "values"),
        ("coverage_95", 95, "values"),
        ("sum_coverage_80", 80, "sums over the horizon"),
    ):
        share = scores.get(name, math.nan)
        if abs(share - level / 100) > tolerance:
            kind = "narrow" if share < level / 100 else "wide"
            sentences.append(f"{level}% intervals of {what} are too {kind}: they held {share:.0%}.")
    return sentences


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
