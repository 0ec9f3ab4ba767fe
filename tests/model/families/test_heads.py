"""Tests of what all heads promise, with scipy and quadrature as the oracle."""

import inspect
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch.autograd import gradcheck

from armlp.model.families import HEADS

DISCRETE = [name for name, head in HEADS.items() if head.distribution.discrete]
DENSE = [name for name, head in HEADS.items() if head.distribution.has_density and not head.distribution.discrete]
LOCATION_SCALE = ["point", *DENSE]
LEVELS = torch.tensor([1e-6, 0.004, 0.02, 0.05, 0.1, 0.37, 0.5, 0.9, 0.951, 0.98, 0.995, 1 - 1e-6], dtype=torch.float64)
properties = settings(max_examples=50)


def make(name, **options):
    """A small head for two channels; so the last axis of values is always 2."""
    options = {"bins": 7, "symbols": 5, "channels": 2} | options
    takes = inspect.signature(HEADS[name]).parameters
    return HEADS[name](**{option: value for option, value in options.items() if option in takes})


def random_raw(name, *shape, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, make(name).outputs, generator=generator, dtype=torch.float64)


def distribution_of(name, *shape, seed=0, shift=0.0, scale=1.0, raw=None):
    raw = random_raw(name, *shape, seed=seed) if raw is None else raw
    one = torch.ones(*raw.shape[:1], *[1] * (raw.dim() - 2), dtype=raw.dtype)
    return make(name)(raw, shift * one, scale * one)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def softplus(raw):
    return np.logaddexp(0, raw) + 1e-4


def natural(name, seed=0, shift=4.0, scale=3.0):
    """A distribution of values `[2]`, and the raw outputs that it was made from."""
    raw = random_raw(name, 2, seed=seed)
    return make(name)(raw, double(shift), double(scale)), raw.numpy()


def oracles(name, raw, shift=4.0, scale=3.0):
    """scipy's log-density in data units of each of the two values, as functions of a number."""
    if name == "mixture":

        def mixture(row):
            weights = special.softmax(row[1:4])
            parts = stats.norm(shift + scale * (row[0] + row[4:7] + [-1, 0, 1]), scale * softplus(row[7:10]))
            return lambda x: special.logsumexp(np.log(weights) + parts.logpdf(x))

        return [mixture(row) for row in raw]
    if name in ("poisson", "negative_binomial"):
        means = [scale * np.logaddexp(0, row[0] + shift / scale) + 1e-4 for row in raw]
        if name == "poisson":
            return [stats.poisson(mean).logpmf for mean in means]
        excess = [scale * softplus(row[1]) for row in raw]
        successes = [(mean / more) ** 2 for mean, more in zip(means, excess, strict=True)]
        return [stats.nbinom(r, r / (r + mean)).logpmf for mean, r in zip(means, successes, strict=True)]
    frozen = {
        "normal": lambda row: stats.norm(shift + scale * row[0], scale * softplus(row[1])),
        "laplace": lambda row: stats.laplace(shift + scale * row[0], scale * softplus(row[1])),
        "student_t": lambda row: stats.t(2 + softplus(row[2] + 4), shift + scale * row[0], scale * softplus(row[1])),
    }[name]
    return [frozen(row).logpdf for row in raw]


def quadrature(function, ends, count=60):
    """The integral of a function of tensors between ascending ends, by Gauss and Legendre's rule in each gap."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(count))
    ends = torch.as_tensor(ends, dtype=torch.float64)
    half = ends.diff()[:, None] / 2
    return (function(ends[:-1, None] + half * (1 + nodes)) * weights * half).sum()


def breaks(distribution, low, high, count=400):
    """A fine grid that holds every jump of the density of a single value."""
    inner = distribution.knots.flatten() if hasattr(distribution, "knots") else double(distribution.mean.item())
    grid = torch.cat([torch.linspace(low, high, count, dtype=torch.float64), inner])
    return grid[(grid >= low) & (grid <= high)].sort().values


@pytest.mark.parametrize("name", [name for name in DENSE if name != "multivariate_normal"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (-700.0, 3.0), (5.0, 0.01)])
def test_every_density_integrates_to_one(name, seed, shift, scale):
    distribution = distribution_of(name, 1, 1, seed=seed, shift=shift, scale=scale)

    def density(z):  # of network units, so that the integrator need not find a far or narrow bump
        return scale * distribution.log_prob(double(shift + scale * z)).exp().item()

    inner = distribution.knots if hasattr(distribution, "knots") else distribution.mean
    if name == "mixture":
        inner = distribution.components.loc.sort().values
    ends = [-math.inf, *((value - shift) / scale for value in inner.flatten().tolist()), math.inf]
    pieces = [integrate.quad(density, *ends[i : i + 2], epsabs=1e-9)[0] for i in range(len(ends) - 1)]
    assert sum(pieces) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("seed", range(3))
def test_every_probability_function_sums_to_one(name, seed):
    distribution, _ = natural(name, seed)
    values = torch.arange(20_000, dtype=torch.float64)[:, None]
    probabilities = distribution.log_prob(values).exp()
    assert torch.allclose(probabilities.sum(0), double(1.0, 1.0), atol=1e-9)
    assert torch.allclose(probabilities.cumsum(0), distribution.cdf(values), atol=1e-9)
    for no_value in (-1.0, 1.5):
        assert (distribution.log_prob(double(no_value, no_value)) == -math.inf).all()
    assert distribution.cdf(values - 0.5)[1:].equal(distribution.cdf(values)[:-1])
    assert distribution.cdf(double(-0.5, -7.0)).equal(double(0.0, 0.0))


@pytest.mark.parametrize("name", DENSE)
@given(seed=st.integers(0, 1000), shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
@properties
def test_the_distribution_function_inverts_the_quantile_function(name, seed, shift, scale):
    distribution = distribution_of(name, len(LEVELS), 2, seed=seed, shift=shift, scale=scale)
    levels = LEVELS[:, None].expand(-1, 2)
    assert torch.allclose(distribution.cdf(distribution.icdf(levels)), levels, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", DISCRETE)
@given(seed=st.integers(0, 1000), shift=st.floats(0, 3000), scale=st.floats(0.01, 300))
@properties
def test_a_quantile_of_counts_is_the_least_one_that_reaches_the_level(name, seed, shift, scale):
    distribution = distribution_of(name, 40, 2, seed=seed, shift=shift, scale=scale)
    levels = torch.rand(40, 2, generator=torch.Generator().manual_seed(seed)).double()
    levels[: len(LEVELS)] = LEVELS[:, None]
    quantiles = distribution.icdf(levels)
    assert quantiles.equal(quantiles.round())
    assert (distribution.cdf(quantiles) >= levels).all()
    assert (distribution.cdf(quantiles - 1) < levels).all()


@pytest.mark.parametrize("name", [name for name in DENSE if name != "multivariate_normal"])
@pytest.mark.parametrize("seed", range(3))
def test_the_distribution_function_is_the_integral_of_the_density(name, seed):
    distribution = distribution_of(name, 1, 1, seed=seed, shift=3.0, scale=2.0)
    points = distribution.icdf(double(0.001, 0.03, 0.3, 0.5, 0.8, 0.99, 0.9999)).flatten()
    for low, high in pairwise(points):
        mass = quadrature(lambda x: distribution.log_prob(x).exp(), breaks(distribution, low, high, 20))
        change = distribution.cdf(high) - distribution.cdf(low)
        assert change.item() == pytest.approx(mass.item(), abs=1e-7)


@pytest.mark.parametrize("name", ["normal", "student_t", "laplace", "mixture", "poisson", "negative_binomial"])
@given(
    seed=st.integers(0, 1000),
    z=st.floats(-30, 30),
    shift=st.floats(-50, 50),
    scale=st.floats(0.01, 100),
)
@properties
def test_log_density_equals_that_of_scipy(name, seed, z, shift, scale):
    if name in DISCRETE:
        shift, z = abs(shift), round(abs(scale * z))
    value = float(z) if name in DISCRETE else shift + scale * min(max(z, -8), 8)
    distribution, raw = natural(name, seed, shift, scale)
    expected = [oracle(value) for oracle in oracles(name, raw, shift, scale)]
    assume(np.isfinite(expected).all())  # scipy's Laplace density underflows far out
    assert np.allclose(distribution.log_prob(double(value, value)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "point"])
def test_draws_from_uniform_noise_follow_the_distribution(name):
    distribution, _ = natural(name, seed=7)
    torch.manual_seed(1)
    drawn = distribution.sample((4000,))
    for channel in range(2):
        values = drawn[:, channel]
        if name in DISCRETE:
            counts = torch.arange(values.max() + 2).double()
            cumulative = distribution.cdf(counts[:, None].expand(-1, 2))[:, channel].numpy()
            expected, seen = np.diff(cumulative, prepend=0), np.bincount(values.long(), minlength=len(counts))
            common = 4000 * expected > 10
            expected, seen = (np.append(part[common], rest) for part, rest in (
                (expected, 1 - expected[common].sum()), (seen, 4000 - seen[common].sum())
            ))  # fmt: skip
            kept = 4000 * expected > 1
            expected = expected[kept] / expected[kept].sum()
            assert stats.chisquare(seen[kept], expected * seen[kept].sum()).pvalue > 0.01
        else:
            oracle = distribution.cdf(values[:, None].expand(-1, 2))[:, channel]
            assert stats.kstest(oracle.numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("seed", range(3))
def test_sampled_moments_match_the_mean_and_the_variance(name, seed):
    distribution, _ = natural(name, seed)
    torch.manual_seed(seed)
    drawn = distribution.sample((100_000,))
    squares = (drawn - distribution.mean) ** 2
    for sampled, moment in ((drawn, distribution.mean), (squares, distribution.variance)):
        error = 5 * sampled.std(0) / 100_000**0.5 + 1e-12
        assert ((sampled.mean(0) - moment).abs() <= error).all()


@pytest.mark.parametrize(
    "name", [name for name in HEADS if name not in ("student_t", "mixture", "multivariate_normal")]
)
def test_a_draw_is_the_quantile_at_the_uniform_number(name):
    distribution = distribution_of(name, len(LEVELS), 2, seed=3, shift=4.0, scale=0.3)
    levels = LEVELS[:, None].expand(-1, 2)
    assert torch.allclose(distribution.draw(levels[..., None]), distribution.icdf(levels), rtol=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_equal_finite_differences(name):
    head = make(name)
    raw = random_raw(name, 4, 2, seed=11).requires_grad_()
    shift = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    scale = (shift.detach().abs() + 0.5).requires_grad_()
    generator = torch.Generator().manual_seed(3)
    # From the middle to far in the tails, of values as well as of noise.
    value = (8 * torch.rand(4, 2, generator=generator).double() - 4).requires_grad_()
    noise = torch.rand(4, 2, head.noise, generator=generator).double()
    noise[0] = 0.001
    noise[1] = 0.999
    unit = torch.full((4, 1), 0.7).double()
    if head.discrete:
        value = value.detach().abs().round()
        assert gradcheck(lambda *parts: head.loss(head(*parts), value, unit), (raw, shift, scale))
        assert gradcheck(lambda *parts: head(*parts).log_prob(value), (raw, shift, scale))
    else:
        assert gradcheck(lambda x, *parts: head.loss(head(*parts), x, unit), (value, raw, shift, scale))
    assert gradcheck(lambda *parts: head(*parts).mean, (raw, shift, scale))
    assert gradcheck(lambda *parts: head(*parts).variance, (raw, shift, scale))
    if name in DENSE:
        assert gradcheck(lambda x, *parts: head(*parts).log_prob(x), (value, raw, shift, scale))
    if name in LOCATION_SCALE and name != "mixture":  # the mixture's draws jump between its components
        assert gradcheck(lambda *parts: head(*parts).draw(noise), (raw, shift, scale))
    if name in ("mixture", "categorical", "quantile"):
        level = noise[..., 0].clone().requires_grad_()
        assert gradcheck(lambda level, *parts: head(*parts).icdf(level), (level, raw, shift, scale))


def test_draws_of_a_mixture_have_the_gradient_that_keeps_their_probability():
    raw = random_raw("mixture", 6, 2, seed=5).requires_grad_()
    head, zero, one = make("mixture"), torch.zeros(6, 1).double(), torch.ones(6, 1).double()
    noise = torch.rand(6, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    drawn = head(raw, zero, one).draw(noise)
    levels = head(raw, zero, one).cdf(drawn.detach()).detach()
    (gradient,) = torch.autograd.grad(drawn.sum(), raw)

    def quantiles(step):  # an oracle that knows only the distribution function and its inverse
        with torch.no_grad():
            return head(raw + step, zero, one).icdf(levels)

    for column in range(raw.shape[-1]):
        step = torch.zeros_like(raw)
        step[..., column] = 1e-5
        slope = (quantiles(step) - quantiles(-step)) / 2e-5
        assert torch.allclose(gradient[..., column], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_draws_of_counts_have_the_gradient_of_their_mean(name):
    raw = random_raw(name, 6, 2).requires_grad_()
    distribution = distribution_of(name, raw=raw, shift=3.0, scale=2.0)
    drawn = distribution.draw(torch.rand(6, 2, 1, generator=torch.Generator().manual_seed(0)).double())
    assert drawn.equal(drawn.round())
    gradients = [torch.autograd.grad(part.sum(), raw, retain_graph=True)[0] for part in (drawn, distribution.mean)]
    assert gradients[0].equal(gradients[1])


@pytest.mark.parametrize("name", LOCATION_SCALE)
@given(seed=st.integers(0, 1000), shift=st.floats(-1000, 1000), scale=st.floats(1e-3, 1e3))
@properties
def test_heads_are_location_scale_and_log_densities_count_the_change_of_units(name, seed, shift, scale):
    network, data = (
        distribution_of(name, 5, 2, seed=seed, shift=shift, scale=scale)
        for shift, scale in ((0.0, 1.0), (shift, scale))
    )
    noise = torch.rand(5, 2, make(name).noise, generator=torch.Generator().manual_seed(seed)).double()
    drawn = network.draw(noise)
    assert torch.allclose(data.draw(noise), shift + scale * drawn, atol=1e-9)
    assert torch.allclose(data.mean, shift + scale * network.mean, atol=1e-9)
    assert torch.allclose(data.variance, scale**2 * network.variance, rtol=1e-5, atol=1e-9)
    level = torch.full((5, 2), 0.1).double()
    assert torch.allclose(data.icdf(level), shift + scale * network.icdf(level), atol=1e-9)
    if name in DENSE:
        expected = network.log_prob(drawn) - math.log(scale)
        assert torch.allclose(data.log_prob(shift + scale * drawn), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in HEADS if make(name).has_density and name != "quantile"])
def test_the_loss_of_a_head_is_its_negative_log_likelihood_whatever_the_unit(name):
    distribution = distribution_of(name, 4, 2, seed=5)
    value = torch.arange(4.0).double()[:, None].expand(4, 2)
    for unit in (0.1, 7.0):
        loss = make(name).loss(distribution, value, torch.full((4, 1), unit))
        assert loss.equal(-distribution.log_prob(value))


@pytest.mark.parametrize("name", HEADS)
def test_distributions_broadcast_over_many_values_as_those_of_torch_do(name):
    distribution = distribution_of(name, 3, 2, seed=9)
    values = torch.arange(5.0).double()[:, None, None].expand(5, 3, 2)
    levels = values / 10 + 0.3
    assert distribution.icdf(levels).equal(torch.stack([distribution.icdf(one) for one in levels]))
    assert distribution.cdf(values).equal(torch.stack([distribution.cdf(one) for one in values]))
    if make(name).has_density:
        each = torch.stack([distribution.log_prob(one) for one in values])
        assert torch.allclose(distribution.log_prob(values), each, rtol=1e-12)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_precision_are_those_of_the_raw_outputs(name, dtype):
    head = make(name)
    distribution = head(
        random_raw(name, 4, 3, 2).to(dtype), torch.ones(4, 1, 2, dtype=dtype), torch.ones(4, 1, 2, dtype=dtype)
    )
    value = distribution.sample()
    level = torch.full_like(value, 0.3)
    parts = [value, distribution.mean, distribution.variance, distribution.cdf(value), distribution.icdf(level)]
    parts += [head.loss(distribution, value, torch.ones(4, 1, 2, dtype=dtype))]
    assert {part.shape for part in parts} == {(4, 3, 2)}
    assert {part.dtype for part in parts} == {dtype}
    assert distribution.noise == head.noise
    assert distribution.rsample((5,)).shape == (5, 4, 3, 2)
    assert not distribution.sample().requires_grad


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("quantile_loss", ["pinball", "crps"])
@given(data=st.data(), value=st.floats(-1e4, 1e4))
@properties
def test_losses_draws_and_gradients_stay_finite_for_any_output_of_the_network(name, quantile_loss, data, value):
    if quantile_loss == "crps" and name != "quantile":
        return
    head = make(name, quantile_loss=quantile_loss)
    count = 2 * head.outputs
    raw = data.draw(st.lists(st.floats(-100, 100, width=32), min_size=count, max_size=count))
    raw = torch.tensor(raw).view(2, -1).requires_grad_()
    distribution = head(raw, torch.zeros(1), torch.ones(1))
    value = min(abs(round(value)), 4) if name == "symbols" else value
    results = [head.loss(distribution, torch.full((2,), float(value)), torch.ones(1))]
    results += [distribution.draw(torch.full((2, head.noise), uniform)) for uniform in (2**-25, 0.5, 1 - 2**-24)]
    results += [distribution.mean, distribution.variance]
    for result in results:
        assert result.isfinite().all()
        if result.requires_grad:
            (gradient,) = torch.autograd.grad(result.sum(), raw, retain_graph=True)
            assert gradient.isfinite().all()
