"""Tests of covariate scaling: statistics of the training rows, which scale and code the columns of any later table."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.covariate_scaling import covariate_sizes, fit_statistics, scaling_of
from armlp.data.covariates import CovariateColumn, Covariates
from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.time.calendar import Calendar
from armlp.data.windows import Windowing
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


def scaled(panel: Panel) -> Covariates:
    """The whole store as if it were one window, as the network takes it."""
    assert panel.covariate_scaling is not None
    calendar = torch.empty(1, 0, 0)
    one = panel.covariate_scaling(Covariates(panel.known[None], panel.past[None], calendar, panel.static))
    return Covariates(one.known[0], one.past[0], calendar, one.static)


@given(st.lists(st.integers(8, 20), min_size=1, max_size=4), st.integers(0, 4), st.integers(0, 9))
@settings(max_examples=25)
def test_columns_are_scaled_and_coded_by_their_training_rows(lengths: list[int], future: int, seed: int):
    table = table_of(lengths, future, seed)
    data = SeriesDataModule(table, **OPTIONS)
    columns, seen = scaled(data.panel), training_rows(table)
    for name, role, place in (("k", "known", 0), ("p", "past", 0)):
        expected = (table[name] - seen[name].mean()) / seen[name].std(ddof=0)
        assert getattr(columns, role)[:, place].numpy() == pytest.approx(expected, rel=1e-3, abs=1e-3)
    places = {name: code for code, name in enumerate(sorted(set(seen["c"])), start=1)}
    assert columns.known[:, 1].tolist() == [places.get(name, 0) for name in table["c"]]
    levels = np.arange(len(lengths))
    spread = levels.std() or 1.0
    assert columns.static[:, 0].numpy() == pytest.approx((levels - levels.mean()) / spread)
    assert columns.static[:, 1].tolist() == [1 + index % 3 for index in levels]
    assert data.covariate_sizes == {"known": [0, 1 + len(places)], "past": [0], "static": [0, 1 + min(3, len(lengths))]}
    assert (data.calendar_size, data.panel.has_covariates) == (4, True)


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
    assert scaled(other.panel).known[:, 1][torch.from_numpy(later)].eq(0).all()  # never seen in training


def test_a_series_too_short_to_train_on_has_no_say():
    table = table_of([20, 6])
    data = SeriesDataModule(table, **OPTIONS)
    assert data.covariate_sizes["static"] == [0, 2]
    assert scaled(data.panel).static.tolist() == [[0, 1], [1, 0]]


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
    assert scaled(data.panel).known[:, 0].numpy() == pytest.approx((later["k"] - mean) / std, abs=1e-4)
    assert scaled(data.panel).static[0, 1] == 0
    assert data.covariate_sizes == trained.covariate_sizes
    (batch,) = data.predict_dataloader()
    assert batch.origin.tolist() == [5]
    assert batch.target.shape == (1, 0, 1)


def test_a_number_with_nothing_known_before_is_the_mean_of_training():
    table = table_of([20, 20])
    table.loc[:2, ["k", "p"]] = np.nan
    table.loc[:19, ["m", "kind"]] = None
    data = SeriesDataModule(table, **OPTIONS)
    columns = scaled(data.panel)
    assert columns.known[:3, 0].eq(0).all()
    assert columns.past[:3, 0].eq(0).all()
    assert columns.static.tolist() == [[0, 0, 0], [0, 1, 1]]
    # After the number and the category comes what was there: of the numbers.
    assert columns.known[:, 2].tolist() == [0] * 3 + [1] * 37
    assert columns.past[:, 1].tolist() == [0] * 3 + [1] * 37
    assert data.covariate_sizes == {"known": [0, 4, 0], "past": [0, 0], "static": [0, 2, 0]}


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9, -7.0])
def test_a_constant_column_is_zero_throughout(constant: float):
    data = SeriesDataModule(table_of([20]).assign(k=constant), **OPTIONS)
    assert scaled(data.panel).known[:, 0].abs().max() == 0
    assert data.hparams["covariate_statistics"]["known"][0]["std"] == 1


@pytest.mark.parametrize("small", [1e-12, 1e12])
def test_the_unit_of_a_column_does_not_matter(small: float):
    table = table_of([20, 14])
    tables = [table.assign(k=table["k"] * unit) for unit in (1.0, small)]
    one, other = (scaled(SeriesDataModule(each, **OPTIONS).panel).known.numpy() for each in tables)
    assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


def test_batches_of_every_part_carry_covariates_to_the_end_of_the_last_patch():
    data = SeriesDataModule(table_of([30, 25], future=HORIZON), **OPTIONS, batch_size=4)
    data.windowing = Windowing(context_length=5, span=4, patch_length=2)
    for batch in data.train_dataloader():
        assert [tuple(part.shape[1:]) for part in batch.covariates] == [(9, 2), (9, 1), (4, 4), (2,)]
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        for batch in loader:
            assert [tuple(part.shape[1:]) for part in batch.covariates] == [(9, 2), (9, 1), (4, 4), (2,)]
    # The fourth step of the forecast lies past the horizon: it repeats the last row that is known.
    (batch,) = data.predict_dataloader()
    assert batch.covariates.known[:, -1].equal(batch.covariates.known[:, -2])
    assert batch.covariates.known[0, -2].equal(scaled(data.panel).known[30 + HORIZON - 1])


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
    for part in ("`known_covariates`", "'s1'", first, "1 of 2", "3 rows (`horizon`)"):
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
    with pytest.raises(UserError, match=r"`known_covariates`: \['k'\] was given, .* with \['k', 'c'\]"):
        SeriesDataModule(table_of([20]), **others).setup()
    for name, column, kinds in (("k", "text", "categories, .* numbers"), ("c", 1.0, "numbers, .* categories")):
        with pytest.raises(UserError, match=f"`known_covariates`: column '{name}' holds {kinds}"):
            SeriesDataModule(table_of([20]).assign(**{name: column}), **trained.hparams).setup()


@pytest.mark.parametrize("freq", [1, "YS"])
def test_a_calendar_that_tells_nothing_is_refused(freq: Any):
    times = np.arange(20) if freq == 1 else pd.date_range("2000-01-01", periods=20, freq=freq)
    table = table_of([20]).assign(ds=times)
    with pytest.raises(UserError, match=rf"`calendar_inputs`: .* {'are integers' if freq == 1 else 'step by YS'}"):
        SeriesDataModule(table, **OPTIONS | {"freq": freq}).setup()


def panel_of(series: Sequence[Sequence[Any]], columns: Any, **covariates: torch.Tensor) -> Panel:
    """A panel of series of so many rows, with nothing but covariates."""
    offsets = np.cumsum([0, *map(len, series)])
    return Panel(
        values=torch.zeros(offsets[-1], 1),
        observed=torch.ones(offsets[-1], 1, dtype=torch.bool),
        offsets=torch.from_numpy(offsets),
        ids=np.arange(len(series)),
        starts=np.zeros(len(series), dtype=np.int64),
        calendar=Calendar(1),
        covariate_columns=columns,
        **covariates,
    )


@given(
    st.lists(st.lists(st.sampled_from([None, -1.0, 0.5, 1e4, 1e4 + 1]), min_size=1, max_size=9), min_size=1), st.data()
)
@settings(max_examples=60)
def test_statistics_of_blocks_are_those_of_all_training_rows(series: list[list[float | None]], data: st.DataObject):
    rows = [math.nan if cell is None else cell for cells in series for cell in cells]
    ends = [data.draw(st.integers(-2, len(cells))) for cells in series]
    codes = [math.nan if math.isnan(row) else float(index % 4) for index, row in enumerate(rows)]
    number, category = CovariateColumn("n"), CovariateColumn("c", ("p", "q", "r", "s"))
    columns = {"known": (number, category), "past": (number,), "static": ()}
    panel = panel_of(series, columns, known=torch.tensor([rows, codes]).T, past=torch.tensor([rows]).T)
    with pytest.MonkeyPatch.context() as patch:
        most, blocks = data.draw(st.integers(1, 12)), Panel.blocks
        patch.setattr(Panel, "blocks", lambda panel: blocks(panel, most))
        statistics = fit_statistics(panel, torch.tensor(ends))
    kept = [
        (first + row)
        for first, cells, end in zip(panel.offsets.tolist(), series, ends, strict=False)
        for row in range(len(cells))
        if row < end
    ]
    numbers = pd.Series([rows[row] for row in kept], dtype=float)
    (known, coded), (past,) = statistics["known"], statistics["past"]
    assert known == past
    assert known["missing"] == bool(numbers.isna().any())
    assert known["mean"] == pytest.approx(np.nan_to_num(numbers.mean()))
    assert known["std"] == pytest.approx(numbers.std(ddof=0) if numbers.nunique() > 1 else 1.0, rel=1e-6)
    assert coded["categories"] == sorted({"pqrs"[int(codes[row])] for row in kept if not math.isnan(codes[row])})


CELL = st.one_of(st.none(), st.integers(0, 9))


@given(st.data(), st.booleans())
@settings(max_examples=60)
def test_a_missing_number_takes_the_last_one_before_it_in_the_window(data: st.DataObject, with_mask: bool):
    batch, steps = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    cells = [[data.draw(st.tuples(CELL, CELL)) for _ in range(steps)] for _ in range(batch)]
    expected = []
    for window in cells:
        last = 0.0
        for number, code in window:
            last = last if number is None else (number - 3) / 2
            category = 0 if code is None else {0: 2, 2: 1}.get(code % 3, 0)
            expected.append([last, category, *([float(number is not None)] if with_mask else [])])
    raw = torch.tensor(np.array(cells, dtype=np.float32))  # None becomes nan
    raw[..., 1] %= 3
    columns = {"known": (), "past": (CovariateColumn("n"), CovariateColumn("c", ("x", "y", "z"))), "static": ()}
    panel = panel_of([[0.0]], columns, past=torch.zeros(1, 2))
    statistics = {
        "known": [],
        "past": [
            {"name": "n", "mean": 3.0, "std": 2.0} | ({"missing": True} if with_mask else {}),
            {"name": "c", "categories": ["z", "x"]},
        ],
        "static": [],
    }
    assert covariate_sizes(statistics)["past"] == [0, 3, *([0] if with_mask else [])]
    got = scaling_of(panel, statistics).past(raw)
    assert got.flatten(0, 1).tolist() == expected
    # Whatever comes from a step on, nothing before it moves.
    step = data.draw(st.integers(0, steps - 1))
    raw[:, step:, 0] = data.draw(st.sampled_from([math.nan, 7.0]))
    assert scaling_of(panel, statistics).past(raw)[:, :step].equal(got[:, :step])


def test_a_column_without_missing_values_in_training_is_filled_and_has_no_mask():
    trained = SeriesDataModule(table_of([20, 20]), **OPTIONS)
    later = table_of([20], future=HORIZON)
    later.loc[15:19, ["k", "p", "m"]] = np.nan
    trained.setup()
    data = SeriesDataModule(later, **trained.hparams)
    (batch,) = data.predict_dataloader()
    assert data.covariate_sizes == trained.covariate_sizes == {"known": [0, 4], "past": [0], "static": [0, 3]}
    assert all(part.isfinite().all() for part in batch.covariates)


@pytest.mark.parametrize(
    ("freq", "rows", "cycles"),
    [
        ("h", 40, []),
        ("h", 48, ["day"]),
        ("h", 14 * 24, ["day", "week"]),
        ("D", 13, []),
        ("D", 14, ["week"]),
        ("D", 61, ["week", "month"]),
        ("D", 731, ["week", "month", "year"]),
        ("B", 10, ["week"]),
        ("W-SUN", 100, []),
        ("W-SUN", 105, ["year"]),
        ("MS", 23, []),
        ("MS", 24, ["months"]),
        ("YS", 50, []),
        (1, 50, []),
    ],
)
def test_by_default_calendar_features_are_those_of_cycles_that_training_covers_twice(
    freq: Any, rows: int, cycles: list[str]
):
    rows += HORIZON  # what is held out does not count
    times = np.arange(rows) if freq == 1 else pd.date_range("2000-01-01", periods=rows, freq=freq)
    table = pd.DataFrame({"ds": times, "y": np.random.default_rng(0).normal(size=rows)})
    data = SeriesDataModule(table, horizon=HORIZON)
    assert list(data.panel.calendar_cycles) == data.hparams["calendar_inputs"] == cycles
    assert data.calendar_size == 2 * len(cycles)
    assert data.panel.has_covariates == bool(cycles)


@pytest.mark.parametrize(
    ("asked", "cycles"), [(True, ["day", "week"]), (False, []), ("week", ["week"]), (["week", "day"], ["week", "day"])]
)
def test_the_calendar_tells_what_was_asked_for(asked: Any, cycles: list[str]):
    data = SeriesDataModule(table_of([20]), horizon=HORIZON, calendar_inputs=asked)
    data.setup()
    assert data.hparams["calendar_inputs"] == cycles
    # What a checkpoint holds is asked for again, whatever the next table would choose.
    again = SeriesDataModule(table_of([400]), **{k: v for k, v in data.hparams.items() if k != "source"})
    assert list(again.panel.calendar_cycles) == cycles


@pytest.mark.parametrize(
    ("freq", "asked", "sentence"),
    [
        (
            1,
            ["day", "week"],
            "uses the time of day and the day of the week, but the times of the table are integers",
        ),
        ("MS", ["day"], "uses the time of day, but .* step by MS, for which the calendar has only the month of the"),
        ("YS", True, "step by YS-JAN, for which the calendar has nothing"),
        ("h", ["fortnight"], "'fortnight' is no cycle of a calendar; give some of day, week, month, year, months"),
    ],
)
def test_a_cycle_that_the_times_do_not_tell_is_named(freq: Any, asked: Any, sentence: str):
    times = np.arange(20) if freq == 1 else pd.date_range("2000-01-01", periods=20, freq=freq)
    table = pd.DataFrame({"ds": times, "y": np.arange(20.0)})
    with pytest.raises(UserError, match=rf"`calendar_inputs`: .*{sentence}"):
        SeriesDataModule(table, horizon=HORIZON, calendar_inputs=asked).setup()


def test_data_without_covariates_say_so():
    data = SeriesDataModule(table_of([20]), horizon=HORIZON)
    assert data.covariate_sizes == {"known": [], "past": [], "static": []}
    assert (data.calendar_size, data.panel.has_covariates) == (0, False)
    assert not math.isnan(float(next(iter(data.predict_dataloader())).context.sum()))


@pytest.mark.parametrize("role", ["known", "past", "static"])
@pytest.mark.parametrize("nothing", [float("nan"), None])
def test_a_covariate_that_holds_nothing_is_refused_before_training(make_table: Any, role: str, nothing: Any):
    data = SeriesDataModule(make_table().assign(x=nothing), horizon=6, **{f"{role}_covariates": ["x"]})
    with pytest.raises(UserError, match=rf"`{role}_covariates`: column 'x' is empty; fill it, or train without"):
        data.setup("fit")
