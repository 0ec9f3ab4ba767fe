"""Opened tables that have not been read, and parts of their rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from armlp.errors import UserError

_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")


@dataclass(frozen=True)
class Limits:
    """How much of a table is held in memory at a time."""

    batch: int = 1 << 18  # rows (of a wide table: values) that are read at a time
    kept: int = 1 << 21  # a table of at most this many rows is not read again in the second pass
    sample: int = 1 << 20  # rows from which the time step is inferred
    panel: int | None = None  # bytes of a panel in memory; None follows `memory_budget`


class Part(NamedTuple):
    """Some rows of a table."""

    name: str  # file or table, for messages
    first: int  # index of the first row in that file or table
    table: pa.Table


@dataclass(frozen=True)
class Source:
    """A table that has been opened but not read."""

    name: str  # the path, or "the table", for messages
    columns: tuple[str, ...]
    backend: str  # as in `TableStyle`
    read: Callable[[Mapping[str, str], int], Iterator[Part]]  # takes columns with their options, and a row limit
    num_rows: int | None = None
    is_text: bool = False  # of CSV, so that an id `7` may be meant as a number or as a name

    def head(self, columns: Mapping[str, str]) -> Part:
        """Return the first rows of some columns, named with their options; raise a `UserError` without rows."""
        for part in self.read(columns, Limits.batch):
            if len(part.table):
                return part
        raise UserError(f"{self.name} has columns but no rows: give a table with at least one row.")


def split_rows(table: pa.Table, name: str, max_rows: int, first: int = 0) -> Iterator[Part]:
    """Yield a table in parts of at most `max_rows` rows."""
    for begin in range(0, len(table), max_rows):
        yield Part(name, first + begin, table.slice(begin, max_rows))


def as_integers(labels: Sequence[str]) -> list[int] | None:
    """Return text as integers if all of it is canonical (`7`, not `007`), otherwise None."""
    if not all(_INTEGER.fullmatch(label) for label in labels):
        return None
    return [int(label) for label in labels]
