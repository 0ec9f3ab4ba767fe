"""Tests of tables whose series step differently: they are refused, and gaps that come by chance are not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from armlp.data.datamodule import SeriesDataModule
from armlp.data.tables.read import read_panel
from armlp.errors import UserError


def table_of(*kinds: tuple[str | int, int, int]) -> pd.DataFrame:
    """Series by frequency: how many of them, of how many rows."""
    parts = [
        pd.DataFrame(
            {
                "unique_id": f"{freq} {index}",
                "ds": np.arange(rows) * freq
                if isinstance(freq, int)
                else pd.date_range("2022-01-03", periods=rows, freq=freq),
                "y": 1.0,
            }
        )
        for freq, series, rows in kinds
        for index in range(series)
    ]
    return pd.concat(parts, ignore_index=True)


pytestmark = pytest.mark.filterwarnings("ignore:.*taken for gaps")


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (("W-MON", 3, 52), ("D", 50, 365)),
        (("W-MON", 50, 52), ("D", 2, 365)),
        (("MS", 2, 12), ("D", 5, 365)),
        (("D", 2, 20), ("h", 3, 480)),
        (("h", 2, 200), ("15min", 3, 400)),
        (("QS", 2, 12), ("MS", 5, 40)),
        (("W-MON", 2, 30), ("B", 5, 150)),
        (("2D", 2, 30), ("D", 5, 60)),
        ((5, 2, 30), (1, 5, 150)),
    ],
)
def test_series_of_a_longer_step_are_refused_and_taken_with_gaps_where_that_is_meant(few: Any, many: Any):
    table = table_of(many, few)
    with pytest.raises(UserError) as error:
        read_panel(table)
    finer = read_panel(table_of(many)).calendar.freq
    own = read_panel(table_of(few)).calendar.freq
    assert f"series '{few[0]} 0' steps by {own}, but the table by {finer}, " in str(error.value)
    assert f"give `freq` {finer} to take" in str(error.value)
    panel = read_panel(table, freq=finer)
    assert int(panel.observed.sum()) == len(table)


def test_the_sentence_says_what_to_do():
    with pytest.raises(UserError) as error:
        read_panel(table_of(("D", 5, 200), ("W-MON", 1, 20)))
    assert str(error.value) == (
        "the table: series 'W-MON 0' steps by W-MON, but the table by D, so that 85% of its values would be missing: "
        "aggregate all series to W-MON, give series of different steps in separate tables, or give `freq` D "
        "to take what lies between for missing values."
    )


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.5, 0.9])
def test_values_that_are_missing_by_chance_are_no_longer_step(kept: float):
    generator = np.random.default_rng(1)
    whole = table_of(("D", 40, 200))
    dense = whole["unique_id"].isin([f"D {index}" for index in range(20)])
    panel = read_panel(whole[dense | (generator.random(len(whole)) < kept)])
    assert panel.calendar.freq == "D"


@pytest.mark.parametrize(
    "kinds",
    [
        (("D", 5, 100), ("B", 5, 80)),
        (("D", 3, 40), ("7D", 3, 2)),  # two rows tell nothing
        (("D", 3, 40), ("7D", 3, 1)),
        (("W-MON", 3, 40),),
    ],
)
def test_business_days_and_series_of_a_row_or_two_go_with_days(kinds: Any):
    assert int(read_panel(table_of(*kinds)).observed.sum()) == len(table_of(*kinds))


def test_rows_of_business_hours_go_with_hours():
    table = table_of(("h", 3, 480))
    assert len(read_panel(table[(table["unique_id"] != "h 1") | table["ds"].dt.hour.between(9, 16)])) == 3


def daily(rows: int = 140) -> tuple[pd.DatetimeIndex, np.ndarray, np.ndarray]:
    """Days, values of every day, and values of every seventh day only."""
    steps = np.arange(rows)
    return pd.date_range("2024-01-01", periods=rows), 1.0 + steps % 7, np.where(steps % 7 == 0, np.sin(steps), np.nan)


def wide_table() -> tuple[pd.DataFrame, dict[str, Any]]:
    days, every, weekly = daily()
    return pd.DataFrame({"ds": days, "d": every, "w": weekly}), {"layout": "wide"}


def long_table() -> tuple[pd.DataFrame, dict[str, Any]]:
    days, every, weekly = daily()
    parts = {"d": every, "w": weekly}
    return pd.concat([pd.DataFrame({"unique_id": name, "ds": days, "y": part}) for name, part in parts.items()]), {}


def vector_table() -> tuple[pd.DataFrame, dict[str, Any]]:
    days, every, weekly = daily()
    return pd.DataFrame({"unique_id": "w", "ds": days, "y": every, "z": weekly}), {"target_columns": ["y", "z"]}


@pytest.mark.parametrize("make", [wide_table, long_table, vector_table])
def test_weekly_values_between_empty_cells_are_not_taken_for_daily_ones(
    make: Callable[[], tuple[pd.DataFrame, dict[str, Any]]],
):
    table, options = make()
    data = SeriesDataModule(table, horizon=7, **options)
    with pytest.raises(UserError, match=r"series 'w' steps by W-MON, but the table by D.*`freq` D"):
        data.check_trainable()
    SeriesDataModule(table, horizon=7, freq="D", **options).check_trainable()  # as was asked for
    gaps = np.random.default_rng(0).random(len(table)) < 0.7
    for column in table.columns.intersection(["y", "z", "w"]):
        table[column] = np.where(gaps, np.nan, np.arange(len(table)))
    SeriesDataModule(table, horizon=7, **options).check_trainable()  # gaps at random are no longer step
