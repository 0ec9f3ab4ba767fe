"""The recipe: options that are chosen from the data where the user left them out, and the reasons."""

from __future__ import annotations

from math import log, nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.detect import is_deterministic, is_full_state
from armlp.data.panel import Panel
from armlp.data.split import Split
from armlp.evaluation.conformal import MIN_WINDOWS

SHORT = 400  # values; typical series shorter than this cannot train a chain of forecasts
# How many steps small data and short series train for; scripts/LOG.md has the experiments.
STEPS = 600
_MIN_SPREAD = 1.25  # times the errors of a naive forecast; chosen on single series of M3 (scripts/LOG.md)
_LONG_SEASON = 24  # steps; a patch of half a season is enough from here on
_SMALL_COUNT = 10  # up to here the steps between counts matter
# A head of counts is wrong for a series whose variance is below this share of a Poisson variance by more than so many
# standard errors, and for a panel if it is wrong for more than the last share of its series.
_NARROW, _STANDARD_ERRORS, _MIN_NARROW = 0.5, 3.0, 0.02
_MIN_ZEROS = 0.1  # share of zeros above which values are pauses or not, and Theta's level lies between


class Choice(NamedTuple):
    """The value of an option and the reason for it, for the table that `fit` prints."""

    value: Any
    why: str


def recipe(
    data: SeriesDataModule, patch_length: int | None = None, effort: int = 1, calendar: bool = True
) -> dict[str, Choice]:
    """Choose every option of `ForecastModule` from the data, and `calendar_inputs` and `max_steps`.

    Held-out values are not read, except for whether any are missing. `patch_length` is that of the user, if any;
    `calendar` says whether the model can use calendar features.
    """
    panel, split, season_length = data.panel, data.split, data.season_length
    ends = split.train_ends(panel.lengths)
    ends = ends[ends >= 2] if (ends >= 2).any() else ends.clamp(min=1)  # leave out series that cannot be trained on
    typical = split.typical_length(panel.lengths)
    rows = int(ends.sum())
    horizon = split.horizon
    context = _context(typical, horizon, season_length)
    patch = _patch(typical, horizon, season_length)
    size = _size(typical, rows)
    why = f"{rows:,} values, typically {typical:,} a series"
    hidden = Choice([size.width], why)
    if panel.past.shape[1]:
        patch = Choice(horizon, "one patch for all steps: past covariates end at the origin")
    if panel.symbols:
        distinguishable = round(log(rows, max(2, len(panel.symbols))))
        context = Choice(max(4, distinguishable), f"as long as {rows:,} symbols can distinguish")
        patch = Choice(1, "every symbol depends on the one before")
        hidden = Choice([128, 128], "symbols interact")
        size = size._replace(input_noise=0.0)
    chain = 1 if panel.symbols else -(-horizon // (patch_length or patch.value))
    values = _training_values(panel, split, season_length)
    whole = panel.fully_observed and int(ends.min()) >= context.value
    choices = {
        "context_length": context,
        "patch_length": patch,
        "unroll": Choice(chain, "patches to the horizon"),
        "feed": Choice("truth", "teacher forcing at every lead, scaled as at the origin"),
        "hidden_sizes": hidden,
        "residual_blocks": Choice(size.blocks, why),
        "dropout": Choice(size.dropout, why),
        "input_noise": Choice(size.input_noise, why),
        "head": _head(panel, values),
        "scaler": Choice("none", "") if panel.symbols else Choice("standard", "series of any level and spread"),
        "mask_input": Choice(not whole, "nothing is missing" if whole else "values are missing or padded"),
        "non_negative": _non_negative(panel, values),
        "loss_units": Choice("relative", ""),
        "members": Choice(effort, "" if effort == 1 else f"{effort} times the work"),
        "optimizer": Choice("adamw", ""),
        "learning_rate": Choice(2e-3, ""),
        "weight_decay": Choice(1e-2, ""),
        "max_steps": Choice(size.steps, why),
        "theta_share": _theta_share(data, typical, values),
        "min_spread": _min_spread(data, typical),
        "season_length": Choice(season_length, "the data's"),
        "channels": Choice(panel.values.shape[1], "the data's"),
        "symbols": Choice(len(panel.symbols), "the data's") if panel.symbols else Choice(0, ""),
        "covariate_sizes": _covariate_sizes(data, calendar),
        "calendar_inputs": _calendar_inputs(data, typical) if calendar else Choice([], ""),
    }
    return choices | _noise_free_choices(panel, ends, effort) if typical >= SHORT else choices


def _noise_free_choices(panel: Panel, ends: Tensor, effort: int) -> dict[str, Choice]:
    """Return other choices for series that solve an equation: without noise, exactness is all that counts."""
    if not is_deterministic(panel, ends):
        return {}
    why = "without noise: every step follows from those before"
    chosen = {
        # A full state needs no memory, and with it forecasts can leave the attractor; a partial state needs memory.
        "context_length": 32 if panel.values.shape[1] == 1 else 1 if is_full_state(panel, ends) else 2,
        "patch_length": 1,
        "unroll": 1,
        "hidden_sizes": [128],
        "residual_blocks": 2,
        "dropout": 0.0,
        "input_noise": 0.0,
        "head": "point",
        "scaler": "global",
        "loss_units": "network",
        "optimizer": "muon" if hasattr(torch.optim, "Muon") else "adamw",  # since torch 2.9
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
        # Without noise all members make the same errors; longer training helps more.
        "members": 1,
        "max_steps": 5000 * effort,
    }
    return {name: Choice(value, why) for name, value in chosen.items()}


def _covariate_sizes(data: SeriesDataModule, calendar: bool) -> Choice:
    """Return the sizes of the covariates, and of the calendar features if the model can use them."""
    sizes = data.covariate_sizes | {"calendar": [0] * data.calendar_size if calendar else []}
    return Choice({role: columns for role, columns in sizes.items() if columns}, "")


def _calendar_inputs(data: SeriesDataModule, typical: int) -> Choice:
    """Return the calendar features that the data module has chosen."""
    cycles = list(data.panel.calendar_cycles)
    if not data.chooses_cycles or not cycles:
        return Choice(cycles, "")
    return Choice(cycles, f"cycles that repeat at least twice in {typical:,} steps")


class _Values(NamedTuple):
    """Properties of the values observed in training."""

    non_negative: bool
    whole: bool
    zeros: float  # share
    median: float  # of counts; nan for other values
    narrow: float  # share of the series that vary too little for a head of counts


def _training_values(panel: Panel, split: Split, season_length: int = 1, sampled: int = 1 << 20) -> _Values:
    """Return properties of the training values; the median is that of about `sampled` values, always the same ones."""
    ends = split.train_ends(panel.lengths).clamp(min=1)
    share = sampled / max(1, panel.values.numel())
    generator = torch.Generator().manual_seed(0)
    non_negative, whole, zeros, count = True, True, 0, 0
    sample: list[Tensor] = []
    for rows in panel.blocks():
        values = panel.values[rows]
        if panel.base_values is not None:
            values = panel.in_data_units(panel.locate(rows)[0], values)
        values = values[panel.observed[rows] & panel.rows_before(ends, rows)[:, None]]
        non_negative = non_negative and bool((values >= 0).all())
        whole = whole and bool((values == values.round()).all())
        zeros, count = zeros + int((values == 0).sum()), count + len(values)
        if not (non_negative or whole):
            break
        if non_negative and whole:
            sample.append(values if share >= 1 else values[torch.rand(len(values), generator=generator) < share])
    median = float(torch.cat(sample).median()) if non_negative and whole and sample else nan
    narrow = _share_narrow(panel, ends, season_length) if median <= _SMALL_COUNT else 0.0
    return _Values(non_negative, whole, zeros / max(1, count), median, narrow)


def _share_narrow(panel: Panel, ends: Tensor, season_length: int) -> float:
    """Return the share of the series of counts that vary less than a Poisson distribution allows; `ends` is `[S]`.

    No negative binomial distribution has less variance than that of Poisson, whose variance is its mean. Half of the
    mean squared difference from the value one step, or one season, before is a variance that trend and season do not
    increase.
    """
    shape = len(panel), panel.values.shape[1]
    narrow, positive = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    for lag in {1, season_length}:
        variance, mean, pairs = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        for rows in panel.blocks():
            last = slice(max(rows.start, lag), rows.stop)
            if last.start >= last.stop:
                continue
            first = slice(last.start - lag, last.stop - lag)
            series, place = panel.locate(last)
            both = panel.observed[last] & panel.observed[first] & ((place >= lag) & (place < ends[series]))[:, None]
            now, before = (panel.values[part].double().where(both, 0.0) for part in (last, first))
            variance.index_add_(0, series, (now - before).square() / 2)
            mean.index_add_(0, series, (now + before) / 2)
            pairs.index_add_(0, series, both.double())
        # Differences share values, so that three of them count as two. The quantile of the variance is that of
        # Wilson and Hilferty (1931), The Distribution of Chi-Square.
        spread = 2 / (9 * (2 / 3 * pairs))
        least = (1 - spread - _STANDARD_ERRORS * spread.sqrt()).clamp(min=0) ** 3
        positive |= mean > 0
        narrow |= (mean > 0) & (variance < least.clamp(max=_NARROW) * mean)
    return float(narrow.any(1).sum()) / max(1, int(positive.any(1).sum()))


def _head(panel: Panel, values: _Values) -> Choice:
    """Return the head for symbols, small counts, or other values."""
    if panel.symbols:
        return Choice("symbols", f"an alphabet of {len(panel.symbols)}")
    counts = panel.base_values is None and values.non_negative and values.whole
    if counts and values.median <= _SMALL_COUNT and values.narrow > _MIN_NARROW:
        return Choice("quantile", "whole numbers that vary less than counts do")
    if counts and values.median <= _SMALL_COUNT:
        return Choice("negative_binomial", f"whole numbers from 0, half of them at most {_SMALL_COUNT}")
    return Choice("quantile", "large counts, any shape" if counts else "any shape of distribution")


def _non_negative(panel: Panel, values: _Values) -> Choice:
    """Return whether forecasts are kept at or above 0, as all training values are."""
    if panel.symbols:
        return Choice(False, "")
    return Choice(values.non_negative, "no value is below 0" if values.non_negative else "values go below 0")


def _theta_share(data: SeriesDataModule, typical: int, values: _Values) -> Choice:
    """Return the share of Theta. On short series, its errors differ from those of a network trained on all series."""
    has_covariates, pauses = any(data.covariate_sizes.values()), values.zeros > _MIN_ZEROS
    if typical >= SHORT or has_covariates or pauses or _head(data.panel, values).value != "quantile":
        return Choice(0.0, "")
    return Choice(0.35, "short series: the Theta method uses all of their past")


def _min_spread(data: SeriesDataModule, typical: int) -> Choice:
    """Return the least spread. A network that few short series have trained fits them too closely."""
    windows, series = data.num_val_windows, len(data.panel)
    if data.panel.symbols or windows >= MIN_WINDOWS or typical >= SHORT:
        return Choice(0.0, "")
    return Choice(_MIN_SPREAD, f"{series} short series: intervals at least as wide as errors of a naive forecast")


def _context(typical: int, horizon: int, season_length: int) -> Choice:
    """Return 7 daily seasons, 1 longer one or 3 shorter ones, at least the horizon, at most half of a series."""
    seasons = 7 if 24 <= season_length <= 48 else 1 if season_length > 48 else 3
    wish = max(seasons * season_length, horizon, 10)
    most = max(1, typical // 2)
    if wish <= most:
        return Choice(wish, f"{seasons} x {season_length} steps a season" if season_length > 1 else "the horizon")
    whole_seasons = most // season_length * season_length
    return Choice(whole_seasons or most, f"half of a typical series of {typical} values")


def _patch(typical: int, horizon: int, season_length: int) -> Choice:
    """Return the horizon on short series, which cannot train a chain; part of a season, or a step, on long ones."""
    if typical < SHORT:
        return Choice(horizon, "short series: the horizon at once")
    if season_length > 1:
        half = season_length >= _LONG_SEASON
        steps, what = (season_length // 2, "half a season") if half else (season_length, "a season")
        return Choice(min(horizon, steps), f"{what} at a time, at most the horizon")
    return Choice(1, "long series without a season: the classic one-step model")


class _Size(NamedTuple):
    """The size of a network and the length of its training."""

    width: int
    blocks: int
    dropout: float
    input_noise: float
    steps: int


def _size(typical: int, rows: int) -> _Size:
    """Return the size for the number of values; scripts/LOG.md has the experiments behind the steps."""
    if typical < 20:
        return _Size(64, 1, 0.3, 0.1, 150)
    if rows < 20_000:
        return _Size(64, 1, 0.3, 0.1, STEPS)
    if typical < SHORT:
        return _Size(128, 1, 0.2, 0.0, STEPS)
    return _Size(256, 2, 0.1, 0.0, 1500)
