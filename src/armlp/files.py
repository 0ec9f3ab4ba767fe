"""Output files: checked before the work, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from armlp.errors import UserError, one_line

if TYPE_CHECKING:
    import pyarrow as pa


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
        reason = error.strerror or one_line(error)
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
