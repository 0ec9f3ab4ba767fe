"""Tests of the window scalers, with numpy on the kept values as the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.model.scaling import SCALERS, Scaling

SEASON = 3
LOCAL = [scaler for scaler, kind in SCALERS.items() if not kind.statistics]
UNITS = [scaler for scaler in LOCAL if scaler != "none"]  # follow a change of units
LEVELS = [scaler for scaler in UNITS if scaler != "mean_abs"]  # and one of level
properties = settings(max_examples=30)
each_scaler = pytest.mark.parametrize("scaler", LOCAL)


def scale_window(scaler, context, observed, season_length=1):
    """The scaling of windows `[B, L, V]`, or of one channel without its axis, `[B, L]`."""
    if context.dim() == 3:
        return SCALERS[scaler](season_length).measure(context, observed)
    return Scaling(
        *(part[..., 0] for part in scale_window(scaler, context[..., None], observed[..., None], season_length))
    )


def random_window(seed, batch=4, length=9, channels=()):
    generator = torch.Generator().manual_seed(seed)
    context = 5 + 3 * torch.randn(batch, length, *channels, generator=generator, dtype=torch.float64)
    observed = torch.rand(context.shape, generator=generator) < 0.7
    observed[:, 2:4] = True
    return context, observed


def oracle(scaler, values, seen):
    """The shift of each step of the window and the scale, of one series, by numpy."""
    kept, steps = values[seen], np.arange(len(values))
    if scaler == "none":
        return np.zeros(len(values)), 1.0
    if scaler == "mean_abs":
        return np.zeros(len(values)), np.abs(kept).mean()
    if scaler == "seasonal":
        phases = [values[seen & (steps % SEASON == phase)] for phase in range(SEASON)]
        means = np.array([phase.mean() if len(phase) else kept.mean() for phase in phases])[steps % SEASON]
        spread = np.sqrt(np.mean((values - means)[seen] ** 2))
        return means, spread if spread > 1e-9 else kept.std()  # no step of the season was seen twice
    quarters = np.quantile(kept, [0.25, 0.75])
    shift = {"standard": kept.mean(), "last": kept[-1], "robust": np.median(kept)}[scaler]
    scale = (quarters[1] - quarters[0]) / 1.349 if scaler == "robust" else kept.std()
    return np.full(len(values), shift), scale


@each_scaler
@pytest.mark.parametrize("channels", [(), (3,)])
@given(seed=st.integers(0, 1000))
@properties
def test_scalers_equal_numpy_on_the_observed_values(scaler, channels, seed):
    context, observed = random_window(seed, channels=channels)
    scaling = scale_window(scaler, context, observed, SEASON)
    assert scaling.scale.shape == scaling.magnitude.shape == (4, 1, *channels)
    assert scaling.shift.shape == (4, SEASON if scaler == "seasonal" else 1, *channels)
    shift = scaling.shift_at(0, 9).expand_as(context)
    for index in np.ndindex(4, *channels):
        at = (index[0], slice(None), *index[1:])
        values, seen = context[at].numpy(), observed[at].numpy()
        expected, scale = oracle(scaler, values, seen)
        assert np.allclose(shift[at], expected)
        assert scaling.scale[at].item() == pytest.approx(scale)
        assert scaling.magnitude[at].item() == pytest.approx(np.abs(values[seen]).mean())


@each_scaler
@pytest.mark.parametrize("filler", [1e6, float("nan"), float("inf")])
def test_what_is_not_observed_does_not_count(scaler, filler):
    context, observed = random_window(3)
    other = torch.where(observed, context, filler)
    scalings = [scale_window(scaler, values, observed, SEASON) for values in (context, other)]
    for one, another in zip(*scalings, strict=True):
        assert one.equal(another)


@each_scaler
@pytest.mark.parametrize(
    ("value", "seen"), [(0.0, True), (7.3, True), (-1e6, True), (1e-8, True), (0.0, False), (5.0, False)]
)
def test_constant_zero_or_unobserved_contexts_get_a_finite_scale_above_zero(scaler, value, seen):
    context = torch.full((2, 50), value)
    scaling = scale_window(scaler, context, torch.full((2, 50), seen), 7)
    assert all(part.isfinite().all() for part in scaling)
    assert (scaling.scale > 0).all()
    assert (scaling.magnitude > 0).all()
    assert scaling.to_network(context).abs().max() <= max(1, abs(value)) * (1 + 1e-6)


@each_scaler
def test_one_observed_value_is_scaled_as_a_constant(scaler):
    context, observed = torch.tensor([[1.0, 50.0, 2.0, 3.0]]), torch.tensor([[False, True, False, False]])
    scaling = scale_window(scaler, context, observed, 2)
    level, spread = {"none": (0, 1), "mean_abs": (0, 50)}.get(scaler, (50, 0.5))  # 1% of the level
    assert scaling.shift_at(0, 4).expand(1, 4)[0].tolist() == [level] * 4
    assert scaling.scale.item() == pytest.approx(spread)


def test_a_robust_scale_is_the_standard_one_where_half_of_the_values_are_alike():
    context, observed = torch.tensor([[4.0] * 8 + [5.0, 9.0]]), torch.ones(1, 10, dtype=torch.bool)
    robust, standard = (scale_window(scaler, context, observed) for scaler in ("robust", "standard"))
    assert robust.shift.item() == 4
    assert robust.scale.equal(standard.scale)


def test_a_robust_scaling_does_not_mind_an_outlier():
    context = torch.arange(40.0)[None]
    observed = torch.ones(1, 40, dtype=torch.bool)
    before = scale_window("robust", context, observed)
    context[0, 39] = 1e6
    after = scale_window("robust", context, observed)
    assert torch.allclose(before.shift, after.shift)
    assert torch.allclose(before.scale, after.scale)


@pytest.mark.parametrize("season", [1, 5, 9])
def test_a_season_longer_than_half_of_the_context_is_taken_for_none(season):
    context, observed = random_window(2)
    plain, seasonal = scale_window("standard", context, observed), scale_window("seasonal", context, observed, season)
    assert all(one.equal(other) for one, other in zip(plain, seasonal, strict=True))


def test_a_seasonal_scaling_takes_the_season_out():
    steps = torch.arange(24)
    season = torch.tensor([3.0, 50.0, -20.0, 7.0])
    noise = torch.randn(1, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    context = season[steps % 4] + noise
    scaled = scale_window("seasonal", context, torch.ones_like(context, dtype=torch.bool), 4).to_network(context)
    assert scaled.unflatten(1, (6, 4)).mean(1).abs().max() < 1e-9
    assert scaled.square().mean().item() == pytest.approx(1)


@given(length=st.integers(4, 14), season=st.integers(2, 7), step=st.integers(0, 30), count=st.integers(1, 12))
@properties
def test_the_shift_has_the_phase_of_its_step(length, season, step, count):
    context, _ = random_window(0, batch=2, length=length)
    scaling = scale_window("seasonal", context, torch.ones_like(context, dtype=torch.bool), season)
    shift = scaling.shift_at(step, count).expand(2, count)
    seasonal = 1 < season <= length // 2
    for place in range(count):
        for row in range(2):
            values = context[row].numpy()
            expected = values[(step + place) % season :: season].mean() if seasonal else values.mean()
            assert shift[row, place].item() == pytest.approx(expected)


@pytest.mark.parametrize("scaler", ["mean_abs", "standard", "last", "robust", "seasonal"])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_values_of_any_size_that_float32_holds_are_scaled_alike(scaler, size):
    context, observed = random_window(5)
    networks = []
    for factor in (1, size):
        values = (factor * context).float()
        networks.append(scale_window(scaler, values, observed, SEASON).to_network(values))
    assert torch.allclose(*networks, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaler", LEVELS)
def test_rounding_noise_on_a_level_is_not_taken_for_variation(scaler):
    noise = torch.tensor([0.0, 6e-8, -6e-8, 0.0])
    scaling = scale_window(scaler, 1000 * (1 + noise)[None], torch.ones(1, 4, dtype=torch.bool), 2)
    assert scaling.scale.item() == pytest.approx(0.01 * 1000)  # a constant's spread: 1% of its level


@each_scaler
def test_a_context_without_any_observation_is_scaled_by_what_it_was_filled_with(scaler):
    filled, nothing = torch.tensor([[5.0, 5.0, 7.0, 5.0]]), torch.zeros(1, 4, dtype=torch.bool)
    scalings = [scale_window(scaler, filled, seen, 2) for seen in (nothing, ~nothing)]
    assert all(one.equal(other) for one, other in zip(*scalings, strict=True))


@given(seed=st.integers(0, 1000))
@properties
def test_a_standardised_window_has_mean_zero_and_spread_one(seed):
    context, _ = random_window(seed)
    scaled = scale_window("standard", context, torch.ones_like(context, dtype=torch.bool)).to_network(context)
    assert torch.allclose(scaled.mean(1), torch.zeros(4).double(), atol=1e-9)
    assert torch.allclose(scaled.std(1, correction=0), torch.ones(4).double())


@pytest.mark.parametrize("scaler", UNITS)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3), offset=st.floats(-100, 100))
@properties
def test_scalers_follow_the_units_of_the_data(scaler, seed, factor, offset):
    context, observed = random_window(seed)
    plain = scale_window(scaler, context, observed, SEASON)
    for one, another in zip(plain, scale_window(scaler, factor * context, observed, SEASON), strict=True):
        assert torch.allclose(factor * one, another)
    if scaler in LEVELS:
        moved = scale_window(scaler, context + offset, observed, SEASON)
        assert torch.allclose(plain.scale, moved.scale)
        assert torch.allclose(plain.shift + offset, moved.shift)


@each_scaler
@pytest.mark.parametrize("step", [0, 4])
def test_network_units_turn_back_into_the_data(scaler, step):
    context, observed = random_window(1, channels=(2,))
    scaling = scale_window(scaler, context, observed, SEASON)
    network = scaling.to_network(context, step)
    assert torch.allclose(scaling.shift_at(step, 9) + scaling.scale * network, context)


@each_scaler
def test_windows_are_repeated_side_by_side_and_batches_one_after_the_other(scaler):
    scaling = scale_window(scaler, *random_window(2), SEASON)
    windows = [Scaling(*(part[row : row + 1] for part in scaling)) for row in range(4)]
    for repeated, order in (
        (scaling.repeat(3), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
        (scaling.tile(2), [0, 1, 2, 3] * 2),
    ):
        for parts, part in zip(zip(*(windows[row] for row in order), strict=True), repeated, strict=True):
            assert torch.cat(parts).equal(part)


def test_the_statistics_of_training_equal_numpy_on_what_was_observed():
    generator = np.random.default_rng(0)
    values, observed = 100 + generator.normal(size=(50, 3)), generator.random((50, 3)) < 0.7
    kept = np.where(observed, values, np.nan)
    found = SCALERS["global"]().fit(torch.from_numpy(np.where(observed, values, 1e9)), torch.from_numpy(observed))
    assert np.allclose(found["level"], np.nanmean(kept, 0))
    assert np.allclose(found["spread"], np.nanstd(kept, 0))


def test_channels_that_are_constant_or_never_observed_have_a_spread_of_one():
    scaler, seen = SCALERS["global"](), torch.ones(9, 1, dtype=torch.bool)
    assert scaler.fit(torch.full((9, 1), 5.0), seen)["spread"] == 1
    assert scaler.fit(torch.randn(9, 1), ~seen)["spread"] == 1
