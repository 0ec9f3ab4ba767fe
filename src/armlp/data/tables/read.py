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
from armlp.data.tables.align import Aligner, OffCalendarError
from armlp.data.tables.cache import PanelCache
from armlp.data.tables.encoders import target_encoder
from armlp.data.tables.fill import PanelFiller, make_panel, panel_shapes
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
    default_freq: str | int | None = None,
    known_covariates: Sequence[str] | str | None = None,
    past_covariates: Sequence[str] | str | None = None,
    static_covariates: Sequence[str] | str | None = None,
    symbols: bool | Sequence[Any] = False,
    future: Any = None,
    memory_budget: str | int | None = None,
    limits: Limits | None = None,
) -> Panel:
    """Read a table of series into a panel, a part at a time.

    `source`, `future` and `memory_budget` are the arguments of `SeriesDataModule`. All others, except for the two
    below, are options of `DataSettings`.

    Args:
        default_freq: The time step if it cannot be inferred, because every series has one row.
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
    given_roles = ColumnRoles(str(id_column), str(time_column), _names(target_columns), covariates)
    limits = limits or Limits()
    max_bytes = storage.max_panel_bytes(memory_budget) if limits.panel is None else limits.panel
    sources = [source] if future is None else [source, future]
    cache: PanelCache | None = None
    panel: Panel | None = None
    warning_texts: list[str] = []
    if all(isinstance(one, (str, os.PathLike)) for one in sources):
        cache = PanelCache([os.fspath(one) for one in sources], (given_roles, symbols, layout, freq), max_bytes)
        if (saved := cache.load()) is not None:
            panel, warning_texts = saved
    if panel is None:
        # 1. Open the table, and that of the future, without reading their rows.
        opened = open_source(source)
        opened_future = None if future is None else open_source(future, "the table of `future`")
        # 2. Find the role of every column.
        layout = find_layout(opened, given_roles) if layout == "auto" else layout
        encoder = target_encoder(symbols)
        roles = resolve_roles(opened, given_roles, layout, encoder)
        rows = TableRows(opened, roles, layout, encoder, opened_future, limits)
        # 3. Scan all rows for statistics of every series.
        aligner = Aligner(rows, TableScan(rows), freq, default_freq)
        while panel is None:
            try:
                # 4. Find the calendar, and with it the row of the panel to which each row belongs.
                alignment = aligner.align()
                static, shapes = aligner.static(alignment), panel_shapes(rows, alignment)
                warning_texts = aligner.warning_texts
                # 5. Fill the panel, in memory or in files if it is too large, with the values of all rows.
                if cache is not None and storage.num_bytes(shapes) > max_bytes:
                    panel, warning_texts = cache.build(rows, alignment, static, shapes, warning_texts)
                else:
                    store = storage.in_memory(shapes)
                    base_values = PanelFiller(alignment, store).fill(rows)
                    panel = make_panel(alignment, store, base_values, static, rows.panel_fields)
            except OffCalendarError as error:  # the calendar was inferred from a sample that lacks this row
                aligner.widen_sample(error)
    for text in warning_texts:
        warnings.warn(text, UserWarning, stacklevel=3)
    return panel


def _names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(map(str, columns or ()))
