"""Tests of the calendar, with pandas as the oracle."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlp.data.time.calendar import Calendar
from armlp.errors import UserError

FREQUENCIES = [
    "10s", "min", "15min", "30min", "h", "6h", "D", "3D", "B", "W-SUN", "2W-TUE", "SMS", "MS", "ME", "2MS",
    "BMS", "BME", "QS", "QE", "QS-FEB", "QE-OCT", "BQE", "2QS", "YS", "YE", "YE-JUN", "BYE", "2YS",
    "SME-20", "WOM-2TUE", "LWOM-FRI", "2B",
]  # fmt: skip


def date_range(freq: str, rows: int, start: str = "2001-03-05") -> np.ndarray:
    """Times by pandas, `[rows]` datetime64[ns]."""
    return np.asarray(pd.date_range(start, periods=rows, freq=freq).as_unit("ns").to_numpy())


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
def test_positions_refuse_times_off_the_calendar_or_before_the_start(freq: str | int) -> None:
    calendar = Calendar(freq)
    start = np.array([30]) if freq == 3 else calendar.count(date_range(str(freq), 1, "2001-03-01"))
    assert (calendar.positions(start, calendar.shift(start, np.array([-1, 1]))) == [-1, 1]).all()
    assert (calendar.positions(start, calendar.shift(start, np.array([1])) + 1) == -1).all()


def test_positions_of_a_multiple_step_depend_on_where_the_series_starts() -> None:
    calendar = Calendar("2MS")
    months = calendar.count(date_range("MS", 3, "2001-01-01"))
    assert (calendar.positions(months[:2], months[[2, 2]]) == [1, -1]).all()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "+05:30"])
@pytest.mark.parametrize("freq", ["D", "W-SUN", "MS", "B", "h"])
def test_daylight_saving_moves_no_day_and_skips_no_hour(freq: str, zone: str) -> None:
    aware = pd.date_range("2001-01-01", periods=1500 if freq == "h" else 400, freq=freq, tz=zone)
    instants = aware.tz_convert(None).as_unit("ns").to_numpy()
    calendar = Calendar(freq, zone)
    counted = calendar.count(instants)
    assert (calendar.positions(counted[:1], counted) == np.arange(len(aware))).all()
    assert (calendar.instants(counted) == instants).all()
    assert (calendar.wall_times(counted) == aware.tz_localize(None).to_numpy()).all()


@pytest.mark.parametrize("freq", ["fortnight", "", "0", 0, -2, "-1h", "bh", "0h"])
def test_what_is_no_step_of_time_is_refused_with_examples(freq: str | int) -> None:
    with pytest.raises(UserError, match=r"`freq` .*is not a step of time.*MS"):
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


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("60min", "h", True),
        ("24h", "D", True),
        ("7D", "W-WED", True),
        ("MS", "ME", True),
        ("QS-JAN", "QS-OCT", True),
        ("QS-JAN", "QS-FEB", True),
        ("3MS", "QE", True),
        ("12MS", "YE-JUN", True),
        (1, "h", True),
        ("h", "D", False),
        ("D", "B", False),
        ("D", "2D", False),
        ("W-SUN", "MS", False),
        ("MS", "QS", False),
        (1, 7, False),
    ],
)
def test_steps_of_equal_length_are_equal_in_any_spelling(one: str | int, other: str | int, alike: bool) -> None:
    assert Calendar(one).steps_like(Calendar(other)) is alike
    assert Calendar(other).steps_like(Calendar(one)) is alike
    assert Calendar(one).steps_like(Calendar(one, "Europe/Berlin" if isinstance(one, str) else None))


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Beirut", "America/Havana"])
def test_a_day_without_a_midnight_begins_when_summer_time_does(zone: str) -> None:
    days = pd.date_range("2015-01-01", "2018-12-31", freq="D")
    aware = days.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.ones(len(days), dtype=bool))
    instants = np.asarray(aware.tz_convert(None).as_unit("ns").to_numpy())
    calendar = Calendar("D", zone)
    assert (aware.hour == 1).any()
    assert (calendar.count(instants) == days.as_unit("ns").asi8).all()
    assert (calendar.instants(calendar.count(instants)) == instants).all()


def test_no_time_is_at_no_position() -> None:
    none = np.zeros(0, dtype=np.int64)
    for freq in ("h", "MS", 3):
        assert Calendar(freq).positions(none, none).shape == Calendar(freq).shift(none, none).shape == (0,)


def test_times_at_the_limits_of_nanoseconds_have_a_position_or_are_refused() -> None:
    ends = np.array(["1677-10-01", "2262-04-01"], dtype="datetime64[ns]").astype(np.int64)
    assert (Calendar("MS").positions(ends[:1], ends) == -1).all()


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
        with pytest.raises(UserError, match=r"2261: .*`horizon`"):
            calendar.shift(start, np.array([0, steps]))
    assert Calendar(7).shift(np.array([2**62]), np.array([3])) == 2**62 + 21


def test_many_months_are_shifted_and_counted_back() -> None:
    calendar, steps = Calendar("MS"), np.arange(20_000) % 600
    times = calendar.shift(np.zeros(1, dtype=np.int64), steps)
    assert (calendar.positions(np.zeros(1, dtype=np.int64), times) == steps).all()
