"""The known future: target values after the end of series that a forecast is to take as given."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from armlp.data.calendar import spell_time
from armlp.data.covariates import ROLES
from armlp.data.panel import Panel
from armlp.data.tables.roles import ColumnRoles, few
from armlp.data.tables.rows import TableRows
from armlp.data.tables.source import open_source
from armlp.errors import UserError

_OPTION = "`known_future`"


@dataclass(frozen=True)
class KnownFuture:
    """Values after the end of series, as few as there are.

    Attributes:
        series: `[R]` int64 index into the panel, ascending.
        step: `[R]` int64 steps after the first row beyond the series.
        values: `[R, V]` float32 on the scale of the panel's store; nan where not given.
    """

    series: Tensor
    step: Tensor
    values: Tensor

    def of(self, series: Tensor, horizon: int) -> Tensor:
        """What is given of some series.

        Args:
            series: `[B]` int64 index into the panel, each once.
            horizon: `H`.

        Returns:
            `[B, H, V]` float32 on the scale of the panel's store; nan where nothing is given.
        """
        given = torch.full((len(series), horizon, self.values.shape[1]), torch.nan)
        order = series.argsort()
        place = torch.searchsorted(series[order], self.series).clamp(max=max(0, len(series) - 1))
        inside = (series[order][place] == self.series) & (self.step < horizon) if len(series) else place < 0
        given[order[place[inside]], self.step[inside]] = self.values[inside]
        return given


def read_known_future(source: Any, panel: Panel, options: Mapping[str, Any], horizon: int) -> KnownFuture:
    """Reads a table of ids, times and targets after the end of the series of a panel.

    Args:
        source: As `read_panel` takes it. It needs no rows, channels or series but those that are known.
        panel: The series.
        options: `id_column`, `time_column` and `layout` of `read_panel`.
        horizon: `H`; what lies beyond it is left out.

    Raises:
        UserError: The table cannot be read so, or has a time that is no later than its series, or none in the horizon.
    """
    opened = open_source(source, f"the table of {_OPTION}")
    id_column, time_column = str(options["id_column"]), str(options["time_column"])
    is_long = id_column in opened.columns and options["layout"] in ("auto", "long")
    layout = "long" if is_long else "vector" if len(panel.channels) > 1 or options["layout"] == "vector" else "wide"
    # What is not told is not known, be it a series of a wide table or a channel of a vector.
    wanted = panel.channels if layout != "wide" else tuple(str(name) for name in panel.ids)
    targets = tuple(name for name in wanted if name in opened.columns)
    symbols = False if panel.symbols is None else panel.symbols
    table = TableRows(
        opened, ColumnRoles(id_column, time_column, targets or wanted[:1], dict.fromkeys(ROLES, ()), symbols), layout
    )
    parts = list(table)
    if not parts:
        raise UserError(f"{opened.name} has columns but no rows: give a table with at least one row.")
    ranked = [table.ranked(part) for part in parts]
    codes, times, values = (
        np.concatenate([getattr(part, name) for part in ranked]) for name in ("codes", "times", "values")
    )
    ids, ranks = table.ids()
    places = _places(panel, ids)
    if (places < 0).any():
        warnings.warn(f"{opened.name} has other series, which are left out: {few(ids[places < 0])}.", stacklevel=4)
    told = ~np.isnan(values).all(axis=1) & (places[ranks][codes] >= 0)
    series, times, values = places[ranks][codes][told], times[told], values[told]
    step = _steps(table, panel, times, series)
    inside = step < horizon
    if not inside.any():
        raise UserError(
            f"{opened.name} has no value of a series within the {horizon} steps (`horizon`) after its end: give "
            "times there, or leave it out."
        )
    order = np.lexsort((step[inside], series[inside]))
    series, step, values = (part[inside][order] for part in (series, step, values))
    twice = np.flatnonzero((np.diff(series) == 0) & (np.diff(step) == 0))
    if len(twice):
        label = _label(panel, series[twice[0]], step[twice[0]])
        raise UserError(f"{opened.name}: {label} stands there more than once: keep one row of each time.")
    channels = [0] if layout == "wide" else [panel.channels.index(name) for name in table.channels]
    if panel.levels is not None:
        values = values - panel.levels.numpy()[series][:, channels]
    whole = np.full((len(series), len(panel.channels)), np.nan, dtype=np.float32)
    whole[:, channels] = values
    return KnownFuture(torch.from_numpy(series), torch.from_numpy(step), torch.from_numpy(whole))


def _places(panel: Panel, ids: np.ndarray) -> np.ndarray:
    """`[ids]` int64 place of each id in the panel, -1 where it has none."""
    import pandas as pd

    return np.asarray(pd.Index([str(name) for name in panel.ids]).get_indexer([str(name) for name in ids]))


def _steps(table: TableRows, panel: Panel, times: np.ndarray, series: np.ndarray) -> np.ndarray:
    """`[rows]` int64 steps after the first row beyond the series."""
    name, calendar = table.table.name, panel.calendar
    if table.has_dates == calendar.is_integer or table.timezone != calendar.timezone:
        found, needed = (
            "integers" if integers else f"times in {zone}" if zone else "times without a zone"
            for integers, zone in ((not table.has_dates, table.timezone), (calendar.is_integer, calendar.timezone))
        )
        raise UserError(f"{name} has {found}, but {panel.name} has {needed}: convert them to one kind and time zone.")
    counted = calendar.count(times)
    ends = calendar.shift(panel.starts[series], panel.lengths.numpy()[series])
    early = np.flatnonzero(counted < ends)
    if len(early):
        at = early[0]
        raise UserError(
            f"{name}: series '{panel.ids[series[at]]}' has {spell_time(calendar.wall_times(counted[at : at + 1])[0])}, "
            f"but {panel.name} goes on to {_label(panel, series[at], -1)} ({len(early)} such rows in all): give only "
            "times after the end of the series."
        )
    step = calendar.positions(ends, counted)
    beside = np.flatnonzero(step < 0)
    if len(beside):
        at = beside[0]
        raise UserError(
            f"{name}: series '{panel.ids[series[at]]}' has {spell_time(calendar.wall_times(counted[at : at + 1])[0])}, "
            f"which does not lie on the step of {panel.name}, {calendar.freq} ({len(beside)} such rows in all): "
            "correct the times."
        )
    return step.astype(np.int64)


def _label(panel: Panel, series: int, step: int) -> str:
    """The time that lies `step` steps after the first row beyond a series, for people."""
    time = panel.calendar.shift(panel.starts[[series]], int(panel.lengths[series]) + int(step))
    return spell_time(panel.calendar.wall_times(time)[0])
