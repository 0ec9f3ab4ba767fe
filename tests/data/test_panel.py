"""Tests of the panel's own arithmetic."""

import mmap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.loaders import TrainingLoader
from armlp.data.panel import Panel
from armlp.data.storage import Residency
from armlp.evaluation.baselines.naive import seasonal_naive

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)
properties = settings(max_examples=50)


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
def test_constant_is_whether_pandas_finds_one_value_in_blocks_of_any_size(rows: int, make_panel):
    class InBlocks(Panel):
        def blocks(self, max_values: int = rows) -> Iterator[slice]:
            return super().blocks(max_values)

    lengths = [1, 5, 2, 9, 1, 4]
    made = InBlocks(**vars(make_panel(lengths, channels=2, missing=0.3)))
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


@given(LENGTHS, st.integers(1, 40), st.sampled_from([1, 3]))
@properties
def test_blocks_hold_every_row_once_in_order_and_no_more_values_than_asked_for(
    make_panel, lengths, max_values, channels
):
    blocks = list(make_panel(lengths, channels=channels).blocks(max_values))
    assert [row for rows in blocks for row in range(rows.start, rows.stop)] == list(range(sum(lengths)))
    assert all((rows.stop - rows.start) * channels <= max(max_values, channels) for rows in blocks)


@given(LENGTHS, st.integers(1, 40), st.data())
@properties
def test_rows_of_a_block_know_their_series_and_their_place_in_it(make_panel, lengths, max_values, data):
    panel = make_panel(lengths)
    ends = [data.draw(st.integers(-2, length + 2)) for length in lengths]
    expected = [(series, place) for series, length in enumerate(lengths) for place in range(length)]
    found, before = [], []
    for rows in panel.blocks(max_values):
        found += zip(*(part.tolist() for part in panel.locate(rows)), strict=True)
        before += panel.rows_before(torch.tensor(ends), rows).tolist()
    assert found == expected
    assert before == [place < ends[series] for series, place in expected]
    assert panel.rows_before(torch.tensor(ends)).tolist() == before


def test_rows_of_the_future_are_not_missing(make_panel):
    panel = make_panel([4, 5])
    panel.observed[[3, 7, 8]] = False
    assert not replace(panel).fully_observed
    assert replace(panel, future=torch.tensor([1, 2])).fully_observed
    assert not replace(panel, future=torch.tensor([1, 1])).fully_observed


def resident(start):
    """Bytes of the mapping from an address on that lie in memory, as Linux counts them."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.startswith(f"{start:x}-")
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no such mapping")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says which pages are resident")
def test_loaders_and_passes_keep_the_resident_pages_of_a_memory_mapped_panel_within_its_budget(make_panel, tmp_path):
    class BatchByBatch(TrainingLoader):
        values_at_once = 1

    rows, length, budget = 4 << 20, 1 << 10, 8 << 20
    np.arange(rows, dtype=np.float32).tofile(tmp_path / "values")
    with (tmp_path / "values").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    values = torch.frombuffer(mapped, dtype=torch.float32)[:, None]
    panel = replace(
        make_panel([1]),
        values=values,
        observed=torch.ones(1, 1, dtype=torch.bool).expand(rows, 1),
        offsets=torch.arange(0, rows + 1, length),
        starts=np.zeros(rows // length, dtype=np.int64),
        ids=np.arange(rows // length),
    )
    # Pages are counted around what is read, so compare with the whole file.
    assert int(panel.gather_rows(panel.values, torch.arange(rows)).sum()) > 0
    assert resident(values.data_ptr()) == 4 * rows
    residency = Residency([mapped], budget)
    held = replace(panel, residency=residency)
    residency.release()
    assert resident(values.data_ptr()) == 0
    most = []
    for _, batch in zip(range(8), BatchByBatch(held, held.lengths, 16, 4, batch_size=16), strict=False):
        most.append(resident(values.data_ptr()))
        wanted = (batch.series * length + batch.origin)[:, None] + torch.arange(4)
        assert batch.target[..., 0].equal(wanted.float())
    for _, origins in zip(range(2), torch.arange(len(held)).split(16), strict=False):
        seasonal_naive(held, origins, torch.full_like(origins, 99), 4, 2)
        most.append(resident(values.data_ptr()))
    for block in held.blocks():
        assert held.values[block].max() == block.stop - 1
        most.append(resident(values.data_ptr()))
    assert 0 < max(most) <= budget


@pytest.mark.parametrize("channels", [1, 2])
def test_levels_are_added_to_whatever_belongs_to_a_series(channels, make_panel):
    levels = torch.tensor([[0.0, 5.0], [1e9 + 1, -3e12], [7.0, 0.0]], dtype=torch.float64)[:, :channels]
    panel = replace(make_panel([3, 1, 5], channels=channels), base_values=levels)
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


def test_a_series_with_a_level_is_returned_in_data_units(make_panel):
    panel = make_panel([3, 4])
    levelled = replace(panel, base_values=torch.tensor([[1e12], [-1e12]], dtype=torch.float64))
    assert levelled.series(1).equal(panel.values[3:].double() - 1e12)
