"""Write output files: check them before the work, write them whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from armlp.errors import UserError, short_message

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def replacing(path: str | os.PathLike[str], purpose: str = "", fix: str = "give a path that can be") -> Iterator[Path]:
    """Write a file or a folder whole or not at all: yield a path beside it, and rename that to `path` after the block.

        with replacing("table.csv") as unfinished:
            unfinished.write_text(...)

    If writing fails, an old file or folder stays, and a UserError names `path`, its `purpose` and the `fix`.
    """
    path = Path(path)
    # In the same folder, because renaming is atomic only within one file system.
    unfinished, old = (path.with_name(f".{uuid.uuid4().hex}.{path.name}") for _ in range(2))
    try:
        yield unfinished
        if unfinished.is_dir() and path.is_dir():  # a folder cannot replace a folder
            path.rename(old)
        unfinished.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}{purpose} cannot be written ({error.strerror or short_message(error)}): {fix}."
        ) from error
    finally:
        for leftover in (unfinished, old):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif leftover.exists():
                leftover.unlink()


def write_table(table: Any, path: str | os.PathLike[str]) -> None:
    """Write a pandas, polars (also lazy) or pyarrow table to a .csv or .parquet file, whole or not at all."""
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
    """Return the table with its times in the coarsest unit that is exact, so that CSV has no needless zeros."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            for unit in ("s", "ms", "us"):
                try:
                    column = table.column(index).cast(pa.timestamp(unit, field.type.tz))
                except pa.ArrowInvalid:
                    continue  # the cast would lose a fraction
                table = table.set_column(index, field.name, column)
                break
    return table


def prepare_output(path: str | os.PathLike[str], suffixes: Sequence[str]) -> None:
    """Create the folder of an output file, and raise a UserError if the file could not be written later."""
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
