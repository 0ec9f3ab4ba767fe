"""How fast are times read? Seconds for a million rows, beside pandas on one series at a time.

    python scripts/how_fast_are_times.py [--repeats 5] [--series 1000] [--write]

The table has 1,000 series of 1,000 rows in Europe/Berlin. armlp infers the frequency of the table, counts steps and
computes the position of every row. pandas does `infer_freq` and `DatetimeIndex.get_indexer` for each series. Then:
shifting a million months and counting them back, and the calendar features of a batch of 512 windows of 48 steps.
Runs take turns, and the tables hold medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from report import add_write_option, table, write_results

from armlp.data.time.calendar import Calendar
from armlp.data.time.features import feature_cycles, time_features
from armlp.data.time.frequency import infer_calendar

ROWS, ZONE = 1000, "Europe/Berlin"


def main() -> None:
    """Measure the positions of rows, months and features."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--series", type=int, default=1000, help="number of series")
    add_write_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # pandas warns of another type of frequency at every call
    rows = [compare(freq, options.series, options.repeats) for freq in ("h", "B", "MS")]
    tables = [
        table(
            f"Positions of {options.series:,} x {ROWS:,} rows", ("frequency", "armlp, s", "pandas, s", "ratio"), rows
        ),
        table("Other work on times", ("", "milliseconds"), [months(options.repeats), features(options.repeats)]),
    ]
    write_results(__file__, __doc__, tables, options.write)


def compare(freq: str, series: int, repeats: int) -> tuple[str, ...]:
    """Return a row of the first table."""
    index = pd.date_range("1950-01-02" if freq == "B" else "1950-01-01", periods=ROWS, freq=freq, tz=ZONE)
    times = index.tz_convert(None).to_numpy().astype("datetime64[ns]")
    ours, theirs = partial(armlp_positions, times, series), partial(pandas_positions, index, series)
    assert (ours() == theirs()).all()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    first, second = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return freq, f"{first:.3f}", f"{second:.3f}", f"{second / first:.1f}"


def armlp_positions(times: np.ndarray, series: int) -> np.ndarray:
    """Return the position of every row in its series."""
    rows = np.tile(times, series)
    calendar = infer_calendar(rows, np.arange(series + 1) * ROWS, np.arange(series), ZONE)
    counted = calendar.count(rows)
    return calendar.positions(np.repeat(counted[::ROWS], ROWS), counted)


def pandas_positions(index: pd.DatetimeIndex, series: int) -> np.ndarray:
    """Return the same by pandas."""
    positions = []
    for _ in range(series):
        freq = pd.infer_freq(index)
        positions.append(pd.date_range(index[0], index[-1], freq=freq).get_indexer(index))
    return np.concatenate(positions)


def months(repeats: int) -> tuple[str, str]:
    """Return the row of shifting a million months and counting them back."""
    calendar, steps, start = Calendar("MS"), np.arange(1_000_000) % 600, np.zeros(1, dtype=np.int64)

    def run() -> None:
        assert (calendar.positions(start, calendar.shift(start, steps)) == steps).all()

    return "a million months shifted and counted back", milliseconds(run, repeats)


def features(repeats: int) -> tuple[str, str]:
    """Return the row of the features of a batch."""
    calendar = Calendar("h", ZONE)
    batch = np.int64(1_500_000_000) * 10**9 + 3_600 * 10**9 * np.arange(512 * 48).reshape(512, 48)
    run = partial(time_features, calendar, feature_cycles(calendar), batch)
    run()  # the first call looks up the offsets of the time zone
    return "features of a batch of 512 x 48 steps", milliseconds(run, 4 * repeats)


def milliseconds(run: Callable[[], object], repeats: int) -> str:
    """Return the median milliseconds of a function."""
    return f"{1000 * statistics.median(seconds(run) for _ in range(repeats)):.2f}"


def seconds(run: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
