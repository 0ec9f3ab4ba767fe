"""Sources: tables of any library, in memory or in files, opened to look alike."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from armlp.data.tables.times import TimesError, times_of_objects
from armlp.errors import UserError, one_line

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa


_Computed = TypeVar("_Computed")

# Rows that are read at a time: enough for vectors to pay, few enough not to weigh.
BATCH = 1 << 18


class Part(NamedTuple):
    """Some rows of a table.

    Attributes:
        name: What to call the file or table that they are of, in messages.
        first: Number of the first of them in it.
        table: Their columns.
    """

    name: str
    first: int
    table: pa.Table


@dataclass(frozen=True)
class Source:
    """A table that has been found but not read.

    Attributes:
        name: What to call it in messages: the path as given, or "the table".
        columns: Names of its columns.
        backend: Library that answers should come back in: `pandas`, `polars`, `polars-lazy` or `pyarrow`.
        read: Reads the named columns, at most so many rows at a time. The names are given with the options of the
            command line that ask for them.
        num_rows: How many rows it has, where that is known.
        is_text: Whether numbers in it are spelled as text, so that nobody knows which were meant as names.
    """

    name: str
    columns: tuple[str, ...]
    backend: str
    read: Callable[[Mapping[str, str], int], Iterator[Part]]
    num_rows: int | None = None
    is_text: bool = False


_TABLE = "the table"  # that is forecast


def open_source(source: Any, name: str = _TABLE) -> Source:
    """Find a table.

    Args:
        source: Path of a CSV or Parquet file, a folder of Parquet files (hive partitions too), a glob of either, or a
            pandas, polars (lazy too) or pyarrow table or dataset.
        name: What to call a table in memory.

    Raises:
        UserError: There is no such file, or it is no table.
    """
    from armlp.data.tables.files import open_files

    opened = open_files(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else _open_memory(source, name)
    if not opened.columns:
        raise UserError(f"{opened.name} has no columns: give a table of times and values.")
    twice, count = Counter(opened.columns).most_common(1)[0]
    if count > 1:
        raise UserError(f"{opened.name} has {count} columns named '{twice}': give each column a name of its own.")
    return opened


def _open_memory(table: Any, name: str) -> Source:
    import narwhals as nw
    import pandas as pd
    import pyarrow as pa

    datasets = sys.modules.get("pyarrow.dataset")  # takes long to import, and whoever has a dataset has done it
    if datasets is not None and isinstance(table, datasets.Dataset):
        return _open_dataset(table)
    if isinstance(table, pd.DataFrame):
        table = _flat(table)
    elif isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    try:
        frame: nw.DataFrame[Any] | nw.LazyFrame[Any] = nw.from_native(table)
    except Exception as error:  # The libraries that narwhals speaks to each raise their own.
        reason = "" if isinstance(error, TypeError) else f" ({one_line(error)})"
        raise UserError(
            f"{'The source' if name == _TABLE else name}, of type {type(table).__name__}, cannot be read as a table"
            f"{reason}: give a pandas, polars or pyarrow table, a path, or a data set's name."
        ) from error
    library = str(frame.implementation.value)
    known = library in ("pandas", "polars")
    if isinstance(frame, nw.LazyFrame):
        columns = _computed(name, lambda: tuple(frame.collect_schema().names()))
        return Source(name, columns, f"{library}-lazy" if known else "pyarrow", _lazy_reader(frame, known, name))
    columns = tuple(frame.columns)
    eager = frame

    @cache  # the table is read twice
    def column(column: str, option: str) -> pa.ChunkedArray:
        series = eager[column]
        native: Any = series.to_native()
        if isinstance(getattr(native, "dtype", None), pd.SparseDtype):
            series = nw.from_native(native.sparse.to_dense(), series_only=True)
        try:
            is_mixed = option == "`time_column`" and series.dtype == nw.Object
            arrow = times_of_objects(series.to_numpy()) if is_mixed else series.to_arrow()
        except TimesError as error:
            raise UserError(
                f"{name}: column '{column}' holds {error.found}, but {option} needs {error.needed}."
            ) from error
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{name}: column '{column}' holds {_unlike(native)}, but {option} needs numbers, text or times of one "
                "type."
            ) from error
        return arrow if isinstance(arrow, pa.ChunkedArray) else pa.chunked_array([arrow])

    def read(wanted: Mapping[str, str], most: int) -> Iterator[Part]:
        whole = pa.table({name: column(name, option) for name, option in wanted.items()})
        yield from parts(whole, name, most)

    return Source(name, columns, library if known else "pyarrow", read, num_rows=len(eager))


def _unlike(values: Any) -> str:
    """What keeps a column from being one of arrow: the first value of another type than the one before, or of none."""
    import pandas as pd
    import pyarrow as pa

    if str(values.dtype) != "object":
        return str(values.dtype)
    first: tuple[int, Any] | None = None
    for row, value in enumerate(values):
        if pd.api.types.is_scalar(value) and pd.isna(value):
            continue
        first = first or (row, value)
        if type(value) is not type(first[1]):
            return f"values of different types, {_named(*first)} and {_named(row, value)}"
        try:
            pa.array([value])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return _named(row, value)
    return "values of different types"


def _named(row: int, value: Any) -> str:
    return f"'{value}' ({type(value).__name__}, row {row + 1})"


def _flat(table: Any) -> Any:
    """A pandas table with its named index levels as columns, and text as names of columns."""
    import pandas as pd

    if isinstance(table.columns, pd.MultiIndex):
        raise UserError(
            f"The table has column names of {table.columns.nlevels} levels: give one name to each column, "
            "or stack the columns into rows."
        )
    # The way in which many libraries keep ids or times; what is a column too is there already.
    levels = [
        place for place, level in enumerate(table.index.names) if level is not None and level not in table.columns
    ]
    if levels:
        table = table.reset_index(level=levels)
    elif isinstance(table.index, (pd.DatetimeIndex, pd.PeriodIndex)) and table.index.name is None:
        table = table.rename_axis("index").reset_index() if "index" not in table.columns else table
    if not all(isinstance(column, str) for column in table.columns):
        table = table.rename(columns=str)
    return table


def _computed(name: str, compute: Callable[[], _Computed]) -> _Computed:
    """What a library computes of a table, of which files may be gone or broken, and expressions fail.

    Raises:
        UserError: It cannot be.
    """
    try:
        return compute()
    except Exception as error:  # of the library, or of the user's own functions in the table's expressions
        reason = one_line(error) or type(error).__name__
        raise UserError(
            f"{name} cannot be read ({reason}): give one whose files are whole and alike and whose expressions work."
        ) from error


def _lazy_reader(
    frame: nw.LazyFrame[Any], known: bool, name: str
) -> Callable[[Mapping[str, str], int], Iterator[Part]]:
    """Reads a lazy table: of polars in its streaming engine, batch by batch where it can."""

    def read(wanted: Mapping[str, str], most: int) -> Iterator[Part]:
        selected = frame.select(list(wanted))
        native: Any = selected.to_native()
        if hasattr(native, "collect_batches"):
            first = 0
            batches = _computed(name, lambda: iter(native.collect_batches(chunk_size=most, maintain_order=True)))
            while (batch := _computed(name, lambda: next(batches, None))) is not None:
                yield from parts(_computed(name, batch.to_arrow), name, most, first)
                first += len(batch)
        else:
            backend: Any = None if known else "pyarrow"
            yield from parts(_computed(name, lambda: selected.collect(backend=backend).to_arrow()), name, most)

    return read


def _open_dataset(dataset: Any) -> Source:
    """A pyarrow dataset, which is read as it streams."""
    import pyarrow as pa

    name = "The dataset"

    def read(wanted: Mapping[str, str], most: int) -> Iterator[Part]:
        first = 0
        batches = _computed(name, lambda: iter(dataset.to_batches(columns=list(wanted), batch_size=most)))
        while (batch := _computed(name, lambda: next(batches, None))) is not None:
            yield Part("the dataset", first, pa.Table.from_batches([batch]))
            first += len(batch)

    return Source(
        "the dataset", tuple(dataset.schema.names), "pyarrow", read, num_rows=_computed(name, dataset.count_rows)
    )


def parts(table: pa.Table, name: str, most: int, first: int = 0) -> Iterator[Part]:
    """A table in parts of so many rows at most."""
    for begin in range(0, len(table), most):
        yield Part(name, first + begin, table.slice(begin, most))
