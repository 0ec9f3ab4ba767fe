"""Columns of a table as numpy arrays, and labels as integers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from armlp.data.sources.source import Part
from armlp.data.time.arrays import TimesError, is_period, is_text, read_times
from armlp.data.time.text import SpelledTimes
from armlp.errors import UserError

_LARGEST = float(np.finfo(np.float32).max)
# With thousands separators, a decimal point or comma, and a unit.
_NUMBER = re.compile(
    r"(?i)[-+]?[$€£¥]? ?(?=[.,]?\d)(\d{1,3}([.,' _\u00a0\u202f]\d{3})+|\d*)([.,]\d+)?(e[-+]?\d+)? ?[%$€£¥]?"
)


class Labels:
    """Distinct values of columns that are read part by part, numbered by first occurrence."""

    def __init__(self, labels: Iterable[Any] = ()) -> None:
        self._codes = {label: code for code, label in enumerate(labels)}

    def __len__(self) -> int:
        return len(self._codes)

    def encode(self, column: pa.Array) -> np.ndarray:
        """Return the `[rows]` int64 code of each row's label, -1 for null; add new labels."""
        encoded = column.dictionary_encode()
        codes = [self._codes.setdefault(label, len(self._codes)) for label in encoded.dictionary.to_pylist()]
        return np.array([*codes, -1])[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    @property
    def found(self) -> list[Any]:
        """The labels by code."""
        return list(self._codes)

    def ranks(self) -> np.ndarray:
        """Return the `[labels]` int64 rank of each code among the sorted labels."""
        found = self.found
        order = sorted(range(len(found)), key=found.__getitem__)
        ranks = np.empty(len(found), dtype=np.int64)
        ranks[order] = np.arange(len(found))
        return ranks


def looks_like_number(label: str) -> bool:
    """Return whether text may be meant as a number, such as `1,000`, `2,5` or `5 %`."""
    return _NUMBER.fullmatch(label.strip()) is not None


class Column:
    """One column of a part of a table; `row` describes a row in messages, from its index in the part."""

    def __init__(self, part: Part, name: str, option: str, row: Callable[[int], str] | None = None) -> None:
        self.name, self.table, self.option = name, part.name, option
        self.row: Callable[[int], str] = row or (lambda row: f"row {part.first + row + 1}")
        arrow = part.table.column(name).combine_chunks()
        if pa.types.is_run_end_encoded(arrow.type):
            arrow = pc.run_end_decode(arrow)
        self.type: pa.DataType = arrow.type
        if pa.types.is_dictionary(arrow.type):
            arrow = arrow.cast(arrow.type.value_type)
        if pa.types.is_string_view(arrow.type):
            arrow = arrow.cast(pa.large_string())  # arrow cannot compare views
        self.arrow: pa.Array = arrow

    def error(self, found: str, needed: str) -> UserError:
        """Return the error of what the column holds and what its option needs."""
        return UserError(f"{self.table}: column '{self.name}' {found}, but `{self.option}` needs {needed}.")

    def ids(self) -> pa.Array:
        """Return ids; raise a `UserError` if one is missing."""
        self._check_complete("ids")
        if not (self.is_text or pa.types.is_integer(self.arrow.type)):
            raise self.error(f"holds {self.kind}", "ids that are text, integers or categories")
        return self.arrow

    def times(self, spelled: SpelledTimes | None = None) -> tuple[np.ndarray, str | None]:
        """Return times and the name of their zone or None, as `read_times` does; text needs `spelled`."""
        self._check_complete("times")
        try:
            if spelled is not None and self.is_text:
                return spelled.read(self.arrow)
            return read_times(self.arrow)
        except TimesError as error:
            if error.text is None:
                raise self.error(f"holds {error.found}", error.needed) from error
            row = self.arrow.to_pylist().index(error.text)
            raise self.error(f"holds '{error.text}' ({self.row(row)}), {error.found}", error.needed) from error

    def values(self, otherwise: str = "") -> np.ndarray:
        """Return `[rows]` float64, nan where missing; `otherwise` goes into the advice of the error about text."""
        if not self.is_numeric:
            raise self._not_numeric(otherwise)
        wide = self.arrow if pa.types.is_floating(self.arrow.type) else pc.cast(self.arrow, pa.float64(), safe=False)
        numbers = np.asarray(wide.to_numpy(zero_copy_only=False), dtype=np.float64)
        if np.fmax.reduce(np.abs(numbers), initial=0.0) > _LARGEST:
            row = int(np.flatnonzero(np.abs(numbers) > _LARGEST)[0])
            if np.isinf(numbers[row]):
                raise self.error(f"holds {numbers[row]} ({self.row(row)})", "finite numbers, with missing values empty")
            raise self.error(f"holds {numbers[row]:g} ({self.row(row)})", "numbers within float32, up to 3.4e38")
        return numbers

    def labels(self) -> pa.Array:
        """Return values of any type as labels; null where missing or empty."""
        return pc.if_else(pc.equal(self.arrow, ""), None, self.arrow) if self.is_text else self.arrow

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value, so that the column has no type."""
        return bool(pa.types.is_null(self.arrow.type))

    @property
    def is_categorical(self) -> bool:
        """Whether the column holds text or categories."""
        return self.is_text or bool(pa.types.is_dictionary(self.type))

    @property
    def is_numeric(self) -> bool:
        """Whether the column holds numbers, booleans, or nothing at all."""
        types = pa.types
        tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
        return any(test(self.arrow.type) for test in tests)

    @property
    def is_text(self) -> bool:
        """Whether the column holds text."""
        return is_text(self.arrow.type)

    @property
    def kind(self) -> str:
        """The type of the column, for a message."""
        kind = self.type
        if pa.types.is_dictionary(kind):
            return f"categories of {table_type(kind.value_type)}"
        if is_period(kind):
            return "periods"
        known = str(table_type(kind))
        return str(kind) if known == "Unknown" else known

    def _not_numeric(self, otherwise: str) -> UserError:
        """Return the error that names the first value that is not a number."""
        if not self.is_text:
            needed = "numbers" if self.option == "target_columns" else "numbers, text or categories"
            return self.error(f"holds {self.kind}", needed)
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
        elif len(bad) == len(filled):
            needed = f"numbers{otherwise}"
        return self.error(f"holds {what}, first '{first.iloc[0]}' ({self.row(int(first.index[0]))})", needed)

    def _check_complete(self, what: str) -> None:
        missing = self.arrow.is_null(nan_is_null=True)
        if self.is_text:
            missing = pc.or_(missing, pc.fill_null(pc.equal(self.arrow, ""), True))
        rows = np.flatnonzero(missing.to_numpy(zero_copy_only=False))
        if rows.size:
            raise self.error(f"is empty in {self.row(int(rows[0]))}", f"{what} in all rows")


def table_type(kind: pa.DataType) -> Any:
    """Return the narwhals dtype of an arrow type, which is the same for tables of every library."""
    import narwhals as nw

    if pa.types.is_dictionary(kind):
        return nw.Categorical()
    if is_period(kind):
        return kind  # narwhals has no type for periods
    return nw.from_native(pa.chunked_array([], type=kind), series_only=True).dtype
