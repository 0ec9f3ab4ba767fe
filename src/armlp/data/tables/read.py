"""Reading of any table into a panel."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

from armlp.data import storage
from armlp.data.covariates import ROLES
from armlp.data.panel import Panel
from armlp.data.sources.open import open_source
from armlp.data.sources.source import Limits
from armlp.data.storage import room_for_panel
from armlp.data.tables.cache import PanelCache
from armlp.data.tables.fill import PanelFiller, make_panel, panel_shapes
from armlp.data.tables.layout import LayoutPlanner, OffCalendarError
from armlp.data.tables.roles import ColumnRoles, find_layout, resolve_roles
from armlp.data.tables.rows import TableRows
from armlp.data.tables.scan import TableScan
from armlp.errors import UserError

_LAYOUTS = ("auto", "long", "wide", "vector")


def read_panel(
    source: Any,
    *,
    id_column: str = "unique_id",
    time_column: str = "ds",
    target_columns: Sequence[str] | str | None = None,
    layout: str = "auto",
    freq: str | int | None = None,
    usual_freq: str | int | None = None,
    known_covariates: Sequence[str] | str | None = None,
    past_covariates: Sequence[str] | str | None = None,
    static_covariates: Sequence[str] | str | None = None,
    symbols: bool | Sequence[Any] = False,
    future: Any = None,
    memory_budget: str | int | None = None,
    limits: Limits | None = None,
) -> Panel:
    """Read a table of series into a panel, a part at a time.

    The arguments are those of `SeriesDataModule` and the options of `DataSettings`, and two more:

    Args:
        usual_freq: The time step where every series has one row, so that it cannot be inferred.
        limits: How much is read and kept at a time.

    Raises:
        UserError: The table cannot be read.
    """
    if layout not in _LAYOUTS:
        raise UserError(f"`layout` {layout!r} is unknown: give one of {', '.join(_LAYOUTS)}.")
    names = (known_covariates, past_covariates, static_covariates)
    covariates = {role: _names(columns) for role, columns in zip(ROLES, names, strict=True)}
    if future is not None and not covariates["known"]:
        raise UserError("`future`: there are no known covariates; name them with `known_covariates`.")
    roles = ColumnRoles(str(id_column), str(time_column), _names(target_columns), covariates, symbols)
    limits = limits or Limits()
    room = room_for_panel(memory_budget) if limits.panel is None else limits.panel
    tables, cache = [source] if future is None else [source, future], None
    if all(isinstance(table, (str, os.PathLike)) for table in tables):
        cache = PanelCache([os.fspath(table) for table in tables], (roles, layout, freq), room)
    read = None if cache is None else cache.load()
    if read is None:
        # 1. Open the table, and that of the future, without reading their rows.
        opened = open_source(source)
        opened_future = None if future is None else open_source(future, "the table of `future`")
        # 2. Find the role of every column.
        layout = find_layout(opened, roles) if layout == "auto" else layout
        table = TableRows(opened, resolve_roles(opened, roles, layout), layout, opened_future, limits)
        # 3. Scan all rows for statistics of every series.
        scan = TableScan(table)
        # 4. Find the calendar, and with it the row of the panel to which each row belongs.
        planner = LayoutPlanner(table, scan, freq, usual_freq)
        while read is None:
            try:
                # 5. Fill the panel with the values of all rows.
                read = _fill(table, planner, cache, room)
            except OffCalendarError as row:  # the calendar was inferred from a sample that lacks this row
                planner.reconsider(row)
    panel, notes = read
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=3)
    return panel


def _names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(map(str, columns or ()))


def _fill(table: TableRows, planner: LayoutPlanner, cache: PanelCache | None, room: int) -> tuple[Panel, list[str]]:
    """Return the panel, in memory or in the files of the cache if it is larger than `room` bytes, and warnings."""
    layout = planner.layout()
    static, shapes = planner.static(layout), panel_shapes(table, layout)
    if cache is not None and storage.num_bytes(shapes) > room:
        return cache.build(table, layout, static, shapes, planner.notes)
    store = storage.in_memory(shapes)
    levels = PanelFiller(layout, store).fill(table)
    return make_panel(layout, store, levels, static, table.panel_fields), planner.notes
