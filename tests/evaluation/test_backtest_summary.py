"""Tests of the summary of a backtest table, with loops over its rows as the oracle."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from armlp import UserError, summarize_backtest


def backtest_of(series: int = 3, windows: int = 2, horizon: int = 4, seed: int = 0) -> pd.DataFrame:
    """A backtest table of noise, with some of the truth missing."""
    generator = np.random.default_rng(seed)
    rows = [
        (f"s{index}", pd.Timestamp("2024-01-01") + pd.Timedelta(hours=2 * window + lead), cutoff)
        for index in range(series)
        for window in range(windows)
        for cutoff in [pd.Timestamp("2024-01-01") + pd.Timedelta(hours=2 * window)]
        for lead in range(1, horizon + 1)
    ]
    table = pd.DataFrame(rows, columns=["unique_id", "ds", "cutoff"])
    table["y"] = np.where(generator.random(len(table)) < 0.3, np.nan, generator.normal(5, 2, len(table)))
    table["armlp"] = generator.normal(5, 2, len(table))
    for level, width in ((80, 1.0), (95.5, 3.0)):
        table[f"armlp-lo-{level}"], table[f"armlp-hi-{level}"] = table["armlp"] - width, table["armlp"] + width
    return table


def naive(rows: list[dict[str, Any]]) -> list[float]:
    """What the summary says of some rows, by a loop."""
    seen = [row for row in rows if row["y"] == row["y"]]
    errors = [abs(row["y"] - row["armlp"]) for row in seen]
    sizes = [abs(row["y"]) + abs(row["armlp"]) for row in seen]
    inside = [
        [row[f"armlp-lo-{level}"] <= row["y"] <= row[f"armlp-hi-{level}"] for row in seen] for level in (80, 95.5)
    ]
    return [
        len(seen), np.mean(errors), np.sqrt(np.mean(np.square(errors))),
        np.mean([200 * error / size for error, size in zip(errors, sizes, strict=True)]), *map(np.mean, inside),
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["lead", "series"])
def test_every_observed_value_weighs_the_same(by: str):
    table = backtest_of().sample(frac=1, random_state=0)  # in any order
    before = table.copy()
    found = summarize_backtest(table, by)
    pd.testing.assert_frame_equal(table, before)
    scores = ["count", "mae", "rmse", "smape", "coverage-80", "coverage-95.5"]
    assert list(found.columns) == ["lead" if by == "lead" else "unique_id", *scores]
    rows = table.to_dict("records")
    for row in rows:
        row["lead"] = round((row["ds"] - row["cutoff"]) / pd.Timedelta(hours=1))
    for expected in found.to_dict("records"):
        name = "lead" if by == "lead" else "unique_id"
        part = [row for row in rows if row[name] == expected[name]]
        np.testing.assert_allclose([expected[score] for score in scores], naive(part))
    if by == "lead":
        assert found["lead"].tolist() == [1, 2, 3, 4]
    else:
        assert sorted(found["unique_id"]) == ["s0", "s1", "s2"]
        assert found["smape"].is_monotonic_decreasing


def test_a_table_of_any_library_is_summed_up_as_one():
    table = backtest_of()
    expected = summarize_backtest(table)
    for other in (pl.from_pandas(table), pl.from_pandas(table).lazy(), pa.Table.from_pandas(table)):
        found = summarize_backtest(other)
        assert type(found) is type(other)
        found = found.collect() if isinstance(found, pl.LazyFrame) else found
        pd.testing.assert_frame_equal(found.to_pandas(), expected, check_dtype=False)


def test_a_forecast_that_diverged_is_the_worst_and_not_left_out():
    table = backtest_of()
    table.loc[table["unique_id"] == "s1", "y"] = 1.0
    table.loc[table.index[table["unique_id"] == "s1"][0], "armlp"] = np.nan
    worst = summarize_backtest(table).iloc[0]
    assert (worst["unique_id"], worst["mae"], worst["count"]) == ("s1", np.inf, 8)


def test_a_series_without_any_truth_has_no_score_and_comes_last():
    table = backtest_of()
    table.loc[table["unique_id"] == "s0", "y"] = np.nan
    last = summarize_backtest(table).iloc[-1]
    assert (last["unique_id"], last["count"]) == ("s0", 0)
    assert np.isnan(last["mae"])


def test_channels_and_symbols_have_rows_and_columns_of_their_own():
    table = backtest_of()
    vector = table.rename(columns=lambda name: name.replace("armlp", "armlp-a") if name != "y" else "y-a")
    vector = vector.assign(**{"y-b": 2.0, "armlp-b": 1.0})
    found = summarize_backtest(vector)
    assert sorted(zip(found["unique_id"], found["channel"], strict=True)) == [
        (f"s{i}", c) for i in range(3) for c in "ab"
    ]
    assert set(found.loc[found["channel"] == "b", "mae"]) == {1.0}
    scores = found[found["channel"] == "a"].drop(columns="channel").sort_values("unique_id", ignore_index=True)
    expected = summarize_backtest(table).sort_values("unique_id", ignore_index=True)
    pd.testing.assert_frame_equal(scores[expected.columns], expected)
    symbols = table[["unique_id", "ds", "cutoff"]].assign(y="b", armlp=["a", "b", "b", "b"] * 6, **{"armlp-share": 0.5})
    assert summarize_backtest(symbols, "lead")["error_rate"].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("table", "by", "sentence"),
    [
        (backtest_of(), "horizon", "by: 'horizon' is not known; use one of lead, series"),
        (backtest_of().drop(columns="cutoff"), "lead", "a backtest table has unique_id, ds, cutoff, y and armlp"),
        (backtest_of().drop(columns="y"), "lead", "a backtest table has"),
    ],
)
def test_what_is_no_backtest_table_is_refused(table: Any, by: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        summarize_backtest(table, by)
