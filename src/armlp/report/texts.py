"""The texts of a run, as Markdown."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import armlp
from armlp.evaluation.scoreboard import MODEL
from armlp.report.comparison import compare_with_baselines, format_score
from armlp.training.module import ForecastModule
from armlp.training.recipe import explained

_SCORES = {
    "skill": "skill", "mase": "MASE", "mae": "MAE", "rmse": "RMSE", "smape": "sMAPE", "crps": "CRPS",
    "coverage_80": "in 80%", "coverage_95": "in 95%", "error_rate": "wrong", "perplexity": "perplexity", "nll": "NLL",
}  # fmt: skip
_PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "pandas", "tensorboard")
_MIN_ORIGINS = 10


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown, which is what TensorBoard shows text as."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def data_report(module: ForecastModule) -> str:
    """What the data are, and how they are split."""
    summary = module.datamodule.summary()
    return table(("data", summary.name), summary.rows().items())


def options(module: ForecastModule) -> str:
    """What was chosen from the data, and why; nothing where nothing was."""
    chosen = explained(module.reasons)
    return table(("option", "chosen", "because"), chosen) if chosen else ""


def configuration(settled: Mapping[str, Any]) -> str:
    """Every option as it was settled; of long ones the beginning."""
    return table(("option", "value"), [(name, _short(value)) for name, value in sorted(settled.items())])


def versions(module: ForecastModule) -> str:
    """What it runs on."""
    rows = [("armlp", armlp.__version__), ("python", platform.python_version())]
    rows += [(name, version(name)) for name in _PACKAGES]
    rows += [("platform", platform.platform()), ("device", str(module.device))]
    return table(("what", "version"), rows)


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Scores of the model beside those of the baselines."""
    shown = [name for name in _SCORES if any(not math.isnan(row.get(name, math.nan)) for row in scores.values())]
    rows = [
        [name, *(format_score(metric, row.get(metric, math.nan)) for metric in shown)] for name, row in scores.items()
    ]
    return table(["forecaster", *(_SCORES[name] for name in shown)], rows)


def model_card(module: ForecastModule, scores: Mapping[str, Mapping[str, float]], step: int) -> str:
    """What the model is, what it has seen, how good it is, and what it is not good for.

    Margaret Mitchell et al. (2019), Model Cards for Model Reporting, https://arxiv.org/abs/1810.03993

    Args:
        module: The model.
        scores: Of its best validation.
        step: How many steps it was trained.
    """
    given, summary = module.hparams, module.datamodule.summary()
    weights = sum(weight.numel() for weight in module.network.parameters())
    rows = summary.rows()
    parts = [
        f"## armlp on {summary.name}",
        f"An autoregressive MLP of armlp {armlp.__version__} with {weights:,} weights and the head "
        f"`{given['head']}`: from the last {given['context_length']:,} values it forecasts the next "
        f"{given['patch_length']:,}, and from its own output what comes after. Trained for {step:,} steps at most; "
        "the checkpoint is that of the best validation.",
        table(
            ("data", ""),
            [
                (name, rows[name])
                for name in ("series", "length", "frequency", "season", "training", "validation", "test")
            ],
        ),
        "### How good it is",
        f"On the validation part, {summary.horizon:,} steps ahead:",
        score_table(scores),
        " ".join(compare_with_baselines(scores)),
        "### Limits",
        "\n".join(f"* {limit}" for limit in _limits(module, scores)),
    ]
    return "\n\n".join(parts)


def _limits(module: ForecastModule, scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    summary, own = module.datamodule.summary(), scores[MODEL]
    limits = ["The checkpoint was chosen on the same validation part, which flatters it: `armlp test` does not."]
    origins = summary.val.windows if summary.val else 0
    if origins < _MIN_ORIGINS:
        limits.append(
            f"It was judged from {origins} origin{'' if origins == 1 else 's'} only, so chance has a part in it."
        )
    if not module.has_distribution:
        limits.append("Its head gives one number and no interval.")
    for level in (80, 95):
        covered = own.get(f"coverage_{level}", math.nan)
        if module.has_distribution and abs(covered - level / 100) > 0.05:
            side = "narrow" if covered < level / 100 else "wide"
            limits.append(f"Its {level}% intervals are too {side}: they held {100 * covered:.0f}% of the truth.")
    if own.get("diverged", 0) > 0:
        limits.append(f"{100 * own['diverged']:.2g}% of its sampled paths ran away: look at the worst forecasts.")
    limits.append(
        f"It knows what happened up to {summary.train.ends if summary.train else 'the split'}, and expects the "
        "future to behave alike."
    )
    return limits


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
