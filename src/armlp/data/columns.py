"""Columns: ids, times and values of any type, as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from armlp.data.times import TimesError, is_period, look_like_times, parse_times, read_times, times_of_objects
from armlp.errors import UserError

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa


class Column:
    """One column of a table on its way to numpy.

    Args:
        frame: The table.
        column: The name of the column.
        table: What to call the table in messages.
        option: The option that names the column, in CLI spelling.
        row: How to name a row in messages, given its number.
    """

    def __init__(
        self,
        frame: nw.DataFrame[Any],
        column: str,
        table: str,
        option: str,
        row: Callable[[int], str] = lambda row: f"row {row + 1}",
    ) -> None:
        import narwhals as nw
        import pyarrow as pa

        self.name, self.table, self.option, self.row = column, table, option, row
        series = frame[column]
        try:
            is_mixed = option == "--data.time_column" and series.dtype == nw.Object
            arrow = times_of_objects(series.to_numpy()) if is_mixed else series.to_arrow()
        except TimesError as error:
            raise self._times_error(error) from error
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise self.error("holds values of different types", "one type") from error
        if pa.types.is_dictionary(arrow.type):
            # The categories that do not occur, and their order, mean nothing here.
            self.dtype: Any = nw.Categorical()
            arrow = arrow.cast(arrow.type.value_type)
        elif is_period(arrow.type):
            self.dtype = arrow.type  # narwhals knows none such
        else:
            self.dtype = nw.from_native(pa.chunked_array([arrow]), series_only=True).dtype
        self.arrow: pa.Array = arrow.combine_chunks() if isinstance(arrow, pa.ChunkedArray) else arrow

    def error(self, found: str, needed: str) -> UserError:
        """The sentence that says what the column holds and what it should."""
        return UserError(f"{self.table}: column '{self.name}' {found}, but {self.option} needs {needed}.")

    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Number each row's series.

        Returns:
            codes: `[rows]` int64 place in `ids`.
            ids: `[S]` the different ids, ascending.
        """
        import pyarrow as pa

        self._refuse_missing("ids")
        if not (self.is_text or pa.types.is_integer(self.arrow.type)):
            raise self.error(f"holds {self._kind}", "ids that are text, integers or categories")
        encoded = self.arrow.dictionary_encode()
        ids = encoded.dictionary.to_numpy(zero_copy_only=False)
        order = np.argsort(ids, kind="stable")
        rank = np.empty(len(ids), dtype=np.int64)
        rank[order] = np.arange(len(ids))
        return rank[encoded.indices.to_numpy()], ids[order]

    def times(self) -> tuple[np.ndarray, str | None]:
        """Read times.

        Returns:
            times: `[rows]` int64, or datetime64[ns] of UTC (of the wall where there is no zone).
            timezone: Name of the zone, or None.
        """
        self._refuse_missing("times")
        try:
            if not self.is_text:
                return read_times(self.arrow)
            encoded = self.arrow.dictionary_encode()
            times, timezone = parse_times(encoded.dictionary.to_numpy(zero_copy_only=False))
            return times[encoded.indices.to_numpy()], timezone
        except TimesError as error:
            raise self._times_error(error) from error

    def _times_error(self, error: TimesError) -> UserError:
        import pyarrow as pa
        import pyarrow.compute as pc

        if error.text is None:
            return self.error(f"holds {error.found}", error.needed)
        row = int(pc.index(self.arrow, pa.scalar(error.text, self.arrow.type)).as_py())
        return self.error(f"holds '{error.text}' ({self.row(row)}), {error.found}", error.needed)

    def values(self) -> np.ndarray:
        """Read numbers: `[rows]` float32, NaN where missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.is_numeric:
            found, like_numbers = self._first_text()
            may_be_symbols = self.option == "--data.target_columns" and self.is_text and not like_numbers
            hint = ", or pass --data.symbols true if they are symbols" if may_be_symbols else ""
            raise self.error(f"holds {found}", f"numbers{hint}")
        wide = self.arrow if pa.types.is_floating(self.arrow.type) else pc.cast(self.arrow, pa.float64(), safe=False)
        numbers = wide.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            narrow = numbers.astype(np.float32)
        infinite = np.flatnonzero(np.isinf(narrow))
        if infinite.size:
            row = int(infinite[0])
            if np.isinf(numbers[row]):
                raise self.error(
                    f"holds {numbers[row]} ({self.row(row)}; {infinite.size} in all)",
                    "finite numbers, with missing values empty",
                )
            raise self.error(f"holds {numbers[row]:g} ({self.row(row)})", "numbers within float32, up to 3.4e38")
        return np.asarray(narrow)

    def categories(self, empty_is_one: bool) -> tuple[np.ndarray, tuple[str, ...]]:
        """Code categories.

        Args:
            empty_is_one: Whether an empty cell is a category too, as where a column of holidays names no holiday;
                otherwise it is missing.

        Returns:
            codes: `[rows]` float32 places in the categories, nan where missing.
            categories: The different ones, ascending.
        """
        codes, found = self._labels()
        categories = tuple(str(label) for label in found)
        if empty_is_one and np.isnan(codes).any():
            return np.nan_to_num(codes + 1, nan=0.0), ("", *categories)
        return codes, categories

    def symbols(self) -> tuple[np.ndarray, list[Any]]:
        """Code symbols: `[rows]` float32 places in the different ones, nan where missing; and those, ascending."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = self.arrow.type
        needed = "text, integers, booleans or categories with --data.symbols"
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            # Integers among which some are missing often come as fractions.
            try:
                self.arrow = pc.if_else(pc.is_null(self.arrow, nan_is_null=True), None, self.arrow).cast(pa.int64())
            except pa.ArrowInvalid as error:
                raise self.error("holds fractions", needed) from error
        elif not (self.is_text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise self.error(f"holds {self._kind}", needed)
        return self._labels()

    def _labels(self) -> tuple[np.ndarray, list[Any]]:
        """`[rows]` float32 places in the different values, nan where missing or empty; and those values, ascending."""
        import pyarrow.compute as pc

        arrow = pc.if_else(pc.equal(self.arrow, ""), None, self.arrow) if self.is_text else self.arrow
        encoded = arrow.dictionary_encode()
        found = encoded.dictionary.to_pylist()
        order = sorted(range(len(found)), key=found.__getitem__)
        rank = np.full(len(found) + 1, np.nan, dtype=np.float32)  # the last one is that of missing values
        rank[order] = np.arange(len(found))
        return rank[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)], [found[place] for place in order]

    @property
    def is_categorical(self) -> bool:
        """Whether the column holds text or categories."""
        import narwhals as nw

        return self.is_text or isinstance(self.dtype, nw.Categorical)

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
        return str(self.arrow.type) in ("string", "large_string", "string_view")

    @property
    def looks_like_times(self) -> bool:
        """Whether the column could be `--data.time_column`."""
        return look_like_times(self.arrow)

    @property
    def _kind(self) -> str:
        """The type of the column, for a message."""
        known = str(self.dtype)
        return str(self.arrow.type) if known == "Unknown" else known

    def _first_text(self) -> tuple[str, bool]:
        """The first value that is no number, for a message; and whether others are."""
        import pandas as pd

        if not self.is_text:
            return self._kind, False
        values = pd.Series(self.arrow.to_numpy(zero_copy_only=False))
        filled = values[values.notna() & (values != "")]
        bad = filled[pd.to_numeric(filled, errors="coerce").isna()]
        first = bad if len(bad) else filled
        if not len(first):
            return "empty text", False
        return f"text, first '{first.iloc[0]}' ({self.row(int(first.index[0]))})", len(bad) < len(filled)

    def _refuse_missing(self, what: str) -> None:
        import pyarrow.compute as pc

        missing = self.arrow.is_null(nan_is_null=True)
        if self.is_text:
            missing = pc.or_(missing, pc.fill_null(pc.equal(self.arrow, ""), True))
        rows = np.flatnonzero(missing.to_numpy(zero_copy_only=False))
        if rows.size:
            raise self.error(f"has {rows.size} empty, first in {self.row(int(rows[0]))}", f"{what} in all rows")
