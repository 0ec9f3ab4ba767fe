"""How fast are times understood: seconds for a million rows, beside pandas doing the same one series at a time.

    python scripts/how_fast_are_times.py

A table of 1,000 series of 1,000 rows in Europe/Berlin. Ours: infer the one frequency of the table, count steps, and
compute the place of every row. Pandas: `infer_freq` and `DatetimeIndex.get_indexer` of each series. And the features of
the calendar for a batch of 512 windows of 48 steps. Medians of runs that take turns.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from armlp.data.calendar import Calendar
from armlp.data.frequency import infer_calendar
from armlp.data.time_features import feature_cycles, time_features

SERIES, ROWS, RUNS, ZONE = 1000, 1000, 5, "Europe/Berlin"


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ours(times: np.ndarray) -> np.ndarray:
    rows = np.tile(times, SERIES)
    calendar = infer_calendar(rows, np.arange(SERIES + 1) * ROWS, np.arange(SERIES), ZONE)
    counted = calendar.count(rows)
    return calendar.positions(np.repeat(counted[::ROWS], ROWS), counted)


def theirs(index: pd.DatetimeIndex) -> np.ndarray:
    places = []
    for _ in range(SERIES):
        freq = pd.infer_freq(index)
        places.append(pd.date_range(index[0], index[-1], freq=freq).get_indexer(index))
    return np.concatenate(places)


def main() -> None:
    warnings.simplefilter("ignore")  # pandas announces another type of frequency at every call
    print(f"{'frequency':10} {'armlp s':>9} {'pandas s':>9} {'ratio':>7}")
    for freq in ("h", "B", "MS"):
        index = pd.date_range("1950-01-02" if freq == "B" else "1950-01-01", periods=ROWS, freq=freq, tz=ZONE)
        times = index.tz_convert(None).to_numpy().astype("datetime64[ns]")
        assert (ours(times) == theirs(index)).all()
        pairs = [(seconds(partial(ours, times)), seconds(partial(theirs, index))) for _ in range(RUNS)]
        us, them = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        print(f"{freq:10} {us:9.3f} {them:9.3f} {them / us:7.1f}")
    calendar = Calendar("h", ZONE)
    batch = np.int64(1_500_000_000) * 10**9 + 3_600 * 10**9 * np.arange(512 * 48).reshape(512, 48)
    work = partial(time_features, calendar, feature_cycles(calendar), batch)
    work()  # the offsets of the zone are looked up once
    print(f"features of a batch: {1000 * statistics.median(seconds(work) for _ in range(20)):.2f} ms")


if __name__ == "__main__":
    main()
