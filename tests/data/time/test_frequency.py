"""Tests of finding the frequency, with pandas as the oracle."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from armlp.data.time.calendar import Calendar
from armlp.data.time.frequency import infer_calendar
from armlp.errors import UserError

FREQUENCIES = [
    "7s", "min", "5min", "30min", "h", "6h", "D", "2D", "10D", "B", "2B", "3B", "W-MON", "W-SUN", "2W-TUE", "4W-SAT",
    "SMS", "SME", "SMS-10", "SME-20", "MS", "ME", "2MS", "2ME", "6MS", "6ME", "BMS", "BME", "2BMS", "QS", "QE",
    "QS-FEB", "QS-MAR", "QE-OCT", "QE-NOV", "BQS", "BQE", "BQE-JAN", "2QS", "YS", "YE", "YE-FEB", "YE-JUN", "YS-APR",
    "BYS", "BYE", "2YS", "WOM-2TUE", "3WOM-3FRI", "LWOM-FRI",
]  # fmt: skip
ZONES = [None, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "+05:30"]


def date_range(freq: str, rows: int, start: Any = "2001-03-05", zone: str | None = None) -> np.ndarray:
    """Times by pandas, `[rows]` datetime64[ns] of UTC."""
    times = pd.date_range(start, periods=rows, freq=freq, tz=zone).as_unit("ns")
    return np.asarray((times if zone is None else times.tz_convert(None)).to_numpy())


def infer(*series: np.ndarray, timezone: str | None = None) -> Calendar:
    """The calendar of some series, called a, b, c, ..."""
    offsets = np.cumsum([0, *map(len, series)])
    return infer_calendar(np.concatenate(series), offsets, np.array(list("abcdefgh"[: len(series)])), timezone)


def sentence(*series: np.ndarray, timezone: str | None = None) -> str:
    """The refusal of a table."""
    with pytest.raises(UserError) as error:
        infer(*series, timezone=timezone)
    return str(error.value)


def times(*texts: str) -> np.ndarray:
    """Times as they are spelled."""
    return np.array(texts, dtype="datetime64[ns]")


@settings(max_examples=100)
@given(
    freq=st.sampled_from(FREQUENCIES),
    zone=st.sampled_from(ZONES),
    begin=st.dates(pd.Timestamp("1985-01-01").date(), pd.Timestamp("2025-01-01").date()),
    hour=st.sampled_from([0, 0, 0, 5, 18]),
    lengths=st.lists(st.integers(40, 80), min_size=1, max_size=3),
    kept=st.sampled_from([1.0, 0.8, 0.65]),
    seed=st.integers(0, 999),
)
def test_inference_finds_the_dates_of_pandas_through_gaps_and_continues_them(
    freq: str, zone: str | None, begin: Any, hour: int, lengths: list[int], kept: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    whole, places = [], []
    for length in lengths:
        start = pd.Timestamp(begin) + pd.Timedelta(days=int(rng.integers(400)), hours=hour)
        try:
            whole.append(date_range(freq, length + 30, start, zone))
        except ValueError:  # pandas does not go through times that a clock skips or shows twice
            assume(False)
        is_kept = rng.random(length) < kept
        is_kept[:3] = True
        places.append(np.flatnonzero(is_kept))
    calendar = infer(*(dates[at] for dates, at in zip(whole, places, strict=True)), timezone=zone)
    for dates, at in zip(whole, places, strict=True):
        counted = calendar.count(dates[at])
        assert (calendar.positions(counted[:1], counted) == at).all(), calendar
        assert (calendar.instants(calendar.shift(counted[:1], np.arange(len(dates)))) == dates).all(), calendar


@pytest.mark.parametrize(
    ("freq", "expected"),
    [("MS", "MS"), ("ME", "ME"), ("B", "B"), ("h", "h"), ("W-TUE", "W-TUE"), ("YS", "YS-JAN"), ("QE", "QE-DEC"),
     ("BME", "BME"), ("D", "D"), ("15min", "15min"), ("SMS", "SMS-15"), ("2B", "2B"), ("LWOM-FRI", "LWOM-FRI")],
)  # fmt: skip
def test_inferred_frequencies_bear_the_names_of_pandas(freq: str, expected: str) -> None:
    assert infer(date_range(freq, 40)).freq == expected


def test_integers_step_by_their_greatest_common_divisor() -> None:
    assert infer(np.array([0, 6, 10]), np.array([3, 9])).freq == 2


@pytest.mark.parametrize(
    "counts", [np.arange(1990, 2020), np.arange(200001, 200013), 3600 * np.arange(400_000, 400_030)]
)
def test_years_counts_and_seconds_stay_integers(counts: np.ndarray) -> None:
    assert infer(counts).freq == counts[1] - counts[0]


@pytest.mark.parametrize(
    ("freq", "spelling"), [("D", "%Y%m%d"), ("MS", "%Y%m"), ("h", "%Y%m%d%H"), ("30min", "%Y%m%d%H%M")]
)
def test_dates_written_as_integers_are_refused_with_the_conversion(freq: str, spelling: str) -> None:
    numbers = np.array(pd.date_range("2020-01-31", periods=50, freq=freq).strftime(spelling).astype(int))
    assert sentence(numbers[:30], numbers) == (
        f"the table: the times are dates written as integers, such as {numbers[0]}: convert them (in pandas, "
        f"pandas.to_datetime(times, format='{spelling}')), or give `freq` 1 if they only count."
    )
    assert infer(np.append(numbers, numbers[-1] // 100 * 100 + 77)).is_integer


def test_quarters_of_different_phase_share_a_step_of_three_months() -> None:
    calendar = infer(date_range("QS-JAN", 8), date_range("QS-FEB", 8))
    assert (calendar.freq, calendar.season_length, calendar.horizon) == ("3MS", 4, 8)


def test_what_few_rows_cannot_tell_is_read_as_the_plainer() -> None:
    assert infer(times("2021-03-31", "2021-06-30", "2021-09-30")).freq == "QE-DEC"  # months with gaps, or BQE
    assert infer(times("2021-02-01", "2021-03-01", "2021-04-01")).freq == "MS"  # or BMS
    assert infer(times("2021-03-01", "2021-03-02", "2021-03-05")).freq == "D"  # or B
    assert infer(times("2021-03-05", "2021-03-08", "2021-03-09")).freq == "B"
    assert infer(times("2021-01-01", "2021-01-15")).freq == "2W-FRI"  # or SMS
    assert infer(date_range("24h", 9, "2021-01-01", "Europe/Berlin"), timezone="Europe/Berlin").freq == "D"


@pytest.mark.parametrize("months", [1, 3, 12])
def test_months_may_be_told_by_any_day_up_to_the_27th(months: int) -> None:
    dates = date_range(f"{months}MS", 40, "1990-01-01") + np.timedelta64(14, "D")
    calendar = infer(dates[[0, 1, 2, 5, 6, 9]], dates[1:4])
    assert (calendar.shift(dates[:1].astype(np.int64), np.arange(40)) == dates.astype(np.int64)).all()
    assert calendar.unit == ("month", months)


def test_days_of_24_hours_are_no_days_where_the_clock_is_changed() -> None:
    dates = date_range("24h", 30, "2021-03-20", "Europe/Berlin")
    calendar = infer(dates, timezone="Europe/Berlin")
    assert calendar.freq == "24h"
    assert (calendar.shift(calendar.count(dates[:1]), np.arange(30)) == calendar.count(dates)).all()


def test_a_smaller_step_that_is_nearly_as_common_is_the_step() -> None:
    months = np.array([0, 2, 4, 7, 8, 10, 11])
    assert infer(date_range("MS", 12)[months]).freq == "MS"


def test_the_longest_series_may_tell_the_step_of_all() -> None:
    half_hours = date_range("30min", 20)
    assert infer(half_hours, *[half_hours[::2]] * 7).freq == "30min"


def test_other_mixtures_share_the_finer_step() -> None:
    assert infer(date_range("B", 20), date_range("D", 20)).freq == "D"
    assert infer(date_range("MS", 20), date_range("QS", 4)).freq == "MS"


def test_both_steps_that_disagree_are_told_with_a_frequency_that_explains_all() -> None:
    hourly = date_range("h", 10, "2020-01-01")
    late = np.append(hourly[:3], hourly[2] + np.timedelta64(30, "m"))
    assert sentence(hourly, late) == (
        "the table has no common step of time: series 'a' goes from 2020-01-01 00:00:00 to 2020-01-01 01:00:00 (h), "
        "but series 'b' goes from 2020-01-01 02:00:00 to 2020-01-01 02:30:00 (30min): correct or round the times, "
        "or give `freq` 30min, with which 44% of all values are missing."
    )
    assert sentence(times("2020-01-28", "2020-02-28", "2020-03-28", "2020-04-28")) == (
        "the table has no common step of time: series 'a' goes from 2020-01-28 00:00:00 to 2020-02-28 00:00:00 (31D), "
        "the most common step, but series 'a' goes from 2020-02-28 00:00:00 to 2020-03-28 00:00:00 (29D): "
        "correct or round the times, or give `freq` D, with which 96% of all values are missing."
    )
    assert sentence(date_range("MS", 9, "2020-01-01"), date_range("ME", 5, "2020-01-01")) == (
        "the table has no common step of time: series 'a' goes from 2020-01-01 00:00:00 to 2020-02-01 00:00:00 (MS), "
        "but series 'b' goes from 2020-01-31 00:00:00 to 2020-02-29 00:00:00 (29D): correct or round the times, "
        "or give `freq` D, with which 96% of all values are missing."
    )
    assert "but series 'b' has 2020-01-29 00:00:00 only: correct or round" in sentence(
        date_range("MS", 9, "2020-01-01"), times("2020-01-29")
    )


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["7min", "h", "D", "B", "MS", "ME", "SMS", "W-SUN"]), min_size=2, max_size=4))
def test_any_mixture_ends_in_a_calendar_of_all_or_in_a_frequency_that_is_one(freqs: list[str]) -> None:
    series = [date_range(freq, 12) for freq in freqs]
    try:
        calendar = infer(*series)
    except UserError as error:
        calendar = Calendar(str(error).partition("`freq` ")[2].partition(",")[0])
    for dates in series:
        counted = calendar.count(dates)
        assert (np.diff(calendar.positions(counted[:1], counted), prepend=-1) > 0).all()


def test_series_of_one_row_ask_for_the_frequency() -> None:
    with pytest.raises(UserError, match=r"one row per series.*`freq`"):
        infer(date_range("h", 1), date_range("h", 1))


@pytest.mark.parametrize("freq", ["h", "B", "MS"])
def test_many_series_of_one_calendar_are_understood(freq: str) -> None:
    dates, series = date_range(freq, 1000, zone="Europe/Berlin"), 50
    rows, offsets = np.tile(dates, series), np.arange(series + 1) * 1000
    calendar = infer_calendar(rows, offsets, np.arange(series), "Europe/Berlin")
    counted = calendar.count(rows)
    positions = calendar.positions(np.repeat(counted[::1000], 1000), counted)
    assert (positions.reshape(series, 1000) == np.arange(1000)).all()
