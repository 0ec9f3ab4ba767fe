"""Tests of the calendar and of finding it, with pandas as the oracle."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlp.data.calendar import Calendar
from armlp.data.frequency import infer_calendar
from armlp.errors import UserError

FREQUENCIES = [
    "10s", "min", "15min", "30min", "h", "6h", "D", "3D", "B", "W-SUN", "2W-TUE", "SMS", "MS", "ME", "2MS",
    "BMS", "BME", "QS", "QE", "QS-FEB", "QE-OCT", "BQE", "2QS", "YS", "YE", "YE-JUN", "BYE", "2YS",
    "WOM-2TUE",
]  # fmt: skip
INFERABLE = [freq for freq in FREQUENCIES if freq != "SMS"]


def date_range(freq: str, rows: int, start: str = "2001-03-05") -> np.ndarray:
    """Times by pandas, `[rows]` datetime64[ns]."""
    return np.asarray(pd.date_range(start, periods=rows, freq=freq).as_unit("ns").to_numpy())


def infer(*series: np.ndarray, timezone: str | None = None) -> Calendar:
    """The calendar of some series, called a, b, c, ..."""
    offsets = np.cumsum([0, *map(len, series)])
    return infer_calendar(np.concatenate(series), offsets, np.array(list("abcdefgh"[: len(series)])), timezone)


@pytest.mark.parametrize("freq", FREQUENCIES)
def test_shift_walks_the_dates_of_pandas_both_ways(freq: str) -> None:
    times = date_range(freq, 80)
    calendar = Calendar(freq)
    counted = calendar.count(times)
    assert (calendar.shift(counted[:1], np.arange(80)) == counted).all()
    assert (calendar.shift(counted[-1:], -np.arange(80)) == counted[::-1]).all()
    assert (calendar.instants(counted) == times).all()


@given(
    freq=st.sampled_from(FREQUENCIES),
    start=st.integers(0, 20),
    steps=st.lists(st.integers(0, 90), min_size=1, max_size=20),
)
def test_positions_invert_shift(freq: str, start: int, steps: list[int]) -> None:
    calendar = Calendar(freq)
    starts = calendar.shift(calendar.count(date_range(freq, 1)), np.array([start]))
    assert (calendar.positions(starts, calendar.shift(starts, np.array(steps))) == steps).all()


@pytest.mark.parametrize("freq", ["h", "D", "B", "MS", "2MS", "QE", 3])
def test_positions_refuse_what_lies_off_the_calendar_or_before_the_start(freq: str | int) -> None:
    calendar = Calendar(freq)
    start = np.array([30]) if freq == 3 else calendar.count(date_range(str(freq), 1, "2001-03-01"))
    assert (calendar.positions(start, calendar.shift(start, np.array([-1, 1]))) == [-1, 1]).all()
    assert (calendar.positions(start, calendar.shift(start, np.array([1])) + 1) == -1).all()


def test_positions_of_a_multiple_step_depend_on_where_the_series_starts() -> None:
    calendar = Calendar("2MS")
    months = calendar.count(date_range("MS", 3, "2001-01-01"))
    assert (calendar.positions(months[:2], months[[2, 2]]) == [1, -1]).all()


@pytest.mark.parametrize("freq", INFERABLE)
def test_inference_explains_the_dates_of_pandas_with_positions_in_order(freq: str) -> None:
    times = date_range(freq, 60)
    calendar = infer(times, times[20:])
    counted = calendar.count(times)
    assert (calendar.positions(counted[:1], counted) == np.arange(60)).all()


@pytest.mark.parametrize("freq", [freq for freq in INFERABLE if freq != "WOM-2TUE"])
def test_inference_sees_through_gaps(freq: str) -> None:
    times = date_range(freq, 120)
    keep = np.random.default_rng(0).random(120) < 0.7
    keep[:3] = True
    calendar = infer(times[keep])
    counted = calendar.count(times[keep])
    assert (calendar.positions(counted[:1], counted) == np.flatnonzero(keep)).all()


@pytest.mark.parametrize(
    ("freq", "expected"),
    [("MS", "MS"), ("ME", "ME"), ("B", "B"), ("h", "h"), ("W-TUE", "W-TUE"), ("YS", "YS-JAN"),
     ("QE", "QE-DEC"), ("BME", "BME"), ("D", "D"), ("15min", "15min")],
)  # fmt: skip
def test_inferred_frequencies_bear_the_names_of_pandas(freq: str, expected: str) -> None:
    assert infer(date_range(freq, 40)).freq == expected


def test_integers_step_by_their_greatest_common_divisor() -> None:
    assert infer(np.array([0, 6, 10]), np.array([3, 9])).freq == 2


def test_quarters_of_different_phase_share_a_step_of_three_months() -> None:
    calendar = infer(date_range("QS-JAN", 8), date_range("QS-FEB", 8))
    assert (calendar.freq, calendar.season_length, calendar.horizon) == ("3MS", 4, 8)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "+05:30"])
@pytest.mark.parametrize("freq", ["D", "W-SUN", "MS", "B", "h"])
def test_daylight_saving_moves_no_day_and_skips_no_hour(freq: str, zone: str) -> None:
    aware = pd.date_range("2001-01-01", periods=1500 if freq == "h" else 400, freq=freq, tz=zone)
    instants = aware.tz_convert(None).as_unit("ns").to_numpy()
    calendar = infer(instants, timezone=zone)
    counted = calendar.count(instants)
    assert (calendar.positions(counted[:1], counted) == np.arange(len(aware))).all()
    assert (calendar.instants(counted) == instants).all()
    assert (calendar.wall_times(counted) == aware.tz_localize(None).to_numpy()).all()


def test_a_series_that_disagrees_is_named_with_its_times_and_the_option() -> None:
    hourly = date_range("h", 10, "2020-01-01")
    with pytest.raises(UserError) as error:
        infer(hourly, np.append(hourly[:3], hourly[2] + np.timedelta64(30, "m")))
    for part in ("'b'", "2020-01-01 02:00:00", "2020-01-01 02:30:00", "--data.freq", "30min"):
        assert part in str(error.value)


def test_series_of_one_row_ask_for_the_frequency() -> None:
    with pytest.raises(UserError, match=r"one row per series.*--data\.freq"):
        infer(date_range("h", 1), date_range("h", 1))


@pytest.mark.parametrize("freq", ["fortnight", "", "0", 0, -2, "-1h", "bh", "0h"])
def test_what_is_no_step_of_time_is_refused_with_examples(freq: str | int) -> None:
    with pytest.raises(UserError, match=r"--data\.freq .*is not a step of time.*MS"):
        Calendar(freq)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("old", "new"),
    [("H", "h"), ("M", "ME"), ("T", "min"), ("30T", "30min"), ("Q-OCT", "QE-OCT"), ("A", "YE"), ("7", 7)],
)
def test_old_spellings_mean_the_new_ones(old: str, new: str | int) -> None:
    assert Calendar(old) == Calendar(new)


@pytest.mark.parametrize(
    ("freq", "season", "horizon"),
    [("30min", 48, 48), ("15min", 96, 96), ("min", 60, 60), ("h", 24, 48), ("2h", 12, 24), ("D", 7, 14),
     ("B", 5, 10), ("W", 52, 13), ("2W", 26, 6), ("MS", 12, 18), ("ME", 12, 18), ("QS-OCT", 4, 8),
     ("3MS", 4, 8), ("YE", 1, 6), ("12MS", 1, 6), ("7h", 1, 6), (1, 1, 12)],
)  # fmt: skip
def test_season_and_horizon_follow_from_the_frequency(freq: str | int, season: int, horizon: int) -> None:
    assert (Calendar(freq).season_length, Calendar(freq).horizon) == (season, horizon)


def test_steps_beyond_the_last_countable_year_are_refused() -> None:
    with pytest.raises(UserError, match="2261"):
        Calendar("YS").shift(np.array([0]), np.array([400]))


@pytest.mark.parametrize("freq", ["D", "W-SUN", "h", "2min"])
def test_fixed_steps_end_where_int64_would_wrap_round(freq: str) -> None:
    calendar = Calendar(freq)
    start = calendar.count(date_range(freq, 1, "2020-01-05"))
    now, step = int(start[0]), calendar.fixed_step
    assert step is not None
    last, first = (2**63 - 2**12 - now) // step, -((2**63 - 2**12 + now) // step)
    assert calendar.shift(start, np.array([first, last])).tolist() == [now + first * step, now + last * step]
    for steps in (last + 1, first - 1, 1000 * last):
        with pytest.raises(UserError, match=r"2261: .*--data\.horizon"):
            calendar.shift(start, np.array([0, steps]))
    assert Calendar(7).shift(np.array([2**62]), np.array([3])) == 2**62 + 21


def test_a_million_months_take_well_under_a_second() -> None:
    calendar, steps = Calendar("MS"), np.arange(1_000_000) % 600
    begun = time.perf_counter()
    times = calendar.shift(np.zeros(1, dtype=np.int64), steps)
    assert (calendar.positions(np.zeros(1, dtype=np.int64), times) == steps).all()
    assert time.perf_counter() - begun < 3
