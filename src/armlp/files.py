"""Output files: checked before the work, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from armlp.errors import UserError, one_line

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def replacing(path: str | os.PathLike[str], purpose: str = "", fix: str = "give a path that can be") -> Iterator[Path]:
    """Write a file or a folder whole or not at all.

        with replacing("table.csv") as unfinished:
            unfinished.write_text(...)

    Args:
        path: The file or the folder; an old one is replaced, and stays as it is where writing fails.
        purpose: What it holds, for the error message.
        fix: What the user can do about an error, for its message.

    Yields:
        The path to write to, in the same folder. What is written there gets its name `path` at the end of the block.

    Raises:
        UserError: The file or the folder cannot be written.
    """
    path = Path(path)
    # In the same folder, because a file can only be renamed in one step within its file system.
    unfinished, old = (path.with_name(f".{uuid.uuid4().hex}.{path.name}") for _ in range(2))
    try:
        yield unfinished
        if unfinished.is_dir() and path.is_dir():  # a folder takes no other's name while that is in use
            path.rename(old)
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}{purpose} cannot be written ({error.strerror or one_line(error)}): {fix}.") from error
    finally:
        for leftover in (unfinished, old):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif leftover.exists():
                leftover.unlink()


def write_table(table: Any, path: str | os.PathLike[str]) -> None:
    """Write a table to a .csv or .parquet file, whole or not at all.

    Args:
        table: A pandas, polars (lazy too) or pyarrow table.
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
    frame = nw.from_native(table)
    arrow = (frame.collect() if isinstance(frame, nw.LazyFrame) else frame).to_arrow()
    with replacing(path) as unfinished:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(arrow, unfinished)
        else:
            arrow_csv.write_csv(_in_whole_seconds(arrow), unfinished)


def _in_whole_seconds(table: pa.Table) -> pa.Table:
    """Return the table with its times in the coarsest unit that loses nothing, so that CSV has no needless zeros."""
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
    """Make the folder of a file to be written later, and check that it can be written before the work is done.

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
