"""The recipe: what is chosen from the data where the user chose nothing, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

from armlp.data.panel import Panel
from armlp.data.windows import Split


class Choice(NamedTuple):
    """One option's value and the reason for it, for the table that `fit` prints."""

    value: Any
    why: str


def recipe(panel: Panel, split: Split, season_length: int) -> dict[str, Choice]:
    """Chooses every model option that was left to the data, and the number of training steps.

    Args:
        panel: The data.
        split: What is held out of training; only the lengths of the training parts are looked at.
        season_length: Steps in a season.

    Returns:
        Choices by option name of `ForecastModule`, and `max_steps`.
    """
    ends = split.train_ends(panel.lengths).clamp(min=0)
    typical = int(ends.float().median()) if len(ends) else 0
    rows = int(ends.sum())

    week = 7 * season_length if 1 < season_length <= 48 else season_length
    wish = max(3 * season_length, week if season_length >= 24 else 0, split.horizon, 10)
    context = max(1, min(wish, typical // 2))
    if context == wish:
        why_context = "three seasons, a week and the horizon fit in"
    else:
        why_context = f"half of a typical training part of {typical} rows"
        if season_length <= typical // 2:
            context, why_context = context // season_length * season_length, why_context + ", in whole seasons"

    if rows >= 50_000:
        width, blocks, steps, dropout = 256, 2, 2000, 0.1
    elif rows >= 2_000:
        width, blocks, steps, dropout = 128, 1, 800, 0.2
    else:
        width, blocks, steps, dropout = 32, 1, 300, 0.2
    size = f"{rows:,} training values"

    whole = panel.fully_observed and int(ends.min()) >= context if len(ends) else True
    return {
        "context_length": Choice(context, why_context),
        "patch_length": Choice(1, "the classic one-step model"),
        "unroll": Choice(1, "teacher forcing"),
        "hidden_sizes": Choice([width], size),
        "residual_blocks": Choice(blocks, size),
        "dropout": Choice(dropout, size),
        "head": Choice("quantile", "any shape of distribution"),
        "scaler": Choice("standard", "series of any level and spread"),
        "mask_input": Choice(not whole, "nothing is missing" if whole else "values are missing or padded"),
        "max_steps": Choice(steps, size),
    }
