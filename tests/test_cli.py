"""Whole-program tests of the command line: tables in, tables out, and mistakes refused."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib import image
from torch import nn

from armlp import presets
from armlp.data.datamodule import SeriesDataModule
from armlp.forecaster import Forecaster
from armlp.model.rollout import path_noise, rollout
from armlp.training.checkpoint import read_checkpoint
from armlp.training.module import ForecastModule

MakeTable = Callable[..., pd.DataFrame]
INTERVALS = ["armlp-lo-80", "armlp-hi-80", "armlp-lo-95", "armlp-hi-95"]
COLUMNS = ["unique_id", "ds", "armlp", *INTERVALS]


def write(table: pd.DataFrame, path: Path) -> Path:
    """Writes a table as its suffix says."""
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    return path


def read(path: Path) -> pa.Table:
    """Reads a table as its suffix says."""
    return arrow_csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A column per series."""
    return table.pivot(index="ds", columns="unique_id", values="y").reset_index()


def with_integer_ids(table: pd.DataFrame) -> pd.DataFrame:
    """The same series, named 10, 11, 12."""
    return table.assign(unique_id=table["unique_id"].str[1:].astype("int64") + 10)


CASES: dict[str, tuple[str, Callable[[MakeTable], pd.DataFrame], int | str]] = {
    "long CSV of datetimes": ("table.csv", lambda make: make(), "h"),
    "long Parquet of datetimes": ("table.parquet", lambda make: make(freq="D"), "D"),
    "long Parquet of integers, integer ids": ("table.parquet", lambda make: with_integer_ids(make(freq=1)), 1),
    "wide CSV of integers": ("table.csv", lambda make: wide(make(freq=1)), 1),
    "wide Parquet of datetimes": ("table.parquet", lambda make: wide(make(freq="MS")), "MS"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_table_of_any_layout_goes_through_fit_test_and_predict(case: str, program: Any, make_table: MakeTable):
    file, make, freq = CASES[case]
    table = make(make_table)
    source = write(table, Path(file))
    run = program.fit(source, "--data.horizon=5", "--data.test_windows=2")
    best = run / "checkpoints" / "best.ckpt"
    suffix = source.suffix  # the forecast in the form of the table
    program("predict", "--ckpt_path", best, "--forecast.output", f"forecast{suffix}")
    program("test", "--ckpt_path", best, "--forecast.output", f"backtest{suffix}")

    came = read(source)
    forecast, backtest = read(Path(f"forecast{suffix}")), read(Path(f"backtest{suffix}"))
    assert forecast.column_names == COLUMNS
    assert sorted(backtest.column_names) == sorted([*COLUMNS, "cutoff", "y"])
    for made in (forecast, backtest):
        assert made.schema.field("ds").type == came.schema.field("ds").type
        wanted = came.schema.field("unique_id").type if "unique_id" in came.column_names else pa.string()
        assert made.schema.field("unique_id").type in (wanted, pa.large_string() if wanted == pa.string() else wanted)

    long = came.to_pandas()
    if "unique_id" not in came.column_names:
        long = long.melt("ds", var_name="unique_id", value_name="y")
    forecast, backtest = forecast.to_pandas(), backtest.to_pandas()
    # S * H rows, sorted, and times go on where the series end.
    assert len(forecast) == 3 * 5
    pd.testing.assert_frame_equal(forecast, forecast.sort_values(["unique_id", "ds"], ignore_index=True))
    assert forecast["unique_id"].unique().tolist() == sorted(long["unique_id"].unique().tolist())
    last = long["ds"].max()
    times = [last + freq * step for step in range(1, 6)] if isinstance(freq, int) else pd.date_range(last, periods=6, freq=freq)[1:]
    assert all(list(part["ds"]) == list(times) for _, part in forecast.groupby("unique_id"))
    # Numbers that can be: finite, the median inside its intervals, and those nested.
    assert np.isfinite(forecast[COLUMNS[2:]].to_numpy()).all()
    ordered = forecast[["armlp-lo-95", "armlp-lo-80", "armlp", "armlp-hi-80", "armlp-hi-95"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()

    # The backtest holds the last two times five steps, the truth beside them.
    assert len(backtest) == 3 * 2 * 5
    pd.testing.assert_frame_equal(backtest, backtest.sort_values(["unique_id", "cutoff", "ds"], ignore_index=True))
    truth = backtest[["unique_id", "ds"]].merge(long, how="left", on=["unique_id", "ds"])["y"]
    np.testing.assert_allclose(backtest["y"], truth, rtol=1e-6)
    times = sorted(long["ds"].unique())
    for _, part in backtest.groupby("unique_id"):
        assert list(part["ds"]) == times[-10:]
        assert list(part["cutoff"]) == [times[-11]] * 5 + [times[-6]] * 5


def test_a_vector_series_is_forecast_with_columns_for_each_channel(program: Any, make_table: MakeTable):
    table = make_table(series=1).rename(columns={"y": "x"}).assign(z=lambda frame: frame["x"] * 2)
    for layout, frame in {"long": table, "vector": table.drop(columns="unique_id")}.items():
        source = write(frame, Path(f"{layout}.parquet"))
        best = program.fit(
            source, "--data.layout", layout, "--data.target_columns=[x,z]", "--data.horizon=4"
        ) / "checkpoints" / "best.ckpt"  # fmt: skip
        program(
            "predict", "--ckpt_path", best, "--forecast.output=f.parquet", "--forecast.paths=p.parquet",
            "--forecast.plot=f.png", "--forecast.num_paths=7",
        )  # fmt: skip
        columns = ["armlp-x", *INTERVALS_OF("x"), "armlp-z", *INTERVALS_OF("z")]
        assert pd.read_parquet("f.parquet").columns.tolist() == ["unique_id", "ds", *columns]
        paths = pd.read_parquet("p.parquet")
        assert paths.columns.tolist() == ["unique_id", "ds", "path", "y-x", "y-z"]
        assert len(paths) == 4 * 7
        program("test", "--ckpt_path", best, "--forecast.output=b.parquet")
        backtest = pd.read_parquet("b.parquet")
        assert sorted(backtest.columns) == sorted(["unique_id", "ds", "cutoff", "y-x", "y-z", *columns])
        np.testing.assert_allclose(backtest["y-z"], table["z"].iloc[-4:], rtol=1e-6)


def INTERVALS_OF(channel: str) -> list[str]:
    return [name.replace("armlp", f"armlp-{channel}") for name in INTERVALS]
