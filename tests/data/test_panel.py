"""Tests of the panel's own arithmetic."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from armlp.data import panel as panel_module


def test_series_and_lengths_cut_the_flat_store_at_the_offsets(make_panel):
    panel = make_panel([3, 1, 5], channels=2)
    assert len(panel) == 3
    assert panel.lengths.tolist() == [3, 1, 5]
    for index, (begin, end) in enumerate([(0, 3), (3, 4), (4, 9)]):
        assert panel.series(index).equal(panel.values[begin:end])


def test_a_series_is_a_view_of_the_store(make_panel):
    panel = make_panel([3, 4])
    panel.series(1)[0] = 99.0
    assert panel.values[3] == 99.0


def test_an_id_has_one_key_whatever_panel_it_is_in(make_panel):
    alone = make_panel([2], ids=["store 7"])
    among = make_panel([4, 2, 3], ids=["a", "b", "store 7"], channels=2, seed=5)
    assert among.keys[2] == alone.keys[0]


def test_an_id_has_one_key_whatever_its_type(make_panel):
    assert make_panel([2, 2], ids=[7, 12]).keys.equal(make_panel([2, 2], ids=["7", "12"]).keys)


def test_different_ids_have_different_keys(make_panel):
    keys = make_panel([1] * 2000, ids=range(2000)).keys
    assert len(keys.unique()) == 2000


def test_fully_observed_is_whether_nothing_is_missing(make_panel):
    assert make_panel([4, 5]).fully_observed
    holed = make_panel([4, 5])
    holed.observed[6] = False
    assert not holed.fully_observed


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1000])
def test_constant_is_whether_pandas_finds_one_value_in_blocks_of_any_size(
    rows: int, make_panel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(panel_module, "_BLOCK", rows)
    lengths = [1, 5, 2, 9, 1, 4]
    made = make_panel(lengths, channels=2, missing=0.3)
    made.values[:] = torch.from_numpy(np.random.default_rng(0).integers(0, 2, made.values.shape)).float()
    made.values[~made.observed] = 9.0  # whatever stands for a missing value
    flat = pd.DataFrame(made.values.numpy()).where(made.observed.numpy())
    expected = flat.groupby(np.repeat(np.arange(6), lengths)).nunique() == 1
    assert 0 < expected.to_numpy().sum() < 12
    np.testing.assert_array_equal(made.constant, expected)


def test_what_is_missing_is_counted_in_the_history_only(make_panel):
    made = make_panel([4, 5], channels=2)
    made.observed[6, 1] = False
    made.observed[8] = False
    assert made.missing == 3
    assert replace(made, future=torch.tensor([0, 1])).missing == 1
