"""CSV and Parquet files, one or many, read in parts."""

from __future__ import annotations

import csv
import glob
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from armlp.data.sources.csv_files import read_csv, read_dialect
from armlp.data.sources.source import Part, Source, as_integers
from armlp.data.time.arrays import register_periods
from armlp.errors import UserError, short_message

_CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_PARQUET = (".parquet", ".pq")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
# What reading a broken file may raise; the exceptions of arrow are among them.
_BROKEN = (OSError, ValueError, EOFError, zlib.error, csv.Error, NotImplementedError)


class _File(NamedTuple):
    """A file, its columns, and those in the names of its folders (`region=north`)."""

    path: Path
    columns: tuple[str, ...]
    partition: Mapping[str, Any]
    rows: int | None


def open_files(source: str) -> Source:
    """Open a CSV or Parquet file, a folder of Parquet files, or a glob; raise a `UserError` if there is no table."""
    register_periods()
    paths = find_files(source)
    partitions = _partitions(source, paths)
    files = [_open_file(path, partition) for path, partition in zip(paths, partitions, strict=True)]
    first = files[0]
    rows = [file.rows for file in files]

    def read(options: Mapping[str, str], max_rows: int) -> Iterator[Part]:
        for file in files:
            for column in options:
                if column not in file.columns and column not in file.partition:
                    raise UserError(
                        f"{file.path} has no column '{column}', but {first.path} has: give files that are alike."
                    )
        for file in files:
            yield from _read_file(file, options, max_rows, str(file.path) if len(files) > 1 else source)

    return Source(
        source,
        (*first.columns, *(name for name in first.partition if name not in first.columns)),
        "pyarrow",
        read,
        num_rows=None if None in rows else sum(count or 0 for count in rows),
        is_text=_ends_with(first.path, _CSV),
    )


def find_files(source: str) -> list[Path]:
    """Return the sorted files of a path, a folder or a glob; raise a `UserError` if there are none."""
    if not source:
        raise UserError("The path of the source is empty: give that of a CSV or Parquet file.")
    path, kind, fix = Path(source).expanduser(), "CSV or Parquet files that match", "give a path with at least one"
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            kind = "Parquet files"
            files = _files_below(path)
            found = [file for file in files if _ends_with(file, _PARQUET)]
            if any(_ends_with(file, _CSV) for file in files):
                fix = f"give those of CSV as {path / '*.csv'}"
        elif glob.has_magic(source):
            matches = (Path(match) for match in glob.glob(str(path), recursive=True))
            found = sorted(file for file in matches if _ends_with(file, _PARQUET + _CSV) and file.is_file())
        elif path.exists():
            raise UserError(f"{source} is no file that can be read twice: give a CSV or Parquet file.")
        else:
            raise UserError(f"{source} does not exist: {_suggest_path(path)}")
    except OSError as error:
        raise UserError(f"{source} cannot be read ({error.strerror}): give a path that may be.") from error
    if not found:
        raise UserError(f"{source} holds no {kind}: {fix}.")
    return found


def _ends_with(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _files_below(folder: Path) -> list[Path]:
    """Return the sorted files in a folder and its subfolders; raise an `OSError` if one cannot be read."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        # Names that begin with a dot or an underscore are by custom not data.
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        found += [Path(parent, name) for name in names if not name.startswith((".", "_"))]
    return sorted(file for file in found if file.is_file())


def _suggest_path(path: Path) -> str:
    """Return advice about a path that does not exist."""
    if "://" in str(path) or re.match(r"\w+:/", str(path)):
        return "give a path on this machine, with a copy of what is at that address."
    if path.is_symlink():
        return f"it is a link to {os.readlink(path)}, which is not there."
    if not path.parent.is_dir():
        return f"give a path in a folder that exists, which {path.parent} does not."
    near = get_close_matches(path.name, [file.name for file in path.parent.iterdir()], n=3)
    if near:
        return f"did you mean {' or '.join(str(path.with_name(name)) for name in near)}?"
    return "give the path of a CSV or Parquet file."


def _partitions(source: str, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the columns in the names of hive partitions, for each file.

    pyarrow's partitioning reads no CSV, and takes ids such as `010` for integers.
    """
    base = Path(source).expanduser()
    if base.is_file():
        return [{}]
    spelled: list[dict[str, str]] = []
    for path in paths:
        folders = (path.relative_to(base) if base.is_dir() else path).parts[:-1]
        pairs = (folder.partition("=") for folder in folders)
        spelled.append({key: unquote(value) for key, equals, value in pairs if equals})
    keys = {key for folder in spelled for key in folder}
    integers = {key: as_integers([folder[key] for folder in spelled if key in folder]) is not None for key in keys}

    def value(key: str, text: str) -> Any:
        return None if text == _HIVE_NULL else int(text) if integers[key] else text

    return [{key: value(key, text) for key, text in folder.items()} for folder in spelled]


def _open_file(path: Path, partition: Mapping[str, Any]) -> _File:
    """Return a file with its columns, of which only the header is read."""
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes): give a CSV or Parquet file with a header and rows.")
    if _ends_with(path, _PARQUET):
        with _readable(path):
            metadata = pq.read_metadata(path)
            return _File(path, tuple(metadata.schema.to_arrow_schema().names), partition, metadata.num_rows)
    if not _ends_with(path, _CSV):
        raise UserError(f"{path} is neither CSV nor Parquet: give a file that ends in .csv or .parquet.")
    with _readable(path):
        columns = read_dialect(path).columns
    if len(columns) + len(partition) == 1:
        raise UserError(
            f"{path} has one column, called '{columns[0]}': give a file that begins with the names of its "
            "columns, separated by commas, semicolons, tabs or bars."
        )
    return _File(path, columns, partition, None)


def _read_file(file: _File, options: Mapping[str, str], max_rows: int, name: str) -> Iterator[Part]:
    columns = [column for column in options if column not in file.partition]
    with _readable(file.path):
        if _ends_with(file.path, _CSV):
            parts = read_csv(file.path, columns, options, max_rows, name)
        else:
            parts = _read_parquet(file.path, columns, max_rows, name)
        for part in parts:
            table = part.table
            for column, value in file.partition.items():
                if column in options:
                    table = table.append_column(column, pa.repeat(value, len(table)))
            yield part._replace(table=table)


def _read_parquet(path: Path, columns: list[str], max_rows: int, name: str) -> Iterator[Part]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        if not columns:  # all columns are in the names of folders
            columns = file.schema_arrow.names[:1]
        first = 0
        for batch in file.iter_batches(batch_size=max_rows, columns=columns):
            yield Part(name, first, pa.Table.from_batches([batch]))
            first += len(batch)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise a `UserError` where reading a file fails."""
    try:
        yield
    except UserError:  # it is a ValueError, as those of broken files are
        raise
    except _BROKEN as error:
        kind = "Parquet" if _ends_with(path, _PARQUET) else "CSV"
        fix = f"give a whole {kind} file that may be read"
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            fix = "save it as text in UTF-8"
        elif "Expected" in str(error) and "columns" in str(error):
            fix = "give all rows as many cells as the header has, with quotes around what holds separators"
        raise UserError(f"{path} cannot be read as {kind} ({short_message(error)}): {fix}.") from error
