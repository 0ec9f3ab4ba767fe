"""Forecasts as a table like the one that the panel came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from armlp.data.panel import Panel, TableStyle
from armlp.data.time.arrays import is_period, spell_periods


def write_table_like(
    panel: Panel, series: np.ndarray, times: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray]
) -> Any:
    """Return a pandas, polars or pyarrow table like the one that a panel came from, sorted by series and time.

    Args:
        series: `[R]` index of the series of each row.
        times: By column name, `[R]` row within the series, which may lie past the end; `cutoff` sorts before `ds`.
        columns: By name, `[R]` values of the other columns.
    """
    import narwhals as nw

    keys = sorted(times, key=lambda name: name != "cutoff")
    order = np.lexsort((*(times[name] for name in reversed(keys)), series))
    series = np.asarray(series)[order]
    starts, ids = panel.starts[series], pa.DictionaryArray.from_arrays(pa.array(series), pa.array(panel.ids))
    is_categorical = isinstance(panel.style.id_dtype, nw.Categorical)
    arrays = {
        "unique_id": ids.cast(pa.dictionary(pa.int32(), ids.type.value_type))
        if is_categorical
        else ids.dictionary_decode()
    }
    for name in times:
        counted = panel.calendar.shift(starts, np.asarray(times[name])[order])
        arrays[name] = _times_as_read(panel.calendar.instants(counted), panel.calendar.timezone, panel.style)
    arrays |= {name: pa.array(np.asarray(values)[order]) for name, values in columns.items()}
    table = pa.table(arrays)
    if panel.style.backend == "pandas":
        return table.to_pandas()
    if panel.style.backend.startswith("polars"):
        import polars as pl

        frame = pl.DataFrame(table)
        return frame.lazy() if panel.style.backend == "polars-lazy" else frame
    return table


def _times_as_read(instants: np.ndarray, timezone: str | None, style: TableStyle) -> pa.Array:
    """Return times in the type of the table; datetimes for text."""
    import narwhals as nw

    dtype = style.time_dtype
    if isinstance(dtype, pa.DataType) and is_period(dtype):
        return spell_periods(instants, dtype)
    if instants.dtype.kind != "M":
        try:
            return pa.array(instants).cast(pa.type_for_alias(str(dtype).lower()) if dtype else pa.int64())
        except pa.ArrowInvalid:
            return pa.array(instants)  # the times of the forecast exceed the type of the table
    times = pa.array(instants.view(np.int64)).cast(pa.timestamp("ns", timezone))
    if isinstance(dtype, nw.Date):
        return times.cast(pa.date32())
    return times.cast(pa.timestamp(dtype.time_unit if isinstance(dtype, nw.Datetime) else "us", timezone))
