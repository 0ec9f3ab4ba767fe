"""Tests of reading in parts, from files of every kind, in memory or mapped: the same panel whatever the way."""

import json
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
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data import storage
from armlp.data.panel import Panel
from armlp.data.sources.source import Limits
from armlp.data.tables.read import read_panel
from armlp.data.tables.write import write_table_like
from armlp.errors import UserError
from armlp.forecaster import Forecaster

FREQS = ["7min", "h", "D", "B", "W-WED", "2W-SUN", "MS", "ME", "BME", "QS-FEB", "QE", "YE"]


# A handful of rows at a time, and every table read twice.
SMALL_PARTS = Limits(batch=7, kept=0)
# Every panel that comes from files is too large for memory.
IN_FILES = Limits(panel=0)


def same(left: Panel, right: Panel) -> None:
    """Assert that two panels hold the same."""
    for name in ("values", "observed", "offsets", "known", "past", "static"):
        assert np.array_equal(getattr(left, name).numpy(), getattr(right, name).numpy(), equal_nan=True), name
    assert left.ids.tolist() == right.ids.tolist()
    assert left.starts.tolist() == right.starts.tolist()
    assert (left.calendar, left.channels, left.symbols) == (right.calendar, right.channels, right.symbols)
    assert left.covariate_columns == right.covariate_columns
    assert (left.future is None) == (right.future is None)
    assert left.future is None or left.future.tolist() == right.future.tolist()  # type: ignore[union-attr]  # as is left


def random_table(seed: int, freq: str, zone: str | None = None, integers: bool = False) -> pd.DataFrame:
    """Some series with gaps, missing values and covariates, as a user would have them; each starts where it likes."""
    rng = np.random.default_rng(seed)
    parts = []
    for place, name in enumerate(rng.permutation(["b", "a/c", "ü", "001", "armlp"])[: rng.integers(1, 5)]):
        calendar = pd.date_range("2021-03-20", periods=60, freq=freq, tz=zone)[rng.integers(0, 9) :]
        kept = (rng.random(len(calendar)) < 0.8) | (np.arange(len(calendar)) < 4)
        part = pd.DataFrame({"unique_id": str(name), "ds": np.arange(len(calendar)) * 3 if integers else calendar})
        part["y"] = rng.integers(-99, 99, len(part)).astype(float)
        part["price"] = np.where(rng.random(len(part)) < 0.9, rng.integers(1, 9, len(part)) / 2, np.nan)
        part["promo"] = rng.choice(["none", "half", "Ünlimited"], len(part))
        part["region"] = ["north", "south"][place % 2]
        part = part[kept]
        part.loc[part.index[2:][rng.random(len(part) - 2) < 0.1], "y"] = np.nan
        parts.append(part)
    table: pd.DataFrame = pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)
    return table


def back(panel: Panel) -> pd.DataFrame:
    """The rows of a panel of which a value was observed, with their covariates."""
    series = np.repeat(np.arange(len(panel)), panel.stored_lengths.numpy())
    positions = np.concatenate([np.arange(length) for length in panel.stored_lengths.tolist()])
    seen = panel.observed[:, 0].numpy()
    promo = np.array(panel.covariate_columns["known"][1].categories)
    region = np.array(panel.covariate_columns["static"][0].categories)
    columns = {
        "y": panel.values[:, 0].numpy()[seen],
        "price": panel.known[:, 0].numpy()[seen],
        "promo": promo[panel.known[:, 1].numpy()[seen].astype(int)],
        "region": region[panel.static[:, 0].numpy().astype(int)][series[seen]],
    }
    table: pd.DataFrame = write_table_like(panel, series[seen], {"ds": positions[seen]}, columns)
    return table


COVARIATES: dict[str, Any] = {"known_covariates": ["price", "promo"], "static_covariates": "region"}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    freq=st.sampled_from(FREQS),
    zone=st.sampled_from([None, "UTC", "Europe/Berlin"]),
    integers=st.booleans(),
)
def test_a_table_of_any_calendar_with_covariates_comes_back_as_it_was(
    seed: int, freq: str, zone: str | None, integers: bool
):
    table = random_table(seed, freq, zone, integers)
    came = back(read_panel(table, freq=None if integers else freq, limits=SMALL_PARTS, **COVARIATES))
    went = table.dropna(subset="y").sort_values(["unique_id", "ds"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(came, went, check_dtype=False)
    assert came["ds"].dtype == went["ds"].dtype


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_source_gives_the_same_panel_in_parts_in_files_or_at_once(seed: int, tmp_path: Path):
    table = random_table(seed, "h")
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow, tmp_path / "whole.parquet", row_group_size=20)
    table.to_csv(tmp_path / "whole.csv", index=False)
    for place in range(3):
        pq.write_table(arrow.slice(place * len(arrow) // 3, len(arrow) // 3 + 1), tmp_path / f"{place}.parquet")
    pieces = pa.concat_tables([pq.read_table(tmp_path / f"{place}.parquet") for place in range(3)])
    ds.write_dataset(arrow, tmp_path / "hive", format="parquet", partitioning=["region"], partitioning_flavor="hive")
    kinds: dict[str, Any] = {
        "pandas": table,
        "polars": pl.from_pandas(table),
        "lazy": pl.from_pandas(table).lazy(),
        "arrow": arrow,
        "dataset": ds.dataset(tmp_path / "hive", partitioning="hive"),
        "parquet": tmp_path / "whole.parquet",
        "csv": tmp_path / "whole.csv",
        "hive": tmp_path / "hive",
        "hive glob": f"{tmp_path}/hive/*/*.parquet",
    }
    expected = read_panel(table, freq="h", **COVARIATES)
    assert len(pieces) >= len(arrow)
    for kind, source in kinds.items():
        same(read_panel(source, freq="h", **COVARIATES), expected)
        for _ in range(2):  # read, then read from the store
            same(read_panel(source, freq="h", limits=Limits(batch=7, kept=0, panel=0), **COVARIATES), expected)
        assert bool(list(tmp_path.glob("**/.*.armlp"))) == isinstance(source, (str, Path)) or kind == "hive glob"
        for store in tmp_path.glob("**/.*.armlp"):
            for file in store.iterdir():
                file.unlink()
            store.rmdir()


def long_table(series: int = 3, length: int = 20) -> pd.DataFrame:
    ids = np.repeat([f"s{place}" for place in range(series)], length)
    times = np.tile(pd.date_range("2024-01-01", periods=length, freq="h"), series)
    return pd.DataFrame({"unique_id": ids, "ds": times, "y": np.arange(series * length, dtype=float)})


def stores(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.armlp"))


# A panel in files


def test_a_store_is_reused_until_its_source_changes(tmp_path: Path):
    path = tmp_path / "t.parquet"
    long_table().to_parquet(path)
    read_panel(path, limits=IN_FILES)
    (store,) = stores(tmp_path)
    made = (store / "values.npy").stat().st_ino
    panel = read_panel(path, limits=IN_FILES)
    assert panel.values.tolist() == [[float(row)] for row in range(60)]
    assert (store / "values.npy").stat().st_ino == made
    long_table(2).to_parquet(path)
    assert len(read_panel(path, limits=IN_FILES)) == 2
    assert stores(tmp_path) == [store]
    assert (store / "values.npy").stat().st_ino != made
    assert (
        len(read_panel(path, freq="30min", limits=IN_FILES).values) == 2 * 39
    )  # other options have a store of their own
    assert len(stores(tmp_path)) == 2
    same(read_panel(path), read_panel(long_table(2)))  # there is room for it in memory now


def test_a_store_that_could_not_be_finished_leaves_nothing(tmp_path: Path):
    path = tmp_path / "t.parquet"
    pd.concat([long_table(), long_table(1)[:1]]).to_parquet(path)
    with pytest.raises(UserError, match="more than once"):
        read_panel(path, limits=IN_FILES)
    assert os.listdir(tmp_path) == ["t.parquet"]


@pytest.mark.parametrize("harm", ["{", "{}", None])
def test_a_store_that_was_harmed_is_made_anew(harm: str | None, tmp_path: Path):
    path = tmp_path / "t.parquet"
    long_table().to_parquet(path)
    read_panel(path, limits=IN_FILES)
    (store,) = stores(tmp_path)
    if harm is None:
        (store / "store.json").unlink()
    else:
        (store / "store.json").write_text(harm)
    same(read_panel(path, limits=IN_FILES), read_panel(long_table()))
    assert json.loads((store / "store.json").read_text())["freq"] == "h"


def test_a_store_goes_on_warning_of_what_its_source_lacks(tmp_path: Path):
    path = tmp_path / "t.parquet"
    long_table().assign(y=lambda table: table["y"].where(table["unique_id"] != "s1")).to_parquet(path)
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 3 series have no observed value and are left out: 's1'"):
            assert read_panel(path, limits=IN_FILES).ids.tolist() == ["s0", "s2"]


def test_a_panel_in_files_is_mapped_and_lets_its_pages_go(tmp_path: Path):
    path = tmp_path / "t.parquet"
    long_table(200, 5000).to_parquet(path)
    panel = read_panel(path, limits=IN_FILES)
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    (store,) = stores(tmp_path)
    assert str(store / "values.npy") in mapped
    assert float(panel.values.double().sum()) == sum(range(10**6))
    assert resident_kilobytes(store) > 3000
    assert panel.residency is not None
    panel.residency.release()
    assert resident_kilobytes(store) < 300
    assert float(panel.values.double().sum()) == sum(range(10**6))


def resident_kilobytes(folder: Path) -> int:
    """Of all files in a folder that are mapped into this process."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = str(folder) in line
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        ("plenty", "'plenty' is not an amount of memory; give one such as 2GB or 500MB."),
        ("0MB", "'0MB' is not an amount of memory"),
        ("1MB", r"1 MB is too small; the program itself takes \d+ MB, and \d+MB is the smallest that works."),
    ],
)
def test_a_budget_that_no_training_fits_in_is_refused(budget: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        read_panel(long_table(), memory_budget=budget)


# Calendars of tables that are longer than the sample


SMALL_SAMPLE = Limits(batch=7, kept=0, sample=50)


def test_a_calendar_is_found_from_some_series_and_mended_by_others():
    # Quarters of one phase in all series but one, of which the sample knows nothing.
    quarters = [pd.date_range("2020-01-01", periods=12, freq="3MS").to_series() for _ in range(40)]
    quarters[25] = pd.date_range("2020-02-01", periods=12, freq="3MS").to_series()
    frames = [pd.DataFrame({"unique_id": f"s{place:02}", "ds": ds, "y": 1.0}) for place, ds in enumerate(quarters)]
    assert (
        read_panel(pd.concat(frames), limits=SMALL_SAMPLE).calendar.freq
        == read_panel(pd.concat([frames[0], frames[25]])).calendar.freq
    )


def test_a_series_that_fits_no_calendar_is_named_even_outside_of_the_sample():
    table = long_table(40)
    table.loc[31 * 20 + 7, "ds"] += pd.Timedelta(minutes=5)
    with pytest.raises(UserError, match=r"no common step of time: .* series 's31' .*`freq`"):
        read_panel(table, limits=SMALL_SAMPLE)


@pytest.mark.parametrize("order", ["as it is", "by time", "shuffled"])
def test_the_order_of_rows_does_not_matter(order: str):
    table = long_table(40)
    rng = np.random.default_rng(0)
    mixed = {
        "as it is": table,
        "by time": table.sort_values(["ds", "unique_id"]),
        "shuffled": table.iloc[rng.permutation(len(table))],
    }[order]
    panel = read_panel(mixed, limits=SMALL_SAMPLE)
    assert panel.values[:, 0].tolist() == table.sort_values(["unique_id", "ds"])["y"].tolist()
    assert panel.calendar.freq == "h"


def test_one_series_that_is_longer_than_a_sample_is_read():
    assert read_panel(long_table(1, 500), limits=SMALL_SAMPLE).calendar.freq == "h"


# Several files


def test_a_bad_file_among_a_hundred_is_named(tmp_path: Path):
    for place in range(100):
        long_table(1).assign(unique_id=f"s{place}").to_parquet(tmp_path / f"{place:02}.parquet")
    whole = (tmp_path / "42.parquet").read_bytes()
    for harm in (b"", whole[:100], whole[:50] + bytes(200) + whole[250:]):
        (tmp_path / "42.parquet").write_bytes(harm)
        with pytest.raises(UserError, match=r"42\.parquet (is empty|cannot be read as Parquet)"):
            read_panel(tmp_path)
    long_table(1).assign(y="much").to_parquet(tmp_path / "42.parquet")
    with pytest.raises(UserError, match=r"42\.parquet: column 'y' holds text, first 'much'"):
        read_panel(tmp_path)
    long_table(1).assign(unique_id=3).to_parquet(tmp_path / "42.parquet")
    with pytest.raises(UserError, match=r"42\.parquet: column 'unique_id' holds Int64 after String"):
        read_panel(tmp_path)


def test_text_is_read_as_times_alike_in_all_parts():
    # The first twelve days alone could as well be months.
    days = pd.date_range("2024-01-01", periods=40, freq="D")
    table = pd.DataFrame({"unique_id": "a", "ds": days.strftime("%d/%m/%Y"), "y": 1.0})
    panel = read_panel(table, limits=SMALL_PARTS)
    assert (panel.calendar.freq, len(panel.values)) == ("D", 40)


def test_ids_of_a_csv_are_integers_only_if_they_are_spelled_so(tmp_path: Path):
    for ids, expected in ((["1", "2", "-3"], [-3, 1, 2]), (["001", "1", "2"], ["001", "1", "2"])):
        table = pd.concat([long_table(1).assign(unique_id=name) for name in ids])
        table.to_csv(tmp_path / "t.csv", index=False)
        assert read_panel(tmp_path / "t.csv").ids.tolist() == expected


# The future in a table of its own


@pytest.mark.parametrize("kind", ["table", "csv", "parquet"])
def test_future_covariates_come_from_rows_without_targets_or_from_a_table_of_their_own(kind: str, tmp_path: Path):
    table = long_table().assign(price=lambda table: table["y"] % 7, unique_id=np.repeat([3, 1, 20], 20))
    future = table[table.groupby("unique_id").cumcount() >= 15]
    history = table.drop(future.index)
    expected = read_panel(table.assign(y=table["y"].where(~table.index.isin(future.index))), known_covariates="price")
    future = future.drop(columns="y")
    write: dict[str, Callable[[pd.DataFrame, str], Any]] = {
        "table": lambda frame, name: frame,
        "csv": lambda frame, name: (frame.to_csv(tmp_path / name, index=False), tmp_path / name)[1],
        "parquet": lambda frame, name: (frame.to_parquet(tmp_path / f"{name}.parquet"), tmp_path / f"{name}.parquet")[
            1
        ],
    }
    same(read_panel(history, future=write[kind](future, "f.csv"), known_covariates="price"), expected)
    same(read_panel(write[kind](history, "h.csv"), future=future, known_covariates="price"), expected)
    with pytest.raises(UserError, match=r"has no column 'price'.*`future`"):
        read_panel(history, future=future.drop(columns="price"), known_covariates="price")
    with pytest.raises(UserError, match=r"`future`: there are no known covariates"):
        read_panel(history, future=future)


def test_columns_that_nobody_named_are_never_read(tmp_path: Path):
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.Table.from_pandas(long_table().assign(other=np.random.default_rng(0).random(60))), path, compression="none"
    )
    metadata = pq.read_metadata(path).row_group(0)
    (chunk,) = (metadata.column(place) for place in range(4) if metadata.column(place).path_in_schema == "other")
    content = bytearray(path.read_bytes())
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    content[begin : begin + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(content)
    same(read_panel(path), read_panel(long_table()))
    with pytest.raises(UserError, match=r"t\.parquet cannot be read as Parquet"):
        read_panel(path, past_covariates="other")


def test_training_on_a_mapped_panel_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "t.parquet"
    table = long_table(3, 60).assign(price=lambda table: table["y"] % 7)
    table.drop(index=[7, 8]).to_parquet(path)
    options = {"known_covariates": "price", "max_steps": 6, "enable_progress_bar": False, "default_root_dir": tmp_path}
    weights = []
    for most in (10**9, 0):
        monkeypatch.setattr(storage, "max_panel_bytes", lambda budget, most=most: most)
        forecaster = Forecaster(6, patch_length=3, context_length=12, **options).fit(path)
        weights.append(forecaster._fitted()["state_dict"])
    assert len(stores(tmp_path)) == 1
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
