"""Tests of the time features, with pandas' own fields of a date as the oracle."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.time.calendar import Calendar
from armlp.data.time.features import feature_cycles, repeated_cycles, time_features


def circles(*turns: Sequence[float]) -> np.ndarray:
    """Sines and cosines, pair after pair."""
    angles = [2 * np.pi * np.asarray(turn) for turn in turns]
    return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=-1)


def of_the_day(times: pd.DatetimeIndex) -> np.ndarray:
    return (times.hour * 3600 + times.minute * 60 + times.second) / 86_400


def features(calendar: Calendar, times: np.ndarray) -> np.ndarray:
    """Every feature of the calendar."""
    return time_features(calendar, feature_cycles(calendar), times)


# What the features of a step are made of, in turns of a circle.
FIELDS = {
    "15min": lambda times: (of_the_day(times), times.day_of_week / 7),
    "h": lambda times: (of_the_day(times), times.day_of_week / 7),
    "36h": lambda times: (of_the_day(times), times.day_of_week / 7),
    "D": lambda times: (
        times.day_of_week / 7,
        (times.day - 1) / times.days_in_month,
        (times.day_of_year - 1) / np.where(times.is_leap_year, 366, 365),
    ),
    "W-SUN": lambda times: ((times.day_of_year - 1) / np.where(times.is_leap_year, 366, 365),),
    "MS": lambda times: ((times.month - 1) / 12,),
    "QE": lambda times: ((times.month - 1) / 12,),
}
FIELDS["B"] = FIELDS["D"]


@pytest.mark.parametrize("freq", FIELDS)
@given(st.integers(-200, 150), st.integers(0, 300))
@settings(max_examples=10)
def test_features_are_circles_of_the_fields_of_the_date(freq: str, years: int, days: int):
    start = pd.Timestamp("2000-01-01") + pd.DateOffset(years=years, days=days)
    times = pd.date_range(start, periods=50, freq=freq, unit="ns")
    calendar = Calendar(freq)
    got = features(calendar, calendar.count(times.to_numpy()).reshape(5, 10))
    assert got.dtype == np.float32
    assert got.shape == (5, 10, 2 * len(feature_cycles(calendar)))
    assert got.reshape(50, -1) == pytest.approx(circles(*FIELDS[freq](times)), abs=1e-5)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("freq", ["15min", "h", "D"])
def test_features_are_of_the_clock_on_the_wall(zone: str, freq: str):
    times = pd.date_range("1999-03-01", "2001-04-01", freq=freq, tz=zone, unit="ns")
    calendar = Calendar(freq, zone)
    counted = calendar.count(times.tz_convert("UTC").tz_localize(None).to_numpy())
    assert features(calendar, counted) == pytest.approx(circles(*FIELDS[freq](times)), abs=1e-5)


@pytest.mark.parametrize("freq", [1, 24, "YE", "YS", "12MS", "4QE"])
def test_integers_and_whole_years_have_no_features(freq: str | int):
    calendar = Calendar(freq)
    assert feature_cycles(calendar) == ()
    assert features(calendar, np.zeros((2, 3), dtype=np.int64)).shape == (2, 3, 0)


def test_the_features_of_some_cycles_are_those_among_all():
    calendar = Calendar("D")
    times = calendar.count(pd.date_range("2024-02-20", periods=30, unit="ns").to_numpy())
    assert np.array_equal(time_features(calendar, ["month"], times), features(calendar, times)[:, 2:4])
    assert np.array_equal(time_features(calendar, ["year", "week"], times), features(calendar, times)[:, [4, 5, 0, 1]])


# Twice a cycle, in days.
TWICE = {"day": 2, "week": 14, "month": 62, "year": 731, "months": 731}


@pytest.mark.parametrize("freq", ["15min", "h", "36h", "D", "3D", "B", "W-SUN", "MS", "QE", "2MS", "SME"])
def test_a_cycle_counts_from_its_second_turn_on(freq: str):
    calendar = Calendar(freq)
    for cycle in feature_cycles(calendar):
        end = pd.Timestamp("2020-01-01") + pd.Timedelta(days=TWICE[cycle])
        rows = len(pd.date_range("2020-01-01", end, freq=freq))  # that lie within two turns
        assert cycle in repeated_cycles(calendar, round(1.1 * rows) + 1)
        assert cycle not in repeated_cycles(calendar, round(0.9 * rows) - 1)
    assert repeated_cycles(calendar, 0) == ()
    assert repeated_cycles(calendar, 10**9) == feature_cycles(calendar)


def test_no_times_have_no_features():
    assert features(Calendar("h", "Europe/Berlin"), np.zeros((0, 3), dtype=np.int64)).shape == (0, 3, 4)
