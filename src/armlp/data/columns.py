"""Columns: ids, times and values of any type, as numpy arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

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
        try:
            arrow = frame[column].to_arrow()
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise self.error("holds values of different types", "one type") from error
        if pa.types.is_dictionary(arrow.type):
            # The categories that do not occur, and their order, mean nothing here.
            self.dtype: Any = nw.Categorical()
            arrow = arrow.cast(arrow.type.value_type)
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
        import pyarrow as pa

        kind = self.arrow.type
        self._refuse_missing("times")
        if pa.types.is_integer(kind):
            try:
                return self.arrow.cast(pa.int64()).to_numpy(zero_copy_only=False), None
            except pa.ArrowInvalid as error:
                raise self.error("holds integers beyond int64", "smaller ones") from error
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            timezone = getattr(kind, "tz", None)
            try:
                instants = self.arrow.cast(pa.timestamp("ns", timezone)).cast(pa.int64())
            except pa.ArrowInvalid as error:
                raise self.error("holds times outside the years 1678 to 2261", "times within them") from error
            return instants.to_numpy(zero_copy_only=False).view("datetime64[ns]"), timezone
        if self.is_text:
            return self._parsed_times()
        raise self.error(f"holds {self._kind}", "datetimes, dates, text that spells them, or integers")

    def _parsed_times(self) -> tuple[np.ndarray, str | None]:
        encoded = self.arrow.dictionary_encode()
        spelled = encoded.dictionary.to_numpy(zero_copy_only=False)
        codes = encoded.indices.to_numpy()
        parsed = parse_times(spelled)
        if isinstance(parsed, str):
            row = int(np.argmax(codes == np.flatnonzero(spelled == parsed)[0]))
            found = f"holds '{parsed}' ({self.row(row)}), which does not read as a time like the others"
            raise self.error(found, "times spelled like 2000-12-31 23:00")
        timezone = None if parsed.tz is None else str(parsed.tz)
        naive = parsed if parsed.tz is None else parsed.tz_convert("UTC").tz_localize(None)
        try:
            return np.asarray(naive.as_unit("ns").to_numpy())[codes], timezone
        except ValueError as error:
            raise self.error("holds times outside the years 1678 to 2261", "times within them") from error

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
        import pyarrow as pa

        kind = self.arrow.type
        if not self.is_text:
            return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
        some = self.arrow.drop_null()[:100].unique()
        return len(some) > 0 and not isinstance(parse_times(some.to_numpy(zero_copy_only=False)), str)

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


def parse_times(spelled: np.ndarray) -> Any:
    """Read text as times that are all spelled alike: a DatetimeIndex, or the first text that does not fit."""
    import pandas as pd

    for options in ({"format": "ISO8601"}, {}, {"format": "ISO8601", "utc": True}, {"utc": True}):
        try:
            with warnings.catch_warnings():
                # pandas warns of having read each by itself, in ways that may differ: that will not do.
                warnings.filterwarnings("error", "Could not infer format")
                warnings.filterwarnings("ignore", "Parsing dates in")
                return pd.DatetimeIndex(pd.to_datetime(spelled, **options))
        except (ValueError, UserWarning):
            continue
    for options in ({"format": "ISO8601", "utc": True}, {"utc": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unread = np.flatnonzero(pd.isna(pd.to_datetime(spelled, errors="coerce", **options)))
        if 0 < unread.size < len(spelled):
            break
    return str(spelled[unread[0] if unread.size else 0])
