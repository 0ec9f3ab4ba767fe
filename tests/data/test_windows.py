"""Tests of windows, splits and loaders, with loops over rows as the oracle."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data import windows
from armlp.data.loaders import OriginLoader, TrainingLoader
from armlp.data.split import Split, origins_between
from armlp.data.windows import gather

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=5)
properties = settings(max_examples=40)


def naive_window(panel, series, origin, context_length, span, end):
    """Context, observed, target, target_observed of one window by a loop, each `[., V]`."""
    begin = int(panel.offsets[series])
    rows = []
    for row in range(origin - context_length, origin + span):
        inside = 0 <= row < end
        held = begin + min(max(row, 0), end - 1)
        rows.append((panel.values[held], panel.observed[held] & inside))
    values, observed = (torch.stack(part) for part in zip(*rows, strict=True))
    return (
        values[:context_length],
        observed[:context_length],
        values[context_length:],
        observed[context_length:],
    )


def naive_origins(end, context_length, span):
    """The training origins of one series by the rule in words.

    Targets fit in the part, or no more than half of the part is left to them; and the context fits too, or the
    origin is in the later half of all.
    """
    fitting = [o for o in range(1, end) if o + span <= end or 2 * o <= end]
    return [o for o in fitting if o >= context_length or 2 * o >= max(fitting)]


def pairs(batches):
    """(series, origin) of every window, in order."""
    return [pair for batch in batches for pair in zip(batch.series.tolist(), batch.origin.tolist(), strict=True)]


def same(one, other):
    return all(a.equal(b) for a, b in zip(one[:6], other[:6], strict=True))


@given(LENGTHS, st.integers(1, 8), st.integers(0, 6), st.sampled_from([1, 2]), st.data())
@properties
def test_a_gathered_window_equals_naive_slicing(make_panel, lengths, context_length, span, channels, data):
    panel = make_panel(lengths, channels=channels, missing=0.3, seed=len(lengths))
    series = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6))
    ends = [data.draw(st.integers(1, lengths[index])) for index in series]
    origins = [data.draw(st.integers(1, end)) for end in ends]
    batch = gather(panel, torch.tensor(series), torch.tensor(origins), context_length, span, torch.tensor(ends))
    assert batch.series.tolist() == series
    assert batch.origin.tolist() == origins
    for number, where in enumerate(zip(series, origins, ends, strict=True)):
        expected = naive_window(panel, *where[:2], context_length, span, where[2])
        for got, wanted in zip(batch[:4], expected, strict=True):
            assert got[number].equal(wanted)


@given(st.lists(st.integers(12, 30), min_size=1, max_size=4), st.floats(0, 0.4), st.sampled_from([1, 2]), st.data())
@properties
def test_windows_that_lie_inside_their_part_are_gathered_as_those_that_do_not(
    make_panel, lengths, missing, channels, data
):
    panel = make_panel(lengths, channels=channels, missing=missing)
    series = torch.tensor(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6)))
    origin = torch.tensor([data.draw(st.integers(1, lengths[index])) for index in series.tolist()])
    end = panel.lengths[series]
    batch = gather(panel, series, origin, 5, 4, end)
    values, observed = windows._padded(panel, series, origin, 5, 4, end)  # of all, whether they reach out or not
    for got, wanted in zip(batch[:4], (values[:, :5], observed[:, :5], values[:, 5:], observed[:, 5:]), strict=True):
        assert got.equal(wanted)


def test_writing_into_one_batch_leaves_the_panel_and_the_other_batches_alone(make_panel):
    panel = make_panel([60])
    before = panel.values.clone(), panel.observed.clone()
    loader = TrainingLoader(panel, panel.lengths, 4, 2, batch_size=8)
    kept = [[part.clone() for part in batch[:4]] for batch in loader]
    loader.load_state_dict({"batches_drawn": 0})
    for number, batch in enumerate(batches := list(loader)):
        for part in batch[:4]:
            part.zero_()
        for later, wanted in zip(batches[number + 1 :], kept[number + 1 :], strict=True):
            assert all(part.equal(other) for part, other in zip(later[:4], wanted, strict=True))
    assert panel.values.equal(before[0])
    assert panel.observed.equal(before[1])


def test_left_padding_repeats_the_first_value_and_is_not_observed(make_panel):
    panel = make_panel([4, 9])
    batch = gather(panel, torch.tensor([1]), torch.tensor([2]), 5, 1)
    first, second, third = panel.series(1)[:3, 0].tolist()
    assert batch.context[0, :, 0].tolist() == [first, first, first, first, second]
    assert batch.observed[0, :, 0].tolist() == [False, False, False, True, True]
    assert batch.target[0, :, 0].tolist() == [third]


@given(LENGTHS, st.integers(1, 8), st.integers(1, 6), st.integers(0, 6))
@properties
def test_training_windows_are_those_of_the_rule_each_exactly_once(make_panel, lengths, context_length, span, held):
    panel = make_panel(lengths)
    ends = panel.lengths - held
    loader = TrainingLoader(panel, ends, context_length, span, batch_size=4)
    expected = [
        (series, origin)
        for series, end in enumerate(ends.tolist())
        for origin in naive_origins(end, context_length, span)
    ]
    assert loader.num_windows == len(expected)
    numbers = torch.arange(loader.num_windows)
    assert list(zip(*(part.tolist() for part in loader.window(numbers)), strict=True)) == expected
    if expected:
        assert sorted(pairs(loader)) == expected


@pytest.mark.parametrize("length", [8, 9, 20])
def test_a_series_of_twice_the_window_or_more_gives_full_contexts_and_full_targets_only(make_panel, length):
    loader = TrainingLoader(make_panel([length]), torch.tensor([length]), 3, 2, batch_size=100)
    (batch,) = loader
    assert batch.observed.all()
    assert batch.target_observed.all()
    assert sorted(batch.origin.tolist()) == list(range(3, length - 1))


@given(LENGTHS, st.integers(1, 8), st.integers(1, 6), st.integers(0, 6), st.sampled_from([1, 2]))
@properties
def test_rows_after_the_training_part_never_reach_a_training_batch(
    make_panel, lengths, context_length, span, held, channels
):
    panel = make_panel(lengths, channels=channels, missing=0.2)
    ends = (panel.lengths - held).clamp(min=0)
    before = TrainingLoader(panel, ends, context_length, span, batch_size=5)
    if not before.num_windows:
        return
    batches = list(before)
    for series, end in enumerate(ends.tolist()):
        panel.series(series)[end:] = torch.inf
    panel.observed[panel.values.isinf()] = True
    after = list(TrainingLoader(panel, ends, context_length, span, batch_size=5))
    assert all(same(one, other) for one, other in zip(batches, after, strict=True))
    for batch in batches:
        row = batch.origin[:, None] + torch.arange(span)
        beyond = row >= ends[batch.series, None]
        assert not batch.target_observed[beyond].any()


@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 9), st.integers(1, 9))
@properties
def test_the_order_depends_on_seed_and_epoch_only(make_panel, length, epoch, batch_size, other_batch_size):
    panel = make_panel([length, 12])

    def order(batch_size):
        loader = TrainingLoader(panel, panel.lengths, 4, 2, batch_size, seed=3)
        loader.load_state_dict({"batches_drawn": epoch * len(loader)})
        return pairs(loader)

    assert order(batch_size) == order(other_batch_size)


def test_another_seed_or_epoch_gives_another_order(make_panel):
    panel = make_panel([60])
    loaders = [TrainingLoader(panel, panel.lengths, 4, 2, batch_size=16, seed=seed) for seed in (0, 1)]
    orders = [pairs(loader) for _ in range(2) for loader in loaders]
    assert len({tuple(order) for order in orders}) == 4
    assert len({tuple(sorted(order)) for order in orders}) == 1


@given(LENGTHS, st.sampled_from([2, 3]), st.integers(1, 7))
@properties
def test_ranks_share_an_epoch_without_overlap_in_equally_many_batches(make_panel, lengths, ranks, batch_size):
    panel = make_panel([12, *lengths])
    whole = TrainingLoader(panel, panel.lengths, 4, 2, batch_size)
    parts = [
        TrainingLoader(panel, panel.lengths, 4, 2, batch_size, rank=rank, world_size=ranks) for rank in range(ranks)
    ]
    batches = [list(part) for part in parts]
    assert len({len(part) for part in parts}) == 1
    assert all(len(part) == len(drawn) for part, drawn in zip(parts, batches, strict=True))
    seen = [pair for drawn in batches for pair in pairs(drawn)]
    assert len(seen) == len(set(seen)) == whole.num_windows // ranks * ranks
    assert set(seen) <= set(pairs(whole))


@given(LENGTHS, st.integers(1, 9), st.sampled_from([1, 2]))
@properties
def test_batches_of_an_epoch_are_as_many_as_announced_and_differ_by_one_window_at_most(
    make_panel, lengths, batch_size, ranks
):
    panel = make_panel([12, *lengths])
    loader = TrainingLoader(panel, panel.lengths, 4, 2, batch_size, world_size=ranks)
    sizes = [len(batch.series) for batch in loader]
    assert len(sizes) == len(loader)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@given(st.data())
@properties
def test_a_resumed_loader_goes_on_with_the_very_next_batch(make_panel, data):
    panel = make_panel([20, 3, 9])

    def stream(loader):
        while True:
            yield from loader

    loader = TrainingLoader(panel, panel.lengths, 4, 2, batch_size=5, seed=1)
    total = 3 * len(loader)
    point = data.draw(st.integers(0, total))
    batches = list(islice(stream(loader), point))
    resumed = TrainingLoader(panel, panel.lengths, 4, 2, batch_size=5, seed=1)
    resumed.load_state_dict(loader.state_dict())
    batches += list(islice(stream(resumed), total - point))
    unbroken = TrainingLoader(panel, panel.lengths, 4, 2, batch_size=5, seed=1)
    expected = list(islice(stream(unbroken), total))
    assert all(same(one, other) for one, other in zip(batches, expected, strict=True))
    assert resumed.state_dict() == unbroken.state_dict() == {"batches_drawn": total}


def test_a_batch_counts_as_drawn_before_it_is_handed_out(make_panel):
    panel = make_panel([20])
    loader = TrainingLoader(panel, panel.lengths, 4, 2, batch_size=5)
    for number, _ in enumerate(loader, start=1):
        assert loader.state_dict() == {"batches_drawn": number}


@given(LENGTHS, st.integers(1, 5), st.integers(0, 3), st.integers(0, 3))
@properties
def test_held_out_origins_lie_a_horizon_apart_between_training_and_the_end(make_panel, lengths, horizon, val, test):
    split = Split(horizon, val, test)
    sizes = torch.tensor(lengths)
    for part, count, later in (("val", val, test), ("test", test, 0)):
        expected = [
            (series, length - horizon * (later + window))
            for series, length in enumerate(lengths)
            for window in range(count, 0, -1)
            if length - horizon * (later + window) >= 1
        ]
        got = split.origins(sizes, part)
        assert list(zip(*(side.tolist() for side in got), strict=True)) == expected
        assert all(side.dtype == torch.int64 for side in got)
    series, origins = split.origins(sizes, "predict")
    assert series.tolist() == list(range(len(lengths)))
    assert origins.tolist() == lengths
    assert split.train_ends(sizes).tolist() == [length - horizon * (val + test) for length in lengths]


def test_training_ends_where_validation_begins_and_validation_ends_where_the_test_begins():
    split = Split(horizon=5, val_windows=2, test_windows=3)
    lengths = torch.tensor([100])
    val, test = (split.origins(lengths, part)[1].tolist() for part in ("val", "test"))
    assert split.train_ends(lengths).tolist() == val[:1] == [75]
    assert val[-1] + 5 == test[0] == 85
    assert test[-1] + 5 == 100


@given(
    LENGTHS, st.integers(1, 4), st.integers(0, 2), st.integers(1, 3), st.integers(1, 6), st.integers(0, 3),
    st.integers(0, 2),
)  # fmt: skip
@properties
def test_test_windows_end_with_the_series_and_nothing_from_their_first_origin_on_is_trained_on(
    lengths, horizon, val, test, step, gap, later
):
    split = Split(horizon, val, test, step, gap, later)
    sizes = torch.tensor(lengths)
    windows = [
        (series, length - gap - horizon - step * back)
        for series, length in enumerate(lengths)
        for back in range(test + later - 1, later - 1, -1)
    ]
    got = zip(*(part.tolist() for part in split.origins(sizes, "test")), strict=True)
    assert list(got) == [(series, origin) for series, origin in windows if origin >= 1]
    for series, end in enumerate(split.train_ends(sizes).tolist()):
        validated = [origin for index, origin in zip(*split.origins(sizes, "val"), strict=True) if index == series]
        first = min(origin for index, origin in windows if index == series)
        assert all(origin + horizon <= first for origin in validated)
        assert end == first - val * horizon
        assert all(end <= origin for origin in validated)


def test_targets_in_the_gap_are_as_if_not_observed(make_panel):
    panel = make_panel([20, 30])
    split = Split(3, 1, 2, 1, 4)
    loader = OriginLoader(panel, *split.origins(panel.lengths, "test"), 5, split.test_span, gap=4)
    (batch,) = loader
    assert batch.target_observed[..., 0].int().tolist() == [[0] * 4 + [1] * 3] * 4
    assert batch.observed.all()


def test_series_too_short_for_an_origin_are_left_out():
    series, origins = Split(horizon=4, val_windows=2).origins(torch.tensor([4, 5, 8, 9]), "val")
    assert series.tolist() == [1, 2, 3, 3]
    assert origins.tolist() == [1, 4, 1, 5]


@given(LENGTHS, st.integers(1, 7), st.integers(0, 5), st.sampled_from([1, 2]))
@properties
def test_an_origin_loader_gives_the_windows_at_its_origins_in_order(make_panel, lengths, batch_size, span, channels):
    panel = make_panel(lengths, channels=channels, missing=0.2)
    series, origins = Split(horizon=2, val_windows=2).origins(panel.lengths, "val")
    loader = OriginLoader(panel, series, origins, 4, span, batch_size)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert pairs(batches) == list(zip(series.tolist(), origins.tolist(), strict=True))
    for batch in batches:
        for number, (index, origin) in enumerate(pairs([batch])):
            expected = naive_window(panel, index, origin, 4, span, lengths[index])
            for got, wanted in zip(batch[:4], expected, strict=True):
                assert got[number].equal(wanted)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_share_the_origins_without_overlap(make_panel, ranks):
    panel = make_panel([9, 12, 5, 30])
    series, origins = Split(horizon=2).origins(panel.lengths, "predict")
    loaders = [OriginLoader(panel, series, origins, 4, 0, 2, rank, ranks) for rank in range(ranks)]
    batches = [list(loader) for loader in loaders]
    assert [len(drawn) for drawn in batches] == [len(loader) for loader in loaders]
    seen = [pair for drawn in batches for pair in pairs(drawn)]
    assert sorted(seen) == list(zip(series.tolist(), origins.tolist(), strict=True))


def test_a_context_at_the_end_of_a_series_is_its_last_values(make_panel):
    panel = make_panel([9, 12])
    (batch,) = OriginLoader(panel, *Split(horizon=3).origins(panel.lengths, "predict"), 4, 0)
    assert batch.target.shape == (2, 0, 1)
    for row, index in enumerate((0, 1)):
        assert np.array_equal(batch.context[row], panel.series(index)[-4:])


class ComputedOrderLoader(TrainingLoader):
    """Computes the order of windows, as for very many of them, and gathers few windows at a time."""

    max_drawn = 0
    values_at_once = 80


def test_with_a_computed_order_ranks_share_every_epoch_and_epochs_differ(make_panel):
    panel = make_panel([40, 3, 25])
    whole = ComputedOrderLoader(panel, panel.lengths, 4, 2, batch_size=6)
    epochs = [pairs(whole) for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert len(set(epochs[0])) == len(epochs[0]) == whole.num_windows
    assert pairs(ComputedOrderLoader(panel, panel.lengths, 4, 2, batch_size=6, seed=1)) != epochs[0]
    ranks = [ComputedOrderLoader(panel, panel.lengths, 4, 2, 6, rank=rank, world_size=3) for rank in range(3)]
    seen = [pair for loader in ranks for pair in pairs(loader)]
    assert len(seen) == len(set(seen)) == whole.num_windows // 3 * 3
    assert set(seen) <= set(epochs[0])


@pytest.mark.parametrize("drawn", [0, 1, 2, 3, 7, 11])
def test_with_a_computed_order_a_resumed_loader_goes_on_with_the_very_next_batch(make_panel, drawn):
    panel = make_panel([40, 3, 25])
    whole = list(ComputedOrderLoader(panel, panel.lengths, 4, 2, batch_size=5))
    resumed = ComputedOrderLoader(panel, panel.lengths, 4, 2, batch_size=5)
    resumed.load_state_dict({"batches_drawn": drawn})
    rest = islice(resumed, len(resumed) - drawn)
    assert all(same(one, other) for one, other in zip(rest, whole[drawn:], strict=True))


def test_epochs_that_are_cut_short_draw_all_batches_in_turn(make_panel):
    panel = make_panel([40, 3, 25])
    whole, cut = (TrainingLoader(panel, panel.lengths, 4, 2, batch_size=5) for _ in range(2))
    assert len(whole) % 5  # so that an epoch of 5 batches crosses the end of the data's own
    expected = [batch for _ in range(2) for batch in whole]
    found = [batch for _ in range(len(expected) // 5) for batch in islice(cut, 5)]
    assert len(found) > len(whole)
    assert all(same(one, other) for one, other in zip(found, expected, strict=False))


@given(
    firsts=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    reach=st.integers(-5, 30),
    apart=st.integers(1, 7),
    most=st.integers(1, 4),
)
def test_origins_between_are_the_last_of_a_count_from_the_first(firsts: list[int], reach: int, apart: int, most: int):
    first = torch.tensor(firsts)
    series, origins = origins_between(first, first + reach, apart, most)
    wanted = [(row, at) for row, start in enumerate(firsts) for at in [*range(start, start + reach, apart)][-most:]]
    assert list(zip(series.tolist(), origins.tolist(), strict=True)) == wanted
