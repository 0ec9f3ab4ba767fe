"""Tests of reading times of any type, with pandas and the standard library as oracles."""

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.tables.read import read_panel
from armlp.data.tables.write import write_table_like
from armlp.data.time.arrays import TimesError, read_times, spell_periods, times_of_objects
from armlp.data.time.text import look_like_times, parse_times
from armlp.errors import UserError
from armlp.files import write_table

DATES = st.dates(dt.date(1970, 1, 1), dt.date(2100, 12, 31))
PERIODS = {
    "Q": ("{p.year}Q{p.quarter}", "{p.year}-Q{p.quarter}", "{p.year}q{p.quarter}", "Q{p.quarter} {p.year}",
          "{p.year} Q{p.quarter}", "Q{p.quarter}/{p.year}"),
    "M": ("{p:%Y-%m}", "{p:%Y%m}", "{p.year}M{p.month}", "{p.year}-M{p:%m}", "{p:%b %Y}", "{p:%B %Y}", "{p:%Y-%b}",
          "{p:%m/%Y}", "{p.month}.{p.year}", "{p:%Y/%m}"),
    "Y": ("{p.year}",),
    "W": ("{p}",),
    "D": ("{p:%Y-%j}", "{p:%d.%m.%Y}", "{p:%Y/%m/%d}", "{p:%Y%m%d}", "{p:%d %b %Y}"),
}  # fmt: skip


def objects(*texts: Any) -> np.ndarray:
    """An array of Python objects."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def parsed(*texts: str) -> tuple[list[str], str | None]:
    """What text is read as, to the minute."""
    times, timezone = parse_times(objects(*texts))
    assert times.dtype == "datetime64[ns]"
    return [str(time)[:16] for time in times], timezone


def sentence(ds: Any, **options: Any) -> str:
    """The refusal of a table with such times."""
    with pytest.raises(UserError) as error:
        read_panel(pd.DataFrame({"unique_id": "a", "ds": ds, "y": 1.0}), **options)
    return str(error.value)


# Text


@pytest.mark.parametrize(("freq", "spelling"), [(freq, text) for freq, texts in PERIODS.items() for text in texts])
@settings(max_examples=15)
@given(days=st.lists(DATES, min_size=1, max_size=6, unique=True))
def test_periods_are_read_as_their_first_instants(freq: str, spelling: str, days: list[dt.date]) -> None:
    periods = pd.PeriodIndex(days, freq=freq)
    times, timezone = parse_times(objects(*(spelling.format(p=period) for period in periods)))
    assert timezone is None
    assert (times == periods.start_time.to_numpy()).all()


@settings(max_examples=30)
@given(days=st.lists(DATES, min_size=1, max_size=6))
def test_iso_weeks_are_those_of_the_standard_library(days: list[dt.date]) -> None:
    weeks = [day.isocalendar() for day in days]
    mondays = [day - dt.timedelta(day.weekday()) for day in days]
    for spelled, expected in (
        ([f"{year}-W{week:02d}" for year, week, _ in weeks], mondays),
        ([f"{year}W{week:02d}" for year, week, _ in weeks], mondays),
        ([f"{year}-W{week:02d}-{day}" for year, week, day in weeks], days),
    ):
        assert (parse_times(objects(*spelled))[0] == np.array(expected, dtype="datetime64[ns]")).all()


def test_half_years_begin_in_january_and_july() -> None:
    for first, second in (("2020H1", "2020H2"), ("2020-S1", "2020-S2"), ("2020 h1", "2020 h2")):
        assert parsed(first, second) == (["2020-01-01T00:00", "2020-07-01T00:00"], None)


def test_days_come_before_months_if_any_value_of_the_column_requires_it() -> None:
    assert parsed("01/02/2020", "13/02/2020")[0] == ["2020-02-01T00:00", "2020-02-13T00:00"]
    assert parsed("01/02/2020", "02/13/2020")[0] == ["2020-01-02T00:00", "2020-02-13T00:00"]
    assert parsed("01.02.2020", "03.02.2020")[0] == ["2020-02-01T00:00", "2020-02-03T00:00"]
    assert parsed("01/01/2020 01:00", "02/02/2020 02:00")[0] == ["2020-01-01T01:00", "2020-02-02T02:00"]


def test_dates_that_read_both_ways_are_refused() -> None:
    assert sentence(["01/01/2020", "01/02/2020", "01/03/2020"]) == (
        "the table: column 'ds' holds '01/02/2020' (row 2, series 'a'), which reads as a date both with the month "
        "first and with the day first, as all others do, but `time_column` needs times spelled like "
        "2000-12-31 23:00."
    )


def test_text_that_is_no_time_like_the_others_is_named() -> None:
    for texts, bad in (
        (("2020-01-01", "2020-01-02", "soon"), "soon"),
        (("2020Q1", "2020Q2", "2020Q5"), "2020Q5"),
        (("2020-W05", "2021-W53"), "2021-W53"),
        (("13/02/2020", "14/02/2020", "02/15/2020"), "02/15/2020"),
        (("2020-02-29", "2021-02-29"), "2021-02-29"),
        (("now and then",), "now and then"),
    ):
        with pytest.raises(TimesError, match="does not read as a time like the others") as error:
            parsed(*texts)
        assert error.value.text == bad


@pytest.mark.parametrize(
    ("suffix", "timezone", "hour"),
    [("Z", "UTC", 12), ("+00:00", "UTC", 12), (" UTC", "UTC", 12), ("+0530", "+05:30", 6), ("-03:30", "-03:30", 15)],
)
def test_one_offset_from_utc_is_the_zone(suffix: str, timezone: str, hour: int) -> None:
    times, zone = parsed(f"2020-01-01T12:00:00{suffix}", f"2020-07-01T12:00:00{suffix}")
    assert zone == timezone
    assert times[0].startswith(f"2020-01-01T{hour:02d}")
    assert read_times(pa.array([0], pa.timestamp("ns", zone)))[1] == zone


def test_hours_of_several_offsets_are_instants_and_their_midnights_are_days() -> None:
    hours = pd.date_range("2021-10-30", periods=72, freq="h", tz="Europe/Berlin")
    times, zone = parse_times(np.array([time.isoformat() for time in hours], dtype=object))
    assert zone == "UTC"
    assert (times == hours.tz_convert(None).to_numpy()).all()
    days = pd.date_range("2021-10-20", periods=30, freq="D", tz="Europe/Berlin")
    times, zone = parse_times(np.array([time.isoformat() for time in days], dtype=object))
    assert zone is None
    assert (times == days.tz_localize(None).to_numpy()).all()
    panel = read_panel(pd.DataFrame({"ds": [time.isoformat() for time in days], "y": 1.0}))
    assert (panel.calendar.freq, len(panel.values)) == ("D", 30)


def with_offsets(times: pd.DatetimeIndex) -> pd.DataFrame:
    """A table of text as files of CSV have it: every time with the offset of its clock."""
    texts = [time.isoformat() for time in times]
    return pd.DataFrame({"unique_id": "a", "ds": texts, "y": np.arange(len(times), dtype=float)})


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/London", "America/New_York", "Australia/Sydney"])
@pytest.mark.parametrize(
    ("freq", "begin", "rows"),
    [("D", "2024-03-01", 50), ("D", "2024-10-01 06:00", 50), ("W-MON", "2024-02-05", 20), ("MS", "2023-01-01", 14)],
)
def test_days_of_a_file_go_on_across_a_change_of_its_clock_as_those_of_the_zone(
    zone: str, freq: str, begin: str, rows: int, tmp_path: Path
) -> None:
    times = pd.date_range(begin, periods=rows + 3, freq=freq, tz=zone)
    table = with_offsets(times[:rows])
    table.to_csv(tmp_path / "table.csv", index=False)
    table.assign(ds=times[:rows]).to_parquet(tmp_path / "table.parquet")
    aware = table.assign(ds=pd.Series([dt.datetime.fromisoformat(text) for text in table.ds], dtype=object))
    for source in (tmp_path / "table.csv", tmp_path / "table.parquet", table, aware):
        panel = read_panel(source)
        assert (panel.calendar.freq.split("-")[0], len(panel.values)) == (freq.split("-")[0], rows)
        ahead = write_table_like(panel, np.zeros(3, dtype=int), {"ds": np.arange(rows, rows + 3)}, {})
        shown = ahead.to_pandas() if isinstance(ahead, pa.Table) else ahead
        assert shown.ds.dt.tz_localize(None).tolist() == times[rows:].tz_localize(None).tolist()


@pytest.mark.parametrize("last", ["2024-03-30", "2024-03-31", "2024-04-01"])
def test_a_file_that_ends_around_a_change_is_forecast_at_local_midnights(last: str, tmp_path: Path) -> None:
    times = pd.date_range("2024-03-01", last, tz="Europe/Berlin")
    with_offsets(times).to_csv(tmp_path / "table.csv", index=False)
    panel = read_panel(tmp_path / "table.csv")
    ahead = write_table_like(panel, np.zeros(4, dtype=int), {"ds": len(times) + np.arange(4)}, {})
    write_table(ahead, tmp_path / "forecast.csv")
    days = pd.date_range(last, periods=5)[1:].strftime("%Y-%m-%d 00:00:00").tolist()
    written = pd.read_csv(tmp_path / "forecast.csv").ds.astype(str)
    assert written.str[:19].tolist() == days
    offset = "" if last == "2024-04-01" else "+0100"  # the last one, as the file does not tell when it changes
    assert set(written.str[19:]) == {offset}


@pytest.mark.parametrize("begin", ["2024-03-30", "2024-10-26"])
def test_hours_of_a_file_are_exact_across_a_change_of_the_clock(begin: str, tmp_path: Path) -> None:
    times = pd.date_range(begin, periods=72, freq="h", tz="Europe/Berlin")
    with_offsets(times[:60]).to_csv(tmp_path / "table.csv", index=False)
    panel = read_panel(tmp_path / "table.csv")
    assert (panel.calendar.freq, len(panel.values), panel.missing) == ("h", 60, 0)
    ahead = write_table_like(panel, np.zeros(12, dtype=int), {"ds": np.arange(60, 72)}, {}).to_pandas()
    assert (pd.DatetimeIndex(ahead.ds) == times[60:]).all()


def test_offsets_that_no_summer_time_makes_are_no_days(tmp_path: Path) -> None:
    days = pd.date_range("2024-03-01", periods=20).strftime("%Y-%m-%dT00:00:00")
    offsets = ["+01:00", "-05:00", "+09:30", "+00:00"] * 5
    table = pd.DataFrame({"ds": [day + offset for day, offset in zip(days, offsets, strict=True)], "y": 1.0})
    table.to_csv(tmp_path / "table.csv", index=False)
    for source in (table, tmp_path / "table.csv"):
        with pytest.raises(UserError, match="has no common step of time"):
            read_panel(source)


def test_times_with_and_without_an_offset_are_refused() -> None:
    assert sentence(["2020-01-01T00:00Z", "2020-01-01T01:00"]) == (
        "the table: column 'ds' holds '2020-01-01T01:00' (row 2, series 'a'), which has no offset from UTC, beside "
        "'2020-01-01T00:00Z', which has one, but `time_column` needs all of them with one, or none."
    )


# Other types


@pytest.mark.parametrize("freq", ["Y", "Q", "Q-OCT", "M", "W", "W-TUE", "D", "h", "30min"])
def test_pandas_periods_come_back_as_periods(freq: str, tmp_path: Path) -> None:
    periods = pd.period_range("2020-01-01", periods=12, freq=freq)
    table = pd.DataFrame({"unique_id": "a", "ds": periods, "y": np.arange(12.0)})
    panel = read_panel(table[table.index != 5])
    assert len(panel.values) == 12
    ahead = write_table_like(panel, np.zeros(15, dtype=int), {"ds": np.arange(15)}, {"y": np.arange(15.0)})
    assert (pd.PeriodIndex(ahead.ds) == pd.period_range("2020-01-01", periods=15, freq=freq)).all()
    assert ahead.ds.dtype == table.ds.dtype


def test_periods_of_parquet_files_are_known_in_a_fresh_process(tmp_path: Path) -> None:
    path = tmp_path / "periods.parquet"
    pd.DataFrame({"ds": pd.period_range("2020-01", periods=3, freq="M")}).to_parquet(path)
    program = (
        "import sys, pyarrow.parquet\n"
        "from armlp.data.time.arrays import is_period, register_periods\n"
        "register_periods()\n"
        "assert is_period(pyarrow.parquet.read_schema(sys.argv[1]).field('ds').type)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ns")])
def test_dates_and_datetimes_of_any_unit_are_the_same_times(kind: Any) -> None:
    times, timezone = read_times(pa.array([dt.date(2020, 2, 29)]).cast(kind))
    assert (timezone, times.dtype, times[0]) == (None, "datetime64[ns]", np.datetime64("2020-02-29"))


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (pa.array([0], pa.timestamp("ns", "Mars/Phobos")), "times in the unknown zone 'Mars/Phobos'"),
        (pa.array([dt.date(9999, 12, 31)]), "times outside the years 1678 to 2261"),
        (pa.array([2**63], pa.uint64()), "integers beyond int64"),
        (pa.array([0.5]), "Float64"),
        (pa.array([True]), "Boolean"),
        (pa.array([dt.timedelta(1)]), "Duration"),
    ],
)
def test_what_holds_no_times_is_said(array: pa.Array, found: str) -> None:
    with pytest.raises(TimesError, match=found.partition("'")[0]) as error:
        read_times(array)
    assert error.value.found.startswith(found)
    assert error.value.needed


def test_objects_of_several_zones_are_instants() -> None:
    berlin = pd.date_range("2020-03-01", periods=5, freq="h", tz="Europe/Berlin")
    york = pd.date_range("2020-03-01", periods=5, freq="h", tz="America/New_York")
    array = times_of_objects(objects(*berlin, *york))
    assert array.type.tz == "UTC"
    assert (read_times(array)[0] == berlin.append(york.tz_convert("Europe/Berlin")).tz_convert(None).to_numpy()).all()


def test_objects_of_one_type_keep_it() -> None:
    day, hour = dt.date(2020, 1, 1), dt.datetime(2020, 1, 2, 5)
    zone = dt.timezone(dt.timedelta(hours=2))
    assert times_of_objects(objects(day, None)).to_pylist() == [day, None]
    assert times_of_objects(objects(hour, None)).to_pylist() == [hour, None]
    assert times_of_objects(objects(day, hour)).to_pylist() == [dt.datetime(2020, 1, 1), hour]
    assert times_of_objects(objects(hour.replace(tzinfo=zone), None))[0].as_py() == hour.replace(tzinfo=zone)
    periods = pd.period_range("2020", periods=2, freq="Q")
    assert (read_times(times_of_objects(objects(*periods)))[0] == periods.start_time.to_numpy()).all()


def test_objects_with_and_without_a_zone_and_periods_of_two_lengths_are_refused() -> None:
    naive, aware = pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02", tz="UTC")
    assert sentence(pd.Series([naive, aware], dtype=object)) == (
        "the table: column 'ds' holds times with and without a time zone, but `time_column` needs all of them "
        "with one, or none."
    )
    periods = pd.Series([pd.Period("2020-01", "M"), pd.Period("2020Q1", "Q")], dtype=object)
    assert "holds periods of M and Q-DEC, but `time_column` needs periods of one length" in sentence(periods)
    assert "holds values of different types" in sentence(pd.Series([naive, "2020-01-02"], dtype=object))


def test_periods_are_those_in_which_times_lie() -> None:
    kind = pa.array(pd.period_range("2020", periods=1, freq="Q-OCT")).type
    spelled = spell_periods(np.array(["2020-11-01", "2021-01-31"], dtype="datetime64[ns]"), kind)
    assert list(map(str, spelled.to_pandas())) == ["2021Q1", "2021Q1"]


def test_what_looks_like_times_is_told() -> None:
    for array in (["2020Q1", None], ["01/02/2020"], [dt.date(2020, 1, 1)], [dt.datetime(2020, 1, 1)]):
        assert look_like_times(pa.array(array))
    assert look_like_times(pa.array(pd.period_range("2020", periods=1, freq="M")))
    for other in (["a", "b"], [1, 2], [0.5], [""], pa.array([None], pa.string())):
        assert not look_like_times(pa.array(other))
