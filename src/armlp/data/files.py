"""Files and in-memory tables, opened to look alike; and tables written to files."""

from __future__ import annotations

import csv
import glob
import gzip
import os
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from armlp.errors import UserError

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

_CSV = (".csv", ".tsv", ".txt", ".csv.gz")
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Source:
    """A table that has been found but not read.

    Attributes:
        name: What to call it in messages: the path as given, or "the table".
        columns: Names of its columns.
        backend: Library that answers should come back in: `pandas`, `polars` or `pyarrow`.
        read: Reads the named columns.
    """

    name: str
    columns: tuple[str, ...]
    backend: str
    read: Callable[[Sequence[str]], nw.DataFrame[Any]]


def open_source(source: Any) -> Source:
    """Find a table: a CSV or Parquet file, a folder of Parquet files, a glob of either, or one in memory.

    Raises:
        UserError: There is no such file, or it is no table.
    """
    opened = _open_files(source) if isinstance(source, (str, os.PathLike)) else _open_memory(source)
    name, count = Counter(opened.columns).most_common(1)[0] if opened.columns else ("", 0)
    if count != 1:
        found = f"{count} columns named '{name}'" if count else "no columns"
        raise UserError(f"{opened.name} has {found}: give a table whose columns have different names.")
    return opened


def _open_memory(table: Any) -> Source:
    import narwhals as nw
    import pandas as pd

    if isinstance(table, pd.DataFrame):
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
        if not all(isinstance(column, str) for column in table.columns):
            table = table.rename(columns=str)
    try:
        frame: nw.DataFrame[Any] | nw.LazyFrame[Any] = nw.from_native(table)
    except Exception as error:  # The libraries that narwhals speaks to each raise their own.
        raise UserError(
            f"The source, of type {type(table).__name__}, cannot be read as a table "
            f"({_one_line(error)}): give a pandas, polars or pyarrow table, a path, or a data set's name."
        ) from error
    columns = tuple(frame.collect_schema().names())
    known = frame.implementation.value in ("pandas", "polars")
    backend = str(frame.implementation.value) if known else "pyarrow"

    def read(columns: Sequence[str]) -> nw.DataFrame[Any]:
        selected = frame.select(list(columns))
        if isinstance(selected, nw.LazyFrame):
            return selected.collect(backend=None if known else "pyarrow")
        return selected

    return Source("the table", columns, backend, read)


def _open_files(source: str | os.PathLike[str]) -> Source:
    import narwhals as nw

    paths = _find_files(os.fspath(source))
    columns = {path: _column_names(path) for path in paths}

    def read(needed: Sequence[str]) -> nw.DataFrame[Any]:
        for path in paths:
            for column in set(needed) - set(columns[path]):
                raise UserError(f"{path} has no column '{column}', but {paths[0]} has: give files that are alike.")
        return nw.from_native(_read_files(paths, list(needed)), eager_only=True)

    return Source(os.fspath(source), columns[paths[0]], "pyarrow", read)


def _find_files(source: str) -> list[Path]:
    """The files that a path stands for, in order."""
    path = Path(source).expanduser()
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"{source} is empty (0 bytes): give a CSV or Parquet file with a header and rows.")
        return [path]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.name.lower().endswith(_PARQUET) and file.is_file())
        wanted = "Parquet files"
    elif glob.has_magic(source):
        matches = (Path(match) for match in glob.glob(str(path), recursive=True))
        found = sorted(file for file in matches if file.name.lower().endswith(_PARQUET + _CSV) and file.is_file())
        wanted = "CSV or Parquet files that match"
    else:
        raise UserError(f"{source} does not exist: {_likelier_path(path)}")
    if not found:
        raise UserError(f"{source} holds no {wanted}: give a path with at least one.")
    return found


def _likelier_path(path: Path) -> str:
    """What to give instead of a path that does not exist."""
    if not path.parent.is_dir():
        return f"give a path in a folder that exists, which {path.parent} does not."
    near = get_close_matches(path.name, [file.name for file in path.parent.iterdir()], n=3)
    if near:
        return f"did you mean {' or '.join(str(path.with_name(name)) for name in near)}?"
    return "give the path of a CSV or Parquet file."


def _column_names(path: Path) -> tuple[str, ...]:
    """The columns of a file, without reading more than its header."""
    import pyarrow.parquet as pq

    try:
        if path.name.lower().endswith(_PARQUET):
            return tuple(pq.read_schema(path).names)
        if path.name.lower().endswith(_CSV):
            header, delimiter = _header(path)
            return tuple(next(csv.reader([header], delimiter=delimiter), []))
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        raise _unreadable(path, error) from error
    raise UserError(f"{path} is neither CSV nor Parquet: give a file that ends in .csv or .parquet.")


def _header(path: Path) -> tuple[str, str]:
    """The first line of a CSV file, and what separates its columns."""
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig") as lines:
        header = lines.readline().rstrip("\r\n")
    if "\0" in header:
        raise ValueError("its first line is not text")
    return header, "," if "," in header else max("\t;|", key=header.count)


def _read_files(paths: list[Path], columns: list[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in paths:
        try:
            if path.name.lower().endswith(_PARQUET):
                # A ParquetFile is one file: read_table would also make columns of the folders' names.
                with pq.ParquetFile(path, memory_map=True) as file:
                    tables.append(file.read(columns))
            else:
                tables.append(_read_csv(path, columns))
        except (OSError, ValueError, EOFError, zlib.error, pa.ArrowException) as error:
            raise _unreadable(path, error) from error
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(
            f"{paths[0]} and the {len(paths) - 1} files after it do not fit together ({_one_line(error)}): "
            "give files whose columns have the same types."
        ) from error


def _read_csv(path: Path, columns: list[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    parse = arrow_csv.ParseOptions(delimiter=_header(path)[1])
    convert = arrow_csv.ConvertOptions(include_columns=columns)
    try:
        return arrow_csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid:
        # Types are guessed from the first block; a later one may hold fractions, text or longer rows.
        block = min(max(4 * path.stat().st_size, 1 << 20), 2**31 - 1)
        read = arrow_csv.ReadOptions(block_size=block)
        return arrow_csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)


def _unreadable(path: Path, error: Exception) -> UserError:
    kind = "Parquet" if path.name.lower().endswith(_PARQUET) else "CSV"
    return UserError(
        f"{path} cannot be read as {kind} ({_one_line(error)}): give a whole {kind} file that may be read."
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(".")


def write_table(table: Any, path: str | os.PathLike[str]) -> None:
    """Write a table to a .csv or .parquet file, whole or not at all.

    Args:
        table: A pandas, polars or pyarrow table.
        path: The file; its folder is made if it is missing, and an old file is replaced.

    Raises:
        UserError: The suffix is another one, or the file cannot be written.
    """
    import narwhals as nw
    import pyarrow.parquet as pq
    from pyarrow import csv as arrow_csv

    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path} is to be written but ends in neither .csv nor .parquet: give one that does.")
    arrow = nw.from_native(table, eager_only=True).to_arrow()
    # In the same folder, because a file can only be renamed in one step within its file system.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(arrow, unfinished)
        else:
            arrow_csv.write_csv(_in_whole_seconds(arrow), unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        reason = error.strerror or _one_line(error)
        raise UserError(f"{path} cannot be written ({reason}): give a path that can be.") from error
    finally:
        if unfinished.exists():
            unfinished.unlink()


def _in_whole_seconds(table: pa.Table) -> pa.Table:
    """The table with times as short as they can be without loss, so that CSV spells no needless zeros."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            for unit in ("s", "ms", "us"):
                try:
                    column = table.column(index).cast(pa.timestamp(unit, field.type.tz))
                except pa.ArrowInvalid:
                    continue  # The cast would lose a fraction.
                table = table.set_column(index, field.name, column)
                break
    return table


def prepare_output(path: str | os.PathLike[str], suffixes: Sequence[str]) -> None:
    """Makes the folder of a file to be written later, so that a mistake shows before the work is done.

    Raises:
        UserError: The suffix is not one of `suffixes`, the path is a folder, or its folder cannot be written to.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        raise UserError(f"{path} cannot be written: its name must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise UserError(f"{path} cannot be written (it is a folder): give the path of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give a path that can be.") from error
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} cannot be written (no permission for its folder): give a path that can be.")
