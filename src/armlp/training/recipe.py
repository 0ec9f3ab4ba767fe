"""The recipe: what is chosen from the data where the user chose nothing, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

from armlp.data.panel import Panel
from armlp.data.windows import Split

# Below this many values a typical series is too short to learn a chain of forecasts from.
_SHORT = 400


class Choice(NamedTuple):
    """One option's value and the reason for it, for the table that `fit` prints."""

    value: Any
    why: str


def recipe(panel: Panel, split: Split, season_length: int) -> dict[str, Choice]:
    """Chooses every model option that was left to the data, and the number of training steps.

    Args:
        panel: The data.
        split: What is held out of training; of the values only whether some are missing is looked at.
        season_length: Steps in a season.

    Returns:
        Choices by option name of `ForecastModule`, and `max_steps`.
    """
    ends = split.train_ends(panel.lengths)
    ends = ends[ends >= 2] if (ends >= 2).any() else ends.clamp(min=1)  # what cannot be trained on has no say
    typical = int(ends.float().median())
    rows = int(ends.sum())
    horizon = split.horizon
    context = _context(typical, horizon, season_length)
    patch = _patch(typical, horizon, season_length)
    size = _size(typical, rows)
    why = f"{rows:,} values, typically {typical:,} a series"
    whole = panel.fully_observed and int(ends.min()) >= context.value
    return {
        "context_length": context,
        "patch_length": patch,
        "unroll": Choice(1, "teacher forcing"),
        "hidden_sizes": Choice([size.width], why),
        "residual_blocks": Choice(size.blocks, why),
        "dropout": Choice(size.dropout, why),
        "input_noise": Choice(size.input_noise, why),
        "head": Choice("quantile", "any shape of distribution"),
        "scaler": Choice("standard", "series of any level and spread"),
        "mask_input": Choice(not whole, "nothing is missing" if whole else "values are missing or padded"),
        "max_steps": Choice(size.steps, why),
    }


def _context(typical: int, horizon: int, season_length: int) -> Choice:
    """A week of a daily season, three of any other, at least the horizon; never most of a series."""
    seasons = 7 if 24 <= season_length <= 48 else 1 if season_length > 48 else 3
    wish = max(seasons * season_length, horizon, 10)
    most = max(1, typical // 2)
    if wish <= most:
        return Choice(wish, f"{seasons} x {season_length} steps a season" if season_length > 1 else "the horizon")
    whole_seasons = most // season_length * season_length
    return Choice(whole_seasons or most, f"half of a typical series of {typical} values")


def _patch(typical: int, horizon: int, season_length: int) -> Choice:
    """Short series have too little to learn a chain from: all at once. Long ones go a season, or a step, at a time."""
    if typical < _SHORT:
        return Choice(horizon, "short series: the horizon at once")
    if season_length > 1:
        return Choice(min(horizon, season_length), "a season at a time, at most the horizon")
    return Choice(1, "long series without a season: the classic one-step model")


class _Size(NamedTuple):
    """How large a network is, and how long it trains."""

    width: int
    blocks: int
    dropout: float
    input_noise: float
    steps: int


def _size(typical: int, rows: int) -> _Size:
    """From a handful of values to millions; scripts/LOG.md has the experiments behind the steps."""
    if typical < 20:
        return _Size(64, 0, 0.0, 0.1, 150)
    if rows < 20_000:
        return _Size(64, 0, 0.0, 0.1, 600)
    if typical < _SHORT:
        return _Size(128, 1, 0.2, 0.0, 600)
    return _Size(256, 2, 0.1, 0.0, 2000)
