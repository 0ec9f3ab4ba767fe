"""Opening of tables in memory, of any library, or in files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import pyarrow as pa

from armlp.data.sources.files import open_files
from armlp.data.sources.source import Part, Source, split_rows
from armlp.data.time.arrays import TimesError, times_of_objects
from armlp.errors import UserError, short_message

if TYPE_CHECKING:
    import narwhals as nw

_Result = TypeVar("_Result")
_TABLE = "the table"


def open_source(source: Any, name: str = _TABLE) -> Source:
    """Open a table without reading its rows; messages call a table in memory `name`."""
    opened = open_files(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else _open_memory(source, name)
    if not opened.columns:
        raise UserError(f"{opened.name} has no columns: give a table of times and values.")
    column, count = Counter(opened.columns).most_common(1)[0]
    if count > 1:
        raise UserError(f"{opened.name} has {count} columns named '{column}': give each column a name of its own.")
    return opened


def _open_memory(table: Any, name: str) -> Source:
    import narwhals as nw

    datasets = sys.modules.get("pyarrow.dataset")  # slow to import, and loaded already if there is a dataset
    if datasets is not None and isinstance(table, datasets.Dataset):
        return _open_dataset(table)
    if isinstance(table, pd.DataFrame):
        table = _with_plain_columns(table)
    elif isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    try:
        frame: nw.DataFrame[Any] | nw.LazyFrame[Any] = nw.from_native(table)
    except Exception as error:  # every library behind narwhals raises its own errors
        reason = "" if isinstance(error, TypeError) else f" ({short_message(error)})"
        raise UserError(
            f"{'The source' if name == _TABLE else name}, of type {type(table).__name__}, cannot be read as a table"
            f"{reason}: give a pandas, polars or pyarrow table, a path, or a data set's name."
        ) from error
    library = str(frame.implementation.value)
    backend = library if library in ("pandas", "polars") else "pyarrow"
    if isinstance(frame, nw.LazyFrame):
        return _open_lazy(frame, backend, name)
    columns = cache(lambda column, option: _eager_column(frame[column], name, option))  # there may be two passes

    def read(options: Mapping[str, str], max_rows: int) -> Iterator[Part]:
        yield from split_rows(
            pa.table({column: columns(column, option) for column, option in options.items()}), name, max_rows
        )

    return Source(name, tuple(frame.columns), backend, read, num_rows=len(frame))


def _with_plain_columns(table: Any) -> Any:
    """Return a pandas table with index levels as columns, and text as column names."""
    if isinstance(table.columns, pd.MultiIndex):
        raise UserError(
            f"The table has column names of {table.columns.nlevels} levels: give one name to each column, "
            "or stack the columns into rows."
        )
    # Many libraries keep ids or times in the index; a level that is a column too is not needed.
    levels = [
        index for index, level in enumerate(table.index.names) if level is not None and level not in table.columns
    ]
    if levels:
        table = table.reset_index(level=levels)
    elif isinstance(table.index, (pd.DatetimeIndex, pd.PeriodIndex)) and table.index.name is None:
        table = table.rename_axis("index").reset_index() if "index" not in table.columns else table
    return table if all(isinstance(column, str) for column in table.columns) else table.rename(columns=str)


def _eager_column(series: nw.Series[Any], name: str, option: str) -> pa.ChunkedArray:
    import narwhals as nw

    column, native = series.name, series.to_native()
    if isinstance(getattr(native, "dtype", None), pd.SparseDtype):
        series = nw.from_native(native.sparse.to_dense(), series_only=True)
    try:
        is_mixed = option == "time_column" and series.dtype == nw.Object
        arrow = times_of_objects(series.to_numpy()) if is_mixed else series.to_arrow()
    except TimesError as error:
        raise UserError(
            f"{name}: column '{column}' holds {error.found}, but `{option}` needs {error.needed}."
        ) from error
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{name}: column '{column}' holds {_describe_mixture(native)}, but `{option}` needs numbers, text or times "
            "of one type."
        ) from error
    return arrow if isinstance(arrow, pa.ChunkedArray) else pa.chunked_array([arrow])


def _describe_mixture(values: Any) -> str:
    """Return the first two values of different types, or the first value for which arrow has no type, as text."""
    if str(values.dtype) != "object":
        return str(values.dtype)
    described: dict[type, str] = {}
    for row, value in enumerate(values):
        if pd.api.types.is_scalar(value) and pd.isna(value):
            continue
        text = f"'{value}' ({type(value).__name__}, row {row + 1})"
        described.setdefault(type(value), text)
        if len(described) > 1:
            return f"values of different types, {' and '.join(described.values())}"
        try:
            pa.array([value])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return text
    return "values of different types"


def _open_lazy(frame: nw.LazyFrame[Any], backend: str, name: str) -> Source:
    """Open a lazy table: polars streams it in batches, other libraries compute it whole."""

    def read(options: Mapping[str, str], max_rows: int) -> Iterator[Part]:
        selected = frame.select(list(options))
        native: Any = selected.to_native()
        if hasattr(native, "collect_batches"):
            batches = partial(native.collect_batches, chunk_size=max_rows, maintain_order=True)
            yield from _stream(name, name, batches, max_rows)
        else:
            library: Any = "pyarrow" if backend == "pyarrow" else None
            yield from split_rows(_compute(name, lambda: selected.collect(backend=library).to_arrow()), name, max_rows)

    columns = _compute(name, lambda: tuple(frame.collect_schema().names()))
    return Source(name, columns, "pyarrow" if backend == "pyarrow" else f"{backend}-lazy", read)


def _open_dataset(dataset: Any) -> Source:
    def read(options: Mapping[str, str], max_rows: int) -> Iterator[Part]:
        batches = partial(dataset.to_batches, columns=list(options), batch_size=max_rows)
        yield from _stream("The dataset", "the dataset", batches, max_rows)

    num_rows = _compute("The dataset", dataset.count_rows)
    return Source("the dataset", tuple(dataset.schema.names), "pyarrow", read, num_rows=num_rows)


def _stream(subject: str, name: str, batches: Callable[[], Any], max_rows: int) -> Iterator[Part]:
    """Yield the batches that a library computes."""
    first, remaining = 0, _compute(subject, lambda: iter(batches()))
    while (batch := _compute(subject, lambda: next(remaining, None))) is not None:
        table = _compute(subject, getattr(batch, "to_arrow", partial(pa.Table.from_batches, [batch])))
        yield from split_rows(table, name, max_rows, first)
        first += len(batch)


def _compute(name: str, compute: Callable[[], _Result]) -> _Result:
    """Call a library to compute a table; files may be missing or broken, and the user's expressions may fail."""
    try:
        return compute()
    except Exception as error:
        reason = short_message(error) or type(error).__name__
        raise UserError(
            f"{name} cannot be read ({reason}): give one whose files are whole and alike and whose expressions work."
        ) from error
