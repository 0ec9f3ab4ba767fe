"""Known target values after the end of series, which forecasts keep."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from armlp.data.covariates import ROLES
from armlp.data.panel import Panel
from armlp.data.sources.open import open_source
from armlp.data.tables.encoders import encoder_like
from armlp.data.tables.roles import ColumnRoles, resolve_roles
from armlp.data.tables.rows import TableRows, describe_times
from armlp.errors import UserError, first_names


@dataclass(frozen=True)
class KnownFuture:
    """Known values after the end of series, in a sparse form."""

    series: Tensor  # `[R]` int64 index into the panel, ascending
    step: Tensor  # `[R]` int64, 0 for the first row after the series
    values: Tensor  # `[R, V]` float32 as stored in the panel; nan where unknown

    def of(self, series: Tensor, horizon: int) -> Tensor:
        """Return `[B, H, V]` float32 of distinct `series [B]`, as stored in the panel; nan where unknown."""
        known = torch.full((len(series), horizon, self.values.shape[1]), torch.nan)
        order = series.argsort()
        index = torch.searchsorted(series[order], self.series).clamp(max=max(0, len(series) - 1))
        inside = (series[order][index] == self.series) & (self.step < horizon) if len(series) else index < 0
        known[order[index[inside]], self.step[inside]] = self.values[inside]
        return known


def read_known_future(source: Any, panel: Panel, options: Mapping[str, Any], horizon: int) -> KnownFuture:
    """Read a table of ids, times and targets after the end of the series of a panel.

    Only rows, channels and series with known values are needed; values after `horizon` steps are left out.

    Raises:
        UserError: The table cannot be read, has a time that is not after the end of its series, or has no value within
            the horizon.
    """
    opened = open_source(source, "the table of `known_future`")
    id_column, time_column = str(options["id_column"]), str(options["time_column"])
    is_long = id_column in opened.columns and options["layout"] in ("auto", "long")
    layout = "long" if is_long else "vector" if len(panel.channels) > 1 or options["layout"] == "vector" else "wide"
    # The table may lack some series of a wide table, or some channels of a vector.
    columns = panel.channels if layout != "wide" else tuple(str(name) for name in panel.ids)
    targets = tuple(name for name in columns if name in opened.columns) or columns[:1]
    roles, encoder = ColumnRoles(id_column, time_column, targets, dict.fromkeys(ROLES, ())), encoder_like(panel)
    table = TableRows(opened, resolve_roles(opened, roles, layout, encoder), layout, encoder)
    parts = list(table)
    if not parts:
        raise UserError(f"{opened.name} has columns but no rows: give a table with at least one row.")
    ranked = [table.ranked(part) for part in parts]
    codes, times, values = (
        np.concatenate([getattr(part, name) for part in ranked]) for name in ("codes", "times", "values")
    )
    ids, ranks = table.ids()
    index = np.asarray(pd.Index(list(map(str, panel.ids))).get_indexer(list(map(str, ids))))  # -1 if not there
    if (index < 0).any():
        warnings.warn(
            f"{opened.name} has other series, which are left out: {first_names(ids[index < 0])}.", stacklevel=4
        )
    series = index[ranks][codes]
    known = ~np.isnan(values).all(axis=1) & (series >= 0)
    series, times, values = series[known], times[known], values[known]
    step = _steps(table, panel, times, series)
    inside = step < horizon
    if not inside.any():
        raise UserError(
            f"{opened.name} has no value of a series within the {horizon} steps (`horizon`) after its end: give "
            "times there, or leave it out."
        )
    order = np.lexsort((step[inside], series[inside]))
    series, step, values = (part[inside][order] for part in (series, step, values))
    repeated = np.flatnonzero((np.diff(series) == 0) & (np.diff(step) == 0))
    if len(repeated):
        row = repeated[0]
        time = panel.spell_time(series[row], panel.lengths[series[row]] + step[row])
        raise UserError(f"{opened.name}: {time} appears more than once: keep one row of each time.")
    channels = [0] if layout == "wide" else [panel.channels.index(name) for name in table.channels]
    if panel.base_values is not None:
        values = values - panel.base_values.numpy()[series][:, channels]
    all_channels = np.full((len(series), len(panel.channels)), np.nan, dtype=np.float32)
    all_channels[:, channels] = values
    return KnownFuture(torch.from_numpy(series), torch.from_numpy(step), torch.from_numpy(all_channels))


def _steps(table: TableRows, panel: Panel, times: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Return the `[rows]` int64 steps after the first row beyond the series."""
    name, calendar = table.table.name, panel.calendar
    if table.has_dates == calendar.is_integer or table.timezone != calendar.timezone:
        raise UserError(
            f"{name} has {describe_times(table.has_dates, table.timezone)}, but {panel.name} has "
            f"{describe_times(not calendar.is_integer, calendar.timezone)}: convert them to one kind and time zone."
        )
    counted = calendar.count(times)
    lengths = panel.lengths.numpy()[series]
    ends = calendar.shift(panel.starts[series], lengths)
    early = np.flatnonzero(counted < ends)
    if len(early):
        row = early[0]
        raise UserError(
            f"{name}: series '{panel.ids[series[row]]}' has {calendar.spell(counted[row])}, but {panel.name} goes on "
            f"to {panel.spell_time(series[row], lengths[row] - 1)} ({len(early)} such rows in all): give only times "
            "after the end of the series."
        )
    step = calendar.positions(ends, counted)
    off = np.flatnonzero(step < 0)
    if len(off):
        row = off[0]
        raise UserError(
            f"{name}: series '{panel.ids[series[row]]}' has {calendar.spell(counted[row])}, which does not lie on the "
            f"step of {panel.name}, {calendar.freq} ({len(off)} such rows in all): correct the times."
        )
    return step.astype(np.int64)
