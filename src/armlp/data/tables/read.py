"""Tables: from any table to a panel."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from armlp.data import storage as store
from armlp.data.covariates import ROLES
from armlp.data.panel import Panel
from armlp.data.storage import Store, parse_bytes, room_for_panel
from armlp.data.tables import cache as saved_panels
from armlp.data.tables.fill import PanelFiller
from armlp.data.tables.layout import LayoutPlanner, OffCalendar
from armlp.data.tables.roles import ColumnRoles
from armlp.data.tables.rows import Rows, TableRows
from armlp.data.tables.scan import TableScan
from armlp.data.tables.source import open_source
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
) -> Panel:
    """Read a table of series into a panel, a part at a time.

    Args:
        source: Path of a CSV or Parquet file, a folder of Parquet files (hive partitions too), a glob of either, or a
            pandas, polars (lazy too) or pyarrow table or dataset. Rows may come in any order.
        id_column: The column that names the series of a row, in the long layout.
        time_column: The column of times.
        target_columns: The columns to forecast; several make vector series. None is `y` in the long layout
            and every numeric column in the others.
        layout: `long` (a row per series and time), `wide` (a column per series), `vector` (all columns are
            one vector series), or `auto`: long if there is an id column, otherwise wide, or vector if
            several targets are named.
        freq: Step of time, a pandas alias or an integer; None infers it.
        usual_freq: What it is where every series has one row, from which nothing can be inferred; None refuses that.
        known_covariates: Columns that are known ahead, numbers or categories. With them, rows after the last value of
            a series are its future rows, which hold covariates only. An empty category is one of its own, as where a
            column of holidays names none.
        past_covariates: Columns that are known up to the origin.
        static_covariates: Columns that say one thing of a whole series.
        symbols: Whether the target holds symbols instead of numbers, or the symbols that there are.
        future: Another table, of ids, times and known covariates after the last value of every series.
        memory_budget: Most memory for the process, such as `2GB`; half of the machine's where left out. A panel of
            files that is too large for it is laid into files beside them, once, and mapped into memory from there.

    Raises:
        UserError: The table cannot be read so; the message says why, and what to change.
    """
    if layout not in _LAYOUTS:
        raise UserError(f"`layout` {layout!r} is unknown: give one of {', '.join(_LAYOUTS)}.")
    room = room_for_panel(None if memory_budget is None else parse_bytes(memory_budget))
    given = (known_covariates, past_covariates, static_covariates)
    covariates = {role: _names(columns) for role, columns in zip(ROLES, given, strict=True)}
    id_column, time_column = str(id_column), str(time_column)  # numbers may name columns of pandas
    wanted = ColumnRoles(id_column, time_column, _names(target_columns), covariates, symbols)
    if future is not None and not covariates["known"]:
        raise UserError("`future`: there are no covariates to know ahead; name them with `known_covariates`.")
    place, files = None, []
    tables = [source] if future is None else [source, future]
    if all(isinstance(table, (str, os.PathLike)) for table in tables):
        paths = [os.fspath(table) for table in tables]
        files = saved_panels.fingerprint(paths)
        place = saved_panels.folder_of(
            paths[0], {"wanted": wanted, "layout": layout, "freq": freq, "future": paths[1:]}
        )
        saved = saved_panels.load_panel(place, files, room)
        if saved is not None:
            return _warned(*saved)
    opened = open_source(source)
    if layout == "auto":
        # An id column that was named is wanted; only the default one may be absent.
        is_long = id_column in opened.columns or id_column != "unique_id"
        layout = "long" if is_long else "vector" if len(wanted.targets) > 1 else "wide"
    table = TableRows(opened, wanted, layout, None if future is None else open_source(future, "the table of `future`"))
    planner = LayoutPlanner(table, _survey(table), freq, usual_freq)
    while True:
        try:
            return _warned(*_panel(table, planner, place, files, room))
        except OffCalendar as row:
            planner.reconsider(row)


def _names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(map(str, columns or ()))


def _warned(panel: Panel, notes: Sequence[str]) -> Panel:
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=4)
    return panel


def _survey(table: TableRows) -> TableScan:
    survey = TableScan(len(table.channels), *(len(table.wanted.covariates[role]) for role in ("known", "static")))
    for rows in _shown(table, "looking at"):
        survey.add(rows)
    survey.finish(table.num_series)
    return survey


def _panel(
    table: TableRows, planner: LayoutPlanner, place: Path | None, files: list[list[Any]], room: int
) -> tuple[Panel, list[str]]:
    """The panel, in memory or mapped from `place` if it is larger than `room` bytes; and what there is to warn of."""
    plan, notes = planner.plan(), planner.notes
    facts = {
        "name": table.table.name,
        "channels": table.channels,
        "style": table.style,
        "covariate_columns": table.covariate_columns,
        "symbols": table.symbols,
    }
    static = planner.static(plan)
    shapes = saved_panels.shapes(int(plan.offsets[-1]), *(len(names) for names in (
        table.channels, table.wanted.covariates["known"], table.wanted.covariates["past"])))  # fmt: skip

    def lay(into: Store) -> np.ndarray | None:
        return PanelFiller(plan, into).lay(table, lambda: _shown(table, "reading"))

    if place is None or store.num_bytes(shapes) <= room:
        arrays = store.in_memory(shapes)
        levels = lay(arrays)
        return saved_panels.make_panel(plan, arrays, levels, static, facts), notes

    def fill(arrays: Store) -> Mapping[str, Any]:
        assert arrays.folder is not None
        saved_panels.save_panel(arrays.folder, plan, lay(arrays), static, table.types)
        return saved_panels.describe(facts, plan.calendar, files, notes)

    store.build(place, shapes, fill)
    saved = saved_panels.load_panel(place, files, room)
    if saved is None:
        raise UserError(f"{table.table.name} has changed while it was read: read it again when it is whole.")
    return saved


def _shown(table: TableRows, what: str) -> Iterator[Rows]:
    """The rows of a table, under a progress bar if they take long."""
    bar = tqdm(
        desc=f"{what} {table.table.name}",
        total=table.table.num_rows,
        unit=" rows",
        unit_scale=True,
        delay=2,
        # A terminal is refreshed twice a second, a log file gets a line every ten seconds.
        mininterval=0.5 if sys.stderr.isatty() else 10,
        # Of the processes of a training on several devices only the first one shows bars.
        disable=os.environ.get("LOCAL_RANK", "0") != "0",
        dynamic_ncols=True,
        leave=False,
    )
    with bar:
        for rows in table:
            yield rows
            bar.update(len(rows.codes))
