"""Tests of the panel's own arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch


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


@pytest.mark.parametrize("channels", [1, 2])
def test_levels_are_added_to_whatever_belongs_to_a_series(channels, make_panel):
    levels = torch.tensor([[0.0, 5.0], [1e9 + 1, -3e12], [7.0, 0.0]], dtype=torch.float64)[:, :channels]
    panel = replace(make_panel([3, 1, 5], channels=channels), levels=levels)
    series = torch.tensor([2, 0, 1, 1])
    for middle in ((), (6,), (6, 4)):  # rows, forecasts, paths
        values = torch.randn(4, *middle, channels)
        expected = values.numpy().astype(np.float64) + levels.numpy()[series].reshape(4, *[1] * len(middle), channels)
        if channels == 1 and middle:  # where only vectors have an axis of channels
            values, expected = values[..., 0], expected[..., 0]
        assert np.array_equal(panel.in_data_units(series, values).numpy(), expected)


def test_without_levels_values_are_data_units_as_they_are(make_panel):
    values = torch.randn(2, 5)
    assert make_panel([3, 4]).in_data_units(torch.tensor([1, 0]), values) is values


def test_a_series_with_a_level_is_told_in_data_units(make_panel):
    panel = make_panel([3, 4])
    levelled = replace(panel, levels=torch.tensor([[1e12], [-1e12]], dtype=torch.float64))
    assert levelled.series(1).equal(panel.values[3:].double() - 1e12)
