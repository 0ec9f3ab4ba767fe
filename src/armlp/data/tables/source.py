"""A table that has been opened but not read, and parts of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from armlp.errors import UserError


@dataclass(frozen=True)
class Limits:
    """How much of a table is held in memory at a time.

    Attributes:
        batch: Rows (of a wide table: values) that are read at a time.
        kept: A table of no more rows is kept after the first pass; a longer one is read again in the second pass.
        sample: Rows of which the step of time is inferred.
        panel: Bytes that a panel in memory may take; None follows `memory_budget`.
    """

    batch: int = 1 << 18
    kept: int = 1 << 21
    sample: int = 1 << 20
    panel: int | None = None


class Part(NamedTuple):
    """Some rows of a table.

    Attributes:
        name: The file or table that the rows are of, for messages.
        first: Index of the first row in that file or table.
        table: The columns.
    """

    name: str
    first: int
    table: pa.Table


@dataclass(frozen=True)
class Source:
    """A table that has been opened but not read.

    Attributes:
        name: The path as given, or "the table", for messages.
        columns: Names of its columns.
        backend: Library in which forecasts are returned: `pandas`, `polars`, `polars-lazy` or `pyarrow`.
        read: Takes the columns to read, each with the option that names it, and how many rows a part may have.
        num_rows: Number of rows, where it is known.
        is_text: Whether the source is text (CSV), so that an id `7` may be meant as a number or as a name.
    """

    name: str
    columns: tuple[str, ...]
    backend: str
    read: Callable[[Mapping[str, str], int], Iterator[Part]]
    num_rows: int | None = None
    is_text: bool = False

    def head(self, columns: Mapping[str, str]) -> Part:
        """Return the first rows of some columns, given with the options that name them.

        Raises:
            UserError: The table has no rows.
        """
        for part in self.read(columns, Limits.batch):
            if len(part.table):
                return part
        raise UserError(f"{self.name} has columns but no rows: give a table with at least one row.")


def split_rows(table: pa.Table, name: str, max_rows: int, first: int = 0) -> Iterator[Part]:
    """Yield a table in parts of at most `max_rows` rows."""
    for begin in range(0, len(table), max_rows):
        yield Part(name, first + begin, table.slice(begin, max_rows))
