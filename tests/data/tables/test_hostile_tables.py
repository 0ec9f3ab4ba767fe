"""Tests of hostile tables: each is read with the right values, or refused by exactly one sentence."""

import decimal
import fractions
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.tables.read import read_panel
from armlp.data.tables.write import write_table_like
from armlp.errors import UserError
from armlp.forecaster import Forecaster
from armlp.training.settings import ModelSettings
from armlp.training.settle import settle_model

NAN, INF = float("nan"), float("inf")
HEADER = "unique_id,ds,y\n"
OPTIONS: dict[str, Any] = {"hidden_sizes": [8], "max_steps": 3, "enable_progress_bar": False}


def table_of(y: Any, ids: Any = "a", times: Any = None, **columns: Any) -> pd.DataFrame:
    """A long table whose times count from 0 in every series."""
    table = pd.DataFrame({"unique_id": ids, "y": y, **columns})
    table.insert(1, "ds", table.groupby("unique_id").cumcount() if times is None else times)
    return table


def series_of(panel: Panel) -> dict[Any, list[float | None]]:
    """The values of every series in data units, None where they are missing."""
    found = {}
    for index, name in enumerate(panel.ids):
        values = panel.series(index)[:, 0].tolist()
        seen = panel.observed[panel.offsets[index] :, 0][: len(values)].tolist()
        found[name] = [value if there else None for value, there in zip(values, seen, strict=True)]
    return found


def said_of(source: Any, **options: Any) -> str:
    """The sentence that reading ends in."""
    with pytest.raises(UserError) as error:
        read_panel(source, **options)
    return str(error.value)


def expect(sentence: str, *parts: str) -> None:
    """Assert that a sentence has all its parts: where, what was found, the option, the fix."""
    for part in parts:
        assert part in sentence, f"{part!r} is not in {sentence!r}"


def forecast_of(table: pd.DataFrame, folder: Path, **options: Any) -> pd.DataFrame:
    """What a model says that was fitted to a table."""
    options = {"horizon": 4, "default_root_dir": str(folder), **OPTIONS, **options}
    forecast: pd.DataFrame = Forecaster(**options).fit(table).predict()
    return forecast


# Values


@pytest.mark.parametrize("missing", [None, NAN, pd.NA])
def test_null_and_nan_are_missing(missing: Any):
    values = pd.Series([1.0, 2.0, 3.0]).astype("Float64" if missing is pd.NA else "float64")
    values[1] = missing
    assert series_of(read_panel(table_of(values))) == {"a": [1, None, 3]}
    if missing is not pd.NA:
        polars = pl.DataFrame({"unique_id": "a", "ds": [0, 1], "y": [1.0, missing]})
        assert series_of(read_panel(polars)) == {"a": [1, None]}


@pytest.mark.parametrize(
    ("value", "found", "needed"),
    [(INF, "inf", "finite numbers"), (-INF, "-inf", "finite numbers"), (-1e39, "-1e+39", "up to 3.4e38")],
)
def test_infinite_and_too_large_values_are_named(value: float, found: str, needed: str):
    times = [*pd.date_range("2020-01-01", periods=2)] * 2
    said = said_of(table_of([1, 2, 3, value], list("aabb"), times))
    expect(said, f"'y' holds {found} (series 'b' at 2020-01-02 00:00:00)", "`target_columns` needs", needed)


def test_series_that_float32_would_round_to_nothing_are_named():
    said = said_of(table_of([1, 2, 1e-60, 3e-50], list("aabb")))
    expect(said, "series 'b' is larger than 3e-50", "(1 such series in all)", "a smaller unit")
    assert series_of(read_panel(table_of([1, 1e-60]))) == {"a": [1, 0]}


# Columns of values that are no numbers: what is found, and what is needed.
ONE_TYPE = "numbers, text or times of one type."
NO_NUMBERS: dict[str, tuple[Any, str, str]] = {
    "numbers as text": (["1", "2", "3"], "numbers as text, first '1' (series 'a' at 0)", "numbers: convert the"),
    "one text": (["1", "high", "3"], "text, first 'high' (series 'a' at 1)", "numbers."),
    "all text": (list("xyz"), "text, first 'x'", "numbers, or pass `symbols` true if they are symbols."),
    "thousands": (["1", "2", "1,000"], "text, first '1,000'", "numbers written like 1234.5."),
    "percent": (["5 %", "6 %", "7 %"], "text, first '5 %'", "numbers written like 1234.5."),
    "mixed types": (
        pd.Series([1, "2", 3], dtype=object),
        "values of different types, '1' (int, row 1) and '2' (str, row 2)", ONE_TYPE,
    ),
    "mixed after a missing one": (
        pd.Series([None, 1.5, decimal.Decimal(2)], dtype=object),
        "values of different types, '1.5' (float, row 2) and '2' (Decimal, row 3)", ONE_TYPE,
    ),
    "integers beyond int64": (pd.Series([1, 10**20, 3], dtype=object), f"'{10**20}' (int, row 2)", ONE_TYPE),
    "fractions": (pd.Series([fractions.Fraction(1, 2)] * 3, dtype=object), "'1/2' (Fraction, row 1)", ONE_TYPE),
    "complex": (np.array([1j, 2, 3]), "complex128", ONE_TYPE),
    "periods": (pd.period_range("2020", periods=3, freq="M"), "periods", "numbers."),
    "durations": (pd.to_timedelta([1, 2, 3], unit="h").as_unit("s"), "Duration(time_unit='s')", "numbers."),
    "lists": ([[1], [2], [3]], "List(Int64)", "numbers."),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_NUMBERS)
def test_values_that_are_no_numbers_are_named(what: str):
    values, found, needed = NO_NUMBERS[what]
    expect(said_of(table_of(values)), f"column 'y' holds {found}", f"but `target_columns` needs {needed}")


NUMBERS: dict[str, Callable[[list[float]], Any]] = {
    "sparse": lambda y: pd.DataFrame({"unique_id": "a", "ds": range(4), "y": pd.arrays.SparseArray(y)}),
    "categories": lambda y: table_of(pd.Categorical(y)),
    "arrow-backed decimals": lambda y: table_of(pd.Series(y, dtype=pd.ArrowDtype(pa.decimal128(9, 2)))),
    "mixed numpy numbers": lambda y: table_of(pd.Series([np.int8(y[0]), np.float32(y[1]), *y[2:]], dtype=object)),
    "polars decimals": lambda y: pl.from_pandas(table_of(y)).with_columns(pl.col("y").cast(pl.Decimal(9, 2))),
    "small integers": lambda y: pl.from_pandas(table_of(y)).with_columns(pl.col("y").cast(pl.UInt8), ds=pl.row_index()),
    "runs": lambda y: pa.table({"unique_id": list("aaaa"), "ds": range(4), "y": encoded(y)}),
    "dictionaries": lambda y: pa.table(
        {"unique_id": list("aaaa"), "ds": range(4), "y": pa.array(y).dictionary_encode()}
    ),
    "decimal256": lambda y: pa.table(
        {"unique_id": list("aaaa"), "ds": range(4), "y": pa.array(map(decimal.Decimal, y), pa.decimal256(60, 3))}
    ),
    "empty chunks": lambda y: pa.table(
        {"unique_id": list("aaaa"), "ds": range(4), "y": pa.chunked_array([[], y[:3], [], y[3:], []], pa.float64())}
    ),
    "views of text": lambda y: pa.table(
        {"unique_id": pa.array(list("aaaa"), pa.string_view()), "ds": range(4), "y": pa.array(y)}
    ),
    "a record batch": lambda y: pa.RecordBatch.from_pandas(table_of(y)),
}  # fmt: skip


def encoded(values: list[float]) -> pa.Array:
    return pa.array(values, pa.run_end_encoded(pa.int32(), pa.float64()))


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_in_odd_columns_are_read(what: str):
    assert series_of(read_panel(NUMBERS[what]([0, 0, 1, 2]))) == {"a": [0, 0, 1, 2]}


def test_values_of_1e30_and_1e_30_in_one_panel_are_read_and_forecast(tmp_path: Path):
    rng = np.random.default_rng(0)
    sizes = {"large": 1e30, "small": 1e-30}
    table = table_of(np.outer([1e30, 1e-30], 3 + rng.random(40)).ravel(), np.repeat(list(sizes), 40))
    panel = read_panel(table)
    for index, name in enumerate(panel.ids):
        np.testing.assert_allclose(panel.series(index)[:, 0], table["y"][table["unique_id"] == name], rtol=1e-7)
    forecast = forecast_of(table, tmp_path)
    assert forecast["armlp"].div(forecast["unique_id"].map(sizes)).between(1, 10).all()


def test_a_series_near_1e9_that_varies_by_1_keeps_its_values():
    # How it is forecast is in test_levels.py.
    values = 1e9 + np.sin(np.arange(40))
    table = table_of(np.concatenate([values, np.arange(40)]), np.repeat(["far", "near"], 40))
    panel = read_panel(table)
    np.testing.assert_allclose(panel.series(0)[:, 0], values, rtol=0, atol=1e-6)
    assert panel.series(1)[:, 0].tolist() == list(range(40))


@pytest.mark.parametrize(("head", "value"), [("poisson", -3.0), ("negative_binomial", 2.5)])
def test_values_that_are_no_counts_are_named_to_a_head_of_counts(head: str, value: float):
    data = SeriesDataModule(table_of([*range(40), 1, value, value, *range(37)], np.repeat(list("ab"), 40)), horizon=4)
    with pytest.raises(UserError) as error:
        settle_model(ModelSettings(head=head), data)
    expect(str(error.value), f"`head` {head} is for counts", f"series 'b' of the table has {value:g} at 1 (2 such")


def test_constant_series_are_told_of_and_forecast_as_they_were(tmp_path: Path):
    table = table_of(np.repeat([7.25, 0.0], 40), np.repeat(list("ab"), 40))
    with pytest.warns(UserWarning, match="never changes") as warned:
        forecast = forecast_of(table, tmp_path, head="quantile")
    assert len(warned) == 1
    expect(str(warned[0].message), "The target of the table never changes", "`target_columns`")
    np.testing.assert_allclose(forecast["armlp"], np.repeat([7.25, 0], 4), atol=0.05)


# Rows


def test_a_single_row_asks_for_its_frequency_and_then_for_more_rows(tmp_path: Path):
    table = table_of([1.0])
    expect(said_of(table), "one row per series", "no step of time", "`freq` (such as h, D, MS, or 1 for")
    assert series_of(read_panel(table, freq=1)) == {"a": [1]}
    with pytest.raises(UserError) as error:
        forecast_of(table, tmp_path, freq=1)
    expect(str(error.value), "the longest, 'a', has 1 rows and needs 6, 4 of them held out", "`horizon`")


def test_a_single_series_is_fitted_and_forecast(tmp_path: Path):
    forecast = forecast_of(table_of(np.sin(np.arange(30)), 7), tmp_path)
    assert forecast["unique_id"].tolist() == [7] * 4
    assert forecast["ds"].tolist() == [30, 31, 32, 33]
    assert np.isfinite(forecast["armlp"]).all()


def test_a_hundred_thousand_series_of_ten_points_are_read():
    series, rows = 100_000, 10
    values = np.random.default_rng(0).random((series, rows), dtype=np.float32)
    columns = {
        "unique_id": np.repeat(np.arange(series), rows),
        "ds": np.tile(np.arange(rows, dtype=np.int32), series),
        "y": values.ravel(),
    }
    panel = read_panel(pa.table(columns))
    assert panel.ids.tolist() == list(range(series))
    assert np.array_equal(panel.values.numpy().reshape(series, rows), values)


def test_a_series_of_a_million_points_is_read():
    rows = 1_000_000
    values = np.random.default_rng(0).random(rows, dtype=np.float32)
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), ["a"])
    times = (np.datetime64("2000-01-01T00:00") + np.arange(rows)).astype("datetime64[ns]")
    panel = read_panel(pa.table({"unique_id": ids, "ds": times, "y": values}))
    assert (panel.calendar.freq, panel.ids.tolist()) == ("min", ["a"])
    assert np.array_equal(panel.values[:, 0].numpy(), values)


def test_duplicate_times_are_named_and_counted():
    table = table_of([1, 2, 3, 4, 5], list("aabbb"), [0, 1, 0, 1, 1])
    assert said_of(table) == "the table: series 'b' has 1 more than once (1 such rows in all): keep one row of each."
    expect(said_of(pd.concat([table] * 2)), "series 'a' has 0 more than once (6 such rows in all)")
    expect(said_of(table[["ds", "y"]]), "series 'y' has 0 more than once (3 such rows in all)", "`id_column`")


def test_times_out_of_order_are_sorted():
    table = table_of([3, 30, 1, 20, 2, 10], list("ababab"), [2, 2, 0, 1, 1, 0])
    assert series_of(read_panel(table)) == {"a": [1, 2, 3], "b": [10, 20, 30]}


def test_two_time_zones_in_one_column_are_read_as_utc():
    times = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    mixed = pd.Series([times[0].tz_convert("Europe/Berlin"), *times[1:].tz_convert("Asia/Tokyo")], dtype=object)
    panel = read_panel(table_of([1, 2, 3], times=mixed))
    assert (panel.calendar.freq, panel.calendar.timezone, panel.starts.tolist()) == ("h", "UTC", [times[0].value])


def test_files_of_two_time_zones_are_refused(tmp_path: Path):
    times = pd.date_range("2024-01-01", periods=3, freq="h")
    for name, zone in {"a": "UTC", "b": "Asia/Tokyo"}.items():
        table_of([1, 2, 3], name, times.tz_localize(zone)).to_parquet(tmp_path / f"{name}.parquet")
    expect(said_of(tmp_path), f"{tmp_path}/b.parquet: column 'ds' holds times in Asia/Tokyo", "times in UTC", "convert")


def test_small_integer_times_go_on_beyond_their_type():
    panel = read_panel(table_of(np.ones(126), times=np.arange(126, dtype=np.int8)))
    assert write_table_like(panel, np.array([0]), {"ds": np.array([5])}, {})["ds"].dtype == np.int8
    assert write_table_like(panel, np.array([0, 0]), {"ds": np.array([127, 128])}, {})["ds"].tolist() == [127, 128]


# Names of columns and series


def test_columns_named_like_output_columns_are_covariates_targets_or_series(tmp_path: Path):
    rng = np.random.default_rng(0)
    names = ["armlp", "armlp-lo-80", "cutoff"]
    table = table_of(rng.random(30)).assign(**{name: rng.random(30) for name in names})
    outputs = ["unique_id", "ds", "armlp", "armlp-lo-80", "armlp-hi-80", "armlp-lo-95", "armlp-hi-95"]
    assert list(forecast_of(table, tmp_path, past_covariates=names).columns) == outputs
    assert list(forecast_of(table, tmp_path, target_columns="cutoff").columns) == outputs
    wide = table[["ds", *names]]
    assert series_of(read_panel(wide)) == {name: pytest.approx(wide[name].tolist()) for name in names}
    assert forecast_of(wide, tmp_path)["unique_id"].unique().tolist() == sorted(names)


def test_a_wide_column_called_like_the_ids_is_left_out_with_a_warning():
    wide = pd.DataFrame({"ds": range(3), "unique_id": [1.0, 2, 3], "b": [4.0, 5, 6]})
    with pytest.warns(UserWarning, match="left out") as warned:
        assert series_of(read_panel(wide, layout="wide")) == {"b": [4, 5, 6]}
    assert len(warned) == 1
    expect(str(warned[0].message), "column 'unique_id' is left out of the wide layout", "`id_column` names it")
    assert series_of(read_panel(wide, layout="wide", target_columns=["unique_id"])) == {"unique_id": [1, 2, 3]}


def test_channels_called_like_the_bounds_of_others_are_refused():
    table = pd.DataFrame({"ds": range(3), "load": 1.0, "load-lo-80": 1.0})
    said = said_of(table, layout="vector")
    expect(said, "`target_columns`", "of 'load' may have bounds called 'load-lo-80'", "another name")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id_column": "ds"}, "`time_column`: column 'ds' is `id_column` already"),
        ({"target_columns": "ds"}, "`target_columns`: column 'ds' is `time_column` already"),
        ({"target_columns": "unique_id"}, "`target_columns`: column 'unique_id' is `id_column` already"),
        ({"known_covariates": "y"}, "`known_covariates`: column 'y' is among `target_columns` already"),
    ],
)
def test_a_column_of_two_roles_is_refused(options: dict[str, str], said: str):
    fix = "a column has one role, so name another, or leave it out here."
    assert said_of(table_of([1, 2, 3]), **options) == f"{said}; {fix}"


HOSTILE_IDS = [
    "../../etc/passwd", "/dev/null", "c:\\con", "a\nb", "\x1b[31mred", "ü漢🙂", " a ", "1e5", "NA", "null", "nan",
    "None", "armlp", "$x_{", "%s{0}", "'", '"', "a,b;c", "." * 300, "=1+1",
]  # fmt: skip


def test_hostile_ids_stay_names_in_tables_files_forecasts_and_charts(program: Any, trained: Any):
    table = table_of(np.arange(len(HOSTILE_IDS) * 3.0), np.repeat(HOSTILE_IDS, 3), [0, 1, 2] * len(HOSTILE_IDS))
    expected = {name: [3 * place, 3 * place + 1, 3 * place + 2] for place, name in enumerate(HOSTILE_IDS)}
    table.to_csv("t.csv", index=False)
    table.to_parquet("t.parquet")
    for source in (table, pl.from_pandas(table), "t.csv", "t.parquet"):
        assert series_of(read_panel(source)) == expected
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(table["ds"], unit="h")
    drawn = [
        "../../etc/passwd",
        "a\nb",
        "\x1b[31mred",
        "ü漢🙂",
        "$x_{",
        "." * 300,
    ]  # a file has no more than six charts
    for some in (drawn, [name for name in HOSTILE_IDS if name not in drawn]):
        table.assign(ds=times)[table["unique_id"].isin(some)].to_parquet("some.parquet")
        options = ("--data.source=some.parquet", "--forecast.output=f.parquet", "--forecast.plot=f.png")
        program("predict", "--ckpt_path", trained.best, *options)
        assert set(pd.read_parquet("f.parquet")["unique_id"]) == set(some)
    assert sorted(os.listdir()) == ["f.parquet", "f.png", "some.parquet", "t.csv", "t.parquet"]


@pytest.mark.usefixtures("drawn")
def test_a_run_with_hostile_ids_writes_nothing_outside_of_its_folder(program: Any):
    times = np.tile(pd.date_range("2024-01-01", periods=12, freq="h"), len(HOSTILE_IDS))
    ids = np.repeat(HOSTILE_IDS, 12)
    table_of(np.random.default_rng(0).random(len(ids)), ids, times).to_parquet("t.parquet")
    run = program.fit("t.parquet", "--data.horizon=4", logs=True)
    assert sorted(os.listdir()) == ["lightning_logs", "t.parquet"]
    assert not any("passwd" in path.name for path in run.rglob("*"))


def test_a_sentence_stays_one_line_whatever_the_names_in_it():
    assert r"series 'a\n\x1b[31mb' has 1" in said_of(table_of([1, 2, 3], "a\n\x1b[31mb", [0, 1, 1]))


# What is no id.
NO_IDS: dict[str, tuple[Any, str, str]] = {
    "fractions": ([1.0, 2.0], "holds Float64", "ids that are text, integers or categories."),
    "categories of fractions": (pd.Categorical([1.5, 2.5]), "holds categories of Float64", "ids that are text"),
    "an empty name": (["a", ""], "is empty in row 2", "ids in all rows."),
    "none": (["a", None], "is empty in row 2", "ids in all rows."),
    "mixed": (pd.Series(["a", 1], dtype=object), "values of different types, 'a' (str, row 1) and '1' (int", ONE_TYPE),
}


@pytest.mark.parametrize("what", NO_IDS)
def test_ids_that_name_nothing_are_refused(what: str):
    ids, found, needed = NO_IDS[what]
    expect(said_of(table_of([1.0, 2.0], ids, [0, 1])), "column 'unique_id'", found, f"but `id_column` needs {needed}")


# CSV


CSVS: dict[str, tuple[str | bytes, dict[str, Any], dict[Any, list[float | None]]]] = {
    "a byte-order mark": (b"\xef\xbb\xbf" + HEADER.encode() + b"a,1,1\na,2,2\n", {}, {"a": [1, 2]}),
    "semicolons": ("unique_id;ds;y\na;1;1\na;2;2\n", {}, {"a": [1, 2]}),
    "a mark and semicolons": (b"\xef\xbb\xbfunique_id;ds;y\na;1;1\na;2;2\n", {}, {"a": [1, 2]}),
    "semicolons and a comma in the header": (
        'unique_id;ds;"y, kg"\na;1;1\na;2;2\n', {"target_columns": "y, kg"}, {"a": [1, 2]}
    ),
    "bars in a comma-separated header": ("ds,a|b|c\n1,1\n2,2\n", {}, {"a|b|c": [1, 2]}),
    "decimal commas": ("unique_id;ds;y\na;1;1,5\na;2;,25\na;3;-3e1\n", {}, {"a": [1.5, 0.25, -30]}),
    "decimal commas after many integers": (
        "unique_id;ds;y\n" + "a;1;1\n" + "".join(f"b;{row};0\n" for row in range(300)) + "a;2;2,5\n",
        {}, {"a": [1, 2.5], "b": [0] * 300},
    ),
    "decimal commas after thousands points": (
        "unique_id;ds;y\na;1;1.234,5\na;2;12\na;3;\na;4;-1.000.000,25\n",
        {},
        {"a": [1234.5, 12, None, -1000000.25]},
    ),
    "as many commas in names and numbers as semicolons": (
        "ds;power, net\n1;1,5\n2;2,5\n",
        {"target_columns": "power, net"},
        {"power, net": [1.5, 2.5]},
    ),
    "decimal commas between tabs": ("unique_id\tds\ty\na\t1\t1,5\na\t2\t2\n", {}, {"a": [1.5, 2]}),
    "a quoted newline in an id": (HEADER + '"a\nb",1,1\n"a\nb",2,2\n', {}, {"a\nb": [1, 2]}),
    "a quoted newline in the header": (
        'unique_id,ds,"y\n(kg)"\na,1,1\na,2,2\n', {"target_columns": "y\n(kg)"}, {"a": [1, 2]}
    ),
    "a quoted newline in a covariate": (
        'unique_id,ds,y,t\na,1,1,"x\ny"\na,2,2,z\n', {"past_covariates": "t"}, {"a": [1, 2]}
    ),
    "a quoted newline in a column that nobody wants": ('unique_id,ds,y,t\na,1,1,"x\ny"\na,2,2,z\n', {}, {"a": [1, 2]}),
    "Windows line ends": (HEADER.replace("\n", "\r\n") + '"a\r\nb",1,1\r\n"a\r\nb",2,2\r\n', {}, {"a\r\nb": [1, 2]}),
    "blank lines": ("\n\r\n" + HEADER + "a,1,1\n\na,2,2\n\n", {}, {"a": [1, 2]}),
    "a comma at the end of each line": ("unique_id,ds,y,\na,1,1,\na,2,2,\n", {}, {"a": [1, 2]}),
    "quotes in quotes": (HEADER + '"a""b",1,1\n"a""b",2,2\n', {}, {'a"b': [1, 2]}),
    "missing values of many spellings": (
        HEADER + "a,1,1\na,2,NA\na,3,null\na,4,nan\na,5,\na,6,N/A\na,7,7\n", {}, {"a": [1, *[None] * 5, 7]}
    ),
    "ids that look like numbers": (HEADER + "1e5,1,1\n1e5,2,2\n007,1,3\n007,2,4\n", {}, {"007": [3, 4], "1e5": [1, 2]}),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("what", CSVS)
def test_a_csv_of_any_make_is_read(what: str, suffix: str, tmp_path: Path):
    content, options, expected = CSVS[what]
    content = content if isinstance(content, bytes) else content.encode()
    path = tmp_path / f"t{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert series_of(read_panel(path, **options)) == expected


# CSV files that cannot be read: what is found, and the fix.
BAD_CSVS: dict[str, tuple[str | bytes, str, str]] = {
    "0 bytes": (b"", "is empty (0 bytes)", "with a header and rows."),
    "blank lines alone": ("\n\n", "is empty", "with a header and rows."),
    "a header alone": (HEADER, "has columns but no rows", "with at least one row."),
    "a header without a line end": (HEADER.strip(), "has columns but no rows", "with at least one row."),
    "a comment": ("# made by hand\n" + HEADER + "a,1,1\n", "one column, called '# made by hand'", "by commas"),
    "spaces between columns": ("unique_id ds y\na 1 1\n", "one column, called 'unique_id ds y'", "separated by commas"),
    "spaces after commas": (
        "unique_id, ds, y\na, 1, 1\n",
        "has no column 'ds': its columns are 'unique_id', ' ds', ' y'", "pass `time_column` ' ds'.",
    ),
    "capitals": ("unique_id,DS,Y\na,1,1\n", "has no column 'ds'", "pass `time_column` DS."),
    "a longer row": (HEADER + "a,1,1\na,2,1,000\n", "Expected 3 columns, got 4: a,2,1,000", "quotes around"),
    "UTF-16": ((HEADER + "a,1,1\n").encode("utf-16"), "decode byte 0xff in position 0", "as text in UTF-8."),
    "Latin-1": ((HEADER + "m\xfcll,1,1\n").encode("latin-1"), "decode byte 0xfc in position 16", "as text in UTF-8."),
    "thousands": (
        HEADER + 'a,1,"1,000"\na,2,"2,000"\n',
        "column 'y' holds text, first '1,000' (series 'a' at 1)", "`target_columns` needs numbers written like 1234.5.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_CSVS)
def test_a_csv_that_cannot_be_read_says_why(what: str, tmp_path: Path):
    content, found, fix = BAD_CSVS[what]
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    expect(said_of(path), str(path), found, fix)


def test_covariates_that_hold_numbers_as_text_are_told_of(tmp_path: Path):
    (tmp_path / "t.csv").write_text('unique_id,ds,y,price,code\na,1,1,"1,000",07\na,2,2,"2,500.5",08\n')
    with pytest.warns(UserWarning, match="categories") as warned:
        panel = read_panel(tmp_path / "t.csv", past_covariates=["price", "code"])
    assert [column.name for column in panel.covariate_columns["past"] if column.categories] == ["price"]
    assert len(warned) == 1
    expect(str(warned[0].message), f"{tmp_path}/t.csv", "taken for categories: 'price'", "written like 1234.5")


def test_the_index_that_pandas_writes_is_no_series(tmp_path: Path):
    wide = pd.DataFrame({"ds": range(1, 4), "b": [1.0, 2.0, 3.0]}, index=[7, 9, 8])
    wide.to_csv(tmp_path / "t.csv")
    wide.to_parquet(tmp_path / "t.parquet")
    for name, column in {"t.csv": "", "t.parquet": "__index_level_0__"}.items():
        with pytest.warns(UserWarning, match="left out") as warned:
            assert series_of(read_panel(tmp_path / name)) == {"b": [1, 2, 3]}
        assert len(warned) == 1
        expect(str(warned[0].message), f"{tmp_path / name}: columns that number the rows are left out: '{column}'")


# Files and folders


def test_a_truncated_parquet_file_is_refused(tmp_path: Path):
    path = tmp_path / "t.parquet"
    table_of(range(999)).to_parquet(path)
    path.write_bytes(path.read_bytes()[:500])
    expect(
        said_of(path), f"{path} cannot be read as Parquet (Parquet magic bytes not found", "give a whole Parquet file"
    )
    path.write_bytes(b"")
    expect(said_of(path), f"{path} is empty (0 bytes)")


def test_paths_that_are_no_file_say_what_they_are(tmp_path: Path):
    (tmp_path / "link.csv").symlink_to("nothing.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "t.csv").write_text(HEADER)
    for path, found, fix in (
        ("", "path of the source is empty", "give that of a CSV or Parquet file."),
        ("https://example.com/t.csv", "does not exist", "give a path on this machine"),
        (f"{tmp_path}/link.csv", "does not exist", "it is a link to nothing.csv, which is not there."),
        (f"{tmp_path}/pipe.csv", "is no file that can be read twice", "give a CSV or Parquet file."),
        (f"{tmp_path}/folder", "holds no Parquet files", f"give those of CSV as {tmp_path}/folder/*.csv."),
        ("x" * 999, "cannot be read (File name too long)", "give a path that may be."),
    ):
        expect(said_of(path), path, found, fix)


def test_a_folder_within_a_folder_that_may_not_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table_of([1, 2]).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: Any) -> Any:  # root, whom tests may run as, may read anything
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert said_of(tmp_path) == f"{tmp_path} cannot be read (Permission denied): give a path that may be."


def test_files_of_a_folder_may_differ_in_types_and_in_unused_columns(tmp_path: Path):
    for place, (kind, ids) in enumerate({"int32": "int8", "float64": "int64", "uint8": "uint16"}.items()):
        series = np.array([100 ** (2 * place)] * 2) % 2**40 if ids == "int64" else np.array([place] * 2)
        table = table_of(np.array([1, 2], dtype=kind), series.astype(ids))
        table.assign(**{f"other{place}": 1}).to_parquet(tmp_path / f"{place}.parquet")
    assert series_of(read_panel(tmp_path)) == {0: [1, 2], 2: [1, 2], 10_000: [1, 2]}


@pytest.mark.parametrize(
    ("folders", "ids"),
    [
        (["10", "9"], [9, 10]),
        (["010", "9"], ["010", "9"]),
        (["a%20b", "%C3%BC%2F"], ["a b", "ü/"]),
        (["1e5", "true"], ["1e5", "true"]),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_folders_may_name_the_series(folders: list[str], ids: list[Any], suffix: str, tmp_path: Path):
    for folder in folders:
        (tmp_path / f"unique_id={folder}").mkdir()
        write = {"parquet": pd.DataFrame.to_parquet, "csv": pd.DataFrame.to_csv}[suffix]
        write(table_of([1, 2])[["ds", "y"]], tmp_path / f"unique_id={folder}" / f"t.{suffix}", index=False)
    assert series_of(read_panel(f"{tmp_path}/*/*.{suffix}")) == {name: [1, 2] for name in ids}


def test_a_folder_may_mix_partitions_and_plain_files_but_no_partition_is_null(tmp_path: Path):
    table_of([1, 2], "c").to_parquet(tmp_path / "c.parquet")
    (tmp_path / "unique_id=b").mkdir()
    table_of([3, 4])[["ds", "y"]].to_parquet(tmp_path / "unique_id=b" / "t.parquet")
    assert series_of(read_panel(tmp_path)) == {"b": [3, 4], "c": [1, 2]}
    null = tmp_path / "unique_id=__HIVE_DEFAULT_PARTITION__"
    null.mkdir()
    table_of([3, 4])[["ds", "y"]].to_parquet(null / "t.parquet")
    expect(said_of(tmp_path), f"{null}/t.parquet: column 'unique_id' is empty in row 1", "`id_column` needs ids")


# Tables that fail when they are read


def test_lazy_tables_and_datasets_that_fail_say_why(tmp_path: Path):
    fix = "give one whose files are whole and alike and whose expressions work."
    lazy = pl.from_pandas(table_of([1.0, 2.0])).lazy()
    assert said_of(lazy.with_columns(y=pl.col("y").map_elements(lambda y: 1 / 0, pl.Float64))).endswith(f": {fix}")
    assert said_of(lazy.with_columns(pl.col("none"))).startswith(
        'the table cannot be read (unable to find column "none"'
    )
    path = tmp_path / "t.parquet"
    table_of([1, 2]).to_parquet(path)
    lazy, dataset = pl.scan_parquet(path), ds.dataset(path)
    path.unlink()
    assert said_of(lazy) == f"the table cannot be read (No such file or directory (os error 2): {path}): {fix}"
    assert said_of(dataset).startswith("The dataset cannot be read ([Errno 2] Failed to open local file")
    pq.write_table(pa.table({"unique_id": ["a"], "ds": [0], "y": ["high"]}), path)
    assert (
        said_of(dataset)
        == f"The dataset cannot be read (Failed to parse string: 'high' as a scalar of type int64): {fix}"
    )


@pytest.mark.parametrize("source", [3, None, [1, 2], {"y": [1]}, pd.Series([1]), np.ones((2, 2))], ids=repr)
def test_what_is_no_table_is_refused_by_its_type(source: Any):
    assert said_of(source) == (
        f"The source, of type {type(source).__name__}, cannot be read as a table: give a pandas, polars or pyarrow "
        "table, a path, or a data set's name."
    )


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pl.LazyFrame, lambda: pa.table({})])
def test_a_table_without_columns_is_refused(make: Callable[[], Any]):
    assert said_of(make()) == "the table has no columns: give a table of times and values."


def test_times_under_another_name_are_found_beside_columns_that_cannot_be_read():
    table = table_of([1, 2, 3]).rename(columns={"ds": "when"}).assign(when=pd.date_range("2024", periods=3))
    said = said_of(table)
    assert said == "the table has no column 'ds': column 'when' looks like times; pass `time_column` when."
    said = said_of(table.assign(junk=pd.Series([1, "x", []], dtype=object)))
    expect(said, "its columns are 'unique_id', 'when', 'y', 'junk'", "name one of them with `time_column`")


def test_times_in_an_index_without_a_name_are_found():
    table = pd.DataFrame({1: [1.0, 2.0, 3.0]}, index=pd.date_range("2024-01-01", periods=3))
    said = "the table has no column 'ds': column 'index' looks like times; pass `time_column` index."
    assert said_of(table) == said
    options: Any = {"time_column": "index", "target_columns": [1]}
    assert series_of(read_panel(table, **options)) == {"1": [1, 2, 3]}


# The future in a table of its own


def history() -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=4, freq="h")
    return table_of(range(8), np.repeat(list("ab"), 4), [*times, *times], x=np.arange(8.0))


def future(**columns: Any) -> pd.DataFrame:
    times = pd.date_range("2024-01-01 04:00", periods=2, freq="h")
    return table_of(range(4), np.repeat(list("ab"), 2), [*times, *times], x=np.arange(4.0)).assign(**columns)


BAD_FUTURES: dict[str, tuple[pd.DataFrame, tuple[str, ...]]] = {
    "of the past": (
        history(),
        (
            "series 'a' has 2024-01-01 00:00:00 more than once (8 such rows in all)",
            "leave out of `future` what the table",
        ),
    ),
    "without times": (future()[["unique_id", "x"]], ("the table of `future` has no column 'ds'", "'unique_id', 'x'")),
    "empty": (future()[:0], ("the table of `future` has columns but no rows",)),
    "with integer times": (
        future(ds=[4, 5, 4, 5]),
        ("the table of `future`: column 'ds' holds integers", "before it came times without a zone"),
    ),
    "with text": (
        future(x=list("wxyz")),
        ("column 'x' holds text, first 'w' (series 'a' at 2024-01-01 04:00:00)", "`known_covariates` needs numbers."),
    ),
}


@pytest.mark.parametrize("what", BAD_FUTURES)
def test_a_future_that_does_not_fit_its_past_is_refused(what: str):
    table, parts = BAD_FUTURES[what]
    expect(said_of(history(), future=table, known_covariates="x"), *parts)


def test_a_future_of_other_series_is_told_of_and_its_targets_are_never_read():
    other = pd.concat([future(y=99.0), future(unique_id="zz")[:2]])
    with pytest.warns(UserWarning, match="left out") as warned:
        panel = read_panel(history(), future=other, known_covariates="x")
    assert [str(warning.message) for warning in warned] == [
        "the table: 1 of 3 series have no observed value and are left out: 'zz'."
    ]
    assert series_of(panel) == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}
    assert panel.known[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 2, 3]
