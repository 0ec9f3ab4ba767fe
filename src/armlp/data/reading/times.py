"""Times: when rows were, read from columns of any type, and spelled in the type in which they came."""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

if TYPE_CHECKING:
    import pyarrow as pa

LIKE_THIS = "times spelled like 2000-12-31 23:00"

# Periods, which stand for their first instant: how they are spelled, and how many months a part of the year has, or
# the format of what stands in the groups.
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


class TimesError(ValueError):
    """What a column of times holds that is no time; who knows the column makes a sentence of it.

    Args:
        found: What the column holds, or, where a text is at fault, what is wrong with it.
        needed: What it should hold.
        text: The text at fault.
    """

    def __init__(self, found: str, needed: str, text: str | None = None) -> None:
        super().__init__(found)
        self.found, self.needed, self.text = found, needed, text


def read_times(array: pa.Array) -> tuple[np.ndarray, str | None]:
    """Read times from integers, datetimes, dates or pandas periods, none missing; text is for `parse_times`.

    Args:
        array: `[rows]`, a column or a batch of it.

    Returns:
        times: `[rows]` int64, or datetime64[ns] of UTC (of the wall where there is no zone); periods begin then.
        timezone: Name of the zone, or None.

    Raises:
        TimesError: They cannot be read so.
    """
    import narwhals as nw
    import pyarrow as pa

    kind = array.type
    if pa.types.is_integer(kind):
        try:
            return array.cast(pa.int64()).to_numpy(zero_copy_only=False), None
        except pa.ArrowInvalid as error:
            raise TimesError("integers beyond int64", "smaller ones") from error
    if is_period(kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # business days will not be periods
            return _nanoseconds(pd.PeriodIndex(array.to_pandas()).to_timestamp(how="start")), None
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        known = nw.from_native(pa.chunked_array([array]), series_only=True).dtype
        raise TimesError(str(known), "datetimes, dates, periods, text that spells them, or integers")
    timezone = getattr(kind, "tz", None)
    if timezone is not None:
        try:
            pd.DatetimeIndex([], tz="UTC").tz_convert(timezone)
        except Exception as error:  # pandas raises what the library of zones does, and there are several
            raise TimesError(f"times in the unknown zone '{timezone}'", "a zone such as Europe/Berlin") from error
    try:
        instants = array.cast(pa.timestamp("ns", timezone)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise _beyond() from error
    return instants.to_numpy(zero_copy_only=False).view("datetime64[ns]"), timezone


def parse_times(spelled: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Read text as times that are all spelled alike.

    ISO 8601 is tried first, then periods, which stand for their first instant (`2020Q1`, `2020-W05`, `2020H2`,
    `2020M01`, `Jan 2020`), then whatever pandas makes of the first one, month before day or day before month. Times
    with one offset from UTC keep it. Where there are several, as summer time makes them, they are read as UTC, unless
    all are midnights of their own clocks: then they are days, and are read without a zone.

    Args:
        spelled: All the different texts of a column, so that each is read in the way that reads all; none empty.

    Returns:
        times: As many datetime64[ns] of UTC (of the wall where there is no zone).
        timezone: Name of the zone, or None.

    Raises:
        TimesError: No way reads all, or two do and differ.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pa.array(spelled, pa.string())
    found = pc.struct_field(pc.extract_regex(texts, _TIME_OF_DAY + _OFFSET), 1).dictionary_encode()
    has_offset = found.is_valid().to_numpy(zero_copy_only=False)
    if not has_offset.any():
        return _nanoseconds(_read_alike(spelled)), None
    if not has_offset.all():
        raise TimesError(
            f"which has no offset from UTC, beside '{spelled[has_offset.argmax()]}', which has one",
            "all of them with one, or none",
            str(spelled[has_offset.argmin()]),
        )
    bare = pc.replace_substring_regex(texts, _TIME_OF_DAY + _OFFSET, r"\1").to_numpy(zero_copy_only=False)
    try:
        clock = _read_alike(bare)
    except TimesError as error:
        text = error.text and str(spelled[np.argmax(bare == error.text)])
        raise TimesError(error.found, error.needed, text) from error
    ahead = np.array([_minutes(offset) for offset in found.dictionary.to_pylist()])[found.indices.to_numpy()]
    return _zoned(clock - pd.to_timedelta(ahead, unit="min"), clock)


class SpelledTimes:
    """Times that a column spells as text, all of which are read alike.

    Args:
        spelled: The different texts, in the order in which they come.
    """

    def __init__(self, spelled: Sequence[str]) -> None:
        self._places = {text: place for place, text in enumerate(spelled)}
        self._times: np.ndarray = np.zeros(len(spelled), dtype="datetime64[ns]")
        self._timezone: str | None = None
        self._error: TimesError | None = None
        try:
            self._times, self._timezone = parse_times(np.array(spelled, dtype=object))
        except TimesError as error:
            self._error = error

    def read(self, array: pa.Array) -> tuple[np.ndarray, str | None]:
        """Read some rows of the column, as `read_times` does.

        Raises:
            TimesError: The rows, or all texts together, are no times.
        """
        encoded = array.dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        # A part without the text at fault goes by, so that the one with it can be named.
        if self._error is not None and (self._error.text is None or self._error.text in texts):
            raise self._error
        places = np.array([self._places[text] for text in texts], dtype=np.int64)
        return self._times[places[encoded.indices.to_numpy(zero_copy_only=False)]], self._timezone


def times_of_objects(values: np.ndarray) -> pa.Array:
    """An arrow array of a pandas column of Python objects, of which arrow alone takes the first one's type for all.

    Args:
        values: `[rows]` objects: datetimes of one zone or several, dates, periods, or a mixture; None where missing.

    Raises:
        TimesError: Some have a time zone and others have none, or periods are of different lengths.
        pyarrow.ArrowException, TypeError: They are something else, and not of one type.
    """
    import pyarrow as pa

    filled = pd.Series(values, dtype=object)
    there = filled[filled.notna()]
    types = set(map(type, there))
    if types and all(issubclass(kind, pd.Period) for kind in types):
        steps = sorted({period.freqstr for period in there})
        if len(steps) > 1:
            raise TimesError(f"periods of {' and '.join(steps)}", "periods of one length")
        return pa.array(pd.Series(pd.PeriodIndex(filled)), from_pandas=True)
    if types == {datetime.date} or not all(issubclass(kind, datetime.date) for kind in types):
        return pa.array(filled, from_pandas=True)
    zones = {getattr(time, "tzinfo", None) for time in there}
    names = sorted({str(zone) for zone in zones})
    if None in zones and len(names) > 1:
        raise TimesError("times with and without a time zone", "all of them with one, or none")
    if len(names) < 2:
        return pa.array(pd.to_datetime(filled, format="ISO8601" if None in zones else None), from_pandas=True)
    wall = filled.map(lambda time: time.replace(tzinfo=None), na_action="ignore")
    instants = pd.DatetimeIndex(pd.to_datetime(filled, utc=True))
    times, timezone = _zoned(instants, pd.DatetimeIndex(pd.to_datetime(wall)).tz_localize("UTC"))
    return pa.array(pd.Series(pd.DatetimeIndex(times, tz=timezone and "UTC")), from_pandas=True)


def is_period(kind: pa.DataType) -> bool:
    """Whether an arrow type is pandas' one of periods."""
    return getattr(kind, "extension_name", None) == "pandas.period"


def register_periods() -> None:
    """Let arrow know the type of pandas periods, which it otherwise reads from Parquet as integers."""
    import pyarrow as pa

    pa.array(pd.PeriodIndex([], freq="D"))


def spell_periods(instants: np.ndarray, kind: Any) -> pa.Array:
    """The pandas periods in which times lie.

    Args:
        instants: `[rows]` datetime64[ns] without a zone.
        kind: The arrow type of the periods.
    """
    import pyarrow as pa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ordinals = pd.DatetimeIndex(instants).to_period(kind.freq).asi8
    return pa.ExtensionArray.from_storage(kind, pa.array(ordinals))


def look_like_times(array: pa.Array) -> bool:
    """Whether a column could be one of times, which integers alone do not show."""
    import pyarrow as pa

    kind = array.type
    if str(kind) not in ("string", "large_string", "string_view"):
        return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or is_period(kind))
    some = array.drop_null()[:100].unique().to_numpy(zero_copy_only=False)
    try:
        return len(some) > 0 and len(_read_alike(some)) > 0
    except TimesError as error:
        return "both" in error.found


def _read_alike(spelled: np.ndarray) -> pd.DatetimeIndex:
    """What texts spell in the first way that reads all, as UTC."""
    tried = []
    for way in _certain_ways(str(spelled[0])):
        tried.append(way(spelled))
        if not tried[-1].hasnans:
            return tried[-1]
    guesses = [_read(spelled, form) for form in _guessed_formats(spelled)]
    whole = [times for times in guesses if not times.hasnans]
    if not whole:
        unread = min((times.isna() for times in (*tried, *guesses)), key=np.count_nonzero)
        text = str(spelled[unread.argmax()])
        raise TimesError("which does not read as a time like the others", LIKE_THIS, text)
    differ = np.flatnonzero(whole[0] != whole[-1])
    if not differ.size:
        return whole[0]
    text = str(spelled[differ[0]])
    if re.match(r"\d+\.", text):
        return whole[-1]  # with points, the day always comes first
    found = "which reads as a date both with the month first and with the day first, as all others do"
    raise TimesError(found, LIKE_THIS, text)


def _guessed_formats(spelled: np.ndarray) -> list[str]:
    """The formats that pandas sees in text, month before day first."""
    # May is a month's short and long name at once, and so shows no format.
    example = next((text for text in spelled if "may" not in text.lower()), spelled[0])
    # Day before month makes no sense after a year, where pandas would yet read it so.
    orders = (False,) if re.match(r"\d{4}", example) else (False, True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parsing dates in")
        formats = [guess_datetime_format(example, dayfirst=day_first) for day_first in orders]
    return [form for form in formats if form is not None]


def _read(spelled: np.ndarray, format: str) -> pd.DatetimeIndex:
    """Instants, NaT where the format does not read."""
    return pd.DatetimeIndex(pd.to_datetime(spelled, errors="coerce", utc=True, format=format))


def _certain_ways(first: str) -> Iterator[Callable[[np.ndarray], pd.DatetimeIndex]]:
    """ISO 8601, and the ways of reading periods that could read the first text."""
    yield partial(_read, format="ISO8601")
    for pattern, part in _PERIODS:
        if re.fullmatch(pattern, first, re.IGNORECASE):
            yield partial(_read_periods, pattern=pattern, part=part)


def _read_periods(spelled: np.ndarray, pattern: str, part: int | str) -> pd.DatetimeIndex:
    """The first instants of periods; NaT where they are spelled otherwise."""
    found = pd.Series(spelled, dtype=object).str.extract(f"^{pattern}$", flags=re.IGNORECASE)
    if isinstance(part, int):
        number = pd.to_numeric(found["part"])
        text, form = found["year"] + " " + ((number - 1) * part + 1).astype("Int64").astype("string"), "%Y %m"
    else:
        text, form = found[0], part
        for place in found.columns[1:]:
            text = text + " " + found[place]
        if form.endswith("%u") and len(found.columns) < 3:
            text = text + " 1"  # Monday
    return pd.DatetimeIndex(pd.to_datetime(text, format=form, errors="coerce", utc=True))


def _minutes(offset: str) -> int:
    """How many minutes clocks are ahead of UTC, from `Z`, `+01`, `+0100` or `+01:00`."""
    if offset[0] not in "+-":
        return 0
    digits = offset[1:].replace(":", "").ljust(4, "0")
    return int(f"{offset[0]}1") * (60 * int(digits[:2]) + int(digits[2:]))


def _zoned(instants: pd.DatetimeIndex, wall: pd.DatetimeIndex) -> tuple[np.ndarray, str | None]:
    """Times and zone of instants, given what their own clocks showed, both spelled as UTC."""
    offsets = (wall - instants).unique().dropna()
    if len(offsets) == 1:
        minutes = int(offsets[0].total_seconds() // 60)
        sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
        return _nanoseconds(instants), f"{sign}{hours:02d}:{rest:02d}" if minutes else "UTC"
    if (wall.normalize()[wall.notna()] == wall[wall.notna()]).all():
        return _nanoseconds(wall), None
    return _nanoseconds(instants), "UTC"


def _nanoseconds(times: pd.DatetimeIndex) -> np.ndarray:
    """datetime64[ns] of UTC."""
    naive = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    try:
        return np.asarray(naive.as_unit("ns").to_numpy())
    except ValueError as error:
        raise _beyond() from error


def _beyond() -> TimesError:
    return TimesError("times outside the years 1678 to 2261", "times within them")
