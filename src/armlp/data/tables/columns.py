"""Columns of a table: one arrow column as numpy, and labels as codes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


from collections.abc import Callable
from typing import TYPE_CHECKING

from armlp.data.tables.time_text import SpelledTimes, look_like_times
from armlp.data.tables.times import TimesError, is_period, read_times
from armlp.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from armlp.data.tables.source import Part


_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
# With thousands apart, a fraction after point or comma, and a unit.
_NUMBER = re.compile(
    r"(?i)[-+]?[$€£¥]? ?(?=[.,]?\d)(\d{1,3}([.,' _\u00a0\u202f]\d{3})+|\d*)([.,]\d+)?(e[-+]?\d+)? ?[%$€£¥]?"
)


class Labels:
    """Different values of columns that are read part by part, numbered in the order in which they come."""

    def __init__(self, labels: Iterable[Any] = ()) -> None:
        self._places = {label: place for place, label in enumerate(labels)}

    def __len__(self) -> int:
        """How many there are so far."""
        return len(self._places)

    def number(self, column: pa.Array) -> np.ndarray:
        """`[rows]` int64 number of each row's label, new ones included; -1 where the column is null."""
        encoded = column.dictionary_encode()
        places = self._places
        numbers = [places.setdefault(label, len(places)) for label in encoded.dictionary.to_pylist()]
        return np.array([*numbers, -1])[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    @property
    def found(self) -> list[Any]:
        """The labels, by their numbers."""
        return list(self._places)

    def ranks(self) -> np.ndarray:
        """`[labels]` int64 place of each number among the labels in ascending order."""
        found = self.found
        order = sorted(range(len(found)), key=found.__getitem__)
        ranks = np.empty(len(found), dtype=np.int64)
        ranks[order] = np.arange(len(found))
        return ranks


def as_integers(labels: Sequence[str]) -> list[int] | None:
    """Text as integers, if all of it spells integers just as they are spelled (`7`, not `007`)."""
    if not all(_INTEGER.fullmatch(label) for label in labels):
        return None
    return [int(label) for label in labels]


def looks_like_number(label: str) -> bool:
    """Whether text could be a number to people, such as `1,000`, `2,5` or `5 %`."""
    return _NUMBER.fullmatch(label.strip()) is not None


_LARGEST = float(np.finfo(np.float32).max)


class Column:
    """One column of a part of a table, on its way to numpy.

    Args:
        part: The rows.
        name: Of the column.
        option: The option that names the column, in CLI spelling.
        row: How to name a row in messages, given its number in the part.
    """

    def __init__(self, part: Part, name: str, option: str, row: Callable[[int], str] | None = None) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.name, self.table, self.option = name, part.name, option
        self.row: Callable[[int], str] = row or (lambda row: f"row {part.first + row + 1}")
        arrow = part.table.column(name).combine_chunks()
        if pa.types.is_run_end_encoded(arrow.type):
            arrow = pc.run_end_decode(arrow)
        self.type: pa.DataType = arrow.type
        if pa.types.is_dictionary(arrow.type):
            # The categories that do not occur, and their order, mean nothing here.
            arrow = arrow.cast(arrow.type.value_type)
        if pa.types.is_string_view(arrow.type):
            arrow = arrow.cast(pa.large_string())  # arrow compares no views
        self.arrow: pa.Array = arrow

    def error(self, found: str, needed: str) -> UserError:
        """The sentence that says what the column holds and what it should."""
        return UserError(f"{self.table}: column '{self.name}' {found}, but {self.option} needs {needed}.")

    def ids(self) -> pa.Array:
        """The ids, none of them missing."""
        import pyarrow as pa

        self._refuse_missing("ids")
        if not (self.is_text or pa.types.is_integer(self.arrow.type)):
            raise self.error(f"holds {self._kind}", "ids that are text, integers or categories")
        return self.arrow

    def times(self, spelled: SpelledTimes | None = None) -> tuple[np.ndarray, str | None]:
        """Read times.

        Args:
            spelled: What the text of the whole column means, where it is text.

        Returns:
            times: `[rows]` int64, or datetime64[ns] of UTC (of the wall where there is no zone).
            timezone: Name of the zone, or None.
        """
        self._refuse_missing("times")
        try:
            if spelled is not None and self.is_text:
                return spelled.read(self.arrow)
            return read_times(self.arrow)
        except TimesError as error:
            if error.text is None:
                raise self.error(f"holds {error.found}", error.needed) from error
            row = self.arrow.to_pylist().index(error.text)
            raise self.error(f"holds '{error.text}' ({self.row(row)}), {error.found}", error.needed) from error

    def values(self) -> np.ndarray:
        """Read numbers: `[rows]` float64 within float32, NaN where missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.is_numeric:
            raise self._no_numbers()
        wide = self.arrow if pa.types.is_floating(self.arrow.type) else pc.cast(self.arrow, pa.float64(), safe=False)
        numbers = np.asarray(wide.to_numpy(zero_copy_only=False), dtype=np.float64)
        # One pass tells that nothing is too large, as nearly always; nan compares as false.
        if np.fmax.reduce(np.abs(numbers), initial=0.0) > _LARGEST:
            row = int(np.flatnonzero(np.abs(numbers) > _LARGEST)[0])
            if np.isinf(numbers[row]):
                raise self.error(f"holds {numbers[row]} ({self.row(row)})", "finite numbers, with missing values empty")
            raise self.error(f"holds {numbers[row]:g} ({self.row(row)})", "numbers within float32, up to 3.4e38")
        return numbers

    def labels(self) -> pa.Array:
        """Text, or values of any other type, as labels; null where missing or empty."""
        import pyarrow.compute as pc

        return pc.if_else(pc.equal(self.arrow, ""), None, self.arrow) if self.is_text else self.arrow

    def symbols(self) -> pa.Array:
        """Symbols as labels: text, integers or truth values; null where missing or empty."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = self.arrow.type
        needed = "text, integers, booleans or categories with `symbols`"
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            # Integers among which some are missing often come as fractions.
            try:
                return pc.if_else(pc.is_null(self.arrow, nan_is_null=True), None, self.arrow).cast(pa.int64())
            except pa.ArrowInvalid as error:
                raise self.error("holds fractions", needed) from error
        if not (self.is_text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or self.is_empty):
            raise self.error(f"holds {self._kind}", needed)
        return self.labels()

    @property
    def is_empty(self) -> bool:
        """Whether the column holds nothing at all, so that it has no type."""
        import pyarrow as pa

        return bool(pa.types.is_null(self.arrow.type))

    @property
    def is_categorical(self) -> bool:
        """Whether the column holds text or categories."""
        import pyarrow as pa

        return self.is_text or bool(pa.types.is_dictionary(self.type))

    @property
    def is_numeric(self) -> bool:
        """Whether the column holds numbers, truth values, or nothing at all."""
        import pyarrow as pa

        kind = self.arrow.type
        tests = (
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_decimal,
            pa.types.is_boolean,
            pa.types.is_null,
        )
        return any(test(kind) for test in tests)

    @property
    def is_text(self) -> bool:
        """Whether the column holds text."""
        return is_text(self.arrow.type)

    @property
    def looks_like_times(self) -> bool:
        """Whether the column could be `time_column`."""
        return look_like_times(self.arrow)

    @property
    def _kind(self) -> str:
        """The type of the column, for a message."""
        import pyarrow as pa

        kind = self.type
        if pa.types.is_dictionary(kind):
            return f"categories of {table_type(kind.value_type)}"
        if is_period(kind):
            return "periods"
        known = str(table_type(kind))
        return str(kind) if known == "Unknown" else known

    def _no_numbers(self) -> UserError:
        """The sentence about the first value that is no number."""
        import pandas as pd

        is_target = self.option == "`target_columns`"
        if not self.is_text:
            return self.error(f"holds {self._kind}", "numbers" if is_target else "numbers, text or categories")
        values = pd.Series(self.arrow.to_numpy(zero_copy_only=False))
        filled = values[values.notna() & (values != "")]
        bad = filled[pd.to_numeric(filled, errors="coerce").isna()]
        first = bad if len(bad) else filled
        if not len(first):
            return self.error("holds empty text", "numbers")
        what = "text" if len(bad) else "numbers as text"
        needed = "numbers" if len(bad) else "numbers: convert the column"
        if len(bad) and looks_like_number(first.iloc[0]):
            needed = "numbers written like 1234.5"
        elif is_target and len(bad) == len(filled):
            needed = "numbers, or pass `symbols` true if they are symbols"
        return self.error(f"holds {what}, first '{first.iloc[0]}' ({self.row(int(first.index[0]))})", needed)

    def _refuse_missing(self, what: str) -> None:
        import pyarrow.compute as pc

        missing = self.arrow.is_null(nan_is_null=True)
        if self.is_text:
            missing = pc.or_(missing, pc.fill_null(pc.equal(self.arrow, ""), True))
        rows = np.flatnonzero(missing.to_numpy(zero_copy_only=False))
        if rows.size:
            raise self.error(f"is empty in {self.row(int(rows[0]))}", f"{what} in all rows")


def is_text(kind: pa.DataType) -> bool:
    """Whether an arrow type is text."""
    return str(kind) in ("string", "large_string", "string_view")


def table_type(kind: pa.DataType) -> Any:
    """The narwhals dtype of an arrow type, which tables of every library share."""
    import narwhals as nw
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return nw.Categorical()
    if is_period(kind):
        return kind  # narwhals knows none such
    return nw.from_native(pa.chunked_array([], type=kind), series_only=True).dtype
