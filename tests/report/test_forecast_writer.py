"""Tests of the writer that makes tables and pictures of paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from armlp.errors import UserError
from armlp.forecaster import Forecaster
from armlp.report.forecast_writer import ForecastWriter


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"levels": (0,)}, "`levels`: 0"),
        ({"levels": (80, 100)}, "`levels`: 100"),
        ({"levels": (80, 80.0)}, "names a level twice"),
        ({"num_paths": 0}, "`num_paths`: 0"),
    ],
)
def test_a_writer_refuses_what_it_could_not_write(options: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        ForecastWriter(**options)


def test_the_order_of_the_rows_does_not_come_from_the_table(trained: Any, make_table: Any):
    table = make_table(series=12, rows=50)  # s00 to s11
    shuffled = table.sample(frac=1, random_state=0)
    forecaster = Forecaster.load(trained.best, enable_progress_bar=False)
    pd.testing.assert_frame_equal(forecaster.predict(table), forecaster.predict(shuffled))


def test_missing_truth_is_missing_in_the_backtest(program: Any, trained: Any):
    table = trained.table.copy()
    table.loc[len(table) - 2, "y"] = np.nan
    table.to_parquet("holes.parquet")
    options = ("--data.source=holes.parquet", "--data.test_windows=1", "--forecast.output=b.parquet")
    program("test", "--ckpt_path", trained.best, *options)
    backtest = pd.read_parquet("b.parquet")
    assert np.flatnonzero(backtest["y"].isna()).tolist() == [len(backtest) - 2]
    assert backtest["armlp"].notna().all()


def test_pictures_are_drawn_of_any_number_of_series(program: Any, trained: Any, make_table: Any):
    for count in (1, 9):
        make_table(series=count, rows=60).to_parquet("table.parquet")
        options = ("--data.source=table.parquet", f"--forecast.plot={count}.png", "--forecast.output=f.csv")
        program("predict", "--ckpt_path", trained.best, *options)
        assert Path(f"{count}.png").read_bytes().startswith(b"\x89PNG")
