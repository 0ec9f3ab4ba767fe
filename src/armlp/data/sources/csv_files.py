"""CSV files of any dialect, read in parts."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from armlp.data.sources.source import Part, split_rows
from armlp.errors import UserError

# A larger file is streamed with the types of its first block; a smaller one is read whole.
_STREAMED = 256 << 20
# Lines that the dialect is detected from.
_DIALECT_LINES = 1000
_DECIMAL_COMMA = re.compile(r"(?i)[+-]?(\d*|\d{1,3}(\.\d{3})+),\d+(e[+-]?\d+)?")
_WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d\S* ?[+-]\d\d(:?\d\d)?")


class Dialect(NamedTuple):
    """The dialect of a CSV file."""

    columns: tuple[str, ...]
    delimiter: str
    decimal_point: str  # a point or a comma
    has_rows: bool  # besides the header
    with_offsets: frozenset[str]  # columns of times with an offset from UTC
    with_thousands: frozenset[str]  # columns of numbers like 1.234,5


def read_dialect(path: Path) -> Dialect:
    """Return the header and the dialect of a CSV file from its first lines."""
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
        first = list(islice(dropwhile(lambda line: not line.strip("\r\n"), lines), _DIALECT_LINES))
    if not first:
        raise UserError(f"{path} is empty: give a CSV or Parquet file with a header and rows.")
    if "\0" in first[0]:
        raise ValueError("its first line is not text")
    delimiter = _delimiter(first)
    columns, *rows = csv.reader(first, delimiter=delimiter)

    def matching(pattern: re.Pattern[str], within: str = "") -> frozenset[str]:
        """Return the columns with a cell that matches a pattern and contains some text."""
        cells = ((name, cell.strip()) for row in rows for name, cell in zip(columns, row, strict=False))
        return frozenset(name for name, cell in cells if within in cell and pattern.fullmatch(cell))

    comma = delimiter != "," and matching(_DECIMAL_COMMA)
    thousands = matching(_DECIMAL_COMMA, within=".") if comma else frozenset()
    return Dialect(
        tuple(columns), delimiter, "," if comma else ".", any(rows), matching(_WITH_OFFSET, within=":"), thousands
    )


def _delimiter(lines: Sequence[str]) -> str:
    """Return the most frequent of the delimiters that are as frequent in the first row as in the header."""
    header, row = (re.sub(r'"[^"]*"', "", line) for line in (lines[0], (*lines, lines[0])[1]))
    # The comma is last, because it is also in numbers and names.
    alike = [delimiter for delimiter in ";\t|," if header.count(delimiter) == row.count(delimiter) > 0]
    if alike:
        return max(alike, key=header.count)
    return "," if "," in header else max("\t;|", key=header.count)


def read_csv(path: Path, columns: list[str], options: Mapping[str, str], max_rows: int, name: str) -> Iterator[Part]:
    """Read a CSV file; ids and times with offsets as text, because `001` is not 1 and arrow drops offsets."""
    from pyarrow import csv as arrow_csv

    dialect = read_dialect(path)
    if not dialect.has_rows:
        return
    parse = arrow_csv.ParseOptions(delimiter=dialect.delimiter)
    text = {"id_column": columns, "time_column": dialect.with_offsets}
    types = {column: pa.string() for column in columns if column in text.get(options[column], dialect.with_thousands)}
    convert = arrow_csv.ConvertOptions(include_columns=columns, column_types=types, decimal_point=dialect.decimal_point)
    if path.stat().st_size <= _STREAMED:
        try:
            table = arrow_csv.read_csv(path, parse_options=parse, convert_options=convert)
        except pa.ArrowInvalid:
            # Types are inferred from the first block, but later rows may hold fractions, text or line breaks.
            block = min(max(4 * path.stat().st_size, 1 << 20), 2**31 - 1)
            parse.newlines_in_values = True
            read = arrow_csv.ReadOptions(block_size=block)
            table = arrow_csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
        yield from split_rows(_without_thousands(table, dialect, options), name, max_rows)
        return
    read = arrow_csv.ReadOptions(block_size=16 << 20)
    with arrow_csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as stream:
        # Integers may be followed by fractions.
        types |= {
            field.name: pa.float64()
            for field in stream.schema
            if pa.types.is_integer(field.type) and options[field.name] not in ("id_column", "time_column")
        }
    convert.column_types = types
    first = 0
    with arrow_csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as stream:
        for batch in stream:
            table = _without_thousands(pa.Table.from_batches([batch]), dialect, options)
            yield from split_rows(table, name, max_rows, first)
            first += len(batch)


def _without_thousands(table: pa.Table, dialect: Dialect, options: Mapping[str, str]) -> pa.Table:
    """Return the table with numbers like 1.234,5 read, unless their column holds other text."""
    for index, column in enumerate(table.column_names):
        if column in dialect.with_thousands and options[column] not in ("id_column", "time_column"):
            text = pc.replace_substring(pc.replace_substring(table.column(index), ".", ""), ",", ".")
            try:
                numbers = pc.if_else(pc.equal(text, ""), None, text).cast(pa.float64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(index, column, numbers)
    return table
