"""Tables: from any table to a panel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from armlp.data.calendar import Calendar, spell_time
from armlp.data.covariates import ROLES
from armlp.data.files import open_source
from armlp.data.frequency import infer_calendar
from armlp.data.panel import Panel
from armlp.data.rows import Rows, Wanted, column_rows, few, long_rows
from armlp.errors import UserError

_LAYOUTS = ("auto", "long", "wide", "vector")
# A panel may be this many times longer than its table, and this much more, before it is taken for a mistake.
_MOST_GAPS = 20
_ROWS_ALWAYS_ALLOWED = 10_000_000
# So many times longer, and so much more, and the user is told.
_MANY_GAPS = 2.5
_GAPS_NEVER_TOLD = 100


def read_panel(
    source: Any,
    *,
    id_column: str = "unique_id",
    time_column: str = "ds",
    target_columns: Sequence[str] | str | None = None,
    layout: str = "auto",
    freq: str | int | None = None,
    known_covariates: Sequence[str] | str | None = None,
    past_covariates: Sequence[str] | str | None = None,
    static_covariates: Sequence[str] | str | None = None,
    symbols: bool | Sequence[Any] = False,
) -> Panel:
    """Read a table of series into a panel.

    Args:
        source: Path of a CSV or Parquet file, a folder of Parquet files, a glob of either, or a pandas,
            polars or pyarrow table.
        id_column: The column that names the series of a row, in the long layout.
        time_column: The column of times.
        target_columns: The columns to forecast; several make vector series. None is `y` in the long layout
            and every numeric column in the others.
        layout: `long` (a row per series and time), `wide` (a column per series), `vector` (all columns are
            one vector series), or `auto`: long if there is an id column, otherwise wide, or vector if
            several targets are named.
        freq: Step of time, a pandas alias or an integer; None infers it.
        known_covariates: Columns that are known ahead, numbers or categories. With them, rows after the last value of
            a series are its future rows, which hold covariates only. An empty category is one of its own, as where a
            column of holidays names none.
        past_covariates: Columns that are known up to the origin.
        static_covariates: Columns that say one thing of a whole series.
        symbols: Whether the target holds symbols instead of numbers, or the symbols that there are.

    Raises:
        UserError: The table cannot be read so; the message says why, and what to change.
    """
    if layout not in _LAYOUTS:
        raise UserError(f"--data.layout {layout!r} is unknown: give one of {', '.join(_LAYOUTS)}.")
    table = open_source(source)
    if layout == "auto":
        # An id column that was named is wanted; only the default one may be absent.
        is_long = id_column in table.columns or id_column != "unique_id"
        layout = "long" if is_long else "vector" if len(_names(target_columns)) > 1 else "wide"
    given = (known_covariates, past_covariates, static_covariates)
    covariates = {role: _names(columns) for role, columns in zip(ROLES, given, strict=True)}
    wanted = Wanted(id_column, time_column, _names(target_columns), covariates, symbols)
    rows = long_rows(table, wanted) if layout == "long" else column_rows(table, wanted, layout)
    return _panel(rows, table.name, freq)


def _names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns or ())


def _panel(rows: Rows, name: str, freq: str | int | None) -> Panel:
    """Sort rows, find the calendar, fill gaps, and lay all series end to end."""
    import torch

    _sort(rows)
    _refuse_duplicates(rows, name)
    sizes = np.bincount(rows.codes, minlength=len(rows.ids))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    calendar = _calendar(rows, offsets, name, freq)
    counted = calendar.count(rows.times)
    starts = counted[offsets[:-1]]
    positions = calendar.positions(np.repeat(starts, sizes), counted)
    _refuse_off_calendar(rows, positions, offsets, calendar, name)
    static = _static(rows, offsets, name)

    lengths = positions[offsets[1:] - 1] + 1
    filled = np.concatenate([[0], np.cumsum(lengths)])
    if filled[-1] > _MOST_GAPS * len(rows.times) + _ROWS_ALWAYS_ALLOWED:
        raise UserError(
            f"{name} has {len(rows.times)} rows, but with a step of {calendar.freq} its gaps make them "
            f"{filled[-1]}: give the true step with --data.freq, or times without such gaps."
        )
    _warn_of_gaps(rows, int(filled[-1]), name)
    values, observed = rows.values, ~np.isnan(rows.values)
    known, past = rows.covariates["known"], rows.covariates["past"]
    if filled[-1] != len(values):
        at = np.repeat(filled[:-1], sizes) + positions
        values, known, past = (_scattered(part, at, int(filled[-1])) for part in (values, known, past))
        observed = ~np.isnan(values)
    # The first row in which all channels have been observed; a series without one is left out.
    leads = np.stack([_first_true(channel, filled) for channel in observed.T]).max(axis=0)
    kept = leads < lengths
    _warn_of_unobserved(rows.ids[~kept], len(kept), name)
    ends = histories = lengths
    if known.shape[1]:
        # After the last value come future rows, as far as all covariates are known.
        histories = _until_last_true(observed.any(axis=1), filled)
        told = known[:, ~np.isnan(known).all(axis=0)]  # a column of holidays may name none at all
        ends = np.maximum(histories, _until_last_true(~np.isnan(told).any(axis=1), filled))
    first = np.repeat(filled[:-1], lengths)
    values = _filled_forward(values, first)
    if leads.any() or (ends < lengths).any():
        row_in_series = np.arange(len(values)) - first
        keep = (row_in_series >= np.repeat(leads, lengths)) & (row_in_series < np.repeat(ends, lengths))
        values, observed, known, past = (part[keep] for part in (values, observed, known, past))
    return Panel(
        values=torch.from_numpy(np.ascontiguousarray(values)),
        observed=torch.from_numpy(np.ascontiguousarray(observed)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum((ends - leads)[kept])])),
        ids=rows.ids[kept],
        starts=calendar.shift(starts[kept], leads[kept]),
        calendar=calendar,
        channels=rows.channels,
        style=rows.style,
        name=name,
        future=torch.from_numpy((ends - histories)[kept]) if known.shape[1] else None,
        known=torch.from_numpy(known),
        past=torch.from_numpy(past),
        static=torch.from_numpy(static[kept]),
        covariate_columns=rows.covariate_columns,
        symbols=rows.symbols,
    )


def _sort(rows: Rows) -> None:
    """Sort by series, then time; most tables are sorted already."""
    later_series = np.diff(rows.codes)
    later = rows.times[1:] >= rows.times[:-1]
    if not ((later_series > 0) | ((later_series == 0) & later)).all():
        order = np.lexsort((rows.times, rows.codes))
        rows.codes, rows.times, rows.values = rows.codes[order], rows.times[order], rows.values[order]
        rows.covariates = {role: columns[order] for role, columns in rows.covariates.items()}


def _refuse_duplicates(rows: Rows, name: str) -> None:
    twice = np.flatnonzero((rows.codes[1:] == rows.codes[:-1]) & (rows.times[1:] == rows.times[:-1]))
    if not twice.size:
        return
    row = twice[0]
    fix = "keep one row of each"
    if rows.style.id_dtype is None:
        fix += ", or name the column that says which series a row belongs to with --data.id_column"
    raise UserError(
        f"{name}: series '{rows.ids[rows.codes[row]]}' has {spell_time(rows.times[row])} more than once "
        f"({twice.size} such rows in all): {fix}."
    )


def _calendar(rows: Rows, offsets: np.ndarray, name: str, freq: str | int | None) -> Calendar:
    """The calendar that the user gave, or the one that explains the times."""
    if freq is None:
        return infer_calendar(rows.times, offsets, rows.ids, rows.timezone, name)
    calendar = Calendar(freq, rows.timezone)
    if calendar.is_integer != (rows.times.dtype.kind != "M"):
        holds, needs = ("datetimes", "a pandas alias such as h or D")
        if not calendar.is_integer:
            holds, needs = ("integers", "an integer such as 1")
        raise UserError(f"--data.freq is {freq}, but the times of {name} are {holds}: give {needs}.")
    return calendar


def _refuse_off_calendar(rows: Rows, positions: np.ndarray, offsets: np.ndarray, calendar: Calendar, name: str) -> None:
    off = np.flatnonzero(positions < 0)
    if not off.size:
        return
    code = rows.codes[off[0]]
    start, time = (spell_time(calendar.wall_times(calendar.count(rows.times[[row]]))[0])
                   for row in (offsets[code], off[0]))  # fmt: skip
    try:
        likely = f"--data.freq {infer_calendar(rows.times, offsets, rows.ids, rows.timezone, name).freq} would fit"
    except UserError:
        likely = "correct the times, or give another --data.freq"
    where = "" if start == time else f", which starts at {start}"
    raise UserError(
        f"{name}: time {time} of series '{rows.ids[code]}'{where} does not lie on --data.freq "
        f"{calendar.freq} ({off.size} such rows in all): {likely}."
    )


def _static(rows: Rows, offsets: np.ndarray, name: str) -> np.ndarray:
    """`[S, M]` what every series says all along; nan where it says nothing."""
    least, most = (reduce.reduceat(rows.covariates["static"], offsets[:-1]) for reduce in (np.fmin, np.fmax))
    changing = np.argwhere(least < most)
    if len(changing):
        series, place = changing[0]
        column = rows.covariate_columns["static"][place]
        low, high = (
            f"{value:g}" if column.categories is None else f"'{column.categories[int(value)]}'"
            for value in (least[series, place], most[series, place])
        )
        raise UserError(
            f"{name}: --data.static_covariates: column '{column.name}' of series '{rows.ids[series]}' is both {low} "
            f"and {high}: give one value per series, or name the column in --data.past_covariates."
        )
    return np.asarray(least)


def _scattered(rows: np.ndarray, at: np.ndarray, length: int) -> np.ndarray:
    """`[length, V]` with rows `[rows, V]` where they belong and nan elsewhere."""
    laid = np.full((length, rows.shape[1]), np.nan, dtype=rows.dtype)
    laid[at] = rows
    return laid


def _first_true(flags: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`[S]` place within each series of its first True in `[N]`; the series' length if there is none."""
    places = np.flatnonzero(flags)
    after = np.append(places, offsets[-1])[np.searchsorted(places, offsets[:-1])]
    return np.asarray(np.minimum(after, offsets[1:]) - offsets[:-1])


def _until_last_true(flags: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`[S]` how many rows each series has up to its last True in `[N]`; 0 if there is none."""
    after = np.flatnonzero(flags) + 1
    last = np.insert(after, 0, 0)[np.searchsorted(after, offsets[1:], side="right")]
    return np.asarray(np.maximum(last - offsets[:-1], 0))


def _filled_forward(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """`[N, V]` with missing values as the last one above them, not above the row `first [N]`; nan where none is."""
    there = ~np.isnan(values)
    if there.all():
        return values
    last = np.maximum.accumulate(np.where(there, np.arange(len(values))[:, None], -1), axis=0)
    filled = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.asarray(np.where(last >= first[:, None], filled, np.float32(np.nan)))


def _warn_of_gaps(rows: Rows, steps: int, name: str) -> None:
    # Without an id column, all series share the rows of the table.
    tables = len(rows.ids) if rows.style.id_dtype is None else 1
    found, steps = len(rows.times) // tables, steps // tables
    if steps > _MANY_GAPS * found and steps - found >= _GAPS_NEVER_TOLD:
        warnings.warn(
            f"{name} has {found} rows, but its calendar has {steps} steps between their times, and those missing are "
            "taken for gaps: if that is not meant, the times may be dates written as numbers (20200131) or day-first; "
            "convert them, or give the step with --data.freq.",
            UserWarning,
            stacklevel=4,
        )


def _warn_of_unobserved(ids: np.ndarray, total: int, name: str) -> None:
    if len(ids) == total:
        raise UserError(
            f"{name}: no series has an observed value in every target column: give a table with values, or "
            "other --data.target_columns."
        )
    if len(ids):
        warnings.warn(
            f"{name}: {len(ids)} of {total} series have no observed value and are left out: {few(ids)}.",
            UserWarning,
            stacklevel=4,
        )
