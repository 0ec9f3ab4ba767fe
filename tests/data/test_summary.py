"""Tests of the summary of a data set, against pandas."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.datamodule import SeriesDataModule
from armlp.data.split import Split
from armlp.data.summary import Between, DataSummary, summarize
from armlp.data.tables.read import read_panel
from armlp.data.windows import Windowing

SPLITS = st.builds(Split, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2))


def table_of(lengths: list[int], freq: str, shift: int, missing: float, seed: int) -> pd.DataFrame:
    """Long series of few different values, each beginning `shift` steps after the one before it."""
    generator = np.random.default_rng(seed)
    parts = []
    for index, length in enumerate(lengths):
        times = pd.date_range("2024-01-01", periods=index * shift + length, freq=freq)[-length:]
        values = generator.integers(0, 2 if index % 2 else 1, length).astype(float)
        values[generator.random(length) < missing] = np.nan
        values[[0, -1]] = 0.0  # so that every row is in the panel
        parts.append(pd.DataFrame({"unique_id": f"s{index:02d}", "ds": times, "y": values}))
    return pd.concat(parts, ignore_index=True)


@given(
    lengths=st.lists(st.integers(3, 25), min_size=1, max_size=6),
    freq=st.sampled_from(["h", "30min", "D", "MS", "W-SUN"]),
    shift=st.integers(0, 3),
    missing=st.sampled_from([0.0, 0.3]),
    split=SPLITS,
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
def test_a_summary_says_what_pandas_finds(
    lengths: list[int], freq: str, shift: int, missing: float, split: Split, seed: int
):
    table = table_of(lengths, freq, shift, missing, seed)
    found = summarize(read_panel(table, freq=freq), split, 7, 123)
    series = table.groupby("unique_id")
    sizes = series.size()
    assert (found.series, found.season_length) == (len(lengths), 7)
    assert found.lengths == (sizes.min(), sizes.median(), sizes.max())
    assert found.missing == pytest.approx(table["y"].isna().mean())
    assert found.constant == (series["y"].nunique() == 1).sum()

    held_out = (split.val_windows + split.test_windows) * split.horizon
    assert (found.needed, found.held_out) == (held_out + 2, held_out)
    assert found.too_short == (sizes < found.needed).sum()

    times = {name: part["ds"].tolist() for name, part in series}
    ends = [kept[-1] for kept in (each[: max(0, len(each) - held_out)] for each in times.values()) if len(kept) >= 2]
    assert (found.train is None) == (not ends)
    if found.train:
        assert found.train.windows == 123
        assert read(found.train.ends) == (min(ends), max(ends))
    test = split.test_windows * split.horizon
    for part, first, last in ((found.val, held_out, test), (found.test, test, 0)):
        # Origins lie a horizon apart, and each needs a row before it.
        kept = [
            [row for row in range(len(each) - first, len(each) - last, split.horizon) if row >= 1]
            for each in times.values()
        ]
        begins = [each[rows[0]] for each, rows in zip(times.values(), kept, strict=True) if rows]
        ends = [each[-1 - last] for each, rows in zip(times.values(), kept, strict=True) if rows]
        assert (part is None) == (not begins)
        if part:
            assert part.windows == sum(map(len, kept))
            assert read(part.begins) == (min(begins), max(begins))
            assert read(part.ends) == (min(ends), max(ends))


def read(times: Between) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Text as times."""
    return pd.Timestamp(times.earliest), pd.Timestamp(times.latest)


def test_the_training_windows_are_those_of_an_epoch(make_table: Callable[..., pd.DataFrame]):
    data = SeriesDataModule(make_table(rows=40), horizon=3)
    data.windowing = Windowing(context_length=7, span=3)
    assert data.summary().train is not None
    assert data.summary().train.windows == sum(len(batch.series) for batch in data.train_dataloader())


def rows_of(table: pd.DataFrame, split: Split | None = None, **options: object) -> dict[str, str]:
    """What the table for people says."""
    return summarize(read_panel(table, **options), split or Split(2), 1, 1).rows()


def test_times_are_shown_once_if_all_series_agree_and_otherwise_as_a_range():
    together = rows_of(table_of([9, 9], "D", 0, 0.0, 0), Split(2, 1, 1))
    assert together["training"] == "1 window an epoch, ends 2024-01-05"
    assert together["validation"] == "2 origins x 2 steps, 2024-01-06 to 2024-01-07"
    assert together["test"] == "2 origins x 2 steps, 2024-01-08 to 2024-01-09"
    apart = rows_of(table_of([9, 9], "h", 3, 0.0, 0), Split(2, 1, 0))
    assert apart["training"] == "1 window an epoch, ends between 2024-01-01 06:00 and 2024-01-01 09:00"
    assert apart["validation"] == (
        "2 origins x 2 steps, begins between 2024-01-01 07:00 and 2024-01-01 10:00, "
        "ends between 2024-01-01 08:00 and 2024-01-01 11:00"
    )
    assert apart["test"] == "none"


def test_the_summary_has_rows_only_for_what_the_table_holds():
    table = table_of([9, 9], "h", 0, 0.0, 0)
    plain = rows_of(table)
    assert plain["series"] == "2"
    assert plain["length"] == "9 steps"
    assert (plain["frequency"], plain["season"], plain["missing"]) == ("h", "none", "none")
    assert plain["constant"] == "1 of 2 series"
    assert plain["shortest usable"] == "4 steps, 2 held out; shorter: no series"
    assert not {"symbols", "covariates"} & set(plain)

    vector = rows_of(table.assign(z=1.0), target_columns=["y", "z"])
    assert vector["series"] == "2 of 2 channels: y, z"
    assert vector["constant"] == "3 of 4 channels"

    columns = {"price": 1.5, "kind": "a", "heat": 2.0}
    with_covariates = rows_of(
        table.assign(**columns),
        known_covariates=["price"], past_covariates=["heat"], static_covariates=["kind"],
    )  # fmt: skip
    assert with_covariates["covariates"] == "known price; past heat; static kind"

    symbols = rows_of(table.assign(y=["a", "b"] * 9), symbols=True)
    assert symbols["symbols"] == "2: a, b"
    assert "constant" not in symbols

    local = table.assign(ds=table["ds"].dt.tz_localize("Europe/Berlin"))
    assert rows_of(local)["frequency"] == "h, Europe/Berlin"
    assert rows_of(table.assign(ds=[*range(0, 27, 3)] * 2))["frequency"] == "integers, 3 apart"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (0, "none"),
        (1, "less than 0.01% of the values"),
        (300, "0.3% of the values"),
        (12_345, "12.3% of the values"),
        (99_990, "100% of the values"),
    ],
)
def test_the_share_of_missing_values_is_a_percentage(missing: int, said: str, summary: DataSummary):
    assert summary._replace(missing=missing / 100_000).rows()["missing"] == said


@pytest.fixture
def summary() -> DataSummary:
    return summarize(read_panel(table_of([9], "h", 0, 0.0, 0)), Split(2), 1, 1)
