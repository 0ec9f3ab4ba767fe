"""Tests of the order of windows that is computed place by place, with counting and statistics as the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from armlp.data.loaders import FeistelOrder, shuffled

MANY = 1 << 18


@given(st.integers(1, 5000), st.integers(0, 2**63))
@settings(max_examples=100)
def test_every_number_is_in_the_order_once(count, seed):
    assert FeistelOrder(count, seed)[torch.arange(count)].sort().values.equal(torch.arange(count))


@given(st.integers(1, 2**62 - 1), st.lists(st.integers(0), min_size=1, max_size=20, unique=True))
@settings(max_examples=100)
def test_an_order_of_any_size_is_a_permutation(count, places):
    place = torch.tensor(sorted({number % count for number in places}))
    found = FeistelOrder(count, 0)[place]
    assert len(found.unique()) == len(place)
    assert 0 <= int(found.min()) <= int(found.max()) < count


@given(st.integers(1, 10_000), st.integers(0, 5), st.integers(1, 50))
@settings(max_examples=30)
def test_a_part_of_the_order_is_the_same_whatever_it_is_computed_with(count, seed, size):
    order = FeistelOrder(count, seed)
    parts = [order[part] for part in torch.arange(count).split(max(1, count // size))]
    assert torch.cat(parts).equal(order[torch.arange(count)])


def test_orders_of_different_seeds_agree_as_rarely_as_by_chance():
    orders = torch.stack([FeistelOrder(MANY, seed)[torch.arange(MANY)] for seed in range(6)])
    for one in range(6):
        for other in range(one):
            assert int((orders[one] == orders[other]).sum()) < 12  # chance has 1


@pytest.mark.parametrize("seed", range(3))
def test_an_order_shows_no_pattern(seed):
    place = torch.arange(MANY)
    number = FeistelOrder(MANY, seed)[place].numpy()
    # Where 4096 places on end, or 4096 places evenly apart, are sent to: evenly everywhere.
    for chosen in (number[:4096], number[-4096:], number[:: MANY // 4096]):
        assert kstest(chosen / MANY, "uniform").pvalue > 1e-3
    # Numbers of places that are near each other, or a side of the grid apart, tell nothing of each other.
    for lag in (1, 2, 511, 512, 513):
        assert abs(np.corrcoef(number[lag:], number[:-lag])[0, 1]) < 4 / np.sqrt(MANY)
        steps = np.bincount((number[lag:] - number[:-lag]) % MANY // 1024, minlength=256)
        expected = (MANY - lag) / 256
        assert chi2.sf(((steps - expected) ** 2 / expected).sum(), df=255) > 1e-3


def test_few_numbers_are_drawn_as_torch_does_and_many_computed():
    assert shuffled(1000, 5)[torch.arange(1000)].equal(torch.randperm(1000, generator=torch.Generator().manual_seed(5)))
    assert isinstance(shuffled(1000, 5, max_drawn=999), FeistelOrder)
    assert isinstance(shuffled(1 << 23, 5), FeistelOrder)
