"""Tests of the window scalers, with numpy on the kept values as the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.model.scaling import SCALERS, scale_window

properties = settings(max_examples=50, deadline=None)


def random_window(seed, batch=4, length=9, channels=()):
    generator = torch.Generator().manual_seed(seed)
    context = 5 + 3 * torch.randn(batch, length, *channels, generator=generator, dtype=torch.float64)
    observed = torch.rand(context.shape, generator=generator) < 0.7
    observed[:, 2:4] = True
    return context, observed


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("channels", [(), (3,)])
@given(seed=st.integers(0, 1000))
@properties
def test_scalers_equal_numpy_on_the_observed_values(scaler, channels, seed):
    context, observed = random_window(seed, channels=channels)
    scaling = scale_window(scaler, context, observed)
    assert scaling.shift.shape == scaling.scale.shape == scaling.magnitude.shape == (4, 1, *channels)
    for index in np.ndindex(4, *channels):
        at = (index[0], slice(None), *index[1:])
        kept = context[at][observed[at]].numpy()
        expected = {
            "none": (0, 1),
            "mean_abs": (0, np.abs(kept).mean()),
            "standard": (kept.mean(), kept.std()),
        }[scaler]
        got = [part[at].item() for part in scaling]
        assert got == pytest.approx([*expected, np.abs(kept).mean()])


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("filler", [1e6, float("nan"), float("inf")])
def test_what_is_not_observed_does_not_count(scaler, filler):
    context, observed = random_window(3)
    other = torch.where(observed, context, filler)
    for one, another in zip(
        scale_window(scaler, context, observed), scale_window(scaler, other, observed), strict=True
    ):
        assert one.equal(another)


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize(
    ("value", "seen"), [(0.0, True), (7.3, True), (-1e6, True), (1e-8, True), (0.0, False), (5.0, False)]
)
def test_constant_zero_or_unobserved_contexts_get_a_finite_scale_above_zero(scaler, value, seen):
    context = torch.full((2, 50), value)
    scaling = scale_window(scaler, context, torch.full((2, 50), seen))
    assert all(part.isfinite().all() for part in scaling)
    assert (scaling.scale > 0).all()
    assert (scaling.magnitude > 0).all()
    assert scaling.to_network(context).abs().max() <= max(1, abs(value)) * (1 + 1e-6)


@pytest.mark.parametrize("scaler", ["mean_abs", "standard"])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_values_of_any_size_that_float32_holds_are_scaled_alike(scaler, size):
    context, observed = random_window(5)
    networks = []
    for factor in (1, size):
        values = (factor * context).float()
        networks.append(scale_window(scaler, values, observed).to_network(values))
    assert torch.allclose(*networks, rtol=1e-4, atol=1e-5)


def test_rounding_noise_on_a_level_is_not_taken_for_variation():
    noise = torch.tensor([0.0, 6e-8, -6e-8, 0.0])
    scaling = scale_window("standard", 1000 * (1 + noise)[None], torch.ones(1, 4, dtype=torch.bool))
    assert scaling.scale.item() == pytest.approx(0.01 * 1000)  # a constant's spread: 1% of its level


def test_a_context_without_any_observation_is_scaled_by_what_it_was_filled_with():
    filled, nothing = torch.tensor([[5.0, 5.0, 7.0]]), torch.zeros(1, 3, dtype=torch.bool)
    for one, another in zip(
        scale_window("standard", filled, nothing), scale_window("standard", filled, ~nothing), strict=True
    ):
        assert one.equal(another)


@given(seed=st.integers(0, 1000))
@properties
def test_a_standardised_window_has_mean_zero_and_spread_one(seed):
    context, _ = random_window(seed)
    scaled = scale_window("standard", context, torch.ones_like(context, dtype=torch.bool)).to_network(context)
    assert torch.allclose(scaled.mean(1), torch.zeros(4).double(), atol=1e-9)
    assert torch.allclose(scaled.std(1, correction=0), torch.ones(4).double())


@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3), offset=st.floats(-100, 100))
@properties
def test_scalers_follow_the_units_of_the_data(seed, factor, offset):
    context, observed = random_window(seed)
    for scaler in ("mean_abs", "standard"):
        plain = scale_window(scaler, context, observed)
        scaled = scale_window(scaler, factor * context, observed)
        for one, another in zip(plain, scaled, strict=True):
            assert torch.allclose(factor * one, another)
    plain, moved = (scale_window("standard", window, observed) for window in (context, context + offset))
    assert torch.allclose(plain.scale, moved.scale)
    assert torch.allclose(plain.shift + offset, moved.shift)


@pytest.mark.parametrize("scaler", SCALERS)
def test_network_units_turn_back_into_the_data(scaler):
    context, observed = random_window(1, channels=(2,))
    scaling = scale_window(scaler, context, observed)
    assert torch.allclose(scaling.shift + scaling.scale * scaling.to_network(context), context)


def test_repeat_gives_every_window_so_many_times_side_by_side():
    context, observed = random_window(2)
    scaling = scale_window("standard", context, observed)
    for part, repeated in zip(scaling, scaling.repeat(3), strict=True):
        assert repeated.flatten().tolist() == [value for value in part.flatten().tolist() for _ in range(3)]
