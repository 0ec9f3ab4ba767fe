"""The options of the data, and the choice of those that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from armlp.data.catalog import Defaults
from armlp.data.checks import check_calendar_cycles
from armlp.data.covariate_scaling import check_not_empty, fit_statistics, scaling_of
from armlp.data.detect import find_season
from armlp.data.panel import Panel
from armlp.data.split import Split
from armlp.data.time.features import feature_cycles, repeated_cycles
from armlp.errors import LARGEST_SEED, UserError
from armlp.options import Options, option


@dataclass(frozen=True)
class DataSettings(Options):
    """The options of `SeriesDataModule`, apart from the tables; `None` is replaced by a choice from the data."""

    id_column: str = "unique_id"
    """Column that names the series of a long table."""

    time_column: str = "ds"
    """Column of times, or of integer steps."""

    target_columns: Sequence[str] | str | None = None
    """Columns to forecast: `y` of a long table, every numeric column of a wide one where left out. Several columns of
    a long table make vector series."""

    known_covariates: Sequence[str] | str | None = None
    """Columns known ahead, numbers or text; a forecast needs their future values, as many as the horizon, in rows with
    empty targets or in `future`."""

    past_covariates: Sequence[str] | str | None = None
    """Columns known up to the origin only."""

    static_covariates: Sequence[str] | str | None = None
    """Columns with one value per series; only of a long table."""

    calendar_inputs: bool | Sequence[str] | str | None = None
    """Give the model the time of day, the day of the week and so on of the steps to forecast: `true` for all that the
    calendar has, `false` for none, or a list of `day`, `week`, `month` (of days), `year` and `months` (of a year).
    Where left out, the cycles that repeat at least twice in a typical series of training."""

    symbols: bool | Sequence[str] | Sequence[int] | Sequence[bool] = False
    """`true` where the target holds symbols (text, integers, booleans) instead of numbers, or the list of symbols."""

    layout: str = "auto"
    """`long` (ids in a column), `wide` (one column a series), `vector` (all columns one vector series) or `auto`: long
    where the id column exists, wide otherwise."""

    freq: str | int | None = None
    """pandas frequency alias, or an integer step for integer times; inferred where left out."""

    horizon: int | None = option(minimum=1)
    """`H`, how many steps to forecast; from the frequency where left out."""

    season_length: int | None = option(minimum=1)
    """Steps in a season; from the frequency where left out, or from the training part where the times are bare
    integers. 1 means no season."""

    val_windows: int | None = option(minimum=1)
    """Origins held out for validation, each of `H` steps; 1 if left out; the data set `taylor` uses 7 days."""

    test_windows: int = option(0, minimum=0)
    """Origins held out for `test`, each of `H` steps, at the very end. Training never uses them."""

    test_step: int | None = option(minimum=1)
    """Steps from one test origin to the next; `H` where left out."""

    test_gap: int = option(0, minimum=0)
    """Steps after an origin that are not known yet and do not count; the `H` steps after them do."""

    batch_size: int | None = option(minimum=1)
    """Training windows per batch; from the number of windows where left out."""

    seed: int = option(0, minimum=0, maximum=LARGEST_SEED)
    """Seed of the order of training windows. If a model is trained anew (`refit`), also of its dropout and samples."""

    covariate_statistics: dict[str, list[dict[str, Any]]] | None = None
    """How covariates are scaled and coded; set by training, so leave it out."""

    trained_freq: str | int | None = None
    """The step of time of the training data; set by training, so leave it out."""

    def reader(self, defaults: Defaults) -> dict[str, Any]:
        """Return the options of `read_panel`; those of a catalog data set take precedence."""
        found = {name: getattr(self, name) for name in _READER} | dict(defaults.reader)
        return found | {"symbols": self.symbols or found["symbols"], "default_freq": self.trained_freq}


_READER = (
    "id_column", "time_column", "target_columns", "layout", "freq", "known_covariates", "past_covariates",
    "static_covariates", "symbols",
)  # fmt: skip


def settle(settings: DataSettings, panel: Panel, defaults: Defaults) -> DataSettings:
    """Return settings in which everything but the batch size is chosen, without using held-out rows."""
    settings = replace(
        settings,
        horizon=settings.horizon or defaults.horizon or panel.calendar.horizon,
        val_windows=defaults.val_windows or 1 if settings.val_windows is None else settings.val_windows,
    )
    split = split_of(settings)
    if panel.symbols is not None:
        if len(panel.symbols) < 2:
            raise UserError(f"`symbols`: {panel.name} holds only '{panel.symbols[0]}'; a model needs two symbols.")
        symbols: Any = list(panel.symbols)  # of one type, which mypy cannot know
        settings = replace(settings, symbols=symbols)
    if settings.covariate_statistics is None:
        check_not_empty(panel)
        statistics = dict(fit_statistics(panel, split.train_ends(panel.lengths)))
        settings = replace(settings, covariate_statistics=statistics)
    return replace(
        settings,
        season_length=settings.season_length or defaults.season_length or _season(panel, split),
        calendar_inputs=_cycles(settings.calendar_inputs, panel, split),
    )


def split_of(settings: DataSettings, later_windows: int = 0) -> Split:
    """Return the split of settled settings."""
    assert settings.horizon is not None
    assert settings.val_windows is not None
    return Split(
        settings.horizon,
        settings.val_windows,
        settings.test_windows,
        settings.test_step,
        settings.test_gap,
        later_windows,
    )


def with_inputs(panel: Panel, settings: DataSettings) -> Panel:
    """Return the panel with the covariate scaling and the calendar features of settled settings."""
    assert settings.covariate_statistics is not None
    assert isinstance(settings.calendar_inputs, list)
    scaling = scaling_of(panel, settings.covariate_statistics)
    return replace(panel, covariate_scaling=scaling, calendar_cycles=tuple(settings.calendar_inputs))


def _season(panel: Panel, split: Split) -> int:
    """Return the season of the frequency, or of the training part where the times are bare integers."""
    if not panel.is_numeric:
        return 1  # only numbers follow the season of the calendar
    if panel.calendar.is_integer:
        return find_season(panel, split.train_ends(panel.lengths))
    return panel.calendar.season_length


def _cycles(asked: bool | Sequence[str] | str | None, panel: Panel, split: Split) -> list[str]:
    """Return the calendar cycles of windows: the requested ones, or those that repeat in training."""
    if asked is None:
        return list(repeated_cycles(panel.calendar, split.typical_length(panel.lengths)))
    if isinstance(asked, bool):
        asked = feature_cycles(panel.calendar) or ("day",) if asked else ()
    cycles = [asked] if isinstance(asked, str) else list(asked)
    check_calendar_cycles(panel, cycles)
    return cycles
