"""Times as text, all texts of a column in one format."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.tseries.api import guess_datetime_format

from armlp.data.time.arrays import TimesError, is_period, is_text, nanoseconds, zoned

_LIKE_THIS = "times spelled like 2000-12-31 23:00"

# Periods, which stand for their first instant: a pattern, and the months in a part or the format of the groups.
_PERIODS: tuple[tuple[str, int | str], ...] = (
    (r"(?P<year>\d{4})[- ]?Q(?P<part>[1-4])", 3),
    (r"Q(?P<part>[1-4])[-/ ]?(?P<year>\d{4})", 3),
    (r"(?P<year>\d{4})[- ]?[HS](?P<part>[12])", 6),
    (r"(?P<year>\d{4})[- ]?M(?P<part>0?[1-9]|1[0-2])", 1),
    (r"(?P<year>\d{4})(?P<part>0[1-9]|1[0-2])", 1),
    (r"(?P<part>0?[1-9]|1[0-2])[-/.](?P<year>\d{4})", 1),
    (r"(\d{4})[- ]?W(\d\d)", "%G %V %u"),
    (r"(\d{4})-?W(\d\d)-?([1-7])", "%G %V %u"),
    (r"(\d{4})-(\d{3})", "%Y %j"),
    (r"([a-z]{3})[a-z]*[-/. ]+(\d{4})", "%b %Y"),
    (r"([a-z]{3})[a-z]*[-/. ]+(\d\d)", "%b %y"),
    (r"(\d{4})[-/. ]+([a-z]{3})[a-z]*", "%Y %b"),
    (r"(\d{4}-\d\d-\d\d)/\d{4}-\d\d-\d\d", "%Y-%m-%d"),
)
# A time of day at the end of text, and the offset from UTC after it.
_TIME_OF_DAY = r"(?i)(?P<time>(?:T\d{2}|:\d{2}|[T ]\d{4}|[T ]\d{6})(?:[.,]\d+)?(?: ?[AP]M)?)"
_OFFSET = r" ?(?P<offset>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"


class SpelledTimes:
    """Reads the times of a column of text in one format, which all distinct texts decide."""

    def __init__(self, spelled: Sequence[str]) -> None:
        self._index = {text: index for index, text in enumerate(spelled)}
        self._times: np.ndarray = np.zeros(len(spelled), dtype="datetime64[ns]")
        self._timezone: str | None = None
        self._error: TimesError | None = None
        try:
            self._times, self._timezone = parse_times(np.array(spelled, dtype=object))
        except TimesError as error:
            self._error = error

    def read(self, array: pa.Array) -> tuple[np.ndarray, str | None]:
        """Read some rows of the column, as `read_times` does; raise a `TimesError` if their texts are at fault."""
        encoded = array.dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        if self._error is not None and (self._error.text is None or self._error.text in texts):
            raise self._error
        index = np.array([self._index[text] for text in texts], dtype=np.int64)
        return self._times[index[encoded.indices.to_numpy(zero_copy_only=False)]], self._timezone


def parse_times(spelled: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Read distinct non-empty texts as times in one format: datetime64[ns] and zone, as `read_times` does.

    ISO 8601 is tried first, then periods, which stand for their first instant (`2020Q1`, `2020-W05`, `2020H2`,
    `2020M01`, `Jan 2020`), then what pandas guesses from the first text, month before day or day before month.
    Times with one offset from UTC keep it. Times with several offsets, as daylight saving makes them, are in UTC,
    unless all show the same time of day: then they are days without a zone.

    Raises:
        TimesError: No format fits all texts, or two do and differ.
    """
    texts = pa.array(spelled, pa.string())
    found = pc.struct_field(pc.extract_regex(texts, _TIME_OF_DAY + _OFFSET), 1).dictionary_encode()
    has_offset = found.is_valid().to_numpy(zero_copy_only=False)
    if not has_offset.any():
        return nanoseconds(_read_all(spelled)), None
    if not has_offset.all():
        raise TimesError(
            f"which has no offset from UTC, beside '{spelled[has_offset.argmax()]}', which has one",
            "all of them with one, or none",
            str(spelled[has_offset.argmin()]),
        )
    bare = pc.replace_substring_regex(texts, _TIME_OF_DAY + _OFFSET, r"\1").to_numpy(zero_copy_only=False)
    try:
        clock = _read_all(bare)
    except TimesError as error:
        text = error.text and str(spelled[np.argmax(bare == error.text)])
        raise TimesError(error.found, error.needed, text) from error
    ahead = np.array([_minutes(offset) for offset in found.dictionary.to_pylist()])[found.indices.to_numpy()]
    return zoned(clock - pd.to_timedelta(ahead, unit="min"), clock)


def look_like_times(array: pa.Array) -> bool:
    """Return whether a column may hold times; integers do not count."""
    kind = array.type
    if not is_text(kind):
        return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or is_period(kind))
    some = array.drop_null()[:100].unique().to_numpy(zero_copy_only=False)
    try:
        return len(some) > 0 and len(_read_all(some)) > 0
    except TimesError as error:
        return "both" in error.found


def _read_all(spelled: np.ndarray) -> pd.DatetimeIndex:
    """Read texts in the first format that fits them all, as UTC."""
    tried = [_read(spelled, "ISO8601")]
    periods = (form for form in _PERIODS if re.fullmatch(form[0], str(spelled[0]), re.IGNORECASE))
    while tried[-1].hasnans and (form := next(periods, None)):
        tried.append(_read_periods(spelled, *form))
    if not tried[-1].hasnans:
        return tried[-1]
    guesses = [_read(spelled, form) for form in _guessed_formats(spelled)]
    whole = [times for times in guesses if not times.hasnans]
    if not whole:
        unread = min((times.isna() for times in (*tried, *guesses)), key=np.count_nonzero)
        text = str(spelled[unread.argmax()])
        raise TimesError("which does not read as a time like the others", _LIKE_THIS, text)
    differ = np.flatnonzero(whole[0] != whole[-1])
    if not differ.size:
        return whole[0]
    text = str(spelled[differ[0]])
    if re.match(r"\d+\.", text):
        return whole[-1]  # between points, the day comes first
    found = "which reads as a date both with the month first and with the day first, as all others do"
    raise TimesError(found, _LIKE_THIS, text)


def _guessed_formats(spelled: np.ndarray) -> list[str]:
    """Return the formats that pandas guesses, month before day first."""
    # May is both the short and the long name of a month, and so does not show the format.
    example = next((text for text in spelled if "may" not in text.lower()), spelled[0])
    # After a year comes the month, although pandas would accept the day.
    orders = (False,) if re.match(r"\d{4}", example) else (False, True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parsing dates in")
        formats = [guess_datetime_format(example, dayfirst=day_first) for day_first in orders]
    return [form for form in formats if form is not None]


def _read(spelled: np.ndarray, format: str) -> pd.DatetimeIndex:
    """Return instants, NaT where the format does not fit."""
    return pd.DatetimeIndex(pd.to_datetime(spelled, errors="coerce", utc=True, format=format))


def _read_periods(spelled: np.ndarray, pattern: str, part: int | str) -> pd.DatetimeIndex:
    """Return the first instants of periods, NaT where the pattern does not fit."""
    found = pd.Series(spelled, dtype=object).str.extract(f"^{pattern}$", flags=re.IGNORECASE)
    if isinstance(part, int):
        number = pd.to_numeric(found["part"])
        text, form = found["year"] + " " + ((number - 1) * part + 1).astype("Int64").astype("string"), "%Y %m"
    else:
        text, form = found[0], part
        for group in found.columns[1:]:
            text = text + " " + found[group]
        if form.endswith("%u") and len(found.columns) < 3:
            text = text + " 1"  # Monday
    return pd.DatetimeIndex(pd.to_datetime(text, format=form, errors="coerce", utc=True))


def _minutes(offset: str) -> int:
    """Return an offset from UTC (`Z`, `+01`, `+0100` or `+01:00`) in minutes."""
    if offset[0] not in "+-":
        return 0
    digits = offset[1:].replace(":", "").ljust(4, "0")
    return int(f"{offset[0]}1") * (60 * int(digits[:2]) + int(digits[2:]))
