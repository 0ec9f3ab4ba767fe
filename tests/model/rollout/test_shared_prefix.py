"""Tests of the fast rollout, with the plain loop as the oracle, and of how much it multiplies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from armlp.data.covariates import Covariates
from armlp.model.families import HEADS
from armlp.model.mlp import ACTIVATIONS, AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout
from armlp.model.scaling import SCALERS

LENGTH, SEASON = 8, 3
SIZES = {"known": [0, 4], "past": [0], "calendar": [0], "static": [3]}
TYPES = {torch.float64: 1e-12, torch.float32: 1e-5}


def network(seed, dtype, **options):
    """With no weight left at zero, tame enough that rounding does not grow from step to step."""
    torch.manual_seed(seed)
    options["symbols"] = 4 if options.get("head") == "symbols" else 0
    model = AutoregressiveMLP(LENGTH, season_length=SEASON, dropout=0.5, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model.to(dtype).eval()


def origins(model, batch, horizon, paths, seed, dtype, missing):
    """Contexts, which of them are observed, noise and covariates."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, LENGTH, model.channels)
    context = 10 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if model.symbols:
        context = torch.randint(0, 4, shape, generator=generator).double()
    elif model.non_negative:
        context = context - 10  # else nothing is below 0
    observed = torch.rand(shape, generator=generator) >= missing
    observed[:, -1] = True
    per_value = (*context.shape[2:], model.head.noise)
    noise = path_noise(torch.arange(batch), torch.arange(batch), paths, horizon, per_value, seed)
    span = horizon + model.patch_length
    covariates = Covariates(
        known=torch.randint(0, 4, (batch, LENGTH + span, 2), generator=generator).to(dtype),
        past=torch.randn(batch, LENGTH + span, 1, generator=generator).to(dtype),
        calendar=torch.randn(batch, span, 1, generator=generator).to(dtype),
        static=torch.randint(0, 3, (batch, 1), generator=generator).to(dtype),
    )
    return context.to(dtype), observed, noise.to(dtype), covariates


def alike(one, other, dtype):
    tolerance = TYPES[dtype]
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.abs().amax()))


@pytest.mark.parametrize("head", HEADS)
@given(
    hidden=st.sampled_from([[], [6], [6, 5]]),
    blocks=st.integers(0, 2),
    block_size=st.sampled_from([None, 3]),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    patch=st.sampled_from([1, 2, 5, 7]),
    channels=st.sampled_from([1, 2]),
    members=st.sampled_from([1, 3]),
    scaler=st.sampled_from([*SCALERS]),
    horizon=st.integers(1, 2 * LENGTH + 3),
    batch=st.integers(1, 4),
    paths=st.sampled_from([1, 3, 20]),
    covariates=st.booleans(),
    missing=st.sampled_from([0.0, 0.3]),
    known=st.sampled_from([0.0, 0.2]),
    flags=st.tuples(*[st.booleans()] * 5),
    dtype=st.sampled_from(sorted(TYPES, key=str)),
    seed=st.integers(0, 100),
)
@settings(max_examples=15)
def test_the_fast_rollout_equals_the_plain_loop(
    head, hidden, blocks, patch, horizon, batch, paths, covariates, missing, known, flags, dtype, seed, **options
):
    mask_input, level_input, non_negative, linear_skip, seasonal_skip = flags
    has_inputs = covariates or head == "symbols"
    hidden = hidden or ([6] if has_inputs else [])
    dtype = (
        torch.float64 if HEADS[head].distribution.discrete else dtype
    )  # the least rounding makes another count of a draw
    options |= {
        "patch_length": patch,
        "hidden_sizes": hidden,
        "residual_blocks": blocks if hidden else 0,
        "mask_input": mask_input,
        "level_input": level_input,
        "non_negative": non_negative and head != "symbols",
        "linear_skip": linear_skip or not hidden,
        "seasonal_skip": seasonal_skip,
        "covariate_sizes": SIZES if covariates else None,
    }
    model = network(seed, dtype, head=head, **options)
    context, observed, noise, beside = origins(model, batch, horizon, paths, seed, dtype, missing)
    future = None
    if known:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, horizon, *context.shape[2:])
        future = context.mean(1, keepdim=True).round().expand(shape).clone()
        future[torch.rand(shape, generator=generator) >= known] = torch.nan
    arguments = (model, context, horizon, paths, observed, noise, beside if covariates else None)
    one, other = (rollout(*arguments, given=future, reference=reference) for reference in (False, True))
    assert one.shape == (batch, paths, horizon, *context.shape[2:])
    assert one.dtype == dtype
    assert alike(one, other, dtype)
    if model.non_negative and future is None:
        assert torch.equal(one == 0, other == 0)
    if future is not None:
        clamped = ~future.isnan()[:, None].expand_as(one)
        assert torch.equal(one[clamped], future[:, None].expand_as(one)[clamped])


@pytest.mark.parametrize("head", ["symbols", "categorical"])
@pytest.mark.parametrize("sharpness", [(0.5, None), (1.0, 2), (2.0, 3)])
def test_sharpened_choices_are_those_of_the_plain_loop(head, sharpness):
    model = network(0, torch.float64, head=head, hidden_sizes=[6])
    context, observed, noise, _ = origins(model, 3, 12, 5, 0, torch.float64, 0.0)
    arguments = (model, context, 12, 5, observed, noise, None, *sharpness)
    assert torch.allclose(rollout(*arguments), rollout(*arguments, reference=True), rtol=1e-12)


@pytest.mark.parametrize("head", ["point", "poisson"])
def test_paths_that_run_away_run_as_far_as_those_of_the_plain_loop(head):
    model = network(0, torch.float64, head=head, hidden_sizes=[6], scaler="none", linear_skip=False)
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter *= 30
    context, observed, noise, _ = origins(model, 3, 60, 6, 0, torch.float64, 0.0)
    one, other = (rollout(model, context, 60, 6, observed, noise, reference=reference) for reference in (False, True))
    assert other.abs().max() > 1e9  # what the network is shown ends there
    assert torch.allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("blocks", [0, 2])
def test_a_path_multiplies_what_it_has_generated_and_nothing_else(members, blocks):
    length, hidden, inner, horizon, batch = 50, 16, 4, 20, 3
    options = {"residual_blocks": blocks, "block_size": inner, "season_length": 5, "members": members}
    model = AutoregressiveMLP(length, hidden_sizes=[hidden], head="normal", **options).eval()

    def products(paths):
        with FlopCounterMode(display=False) as counter:
            rollout(model, torch.randn(batch, length), horizon, paths)
        return counter.get_total_flops() // 2

    behind = 2 * blocks * hidden * inner + 2 * hidden  # what comes behind the first layer, at one step
    common = horizon * ((length + 1) * hidden + length) + behind  # the level is an input too; and the linear skip
    each = sum(range(1, horizon)) * (hidden + 1) + (horizon - 1) * behind
    for paths in (20 * members, 40 * members):
        assert products(paths) == batch * (members * common + paths * each)


@pytest.mark.parametrize("head", ["quantile", "student_t"])
def test_half_precision_stays_near_the_paths_of_single_precision(head):
    model = network(0, torch.float32, head=head, hidden_sizes=[32], residual_blocks=2, members=2)
    context, observed, noise, _ = origins(model, 20, 12, 20, 0, torch.float32, 0.0)
    exact = rollout(model, context, 12, 20, observed, noise)
    half = rollout(model, context, 12, 20, observed, noise, precision=torch.bfloat16)
    assert half.dtype == torch.float32
    assert not half.equal(exact)
    assert (half - exact).abs().median() < 0.01 * exact.std()
