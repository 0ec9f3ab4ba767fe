"""Benchmarks: series, and the origins and horizon of the forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from armlp.data import catalog

COMPETITIONS = ["m4-hourly", *(name for name in catalog.names() if name.startswith(("m1-", "m3-", "tourism-")))]
MONTH = 30 * 24
ETT_HORIZONS, ETT_STEP = (96, 192, 336, 720), 6
# Frequencies of data sets whose times are integers, for the libraries that need one. That of M3's "other" is not known;
# GluonTS also reads them as quarters.
FREQUENCIES = {"hourly": "h", "other": "Q", "yearly": "Y", "quarterly": "Q", "monthly": "M"}


@dataclass(frozen=True)
class Benchmark:
    """Series, and the origins of the forecasts at their end.

    Attributes:
        name: Of the data set.
        table: `unique_id, ds, y`, sorted, with the test part.
        horizon: `H`.
        season_length: Of the baselines and of MASE.
        freq: pandas alias of a period.
        windows: Number of origins of every series, `W`.
        step: Steps between two origins.
        held_out: Steps before the first origin that are for validation by convention; 0 where there is no convention.
    """

    name: str
    table: pd.DataFrame
    horizon: int
    season_length: int
    freq: str
    windows: int = 1
    step: int = 1
    held_out: int = 0

    @property
    def tested(self) -> int:
        """Number of values at the end of each series that form the test part."""
        return self.horizon + (self.windows - 1) * self.step

    def train(self) -> pd.DataFrame:
        """Return the values before the first origin."""
        return self._until(self.tested)

    def contexts(self, first: int, last: int, longest: int | None = None) -> pd.DataFrame:
        """Return the last `longest` values before each origin, each as a series named `id origin`."""
        parts = []
        for window in range(first, last):
            part = self._until(self.tested - window * self.step)
            part = part if longest is None else part.groupby("unique_id", sort=False).tail(longest)
            parts.append(part.assign(unique_id=part["unique_id"] + f" {window:05}"))
        return pd.concat(parts, ignore_index=True)

    def in_order(self, forecast: np.ndarray) -> np.ndarray:
        """Reshape forecasts of all contexts, in the order of their ids, from `[S * W, H, Q]` to `[W, S, H, Q]`."""
        return forecast.reshape(-1, self.windows, *forecast.shape[1:]).swapaxes(0, 1)

    def truth(self) -> np.ndarray:
        """Return the values to forecast, `[W, S, H]`."""
        values = np.stack([y.to_numpy()[-self.tested :] for _, y in self.table.groupby("unique_id")["y"]])
        starts = range(0, self.windows * self.step, self.step)
        return np.stack([values[:, start : start + self.horizon] for start in starts])

    def _until(self, left: int) -> pd.DataFrame:
        """Return all but the last rows of each series."""
        return self.table[self.table.groupby("unique_id", sort=False).cumcount(ascending=False) >= left]


def names() -> list[str]:
    """Return the names of all benchmarks but those of `accuracy.chaos`."""
    return [*COMPETITIONS, "taylor", "air-passengers", *(f"etth1-{horizon}" for horizon in ETT_HORIZONS)]


def load(name: str) -> Benchmark:
    """Return the standard split of a data set."""
    if name.startswith("etth1-"):
        return _ett(int(name.removeprefix("etth1-")))
    entry = catalog.get(name)
    options: dict[str, Any] = {"horizon": entry.defaults.horizon, "season_length": entry.defaults.season_length}
    table = long_table(entry.load())
    if entry.load_test is not None:
        table = pd.concat([table, long_table(entry.load_test())])
        options["freq"] = FREQUENCIES[name.partition("-")[2]]
    elif name == "taylor":  # its last week, a day ahead from each of seven midnights
        options |= {"freq": "30min", "windows": 7, "step": 48}
    else:  # the last of twelve years, as in most textbooks
        options["freq"] = "M"
    return Benchmark(name, table.sort_values(["unique_id", "ds"], ignore_index=True), **options)


def long_table(source: object) -> pd.DataFrame:
    """Return a catalog table, or the file of one, as pandas."""
    table = source if isinstance(source, pd.DataFrame) else pd.read_parquet(str(source))
    return table.assign(unique_id=table["unique_id"].astype(str))


def _ett(horizon: int) -> Benchmark:
    """Return 12, 4 and 4 months, each channel standardised by the first 12, and every sixth origin of the last 4.

    Published results are of every origin. Every sixth one includes four hours of the day and gives nearly the same.

    Haoyi Zhou et al. (2021), Informer, https://arxiv.org/abs/2012.07436, and all that follow it.
    """
    table = pd.read_csv(catalog.get("etth1").load(), index_col="date", parse_dates=True).iloc[: 20 * MONTH]
    train = table.iloc[: 12 * MONTH]
    values = (table - train.mean()) / train.std(ddof=0)
    long: pd.DataFrame = values.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    long = long.sort_values(["unique_id", "ds"], ignore_index=True)
    windows = (4 * MONTH - horizon) // ETT_STEP + 1
    return Benchmark(f"etth1-{horizon}", long, horizon, 24, "h", windows, ETT_STEP, 4 * MONTH)


def chunks(windows: int, size: int = 200) -> Iterator[tuple[int, int]]:
    """Return ranges of origins that fit into memory."""
    for first in range(0, windows, size):
        yield first, min(first + size, windows)
