"""Tests of covariates from the table to the windows, with loops over rows as the oracle."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.covariate_scaling import scaling_of
from armlp.data.covariates import CovariateColumn, Covariates
from armlp.data.loaders import OriginLoader, TrainingLoader
from armlp.data.panel import Panel
from armlp.data.tables.read import read_panel
from armlp.data.time.calendar import Calendar
from armlp.data.time.features import time_features
from armlp.data.windows import gather
from armlp.errors import UserError
from armlp.evaluation.baselines.naive import naive_errors, seasonal_naive
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.sampling import Sampling

NAN = float("nan")
CELL = st.one_of(st.none(), st.integers(0, 9))
properties = settings(max_examples=60)


def long_table(**columns: Any) -> pd.DataFrame:
    """Two series of three rows, and more columns."""
    table = {"unique_id": ["a"] * 3 + ["b"] * 3, "ds": [1, 2, 3] * 2, "y": np.arange(6.0)} | columns
    return pd.DataFrame(table)


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one, dtype=float), np.asarray(other, dtype=float), equal_nan=True)


@given(st.data())
@properties
def test_covariates_lie_on_the_steps_of_their_series_raw_and_nowhere_filled(data: st.DataObject):
    rows, expected, future = [], [], []
    for name in range(data.draw(st.integers(1, 3))):
        times = sorted(data.draw(st.sets(st.integers(0, 8), min_size=2, max_size=6)))
        cells = {time: data.draw(st.tuples(CELL, CELL, CELL)) for time in times}
        cells[times[0]] = (1, *cells[times[0]][1:])  # no leading row is cut off
        if not name:
            cells[times[0]] = (1, 0, cells[times[0]][2])  # an empty column is known everywhere
        rows += [(name, time, *cell) for time, cell in cells.items()]
        last = max(time for time, cell in cells.items() if cell[0] is not None)
        end = max([last, *(time for time, cell in cells.items() if cell[1] is not None)])
        expected += [cells.get(time, (None, None, None))[1:] for time in range(times[0], end + 1)]
        future.append(end - last)
    table = pd.DataFrame(rows, columns=["unique_id", "ds", "y", "k", "p"]).astype({"y": float, "k": float, "p": float})
    panel = read_panel(table.sample(frac=1, random_state=0), freq=1, known_covariates="k", past_covariates=["p"])
    assert panel.future is not None
    assert panel.future.tolist() == future
    assert same(torch.cat([panel.known, panel.past], 1), expected)
    assert panel.lengths.tolist() == (panel.offsets.diff() - panel.future).tolist()


def test_rows_after_the_last_value_are_future_rows_only_where_covariates_are_known_ahead():
    table = long_table(k=np.arange(6.0), y=[1, NAN, NAN, 2, 3, 4])
    ahead = read_panel(table, known_covariates=["k"])
    assert (ahead.lengths.tolist(), ahead.stored_lengths.tolist()) == ([1, 3], [3, 3])
    assert ahead.series(0).tolist() == [[1]]
    assert ahead.fully_observed
    for options in ({}, {"past_covariates": ["k"]}):
        panel = read_panel(table, **options)
        assert panel.future is None
        assert panel.lengths.tolist() == [3, 3]
        assert not panel.fully_observed


def test_future_rows_reach_as_far_as_every_covariate_is_known():
    table = long_table(y=[1, NAN, NAN, 2, 3, NAN], one=[1, 1, 1, 1, 1, NAN], two=[1, 1, NAN, NAN, 1, 1])
    panel = read_panel(table, known_covariates=["one", "two"])
    assert panel.future is not None
    assert panel.future.tolist() == [1, 0]
    assert same(panel.known, [[1, 1], [1, 1], [1, NAN], [1, 1]])


def test_leading_rows_without_a_value_are_cut_off_with_their_covariates():
    table = long_table(y=[NAN, 1, 2, 3, 4, 5], p=[7, NAN, NAN, NAN, 8, NAN])
    panel = read_panel(table, past_covariates=["p"])
    assert same(panel.past[:, 0], [NAN, NAN, NAN, 8, NAN])


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["x", "z", None, "y", "", "x"]),
        pd.Series(["x", "z", None, "y", None, "x"], dtype="category"),
        pl.Series(["x", "z", None, "y", None, "x"], dtype=pl.Enum(["z", "y", "x", "w"])),
    ],
)
def test_text_and_categories_become_codes_of_their_ascending_names_and_empty_is_one(column: Any):
    library: Any = pl if isinstance(column, pl.Series) else pd
    table = library.DataFrame({name: list(values) for name, values in long_table().items()} | {"c": column})
    panel = read_panel(table, past_covariates="c")
    assert panel.covariate_columns["past"] == (CovariateColumn("c", ("", "x", "y", "z")),)
    assert panel.past[:, 0].tolist() == [1, 3, 0, 2, 0, 1]


def test_a_gap_has_no_category_and_an_empty_future_is_known():
    table = long_table(ds=[1, 2, 4, 1, 2, 3], y=[1, 2, 3, 4, NAN, NAN], holiday=["x", "y", "", "", "", ""])
    panel = read_panel(table, known_covariates="holiday")
    assert panel.future is not None
    assert panel.future.tolist() == [0, 2]
    assert same(panel.known[:, 0], [1, 2, NAN, 0, 0, 0, 0])


@pytest.mark.parametrize("column", [[1, 2, 3, 4, 5, 6], [True, False] * 3, [0.5] * 6])
def test_numbers_and_truth_values_stay_numbers(column: list[Any]):
    panel = read_panel(long_table(c=column), known_covariates="c")
    assert panel.covariate_columns["known"] == (CovariateColumn("c", None),)
    assert panel.known[:, 0].tolist() == [float(value) for value in column]


def test_static_covariates_say_one_thing_of_a_series_wherever_they_say_it():
    table = long_table(m=[NAN, 5, NAN, 6, 6, 6], kind=["u", None, "u", None, None, None])
    panel = read_panel(table, static_covariates=["m", "kind"])
    assert same(panel.static, [[5, 0], [6, NAN]])


@pytest.mark.parametrize("layout", ["wide", "vector"])
def test_series_of_columns_share_their_covariates(layout: str):
    table = pd.DataFrame({"ds": [1, 2, 3], "b": [1.0, 2, NAN], "a": [3.0, NAN, NAN], "k": [7.0, 8, 9]})
    panel = read_panel(table, layout=layout, known_covariates="k")
    assert panel.future is not None
    if layout == "wide":
        assert panel.ids.tolist() == ["a", "b"]
        assert (panel.known[:, 0].tolist(), panel.future.tolist()) == ([7, 8, 9, 7, 8, 9], [2, 1])
    else:
        assert panel.channels == ("b", "a")
        assert (panel.known[:, 0].tolist(), panel.future.tolist()) == ([7, 8, 9], [1])


ERRORS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing": ({"known_covariates": "prise"}, ["no column 'prise'", "`known_covariates` price"]),
    "twice": ({"past_covariates": ["price", "price"]}, ["`past_covariates`", "twice"]),
    "a target": ({"known_covariates": "y"}, ["`known_covariates`", "'y'", "one role"]),
    "the ids": ({"static_covariates": "unique_id"}, ["`static_covariates`", "'unique_id'"]),
    "the times": ({"past_covariates": "ds"}, ["`past_covariates`", "'ds'"]),
    "two roles": (
        {"known_covariates": "price", "past_covariates": "price"},
        ["`past_covariates`", "'price'", "`known_covariates` already"],
    ),
    "times": ({"known_covariates": "when"}, ["`known_covariates`", "'when'", "numbers"]),
    "infinite": ({"past_covariates": "endless"}, ["`past_covariates`", "'endless'", "inf", "series 'b' at 1"]),
    "not static": (
        {"static_covariates": "shop"},
        ["`static_covariates`", "series 'b'", "'north'", "'south'", "`past_covariates`"],
    ),
    "numbers not static": ({"static_covariates": "price"}, ["series 'a'", "1.5", "2.5"]),
    "static of columns": (
        {"static_covariates": "price", "layout": "wide", "target_columns": "y"},
        ["`static_covariates`", "wide layout", "long table"],
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_covariates_that_cannot_be_used_are_refused_by_their_option(what: str):
    options, names = ERRORS[what]
    table = long_table(
        price=[1.5, 2.5, 1.5, 1, 1, 1],
        shop=["east"] * 3 + ["north", "south", "north"],
        when=pd.date_range("2024-01-01", periods=6),
        endless=[1, 2, 3, np.inf, 5, 6],
    )
    with pytest.raises(UserError) as error:
        read_panel(table, **options)
    assert all(name in str(error.value) for name in names), error.value


@pytest.fixture(scope="session")
def make_covariate_panel(make_panel: Callable[..., Panel]) -> Callable[..., Panel]:
    """A maker of panels with random covariates, hourly, whose last rows are future ones."""

    def make(lengths: list[int], future: list[int], seed: int = 0) -> Panel:
        stored = [length + more for length, more in zip(lengths, future, strict=True)]
        panel = make_panel(stored, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        columns = {
            "known": (CovariateColumn("k"),) * 2,
            "past": (CovariateColumn("p"),),
            "static": (CovariateColumn("m"),),
        }
        return replace(
            panel,
            future=torch.tensor(future),
            known=torch.randn(sum(stored), 2, generator=generator),
            past=torch.randn(sum(stored), 1, generator=generator),
            static=torch.randn(len(stored), 1, generator=generator),
            covariate_columns=columns,
            calendar=Calendar("h"),
            starts=np.arange(len(stored)) * 7 * 3_600 * 10**9,
            calendar_cycles=("day", "week"),
        )

    return make


@pytest.fixture(scope="session")
def make_gappy_panel(make_covariate_panel: Callable[..., Panel]) -> Callable[..., Panel]:
    """The same with missing numbers, and a scaling with masks of them."""

    def make(lengths: list[int], future: list[int], seed: int = 0) -> Panel:
        panel = make_covariate_panel(lengths, future, seed)
        for columns in (panel.known, panel.past):
            missing = torch.rand(columns.shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.4
            columns[1:][missing[1:]] = NAN  # an empty column would be refused
        column = {"mean": 0.5, "std": 2.0, "missing": True}
        statistics = {
            role: [{"name": one.name} | column for one in columns] for role, columns in panel.covariate_columns.items()
        }
        return replace(panel, covariate_scaling=scaling_of(panel, statistics))

    return make


SIZES = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 5)), min_size=1, max_size=4)


@given(SIZES, st.integers(1, 6), st.integers(0, 6), st.integers(0, 4), st.booleans(), st.data())
@properties
def test_gathered_covariates_equal_naive_slicing(
    make_covariate_panel: Any, sizes: Any, context_length: int, span: int, more: int, whole: bool, data: st.DataObject
):
    lengths, future = (list(side) for side in zip(*sizes, strict=True))
    panel = make_covariate_panel(lengths, future)
    series = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=4))
    ends = [lengths[index] if whole else data.draw(st.integers(1, lengths[index])) for index in series]
    origins = [data.draw(st.integers(1, end)) for end in ends]
    end = None if whole else torch.tensor(ends)
    batch = gather(panel, torch.tensor(series), torch.tensor(origins), context_length, span, end, span + more)
    got = batch.covariates
    assert got is not None
    assert got.static.equal(panel.static[series])
    for place, (index, origin, last) in enumerate(zip(series, origins, ends, strict=True)):
        first, stored = int(panel.offsets[index]), int(panel.stored_lengths[index])
        for step, row in enumerate(range(origin - context_length, origin + span + more)):
            for columns, mine, limit in (
                (panel.known, got.known, stored if whole else last),
                (panel.past, got.past, last),
            ):
                assert mine[place, step].equal(columns[first + min(max(row, 0), limit - 1)])
        rows = np.arange(origin, origin + span + more)
        times = panel.starts[index] + rows * 3_600 * 10**9
        assert np.array_equal(got.calendar[place], time_features(panel.calendar, panel.calendar_cycles, times))


def test_windows_without_covariates_carry_none(make_panel: Callable[..., Panel]):
    assert gather(make_panel([9]), torch.tensor([0]), torch.tensor([5]), 3, 2).covariates is None


def test_windows_may_carry_the_calendar_alone(make_covariate_panel: Any, make_panel: Callable[..., Panel]):
    panel = replace(make_panel([9]), calendar=Calendar("D"), calendar_cycles=("week", "year"))
    covariates = gather(panel, torch.tensor([0, 0]), torch.tensor([5, 6]), 3, 2).covariates
    assert covariates is not None
    shapes = [tuple(part.shape) for part in covariates]
    assert shapes == [(2, 5, 0), (2, 5, 0), (2, 2, 4), (2, 0)]


@given(SIZES, st.integers(1, 5), st.integers(1, 5), st.integers(0, 4))
@properties
def test_training_batches_do_not_depend_on_rows_after_the_training_part(
    make_gappy_panel: Any, sizes: Any, context_length: int, span: int, held: int
):
    lengths, future = (list(side) for side in zip(*sizes, strict=True))
    panel = make_gappy_panel(lengths, future)
    ends = (panel.lengths - held).clamp(min=0)
    loader = TrainingLoader(panel, ends, context_length, span, batch_size=5)
    if not loader.num_windows:
        return
    before = list(loader)
    for index, end in enumerate(ends.tolist()):
        rows = slice(int(panel.offsets[index]) + end, int(panel.offsets[index + 1]))
        for columns in (panel.values, panel.known, panel.past):
            columns[rows] = torch.inf
    after = TrainingLoader(panel, ends, context_length, span, batch_size=5)
    for one, other in zip(before, after, strict=True):
        assert all(part.equal(changed) for part, changed in zip(one[:6], other[:6], strict=True))
        assert one.covariates is not None
        assert other.covariates is not None
        assert all(part.equal(changed) for part, changed in zip(one.covariates, other.covariates, strict=True))


@given(SIZES, st.integers(1, 5), st.integers(1, 5), st.sampled_from([NAN, 1e6]))
@properties
def test_a_forecast_does_not_depend_on_values_that_are_unknown_at_its_origin(
    make_gappy_panel: Any, sizes: Any, context_length: int, horizon: int, other: float
):
    lengths, future = (list(side) for side in zip(*sizes, strict=True))
    panel = make_gappy_panel(lengths, future)
    origins = (panel.lengths + 1) // 2
    options = (torch.arange(len(panel)), origins, context_length, horizon)
    (before,) = OriginLoader(panel, *options, covariate_span=horizon + 2)
    for index, origin in enumerate(origins.tolist()):
        rows = slice(int(panel.offsets[index]) + origin, int(panel.offsets[index + 1]))
        panel.values[rows] = panel.past[rows] = other
        panel.observed[rows] = ~panel.observed[rows]
    (after,) = OriginLoader(panel, *options, covariate_span=horizon + 2)
    assert before.context.equal(after.context)
    assert before.observed.equal(after.observed)
    assert before.covariates.known.equal(after.covariates.known)
    assert before.covariates.past[:, :context_length].equal(after.covariates.past[:, :context_length])
    assert before.covariates.known.shape == (len(panel), context_length + horizon + 2, 4)
    sizes_told = {"known": [0] * 4, "past": [0] * 2, "calendar": [0] * 4, "static": [0] * 2}
    torch.manual_seed(0)
    network = AutoregressiveMLP(context_length, 2, hidden_sizes=[4], mask_input=True, covariate_sizes=sizes_told).eval()
    paths = [Sampling(3).paths(network, panel, windows, horizon) for windows in (before, after)]
    assert paths[0].isfinite().all()
    assert paths[0].equal(paths[1])
    # What is known ahead may be seen ahead, but nothing before its own time.
    for index, origin in enumerate(origins.tolist()):
        panel.known[int(panel.offsets[index]) + origin : int(panel.offsets[index + 1])] = other
    (later,) = OriginLoader(panel, *options, covariate_span=horizon + 2)
    assert before.covariates.known[:, :context_length].equal(later.covariates.known[:, :context_length])


@given(SIZES, st.integers(1, 3))
@properties
def test_future_rows_are_no_history_to_a_baseline(make_covariate_panel: Any, sizes: Any, season_length: int):
    lengths, future = (list(side) for side in zip(*sizes, strict=True))
    panel = make_covariate_panel(lengths, future)
    parts = [panel.series(index) for index in range(len(panel))]
    history = Panel(
        values=torch.cat(parts),
        observed=torch.ones(sum(lengths), 1, dtype=torch.bool),
        offsets=torch.tensor([0, *np.cumsum(lengths)]),
        ids=panel.ids,
        starts=panel.starts,
        calendar=panel.calendar,
    )
    units = zip(*(naive_errors(part, part.lengths, season_length) for part in (panel, history)), strict=True)
    assert all(same(*pair) for pair in units)
    series = torch.arange(len(panel))
    forecasts = [seasonal_naive(one, series, one.lengths, 4, season_length) for one in (panel, history)]
    assert forecasts[0].equal(forecasts[1])


def test_moving_and_repeating_covariates_moves_and_repeats_their_rows():
    known, calendar = torch.arange(10.0).reshape(2, 5, 1), torch.arange(4.0).reshape(2, 2, 1)
    covariates = Covariates(known, known + 100, calendar, torch.tensor([[1.0], [2.0]]))
    moved = covariates.moved(1)
    assert moved.known[..., 0].tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert moved.past.equal(moved.known + 100)
    assert moved.calendar[..., 0].tolist() == [[1], [3]]
    assert moved.static.equal(covariates.static)
    assert covariates.repeat(3).static[:, 0].tolist() == [1, 1, 1, 2, 2, 2]
