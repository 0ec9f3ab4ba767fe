"""Options of `SeriesDataModule`: what they may be, and how the data settle what was left out."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any

from armlp.data.catalog import Options
from armlp.data.checks import check_calendar_cycles
from armlp.data.covariate_scaling import CovariateScaling, check_not_empty, fit_statistics
from armlp.data.detect import find_season
from armlp.data.panel import Panel
from armlp.data.time_features import feature_cycles, repeated_cycles
from armlp.data.windows import Split
from armlp.errors import LARGEST_SEED, UserError, check_bounds

_READER = (
    "id_column", "time_column", "target_columns", "layout", "freq", "known_covariates", "past_covariates",
    "static_covariates", "symbols",
)  # fmt: skip
_LEAST = {
    "horizon": 1, "season_length": 1, "batch_size": 1, "val_windows": 1, "test_windows": 0, "test_step": 1,
    "test_gap": 0,
}  # fmt: skip


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses numbers that no data could have a use for.

    Raises:
        UserError: Naming the option.
    """
    for name, least in _LEAST.items():
        check_bounds(name, options[name], least)
    check_bounds("seed", options["seed"], 0, LARGEST_SEED)


def reader_options(options: Mapping[str, Any], usual: Options) -> dict[str, Any]:
    """The options that read the table; what the catalog knows of a data set wins."""
    given = {name: options[name] for name in _READER} | dict(usual.reader)
    return given | {"symbols": options["symbols"] or given["symbols"], "usual_freq": options["trained_freq"]}


def settle_split(options: MutableMapping[str, Any], panel: Panel, usual: Options) -> None:
    """Settles how long a forecast is, and how many of them validate.

    Args:
        options: Of the data module; what is None is settled in place.
        panel: The data.
        usual: What the catalog knows of them.
    """
    if options["horizon"] is None:
        options["horizon"] = usual.horizon or panel.calendar.horizon
    if options["val_windows"] is None:
        options["val_windows"] = usual.val_windows or 1


def settle_inputs(options: MutableMapping[str, Any], panel: Panel, usual: Options, split: Split) -> Panel:
    """Settles the season, the alphabet, and what the model is told of the calendar and of covariates.

    Args:
        options: Of the data module; what was left out is settled in place.
        panel: The data.
        usual: What the catalog knows of them.
        split: What is held out of training, and so is not looked at.

    Returns:
        The panel, whose windows tell that.

    Raises:
        UserError: There is but one symbol, or the calendar or the covariates do not tell what the model is told.
    """
    if options["season_length"] is None:
        options["season_length"] = usual.season_length or _season(panel, split)
    if panel.symbols is not None:
        if len(panel.symbols) < 2:
            raise UserError(
                f"`symbols`: {panel.name} holds nothing but '{panel.symbols[0]}'; a model needs two symbols."
            )
        options["symbols"] = list(panel.symbols)
    options["calendar_inputs"] = _cycles(options["calendar_inputs"], panel, split)
    if options["covariate_statistics"] is None:
        check_not_empty(panel)
        options["covariate_statistics"] = fit_statistics(panel, split.train_ends(panel.lengths))
    scaling = CovariateScaling.of(panel, options["covariate_statistics"])
    return replace(panel, covariate_scaling=scaling, calendar_cycles=tuple(options["calendar_inputs"]))


def settle_batch_size(options: MutableMapping[str, Any], windows: int, patches: int) -> None:
    """Settles how many windows a batch has: large ones run at the rate of matrix multiplication, small data need noise.

    Args:
        options: Of the data module; what is None is settled in place.
        windows: Of training, in an epoch.
        patches: In the chain of a window; each counts, up to a few.
    """
    if options["batch_size"] is None:
        options["batch_size"] = min(max(32, 512 // min(6, patches)), max(32, windows // 16))


def _season(panel: Panel, split: Split) -> int:
    """By the frequency, or by the training part where the times are bare integers, which have none."""
    if panel.symbols is not None:
        return 1  # a calendar's is of numbers
    if panel.calendar.is_integer:
        return find_season(panel, split.train_ends(panel.lengths))
    return panel.calendar.season_length


def _cycles(asked: Any, panel: Panel, split: Split) -> list[str]:
    """The cycles to tell: those asked for, or those that training has seen come round."""
    if asked is None:
        return list(repeated_cycles(panel.calendar, split.typical_length(panel.lengths)))
    if isinstance(asked, bool):
        asked = feature_cycles(panel.calendar) or ("day",) if asked else ()
    cycles = [asked] if isinstance(asked, str) else list(asked)
    check_calendar_cycles(panel, cycles)
    return cycles
