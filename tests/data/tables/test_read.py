"""Tests of reading tables into panels and of writing them back, with loops over rows as the oracle."""

import datetime as dt
import decimal
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.panel import Panel
from armlp.data.tables.read import read_panel
from armlp.data.tables.write import write_table_like
from armlp.data.time.calendar import spell_time
from armlp.errors import UserError
from armlp.files import prepare_output, write_table


def long_table(series: int = 3, rows: int = 6, freq: str = "h") -> pd.DataFrame:
    """A small long table: ids a, b, ...; y counts up."""
    times = pd.date_range("2020-01-01", periods=rows, freq=freq)
    ids = np.repeat(list("abcdefgh"[:series]), rows)
    table: pd.DataFrame = pd.DataFrame(
        {"unique_id": ids, "ds": np.tile(times, series), "y": np.arange(1.0, series * rows + 1)}
    )
    return table


def rows_of(panel: Panel) -> dict[Any, list[tuple[Any, ...]]]:
    """Each series' rows: label of the time, values, flags."""
    rows = {}
    for index, name in enumerate(panel.ids):
        begin, end = panel.offsets[index : index + 2].tolist()
        times = panel.calendar.shift(panel.starts[index], np.arange(end - begin))
        labels = [spell_time(time) for time in panel.calendar.wall_times(times)]
        values, flags = panel.values[begin:end].tolist(), panel.observed[begin:end].tolist()
        rows[name] = list(zip(labels, values, flags, strict=True))
    return rows


def back(panel: Panel, column: str = "y") -> Any:
    """A panel's observed values as a table again."""
    series = np.repeat(np.arange(len(panel)), panel.lengths.numpy())
    positions = np.concatenate([np.arange(length) for length in panel.lengths.tolist()])
    seen = panel.observed[:, 0].numpy()
    return write_table_like(panel, series[seen], {"ds": positions[seen]}, {column: panel.values[:, 0].numpy()[seen]})


def error_of(source: Any, **options: Any) -> str:
    """The sentence that reading ends in."""
    with pytest.raises(UserError) as error:
        read_panel(source, **options)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def expect(sentence: str, *parts: str) -> None:
    """Assert that a sentence has all its parts."""
    for part in parts:
        assert part in sentence, f"{part!r} is not in {sentence!r}"


# What comes in


@settings(max_examples=60)
@given(data=st.data())
def test_gaps_are_filled_forward_and_marked_as_a_loop_over_rows_would(data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 2))
    rows: list[Any] = []
    expected: dict[str, list[Any]] = {}
    for name in ("a", "b", "c")[: data.draw(st.integers(1, 3))]:
        start, length = data.draw(st.integers(0, 5)), data.draw(st.integers(2, 12))
        missing_value = st.one_of(st.none(), st.integers(-9, 9).map(float))
        series: list[list[float | None]] = [
            data.draw(st.lists(missing_value, min_size=channels, max_size=channels)) for _ in range(length)
        ]
        series[0], series[1] = [1.0] * channels, series[1]
        kept = [0, 1, *(step for step in range(2, length) if data.draw(st.booleans()))]
        last: list[float | None] = [None] * channels
        expected[name] = []
        for step in range(kept[-1] + 1):
            values = series[step] if step in kept else [None] * channels
            last = [new if new is not None else old for new, old in zip(values, last, strict=True)]
            expected[name].append((str(start + step), last, [value is not None for value in values]))
        rows += [(name, start + step, *series[step]) for step in kept]
    targets = ["u", "v"][:channels]
    table = pd.DataFrame(rows, columns=["unique_id", "ds", *targets]).astype(dict.fromkeys(targets, "float64"))
    shuffled = table.sample(frac=1, random_state=data.draw(st.integers(0, 9)))
    assert rows_of(read_panel(shuffled, target_columns=targets)) == expected


def test_leading_rows_without_every_channel_are_trimmed_and_their_values_kept_for_later() -> None:
    table = pd.DataFrame({"unique_id": "a", "ds": range(4), "u": [1.0, None, None, 4.0], "v": [None, None, 3.0, None]})
    assert rows_of(read_panel(table, target_columns=["u", "v"])) == {
        "a": [("2", [1.0, 3.0], [False, True]), ("3", [4.0, 3.0], [True, False])]
    }


def test_trailing_missing_values_stay_rows() -> None:
    table = pd.DataFrame({"unique_id": "a", "ds": range(3), "y": [1.0, 2.0, None]})
    assert rows_of(read_panel(table))["a"][-1] == ("2", [2.0], [False])


def test_series_without_any_value_are_left_out_and_named_once() -> None:
    table = long_table(6)
    table.loc[table.unique_id.isin(list("acdef")), "y"] = None
    with pytest.warns(UserWarning, match="5 of 6 series .* 'a', 'c', 'd' and 2 more") as warned:
        panel = read_panel(table)
    assert (panel.ids.tolist(), len(warned)) == (["b"], 1)
    expect(error_of(table[table.unique_id == "a"]), "no series has an observed value", "`target_columns`")


@pytest.mark.parametrize(
    "numbers",
    [
        pd.Series([1, 0, 1], dtype="int8"),
        pd.Series([True, False, True]),
        pd.Series([1, 0, 1], dtype="Int64"),
        pd.Series([1, 0, 1], dtype="float32"),
        pd.Series([decimal.Decimal(1), decimal.Decimal(0), decimal.Decimal(1)]),
        pd.Series([1, 0, 1], dtype="uint64[pyarrow]"),
        pd.Series([True, False, True], dtype="boolean"),
    ],
    ids=lambda numbers: str(numbers.dtype),
)
def test_numbers_of_any_type_are_read(numbers: pd.Series) -> None:
    panel = read_panel(pd.DataFrame({"unique_id": "a", "ds": range(3), "y": numbers}))
    assert panel.values[:, 0].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "spelling",
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S+00:00", "%d %b %Y %H:%M", "%m/%d/%Y %H:%M"],
)
def test_times_spelled_alike_are_read(spelling: str) -> None:
    table = long_table()
    assert rows_of(read_panel(table.assign(ds=table.ds.dt.strftime(spelling)))) == rows_of(read_panel(table))


# Layouts


def test_the_long_wide_and_vector_layouts_hold_the_same_numbers() -> None:
    table = long_table()
    wide = table.pivot(index="ds", columns="unique_id", values="y").reset_index()
    wide.columns.name = None
    assert rows_of(read_panel(wide)) == rows_of(read_panel(table))
    vector = read_panel(wide, layout="vector")
    assert vector.channels == ("a", "b", "c")
    assert np.array_equal(vector.values.numpy(), wide[["a", "b", "c"]])
    assert np.array_equal(read_panel(wide, target_columns=["c", "a"]).values.numpy(), wide[["c", "a"]])
    assert read_panel(wide, target_columns=["c", "a"], layout="wide").ids.tolist() == ["a", "c"]


def test_a_table_of_times_and_one_column_is_one_series_of_that_name() -> None:
    assert read_panel(long_table(1)[["ds", "y"]]).ids.tolist() == ["y"]


def test_wide_columns_that_hold_no_numbers_are_left_out_with_a_warning() -> None:
    table = long_table(1)[["ds", "y"]].assign(note="text")
    with pytest.warns(UserWarning, match="left out: 'note'"):
        assert read_panel(table).ids.tolist() == ["y"]


def test_the_index_of_a_pandas_table_counts_as_columns() -> None:
    table = long_table()
    assert rows_of(read_panel(table.set_index(["unique_id", "ds"]))) == rows_of(read_panel(table))
    kept = table.set_index(["unique_id", "ds"], drop=False)
    assert rows_of(read_panel(kept)) == rows_of(read_panel(table))


@pytest.mark.parametrize("convert", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas])
def test_lazy_and_eager_libraries_agree(convert: Callable[[pd.DataFrame], Any]) -> None:
    table = long_table()
    assert rows_of(read_panel(convert(table))) == rows_of(read_panel(pl.from_pandas(table).lazy()))


# Files


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_a_folder_and_a_glob_hold_what_the_table_holds(suffix: str, tmp_path: Path) -> None:
    table = long_table()
    for name in "abc":
        write_table(table[table.unique_id == name], tmp_path / "parts" / f"{name}{suffix}")
    write_table(table, tmp_path / f"all{suffix}")
    sources = [str(tmp_path / f"all{suffix}"), f"{tmp_path}/parts/*{suffix}"]
    sources += [str(tmp_path / "parts")] if suffix == ".parquet" else []
    for source in sources:
        panel = read_panel(source)
        assert rows_of(panel) == rows_of(read_panel(table))
        assert (panel.name, panel.style.backend) == (source, "pyarrow")


def test_a_folder_is_read_whatever_the_case_of_its_suffixes(tmp_path: Path) -> None:
    write_table(long_table(1), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(tmp_path / "A.PARQUET")
    for source in (tmp_path, f"{tmp_path}/*"):
        assert rows_of(read_panel(source)) == rows_of(read_panel(long_table(1)))


def test_a_csv_may_turn_to_fractions_after_its_first_block(tmp_path: Path) -> None:
    lines = [f"a,{row},1" for row in range(150_000)] + ["a,150000,1.5"]
    (tmp_path / "late.csv").write_text("unique_id,ds,y\n" + "\n".join(lines))
    assert read_panel(tmp_path / "late.csv").values[-1].item() == 1.5


# The way back


@settings(max_examples=60)
@given(
    freq=st.sampled_from(["15min", "h", "D", "B", "W-WED", "MS", "ME", "QS"]),
    zone=st.sampled_from([None, "UTC", "Europe/Berlin"]),
    unit=st.sampled_from(["ms", "us", "ns"]),
    ids=st.sampled_from(["string", "int32", "int64", "category"]),
    backend=st.sampled_from(["pandas", "polars", "pyarrow"]),
    seed=st.integers(0, 99),
)
def test_a_table_comes_back_as_it_went_in(
    freq: str, zone: str | None, unit: Any, ids: str, backend: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    times = pd.date_range("2021-01-01", periods=40, freq=freq, tz=zone).as_unit(unit)
    names: Any = np.array([3, 20, 100]) if ids.startswith("int") else np.array(["b", "a", "ü"])
    table = pd.DataFrame({"unique_id": np.repeat(names, 40), "ds": list(times) * 3})
    table["unique_id"] = table["unique_id"].astype("str" if ids == "string" else ids)
    table["ds"] = table["ds"].astype(times.dtype)
    table["y"] = rng.integers(-99, 99, 120).astype("float32")
    kept = table[(rng.random(120) < 0.8) | (np.arange(120) % 40 < 3)]
    kept = kept.assign(unique_id=kept.unique_id.astype("str" if ids == "category" else kept.unique_id.dtype))
    kept = kept.sort_values(["unique_id", "ds"]).reset_index(drop=True).astype({"unique_id": table.unique_id.dtype})
    convert: Any = {
        "pandas": lambda frame: frame,
        "polars": pl.from_pandas,
        "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    }[backend]
    came, went = back(read_panel(convert(kept.sample(frac=1, random_state=seed)))), convert(kept)
    assert type(came) is type(went)
    if backend == "pandas":
        pd.testing.assert_frame_equal(came, went, check_categorical=False)
    elif backend == "polars":
        assert came.schema["ds"] == went.schema["ds"]
        assert came.cast({"unique_id": pl.String}).equals(went.cast({"unique_id": pl.String}))
    else:
        assert came.schema.field("ds").type == went.schema.field("ds").type
        assert came.to_pylist() == went.to_pylist()


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "int64"])
def test_integer_times_keep_their_type(dtype: str) -> None:
    table = pd.DataFrame({"unique_id": "a", "ds": np.arange(5, dtype=dtype) * 2, "y": 1.0})
    assert back(read_panel(table)).ds.dtype == dtype


@pytest.mark.parametrize("backend", ["pandas", "polars"])
def test_dates_stay_dates(backend: str) -> None:
    days = [dt.date(2020, 1, day) for day in (1, 2, 3)]
    table: Any = {"unique_id": ["a"] * 3, "ds": days, "y": [1.0, 2.0, 3.0]}
    came = back(read_panel(pd.DataFrame(table) if backend == "pandas" else pl.DataFrame(table)))
    assert list(came["ds"]) == days
    assert type(came["ds"][0]) is dt.date


def test_answers_may_lie_past_the_end_and_are_sorted_by_series_cutoff_and_time() -> None:
    panel = read_panel(long_table(2, 6, "MS"))
    table = write_table_like(
        panel,
        np.array([1, 0, 0, 0]),
        {"ds": np.array([6, 7, 6, 7]), "cutoff": np.array([5, 5, 5, 4])},
        {"armlp": np.array([1.0, 2.0, 3.0, 4.0])},
    )
    assert list(table.columns) == ["unique_id", "ds", "cutoff", "armlp"]
    assert table.unique_id.tolist() == ["a", "a", "a", "b"]
    assert table.armlp.tolist() == [4, 3, 2, 1]
    assert table.ds.tolist() == [*pd.to_datetime(["2020-08-01", "2020-07-01", "2020-08-01", "2020-07-01"])]
    assert table.cutoff.tolist() == [*pd.to_datetime(["2020-05-01", "2020-06-01", "2020-06-01", "2020-06-01"])]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("convert", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas])
def test_a_written_table_reads_the_same_and_leaves_nothing_beside_it(
    suffix: str, convert: Callable[[pd.DataFrame], Any], tmp_path: Path
) -> None:
    path = tmp_path / "new" / f"table{suffix}"
    write_table(convert(long_table()), path)
    write_table(convert(long_table(2)), path)
    assert rows_of(read_panel(path)) == rows_of(read_panel(long_table(2)))
    assert os.listdir(path.parent) == [path.name]


def test_csv_times_are_iso_without_needless_zeros(tmp_path: Path) -> None:
    write_table(long_table(1, 1), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[1].split(",")[1] == "2020-01-01 00:00:00"


def test_tables_that_cannot_be_written_say_why_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither \.csv nor \.parquet"):
        write_table(long_table(), tmp_path / "t.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_table(long_table(), tmp_path / "file" / "t.csv")
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_table(long_table(), tmp_path / "t.csv")
    assert sorted(os.listdir(tmp_path)) == ["file", "t.csv"]


def test_a_folder_is_refused_as_an_output_before_the_work_is_done(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(UserError, match=r"t\.csv cannot be written \(it is a folder\)"):
        prepare_output(tmp_path / "t.csv", (".csv",))


# What is refused: one sentence with names, counts and the fix


def test_a_missing_file_is_named_with_the_files_that_look_like_it(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("ds,y\n1,1\n")
    expect(error_of(tmp_path / "sale.csv"), f"{tmp_path}/sale.csv does not exist", "did you mean", "sales.csv")
    expect(error_of("nowhere/at/all.csv"), "nowhere/at/all.csv does not exist", "which nowhere/at does not")


def test_files_that_hold_no_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("unique_id,ds,y\n")
    (tmp_path / "ragged.csv").write_text("unique_id,ds,y\na,1,1\na,2\n")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "table.xlsx").write_text("x")
    write_table(long_table(), tmp_path / "whole.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:500])
    (tmp_path / "folder").mkdir()
    expect(error_of(tmp_path / "empty.csv"), "empty.csv is empty (0 bytes)")
    expect(error_of(tmp_path / "header.csv"), "header.csv", "no rows")
    expect(error_of(tmp_path / "ragged.csv"), "ragged.csv cannot be read as CSV", "Expected 3 columns, got 2")
    expect(error_of(tmp_path / "binary.csv"), "binary.csv cannot be read as CSV")
    expect(error_of(tmp_path / "table.xlsx"), "table.xlsx is neither CSV nor Parquet")
    expect(error_of(tmp_path / "torn.parquet"), "torn.parquet cannot be read as Parquet")
    expect(error_of(tmp_path / "folder"), "folder holds no Parquet files")
    expect(error_of(f"{tmp_path}/*.pq"), "*.pq holds no")
    expect(error_of(3), "int", "pandas, polars or pyarrow")


def test_a_torn_or_corrupt_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress("".join(["unique_id,ds,y\n", *(f"a,{row},{row**2}\n" for row in range(9999))]).encode())
    path = tmp_path / "t.csv.gz"
    for place in (12, 99, len(whole) // 2, len(whole) - 6):
        for bad in (whole[:place], whole[:place] + bytes(4 * [255]) + whole[place + 4 :]):
            path.write_bytes(bad)
            expect(error_of(path), "t.csv.gz cannot be read as CSV")


def test_columns_of_several_levels_are_refused() -> None:
    expect(error_of(pd.concat({"a": long_table()}, axis=1)), "column names of 2 levels")


def test_files_of_one_glob_must_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("unique_id,ds,y\na,1,1\n")
    (tmp_path / "b.csv").write_text("unique_id,ds,z\nb,1,1\n")
    expect(error_of(f"{tmp_path}/*.csv"), "b.csv has no column 'y'")


def test_missing_columns_are_named_with_the_likeliest_other() -> None:
    table = long_table()
    expect(error_of(table, id_column="unique"), "the table has no column 'unique'", "`id_column` unique_id")
    expect(error_of(table, target_columns=["yy"]), "no column 'yy'", "'ds', 'y'", "`target_columns` y")
    expect(error_of(table.rename(columns={"ds": "when"})), "no column 'ds'", "`time_column` when")
    text = table.assign(ds=table.ds.astype(str)).rename(columns={"ds": "date"})
    expect(error_of(text[["date", "y"]]), "column 'date' looks like times", "`time_column` date")
    expect(error_of(table[["unique_id", "y"]]), "no column 'ds'", "'unique_id', 'y'", "`time_column`")


def test_a_target_named_twice_is_refused() -> None:
    expect(error_of(long_table(), target_columns=["y", "y"]), "`target_columns`", "twice (y, y)")


def test_unknown_layouts_are_refused_with_the_known_ones() -> None:
    expect(error_of(long_table(), layout="broad"), "`layout` 'broad'", "auto, long, wide, vector")


def test_missing_ids_and_times_are_named() -> None:
    table = long_table()
    expect(
        error_of(table.assign(unique_id=table.unique_id.where(table.index != 2))),
        "'unique_id'",
        "is empty in row 3",
    )
    expect(error_of(table.assign(ds=table.ds.where(table.index != 7))), "'ds'", "row 8, series 'b'")


def test_times_that_cannot_be_read_are_named() -> None:
    table = long_table().assign(ds=lambda table: table.ds.astype(str))
    table.loc[7, "ds"] = "soon"
    expect(error_of(table), "'ds' holds 'soon' (row 8, series 'b')", "2000-12-31")
    expect(error_of(long_table().assign(ds=0.5)), "'ds' holds Float64", "`time_column`")
    huge = pd.DataFrame({"unique_id": "a", "ds": np.array([2**63], dtype="uint64"), "y": 1.0})
    expect(error_of(huge), "'ds' holds integers beyond int64")
    late = pl.DataFrame({"unique_id": ["a"], "ds": [dt.datetime(9999, 1, 1)], "y": [1.0]})
    expect(error_of(late), "'ds'", "1678 to 2261")


def test_a_frequency_that_does_not_fit_is_refused_with_one_that_does() -> None:
    months = long_table(2, 6, "MS")
    expect(error_of(months, freq="M"), "`freq` ME", "series 'a'", "2020-01-01", "`freq` MS would fit")
    expect(error_of(months, freq=1), "`freq` is 1", "datetimes")
    expect(error_of(months.assign(ds=months.ds.dt.month), freq="h"), "`freq` is h", "integers")
    expect(error_of(months, freq="monthly"), "`freq` 'monthly'", "MS")


def test_gaps_that_would_fill_the_memory_are_refused() -> None:
    table = pd.DataFrame({"unique_id": "a", "ds": [0, 1, 10**12], "y": 1.0})
    expect(error_of(table), "3 rows", "1000000000001", "`freq`")


def test_counts_that_leave_many_gaps_are_told() -> None:
    numbers = pd.DataFrame({"unique_id": "a", "ds": np.cumsum(np.arange(120) % 7 + 1), "y": 1.0})
    with pytest.warns(UserWarning, match=r"the table has 120 rows, .* \d{3,} steps .*`freq`") as warned:
        read_panel(numbers)
    assert len(warned) == 1
    with pytest.warns(UserWarning, match="the table has 120 rows"):
        read_panel(numbers[["ds", "y"]].assign(z=2.0))


@pytest.mark.parametrize("spelling", ["%Y%m%d", "%Y%m"])
def test_dates_written_as_numbers_are_refused(spelling: str) -> None:
    months = long_table(2, 60, "ME")
    numbers = months.assign(ds=months.ds.dt.strftime(spelling).astype(int))
    expect(error_of(numbers), "dates written as integers", f"format='{spelling}'", "`freq` 1")
    with pytest.warns(UserWarning, match="the table has 120 rows"):
        assert read_panel(numbers, freq=1).calendar.is_integer


def test_a_few_gaps_are_no_cause_for_a_warning() -> None:
    read_panel(long_table(1, 400).drop(index=range(50, 250)))
    read_panel(pd.DataFrame({"unique_id": "a", "ds": [0, 1, 99], "y": 1.0}))


def test_columns_of_the_same_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("unique_id,ds,y,y\na,1,1,1\n")
    expect(error_of(tmp_path / "twice.csv"), "2 columns named 'y'")
    table = long_table()
    expect(error_of(pd.concat([table, table[["y"]]], axis=1)), "'y'")


def test_a_hundred_thousand_series_are_read_within_seconds() -> None:
    rows = 10
    table = pa.table(
        {
            "unique_id": np.repeat(np.arange(100_000), rows),
            "ds": np.tile(np.arange(rows), 100_000),
            "y": np.ones(1_000_000),
        }
    )
    assert len(read_panel(table.take(np.random.default_rng(0).permutation(1_000_000)))) == 100_000
