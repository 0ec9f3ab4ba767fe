"""Tests of covariate scaling: what training tells of the columns, and how any later table is scaled and coded by it."""

import io
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError

HORIZON = 3
OPTIONS: dict[str, Any] = {
    "known_covariates": ["k", "c"], "past_covariates": "p", "static_covariates": ["m", "kind"],
    "horizon": HORIZON, "test_windows": 1, "freq": "h", "season_length": 1, "calendar_inputs": True,
}  # fmt: skip


def table_of(lengths: list[int], future: int = 0, seed: int = 0) -> pd.DataFrame:
    """Series with covariates of every role and kind, and empty targets in their future rows."""
    random = np.random.default_rng(seed)
    parts = []
    for index, length in enumerate(lengths):
        rows = length + future
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": f"s{index}",
                    "ds": pd.date_range("2024-01-01", periods=rows, freq="h"),
                    "y": np.where(np.arange(rows) < length, random.normal(size=rows), np.nan),
                    "k": random.normal(50, 9, rows),
                    "c": random.choice(["low", "mid", "high"], rows),
                    "p": random.normal(-3, 0.1, rows),
                    "m": float(index),
                    "kind": "xyz"[index % 3],
                }
            )
        )
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return table


def training_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows before what is held out: one validation and one test window."""
    history = table[table["y"].notna()]
    left = history.groupby("unique_id").cumcount(ascending=False)
    return history[left >= 2 * HORIZON]


@given(st.lists(st.integers(8, 20), min_size=1, max_size=4), st.integers(0, 4), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_columns_are_scaled_and_coded_by_their_training_rows(lengths: list[int], future: int, seed: int):
    table = table_of(lengths, future, seed)
    data = SeriesDataModule(table, **OPTIONS)
    panel, seen = data.panel, training_rows(table)
    for name, role, place in (("k", "known", 0), ("p", "past", 0)):
        scaled = (table[name] - seen[name].mean()) / seen[name].std(ddof=0)
        assert getattr(panel, role)[:, place].numpy() == pytest.approx(scaled, rel=1e-3, abs=1e-3)
    places = {name: code for code, name in enumerate(sorted(set(seen["c"])), start=1)}
    assert panel.known[:, 1].tolist() == [places.get(name, 0) for name in table["c"]]
    levels = np.arange(len(lengths))
    spread = levels.std() or 1.0
    assert panel.static[:, 0].numpy() == pytest.approx((levels - levels.mean()) / spread)
    assert panel.static[:, 1].tolist() == [1 + index % 3 for index in levels]
    assert data.covariate_sizes == {"known": [0, 1 + len(places)], "past": [0], "static": [0, 1 + min(3, len(lengths))]}
    assert (data.calendar_size, data.has_covariates) == (4, True)


def test_nothing_that_is_held_out_tells_of_the_columns():
    table = table_of([20, 14], future=4)
    changed = table.copy()
    later = ~table.index.isin(training_rows(table).index)
    changed.loc[later, ["k", "p"]] = 1e6
    changed.loc[later, "c"] = "never"
    changed.loc[later & table["y"].notna(), "y"] = -5.0
    one, other = (SeriesDataModule(each, **OPTIONS) for each in (table, changed))
    assert one.panel.lengths.equal(other.panel.lengths)
    assert one.hparams["covariate_statistics"] == other.hparams["covariate_statistics"]
    assert other.panel.known[:, 1][torch.from_numpy(later)].eq(0).all()  # never seen in training


def test_a_series_too_short_to_train_on_has_no_say():
    table = table_of([20, 6])
    data = SeriesDataModule(table, **OPTIONS)
    assert data.covariate_sizes["static"] == [0, 2]
    assert data.panel.static.tolist() == [[0, 1], [1, 0]]


def test_a_later_table_is_scaled_and_coded_as_in_training():
    trained = SeriesDataModule(table_of([20, 20]), **OPTIONS)
    trained.setup()
    file = io.BytesIO()
    torch.save(dict(trained.hparams), file)
    file.seek(0)
    options = torch.load(file, weights_only=True)  # as a checkpoint gives them back
    later = table_of([5], future=HORIZON, seed=7).assign(kind="unheard of")
    data = SeriesDataModule(later, **options)
    known, mean, std = (trained.hparams["covariate_statistics"]["known"][0][part] for part in ("name", "mean", "std"))
    assert known == "k"
    assert data.panel.known[:, 0].numpy() == pytest.approx((later["k"] - mean) / std, abs=1e-4)
    assert data.panel.static[0, 1] == 0
    assert data.covariate_sizes == trained.covariate_sizes
    (batch,) = data.predict_dataloader()
    assert batch.origin.tolist() == [5]
    assert batch.target.shape == (1, 0)


def test_a_number_with_nothing_known_before_is_the_mean_of_training():
    table = table_of([20, 20])
    table.loc[:2, ["k", "p"]] = np.nan
    table.loc[:19, ["m", "kind"]] = None
    panel = SeriesDataModule(table, **OPTIONS).panel
    assert panel.known[:3, 0].eq(0).all()
    assert panel.past[:3, 0].eq(0).all()
    assert panel.static[0].tolist() == [0, 0]


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9, -7.0])
def test_a_constant_column_is_zero_throughout(constant: float):
    data = SeriesDataModule(table_of([20]).assign(k=constant), **OPTIONS)
    assert data.panel.known[:, 0].abs().max() == 0
    assert data.hparams["covariate_statistics"]["known"][0]["std"] == 1


@pytest.mark.parametrize("small", [1e-12, 1e12])
def test_the_unit_of_a_column_does_not_matter(small: float):
    table = table_of([20, 14])
    panels = [SeriesDataModule(table.assign(k=table["k"] * unit), **OPTIONS).panel for unit in (1.0, small)]
    assert panels[0].known.numpy() == pytest.approx(panels[1].known.numpy(), rel=1e-4, abs=1e-4)


def test_batches_of_every_part_carry_covariates_to_the_end_of_the_last_patch():
    data = SeriesDataModule(table_of([30, 25], future=HORIZON), **OPTIONS, batch_size=4)
    data.shape_windows(5, 4, patch_length=2)
    for batch in data.train_dataloader():
        assert [tuple(part.shape[1:]) for part in batch.covariates] == [(9, 2), (9, 1), (4, 4), (2,)]
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        for batch in loader:
            assert [tuple(part.shape[1:]) for part in batch.covariates] == [(9, 2), (9, 1), (4, 4), (2,)]
    # The fourth step of the forecast lies past the horizon: it repeats the last row that is known.
    (batch,) = data.predict_dataloader()
    assert batch.covariates.known[:, -1].equal(batch.covariates.known[:, -2])
    assert batch.covariates.known[0, -2].equal(data.panel.known[30 + HORIZON - 1])


@pytest.mark.parametrize(("rows", "first"), [(0, "2024-01-01 20:00"), (2, "2024-01-01 22:00")])
def test_a_future_that_is_not_known_is_named_by_series_and_time(rows: int, first: str):
    whole = table_of([20, 20], future=HORIZON)
    row = whole.groupby("unique_id").cumcount()
    table = whole[(whole["unique_id"] == "s0") | (row < 20 + rows)]
    data = SeriesDataModule(table, **OPTIONS)
    data.setup()
    assert len(data.val_dataloader()) == 1  # only a forecast needs it
    with pytest.raises(UserError) as error:
        data.predict_dataloader()
    for part in ("--data.known_covariates", "'s1'", first, "1 of 2", "3 (--data.horizon)"):
        assert part in str(error.value)
    empty = whole.assign(k=whole["k"].where((whole["unique_id"] == "s0") | (row < 20 + rows)))
    with pytest.raises(UserError, match=first):
        SeriesDataModule(empty, **OPTIONS).predict_dataloader()


def test_past_and_static_covariates_need_no_future():
    options = {name: value for name, value in OPTIONS.items() if name != "known_covariates"}
    (batch,) = SeriesDataModule(table_of([20]), **options).predict_dataloader()
    assert batch.covariates.past.shape == (1, 1 + HORIZON, 1)


def test_other_columns_than_those_of_training_are_refused():
    trained = SeriesDataModule(table_of([20]), **OPTIONS)
    trained.setup()
    others = dict(trained.hparams) | {"known_covariates": ["k"]}
    with pytest.raises(UserError, match=r"--data\.known_covariates: \['k'\] was given, .* with \['k', 'c'\]"):
        SeriesDataModule(table_of([20]), **others).setup()
    for name, column, kinds in (("k", "text", "categories, .* numbers"), ("c", 1.0, "numbers, .* categories")):
        with pytest.raises(UserError, match=f"--data.known_covariates: column '{name}' holds {kinds}"):
            SeriesDataModule(table_of([20]).assign(**{name: column}), **trained.hparams).setup()


@pytest.mark.parametrize("freq", [1, "YS"])
def test_a_calendar_that_tells_nothing_is_refused(freq: Any):
    times = np.arange(20) if freq == 1 else pd.date_range("2000-01-01", periods=20, freq=freq)
    table = table_of([20]).assign(ds=times)
    with pytest.raises(UserError, match=rf"--data\.calendar_inputs: .* step by {freq if freq == 1 else 'YS'}"):
        SeriesDataModule(table, **OPTIONS | {"freq": freq}).setup()


def test_data_without_covariates_say_so():
    data = SeriesDataModule(table_of([20]), horizon=HORIZON)
    assert data.covariate_sizes == {"known": [], "past": [], "static": []}
    assert (data.calendar_size, data.has_covariates) == (0, False)
    assert not math.isnan(float(next(iter(data.predict_dataloader())).context.sum()))
