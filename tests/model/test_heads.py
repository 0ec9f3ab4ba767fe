"""Tests of the heads and their distributions, with scipy and Python loops as the oracle."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.autograd import gradcheck

from armlp.errors import UserError
from armlp.model.heads import HEADS, PiecewiseLinearQuantile, PointHead, QuantileHead

DENSE = ["normal", "student_t", "quantile"]  # the heads with a density
EXACT = ["normal", "quantile"]  # those with a distribution function and its inverse
LEVELS = torch.tensor([1e-6, 0.004, 0.02, 0.05, 0.1, 0.37, 0.5, 0.9, 0.951, 0.98, 0.995, 1 - 1e-6], dtype=torch.float64)
properties = settings(max_examples=50, deadline=None)


def random_raw(name, *shape, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    size = (*shape, HEADS[name].parameters)
    return spread * torch.randn(size, generator=generator, dtype=torch.float64)


def distribution_of(name, *shape, seed=0, shift=0.0, scale=1.0):
    raw = random_raw(name, *shape, seed=seed)
    one = torch.ones(shape[0], *[1] * (len(shape) - 1), dtype=torch.float64)
    return HEADS[name]()(raw, shift * one, scale * one)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def softplus(raw):
    return math.log1p(math.exp(raw)) + 1e-4


def scipy_distribution(name, raw):
    """The frozen scipy distribution in network units of one vector of raw outputs."""
    if name == "normal":
        return stats.norm(raw[0], softplus(raw[1]))
    return stats.t(2 + softplus(raw[2] + 4), raw[0], softplus(raw[1]))


def naive_knots(raw):
    """The knots of one vector of raw outputs, network units, by a loop from the median outwards."""
    middle = len(QuantileHead.LEVELS) // 2
    normal = stats.norm.ppf(QuantileHead.LEVELS) / 2
    gaps = [softplus(value + math.log(math.expm1(gap))) for value, gap in zip(raw[1:], np.diff(normal), strict=True)]
    knots = [raw[0]] * len(QuantileHead.LEVELS)
    for step in range(1, middle + 1):
        knots[middle - step] = knots[middle - step + 1] - gaps[middle - step]
        knots[middle + step] = knots[middle + step - 1] + gaps[middle + step - 1]
    return knots


def naive_quantile(knots, level):
    """Linear between knots; beyond them exponential with a mean excess of half the outer gap."""
    levels = QuantileHead.LEVELS
    if level < levels[0]:
        return knots[0] + (knots[1] - knots[0]) / 2 * math.log(level / levels[0])
    if level > levels[-1]:
        return knots[-1] - (knots[-1] - knots[-2]) / 2 * math.log((1 - level) / (1 - levels[-1]))
    return float(np.interp(level, levels, knots))


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (-700.0, 3.0), (5.0, 0.01)])
def test_every_density_integrates_to_one(name, seed, shift, scale):
    distribution = distribution_of(name, 1, 1, seed=seed, shift=shift, scale=scale)

    def density(z):  # of network units, so that the integrator need not find a far or narrow bump
        return scale * distribution.log_prob(double(shift + scale * z)).exp().item()

    inner = [distribution.mean.item()] if name != "quantile" else distribution.knots.flatten().tolist()
    ends = [-math.inf, *((value - shift) / scale for value in inner), math.inf]
    pieces = [integrate.quad(density, *ends[i : i + 2], epsabs=1e-9)[0] for i in range(len(ends) - 1)]
    assert sum(pieces) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", EXACT)
@given(seed=st.integers(0, 1000), shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
@properties
def test_the_distribution_function_inverts_the_quantile_function(name, seed, shift, scale):
    distribution = distribution_of(name, len(LEVELS), seed=seed, shift=shift, scale=scale)
    assert torch.allclose(distribution.cdf(distribution.icdf(LEVELS)), LEVELS, rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_distribution_function_of_the_quantile_head_is_the_integral_of_its_density(seed):
    distribution = distribution_of("quantile", 1, seed=seed)
    knots = distribution.knots[0].tolist()
    for value in (knots[0] - 0.3, knots[0], 0.2 * knots[3] + 0.8 * knots[4], knots[-1], knots[-1] + 0.4):
        ends = [-math.inf, *(knot for knot in knots if knot < value), value]
        mass = sum(
            integrate.quad(lambda x: distribution.log_prob(double(x)).exp().item(), *ends[i : i + 2])[0]
            for i in range(len(ends) - 1)
        )
        assert distribution.cdf(double(value)).item() == pytest.approx(mass, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_quantile_function_equals_the_naive_one(seed):
    raw = random_raw("quantile", 1, seed=seed)
    distribution = QuantileHead()(raw, torch.zeros(1), torch.ones(1))
    knots = naive_knots(raw[0].tolist())
    for level in LEVELS.tolist():
        expected = naive_quantile(knots, level)
        assert distribution.icdf(double(level)).item() == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 100), st.lists(st.floats(1e-7, 1 - 1e-7), min_size=2, max_size=9).map(sorted))
@properties
def test_quantiles_ascend_with_the_level(seed, levels):
    distribution = distribution_of("quantile", 1, seed=seed)
    quantiles = distribution.icdf(double(*levels))
    assert (quantiles.diff() >= 0).all()
    assert quantiles.shape == (len(levels),)


@pytest.mark.parametrize("name", ["normal", "student_t"])
@given(
    raw=st.lists(st.floats(-8, 8), min_size=3, max_size=3),
    z=st.floats(-30, 30),
    shift=st.floats(-50, 50),
    scale=st.floats(0.01, 100),
)
@properties
def test_log_density_equals_that_of_scipy(name, raw, z, shift, scale):
    raw = raw[: HEADS[name].parameters]
    value = shift + scale * z
    parts = double(*raw), double(shift)[0], double(scale)[0]
    got = HEADS[name]()(*parts).log_prob(double(value)).item()
    expected = scipy_distribution(name, raw).logpdf((value - shift) / scale) - math.log(scale)
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", DENSE)
def test_draws_from_uniform_noise_follow_the_distribution(name):
    count = 4000
    raw = random_raw(name, 1, seed=7)
    noise = torch.rand(count, HEADS[name].noise, generator=torch.Generator().manual_seed(1)).double()
    drawn = HEADS[name]()(raw.expand(count, -1), torch.full((count,), 3.0), torch.full((count,), 2.0)).draw(noise)
    if name == "quantile":
        knots = naive_knots(raw[0].tolist())
        grid = np.linspace(1e-7, 1 - 1e-7, 20_001)
        quantiles = [naive_quantile(knots, level) for level in grid]
        oracle = partial(np.interp, xp=quantiles, fp=grid)
    else:
        oracle = scipy_distribution(name, raw[0].tolist()).cdf
    assert stats.kstest((drawn.numpy() - 3) / 2, oracle).pvalue > 0.01


@pytest.mark.parametrize("name", EXACT)
def test_a_draw_is_the_quantile_at_the_uniform_number(name):
    distribution = distribution_of(name, len(LEVELS), seed=3, shift=4.0, scale=0.3)
    assert torch.allclose(distribution.draw(LEVELS[:, None]), distribution.icdf(LEVELS), rtol=1e-9)


def test_knots_of_raw_zeros_are_the_quantiles_of_a_normal_of_half_the_spread():
    knots = QuantileHead()(torch.zeros(1, QuantileHead.parameters).double(), double(3.0), double(4.0)).knots[0]
    assert np.allclose(knots, stats.norm(3, 2).ppf(QuantileHead.LEVELS), atol=4 * 6e-4)  # gaps have a floor


@given(st.lists(st.floats(-1e3, 1e3), min_size=QuantileHead.parameters, max_size=QuantileHead.parameters))
@properties
def test_knots_ascend_whatever_the_network_says(raw):
    for dtype, least in ((torch.float64, 1e-5), (torch.float32, 0)):
        zero = torch.zeros(1, dtype=dtype)
        knots = QuantileHead()(torch.tensor([raw], dtype=dtype), zero, zero + 1).knots
        assert (knots.diff(dim=-1) >= least).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_the_quantile_head_is_the_integral_of_its_quantile_function(seed):
    raw = random_raw("quantile", 1, seed=seed)
    knots = naive_knots(raw[0].tolist())
    ends = [0.0, *QuantileHead.LEVELS, 1.0]
    pieces = [
        integrate.quad(lambda u: naive_quantile(knots, min(max(u, 1e-300), 1 - 1e-16)), *ends[i : i + 2])[0]
        for i in range(len(ends) - 1)
    ]
    mean = QuantileHead()(raw, torch.full((1,), 5.0), torch.full((1,), 3.0)).mean.item()
    assert mean == pytest.approx(5 + 3 * sum(pieces), abs=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_equal_finite_differences(name):
    head = HEADS[name]()
    raw = random_raw(name, 4, 3, seed=11).requires_grad_()
    shift = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    scale = (shift.detach().abs() + 0.5).requires_grad_()
    generator = torch.Generator().manual_seed(3)
    # From the middle to far in the tails, of values as well as of noise.
    value = (8 * torch.rand(4, 3, generator=generator).double() - 4).requires_grad_()
    noise = torch.rand(4, 3, head.noise, generator=generator).double()
    noise[0] = 0.001
    noise[1] = 0.999
    unit = torch.full((4, 1), 0.7).double()
    assert gradcheck(lambda *parts: head(*parts).draw(noise), (raw, shift, scale))
    assert gradcheck(lambda *parts: head(*parts).mean, (raw, shift, scale))
    assert gradcheck(lambda x, *parts: head.loss(head(*parts), x, unit), (value, raw, shift, scale))
    if head.has_density:
        assert gradcheck(lambda x, *parts: head(*parts).log_prob(x), (value, raw, shift, scale))


@pytest.mark.parametrize("name", HEADS)
@given(seed=st.integers(0, 1000), shift=st.floats(-1000, 1000), scale=st.floats(1e-3, 1e3))
@properties
def test_heads_are_location_scale_and_log_densities_count_the_change_of_units(name, seed, shift, scale):
    head = HEADS[name]()
    network, data = (
        distribution_of(name, 5, 2, seed=seed, shift=shift, scale=scale)
        for shift, scale in ((0.0, 1.0), (shift, scale))
    )
    noise = torch.rand(5, 2, head.noise, generator=torch.Generator().manual_seed(seed)).double()
    drawn = network.draw(noise)
    assert torch.allclose(data.draw(noise), shift + scale * drawn, atol=1e-9)
    assert torch.allclose(data.mean, shift + scale * network.mean, atol=1e-9)
    if hasattr(head, "LEVELS") or name == "normal":
        level = double(0.1)
        assert torch.allclose(data.icdf(level), shift + scale * network.icdf(level), atol=1e-9)
    if head.has_density:
        expected = network.log_prob(drawn) - math.log(scale)
        assert torch.allclose(data.log_prob(shift + scale * drawn), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_quantile_loss_equals_the_naive_pinball_loss(seed):
    raw = random_raw("quantile", 3, 2, seed=seed)
    distribution = QuantileHead()(raw, torch.full((3, 1), 1.0), torch.full((3, 1), 2.0))
    value = 4 * torch.randn(3, 2, generator=torch.Generator().manual_seed(seed)).double()
    unit = double(0.5, 1.0, 3.0)[:, None]
    loss = QuantileHead().loss(distribution, value, unit)
    for row in range(3):
        for column in range(2):
            total = 0.0
            for level, knot in zip(QuantileHead.LEVELS, naive_knots(raw[row, column].tolist()), strict=True):
                error = (value[row, column].item() - (1 + 2 * knot)) / unit[row, 0].item()
                total += level * error if error >= 0 else (level - 1) * error
            assert loss[row, column].item() == pytest.approx(2 * total / len(QuantileHead.LEVELS))


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("mse", F.mse_loss),
        ("mae", F.l1_loss),
        ("huber", F.huber_loss),
    ],
)
def test_point_losses_equal_those_of_torch_in_multiples_of_the_unit(name, oracle):
    head = PointHead(name)
    raw = random_raw("point", 6, 3, spread=3)
    value = random_raw("point", 6, 3, seed=1, spread=3)[..., 0]
    unit = torch.full((6, 1), 2.5).double()
    loss = head.loss(head(raw, torch.zeros(6, 1), torch.ones(6, 1)), value, unit)
    assert loss.shape == (6, 3)
    assert torch.allclose(loss.mean(), oracle(raw[..., 0] / 2.5, value / 2.5))


@pytest.mark.parametrize("name", ["normal", "student_t"])
def test_the_loss_of_a_parametric_head_is_its_negative_log_likelihood_whatever_the_unit(name):
    distribution = distribution_of(name, 4, 2, seed=5)
    value = torch.linspace(-2, 2, 8).double().view(4, 2)
    for unit in (0.1, 7.0):
        loss = HEADS[name]().loss(distribution, value, torch.full((4, 1), unit))
        assert loss.equal(-distribution.log_prob(value))


def test_a_point_has_all_its_mass_on_one_value():
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    distribution = PointHead()(value[..., None], torch.full((2, 1), 10.0), torch.full((2, 1), 2.0))
    expected = 10 + 2 * value
    assert distribution.mean.equal(expected)
    assert distribution.draw(torch.empty(2, 2, 0)).equal(expected)
    assert distribution.icdf(torch.tensor(0.1)).equal(expected)


def test_a_point_loss_that_is_not_known_is_named():
    with pytest.raises(UserError, match=r"--model\.point_loss: 'mape'"):
        PointHead("mape")


@pytest.mark.parametrize("name", DENSE)
def test_distributions_broadcast_over_many_values_as_those_of_torch_do(name):
    distribution = distribution_of(name, 3, 2, seed=9)
    values = torch.linspace(-3, 3, 7).double()[:, None, None]
    each = torch.stack([distribution.log_prob(value.expand(3, 2)) for value in values])
    assert distribution.log_prob(values).equal(each)
    if name in EXACT:
        levels = values / 10 + 0.5
        assert distribution.icdf(levels).equal(torch.stack([distribution.icdf(one.expand(3, 2)) for one in levels]))
        assert distribution.cdf(values).equal(torch.stack([distribution.cdf(one.expand(3, 2)) for one in values]))


@pytest.mark.parametrize("name", HEADS)
@given(data=st.data(), value=st.floats(-1e4, 1e4))
@properties
def test_losses_draws_and_gradients_stay_finite_whatever_the_network_says(name, data, value):
    head = HEADS[name]()
    raw = data.draw(st.lists(st.floats(-100, 100, width=32), min_size=head.parameters, max_size=head.parameters))
    raw = torch.tensor([raw]).requires_grad_()
    distribution = head(raw, torch.zeros(1), torch.ones(1))
    losses = [head.loss(distribution, torch.tensor([value]), torch.ones(1))]
    losses += [distribution.draw(torch.full((1, head.noise), uniform)) for uniform in (2**-25, 0.5, 1 - 2**-24)]
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss.sum(), raw, retain_graph=True)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


def test_knots_given_by_hand_make_the_staircase_density():
    levels, knots = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.0, 4.0, 6.0])
    density = PiecewiseLinearQuantile(levels, knots).log_prob(torch.tensor(1.0)).exp()
    assert density.item() == pytest.approx(0.4 / 4)
    tail = PiecewiseLinearQuantile(levels, knots).log_prob(torch.tensor(7.0)).exp()
    assert tail.item() == pytest.approx(0.1 * math.exp(-1.0))


def test_density_stays_finite_where_float32_cannot_tell_the_knots_apart():
    head = QuantileHead()
    distribution = head(torch.zeros(1, head.parameters), torch.tensor([1e6]), torch.tensor([1e-3]))
    assert (distribution.knots.diff() == 0).any()
    assert distribution.log_prob(torch.tensor([[1e6 - 1.0], [1e6], [1e6 + 1.0]])).isfinite().all()
