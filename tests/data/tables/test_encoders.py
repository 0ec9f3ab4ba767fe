"""Tests of symbols: codes and back, and what is refused."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.datamodule import SeriesDataModule
from armlp.data.tables.encoders import spell_values
from armlp.data.tables.read import read_panel
from armlp.data.tables.write import write_table_like
from armlp.errors import UserError


def table_of(symbols: list[Any], series: str = "a") -> pd.DataFrame:
    table: pd.DataFrame = pd.DataFrame({"unique_id": series, "ds": np.arange(len(symbols)), "y": symbols})
    return table


COLUMNS = st.one_of(
    st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=20),
    st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=20),
    st.lists(st.booleans(), min_size=2, max_size=20),
)


@given(COLUMNS)
@settings(max_examples=60)
def test_symbols_come_back_as_they_went_in(symbols: list[Any]):
    table = pa.table({"ds": pa.array(range(len(symbols))), "y": pa.array(symbols)})
    panel = read_panel(table, symbols=True)
    assert panel.symbols == tuple(sorted(set(symbols)))
    codes = panel.values[:, 0].numpy()
    assert codes.tolist() == [sorted(set(symbols)).index(symbol) for symbol in symbols]
    back = spell_values(panel, codes)
    assert back.tolist() == symbols
    assert {type(symbol) for symbol in back} == {type(symbol) for symbol in symbols}
    answer = write_table_like(panel, np.zeros(len(codes), np.int64), {"ds": np.arange(len(codes))}, {"armlp": back})
    assert answer["armlp"].to_pylist() == symbols


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["b", None, "a", "b"]),
        pd.Series(["b", "", "a", "b"]),
        pd.Series(["b", None, "a", "b"], dtype="category"),
        pl.Series(["b", None, "a", "b"], dtype=pl.Categorical),
        pl.Series(["b", None, "a", "b"], dtype=pl.Enum(["z", "b", "a"])),
    ],
)
def test_text_and_categories_are_symbols_and_empty_is_missing(column: Any):
    library: Any = pl if isinstance(column, pl.Series) else pd
    panel = read_panel(library.DataFrame({"ds": [1, 2, 3, 4], "y": column}), symbols=True)
    assert panel.symbols == ("a", "b")
    assert panel.values[:, 0].tolist() == [1, 1, 0, 1]
    assert panel.observed[:, 0].tolist() == [True, False, True, True]


def test_integers_among_which_some_are_missing_stay_integers():
    panel = read_panel(table_of([7, np.nan, 3, 7]), symbols=True)
    assert panel.symbols == (3, 7)
    assert all(type(symbol) is int for symbol in panel.symbols)
    assert panel.observed[:, 0].tolist() == [True, False, True, True]


def test_a_missing_code_is_spelled_as_none():
    panel = read_panel(table_of(["x", "y"]), symbols=True)
    assert spell_values(panel, np.array([[1.0, np.nan], [0.0, 1.0]])).tolist() == [["y", None], ["x", "y"]]


def test_all_columns_of_a_wide_table_share_one_alphabet():
    table = pd.DataFrame({"ds": [1, 2], "left": ["a", "c"], "right": ["b", "c"]})
    panel = read_panel(table, symbols=True)
    assert (panel.symbols, panel.ids.tolist()) == (("a", "b", "c"), ["left", "right"])
    assert panel.values[:, 0].tolist() == [0, 2, 1, 2]


def test_a_later_table_is_coded_by_the_alphabet_of_training():
    trained = SeriesDataModule(table_of(list("cabcabcabcab")), symbols=True, horizon=2)
    assert (trained.panel.symbols, trained.season_length) == (("a", "b", "c"), 1)
    assert trained.hparams["symbols"] == ["a", "b", "c"]
    later = SeriesDataModule(table_of(list("ccb")), **trained.hparams)
    assert later.panel.values[:, 0].tolist() == [2, 2, 1]
    named = SeriesDataModule("markov", symbols=list("abcdefg"))
    assert named.panel.symbols == tuple("abcdefg")  # wins over what the catalog says


@pytest.mark.parametrize(
    ("given", "column"),
    [(["1", "2", "3"], [2, 3, 2]), ([1, 2, 3], ["2", "3", "2"]), (["false", "true"], [True, False])],
)
def test_an_alphabet_is_taken_in_the_type_of_the_column(given: list[Any], column: list[Any]):
    panel = read_panel(table_of(column), symbols=given)
    assert panel.symbols is not None
    assert len(panel.symbols) == len(given)
    assert spell_values(panel, panel.values[:, 0].numpy()).tolist() == column


def test_a_symbol_outside_the_alphabet_is_named_with_its_series_and_time():
    table = pd.concat([table_of(["a", "b"]), table_of(["b", "q"], "other")])
    with pytest.raises(UserError, match=r"column 'y' holds 'q' \(series 'other' at 1\).*`symbols` \('a', 'b'\)"):
        read_panel(table, symbols=["a", "b"])
    with pytest.raises(UserError, match=r"holds '0' .*`symbols` \('1', '2'\)"):
        read_panel(table_of([1, 0]), symbols=[1, 2])


@pytest.mark.parametrize("column", [[0.5, 1.0], pd.date_range("2024-01-01", periods=2)])
def test_what_cannot_be_symbols_is_refused(column: Any):
    with pytest.raises(UserError, match="needs text, integers, booleans or categories"):
        read_panel(table_of(list(column)), symbols=True)


def test_symbols_of_several_types_are_refused():
    with pytest.raises(UserError, match=r"`symbols`: .* \(int, str\): make them one type"):
        read_panel(pd.DataFrame({"ds": [1, 2], "left": ["a", "c"], "right": [1, 2]}), symbols=True)


@pytest.mark.parametrize("layout", ["long", "vector"])
def test_symbols_take_one_target(layout: str):
    table = table_of(["a", "b"]).assign(z=["a", "b"])
    with pytest.raises(UserError, match=r"`symbols` takes one target column, but 'y', 'z' were given"):
        read_panel(table, target_columns=["y", "z"], layout=layout, symbols=True)


def test_text_that_may_be_symbols_is_refused_with_the_option_that_takes_it():
    hint = "or pass `symbols` true if they are symbols"
    with pytest.raises(UserError, match=hint):
        read_panel(table_of(["sun", "rain"]))
    with pytest.raises(UserError, match=hint):
        read_panel(pd.DataFrame({"ds": [1, 2], "weather": ["sun", "rain"]}))
    for column in (["1.5", "high"], pd.date_range("2024-01-01", periods=2)):
        with pytest.raises(UserError) as error:
            read_panel(table_of(list(column)))
        assert hint not in str(error.value)


def test_a_season_of_symbols_may_be_given():
    hourly = table_of(list("abcdabcdabcd")).assign(ds=pd.date_range("2024-01-01", periods=12, freq="h"))
    for length, season in ((4, 4), (None, 1)):
        data = SeriesDataModule(hourly, symbols=True, season_length=length, horizon=2)
        data.setup()
        assert data.season_length == season
