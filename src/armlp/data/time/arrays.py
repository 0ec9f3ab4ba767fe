"""Times from columns of any type, and back in the same type."""

from __future__ import annotations

import datetime
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

# Daylight saving and changes of law move the offset of a zone by no more.
_MAX_CHANGED, _QUARTER = pd.Timedelta(hours=2), pd.Timedelta(minutes=15)


class TimesError(ValueError):
    """A column does not hold times: what was `found`, what is `needed`, and the `text` at fault, if any."""

    def __init__(self, found: str, needed: str, text: str | None = None) -> None:
        super().__init__(found)
        self.found, self.needed, self.text = found, needed, text


def read_times(array: pa.Array) -> tuple[np.ndarray, str | None]:
    """Read `[rows]` integers, datetimes, dates or pandas periods; for text see `time_text`.

    Returns:
        times: `[rows]` int64, or datetime64[ns] in UTC (wall clock without a zone); the start of periods.
        timezone: Name of the zone, or None.

    Raises:
        TimesError: The column does not hold times.
    """
    import narwhals as nw

    kind = array.type
    if pa.types.is_integer(kind):
        try:
            return array.cast(pa.int64()).to_numpy(zero_copy_only=False), None
        except pa.ArrowInvalid as error:
            raise TimesError("integers beyond int64", "smaller ones") from error
    if is_period(kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # pandas will drop periods of business days
            return nanoseconds(pd.PeriodIndex(array.to_pandas()).to_timestamp(how="start")), None
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        known = nw.from_native(pa.chunked_array([array]), series_only=True).dtype
        raise TimesError(str(known), "datetimes, dates, periods, text that spells them, or integers")
    timezone = getattr(kind, "tz", None)
    if timezone is not None:
        try:
            pd.DatetimeIndex([], tz="UTC").tz_convert(timezone)
        except Exception as error:  # pandas passes on the errors of several libraries of time zones
            raise TimesError(f"times in the unknown zone '{timezone}'", "a zone such as Europe/Berlin") from error
    try:
        instants = array.cast(pa.timestamp("ns", timezone)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise _out_of_range() from error
    return instants.to_numpy(zero_copy_only=False).view("datetime64[ns]"), timezone


def times_of_objects(values: np.ndarray) -> pa.Array:
    """Return `[rows]` Python datetimes, dates or periods as an arrow array, even of several zones.

    Raises:
        TimesError: Some have a time zone and others have none, or periods are of different lengths.
        pyarrow.ArrowException, TypeError: They are not times, and not of one type.
    """
    filled = pd.Series(values, dtype=object)
    present = filled[filled.notna()]
    types = set(map(type, present))
    if types and all(issubclass(kind, pd.Period) for kind in types):
        steps = sorted({period.freqstr for period in present})
        if len(steps) > 1:
            raise TimesError(f"periods of {' and '.join(steps)}", "periods of one length")
        return pa.array(pd.Series(pd.PeriodIndex(filled)), from_pandas=True)
    if types == {datetime.date} or not all(issubclass(kind, datetime.date) for kind in types):
        return pa.array(filled, from_pandas=True)
    zones = {getattr(time, "tzinfo", None) for time in present}
    names = sorted({str(zone) for zone in zones})
    if None in zones and len(names) > 1:
        raise TimesError("times with and without a time zone", "all of them with one, or none")
    if len(names) < 2:
        return pa.array(pd.to_datetime(filled, format="ISO8601" if None in zones else None), from_pandas=True)
    wall = filled.map(lambda time: time.replace(tzinfo=None), na_action="ignore")
    instants = pd.DatetimeIndex(pd.to_datetime(filled, utc=True))
    times, timezone = zoned(instants, pd.DatetimeIndex(pd.to_datetime(wall)).tz_localize("UTC"))
    return pa.array(pd.Series(pd.DatetimeIndex(times, tz=timezone and "UTC")), from_pandas=True)


def is_text(kind: pa.DataType) -> bool:
    """Return whether an arrow type is text."""
    return str(kind) in ("string", "large_string", "string_view")


def is_period(kind: pa.DataType) -> bool:
    """Return whether an arrow type is that of pandas periods."""
    return getattr(kind, "extension_name", None) == "pandas.period"


def register_periods() -> None:
    """Register the arrow type of pandas periods, which arrow otherwise reads from Parquet as integers."""
    pa.array(pd.PeriodIndex([], freq="D"))


def spell_periods(instants: np.ndarray, kind: Any) -> pa.Array:
    """Return the pandas periods of arrow type `kind` that hold datetime64[ns] without a zone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ordinals = pd.DatetimeIndex(instants).to_period(kind.freq).asi8
    return pa.ExtensionArray.from_storage(kind, pa.array(ordinals))


def zoned(instants: pd.DatetimeIndex, wall: pd.DatetimeIndex) -> tuple[np.ndarray, str | None]:
    """Return times and their zone from instants and their local wall clock, both given as UTC."""
    offsets = (wall - instants).unique().dropna()
    if len(offsets) == 1:
        minutes = int(offsets[0].total_seconds() // 60)
        sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
        return nanoseconds(instants), f"{sign}{hours:02d}:{rest:02d}" if minutes else "UTC"
    shown = wall[wall.notna()]
    changed = offsets.max() - offsets.min() <= _MAX_CHANGED and (offsets % _QUARTER == pd.Timedelta(0)).all()
    if changed and ((shown - shown.normalize()) == shown[0] - shown[0].normalize()).all():
        return nanoseconds(wall), None
    return nanoseconds(instants), "UTC"


def nanoseconds(times: pd.DatetimeIndex) -> np.ndarray:
    """Return times as datetime64[ns] in UTC."""
    naive = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    try:
        return np.asarray(naive.as_unit("ns").to_numpy())
    except ValueError as error:
        raise _out_of_range() from error


def _out_of_range() -> TimesError:
    return TimesError("times outside the years 1678 to 2261", "times within them")
