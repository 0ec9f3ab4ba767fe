"""Tables: from any table to a panel, and from a panel's forecasts back to the same kind of table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from armlp.data.calendar import Calendar, spell_time
from armlp.data.files import open_source, write_table
from armlp.data.frequency import infer_calendar
from armlp.data.panel import Panel, TableStyle
from armlp.data.rows import Rows, column_rows, few, long_rows
from armlp.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_panel", "to_table", "write_table"]

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
    target_columns: Sequence[str] | None = None,
    layout: str = "auto",
    freq: str | int | None = None,
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

    Raises:
        UserError: The table cannot be read so; the message says why, and what to change.
    """
    if layout not in _LAYOUTS:
        raise UserError(f"--data.layout {layout!r} is unknown: give one of {', '.join(_LAYOUTS)}.")
    targets = (target_columns,) if isinstance(target_columns, str) else tuple(target_columns or ())
    table = open_source(source)
    if layout == "auto":
        # An id column that was named is wanted; only the default one may be absent.
        is_long = id_column in table.columns or id_column != "unique_id"
        layout = "long" if is_long else "vector" if len(targets) > 1 else "wide"
    if layout == "long":
        rows = long_rows(table, id_column, time_column, targets or ("y",))
    else:
        rows = column_rows(table, id_column, time_column, targets, layout)
    return _panel(rows, table.name, freq)


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

    lengths = positions[offsets[1:] - 1] + 1
    filled = np.concatenate([[0], np.cumsum(lengths)])
    if filled[-1] > _MOST_GAPS * len(rows.times) + _ROWS_ALWAYS_ALLOWED:
        raise UserError(
            f"{name} has {len(rows.times)} rows, but with a step of {calendar.freq} its gaps make them "
            f"{filled[-1]}: give the true step with --data.freq, or times without such gaps."
        )
    _warn_of_gaps(rows, int(filled[-1]), name)
    values, observed = rows.values, ~np.isnan(rows.values)
    if filled[-1] != len(values):
        at = np.repeat(filled[:-1], sizes) + positions
        values, observed = (
            _scattered(values, at, int(filled[-1]), np.nan),
            _scattered(observed, at, int(filled[-1]), False),
        )
    # The first row in which all channels have been observed; a series without one is left out.
    leads = np.stack([_first_true(channel, filled) for channel in observed.T]).max(axis=0)
    kept = leads < lengths
    _warn_of_unobserved(rows.ids[~kept], len(kept), name)
    values = _filled_forward(values, observed)
    if leads.any():
        row_in_series = np.arange(len(values)) - np.repeat(filled[:-1], lengths)
        keep = row_in_series >= np.repeat(leads, lengths)
        values, observed = values[keep], observed[keep]
    return Panel(
        values=torch.from_numpy(np.ascontiguousarray(values)),
        observed=torch.from_numpy(np.ascontiguousarray(observed)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum((lengths - leads)[kept])])),
        ids=rows.ids[kept],
        starts=calendar.shift(starts[kept], leads[kept]),
        calendar=calendar,
        channels=rows.channels,
        style=rows.style,
        name=name,
    )


def _sort(rows: Rows) -> None:
    """Sort by series, then time; most tables are sorted already."""
    later_series = np.diff(rows.codes)
    later = rows.times[1:] >= rows.times[:-1]
    if not ((later_series > 0) | ((later_series == 0) & later)).all():
        order = np.lexsort((rows.times, rows.codes))
        rows.codes, rows.times, rows.values = rows.codes[order], rows.times[order], rows.values[order]


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


def _scattered(rows: np.ndarray, at: np.ndarray, length: int, empty: float | bool) -> np.ndarray:
    """`[length, V]` with rows `[rows, V]` where they belong and `empty` elsewhere."""
    laid = np.full((length, rows.shape[1]), empty, dtype=rows.dtype)
    laid[at] = rows
    return laid


def _first_true(flags: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`[S]` place within each series of its first True in `[N]`; the series' length if there is none."""
    places = np.flatnonzero(flags)
    after = np.append(places, offsets[-1])[np.searchsorted(places, offsets[:-1])]
    return np.asarray(np.minimum(after, offsets[1:]) - offsets[:-1])


def _filled_forward(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """`[N, V]` with missing values as the last observed above them."""
    if observed.all():
        return values
    last = np.where(observed, np.arange(len(values))[:, None], 0)
    return np.asarray(np.take_along_axis(values, np.maximum.accumulate(last, axis=0), axis=0))


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


def to_table(
    panel: Panel,
    series: np.ndarray,
    times: Mapping[str, np.ndarray],
    columns: Mapping[str, np.ndarray],
) -> Any:
    """Make a table like the one that a panel came from.

    Args:
        panel: Names the series, and knows how ids and times were spelled.
        series: `[R]` place of each row's series in the panel.
        times: `[R]` position within the series, 0 for its first row, by name of the time column; positions
            may lie past the end. `cutoff` sorts before `ds`.
        columns: `[R]` values of the other columns.

    Returns:
        A pandas, polars or pyarrow table of `unique_id`, times and columns, sorted by series and time.
    """
    import pyarrow as pa

    keys = sorted(times, key=lambda name: name != "cutoff")
    order = np.lexsort((*(times[name] for name in reversed(keys)), series))
    series = np.asarray(series)[order]
    starts, dictionary = panel.starts[series], pa.array(panel.ids)
    ids = pa.DictionaryArray.from_arrays(pa.array(series), dictionary)
    arrays = {"unique_id": _spelled_ids(ids, panel.style)}
    for name in times:
        counted = panel.calendar.shift(starts, np.asarray(times[name])[order])
        arrays[name] = _spelled_times(panel.calendar.instants(counted), panel.calendar.timezone, panel.style)
    arrays |= {name: pa.array(np.asarray(values)[order]) for name, values in columns.items()}
    table = pa.table(arrays)
    if panel.style.backend == "pandas":
        return table.to_pandas()
    if panel.style.backend == "polars":
        import polars as pl

        return pl.from_arrow(table)
    return table


def _spelled_ids(ids: pa.DictionaryArray, style: TableStyle) -> pa.Array:
    """Ids in the type in which they came."""
    import narwhals as nw
    import pyarrow as pa

    if isinstance(style.id_dtype, nw.Categorical):
        return ids.cast(pa.dictionary(pa.int32(), ids.type.value_type))
    return ids.dictionary_decode()


def _spelled_times(instants: np.ndarray, timezone: str | None, style: TableStyle) -> pa.Array:
    """Times in the type in which they came; text comes back as datetimes."""
    import narwhals as nw
    import pyarrow as pa

    dtype = style.time_dtype
    if instants.dtype.kind != "M":
        return pa.array(instants).cast(pa.type_for_alias(str(dtype).lower()) if dtype else pa.int64())
    times = pa.array(instants.view(np.int64)).cast(pa.timestamp("ns", timezone))
    if isinstance(dtype, nw.Date):
        return times.cast(pa.date32())
    return times.cast(pa.timestamp(dtype.time_unit if isinstance(dtype, nw.Datetime) else "us", timezone))
