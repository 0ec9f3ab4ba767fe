"""Tests of the other distributions one by one, with scipy and numpy as the oracle."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from armlp.errors import UserError
from armlp.model.families.base import open_interval
from armlp.model.families.categorical import Binned
from armlp.model.families.counts import Poisson
from armlp.model.families.location_scale import MultivariateNormal, MultivariateNormalHead, Normal, NormalHead, StudentT
from armlp.model.families.mixture import NormalMixture
from armlp.model.families.point import Point, PointHead
from armlp.model.families.symbols import Symbols

LEVELS = torch.tensor([1e-6, 0.004, 0.02, 0.05, 0.1, 0.37, 0.5, 0.9, 0.951, 0.98, 0.995, 1 - 1e-6], dtype=torch.float64)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0, spread=1.5):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softplus(raw):
    return math.log1p(math.exp(raw)) + 1e-4


def test_a_point_has_all_its_mass_on_one_value():
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    distribution = PointHead()(value[..., None], torch.full((2, 1), 10.0), torch.full((2, 1), 2.0))
    expected = 10 + 2 * value
    assert distribution.mean.equal(expected)
    assert distribution.draw(torch.empty(2, 2, 0)).equal(expected)
    assert distribution.icdf(torch.tensor(0.1)).equal(expected)
    assert Point(torch.tensor(2.0)).cdf(torch.tensor([1.9, 2.0, 2.1])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("df", [2.001, 3.5, 90.0])
def test_students_distribution_function_and_quantiles_are_those_of_scipy(df):
    distribution, oracle = StudentT(double(df), double(3.0), double(2.0)), stats.t(df, 3, 2)
    assert np.allclose(distribution.icdf(LEVELS), oracle.ppf(LEVELS), rtol=1e-7)
    assert np.allclose(distribution.cdf(distribution.icdf(LEVELS)), LEVELS, rtol=1e-7)


def test_a_mixture_of_one_component_is_normal_and_its_quantiles_are_found_across_wide_gaps():
    one = NormalMixture(double(0.3), double(2.0), double(0.5))
    assert torch.allclose(one.icdf(LEVELS), Normal(double(2.0), double(0.5)).icdf(LEVELS))
    far = NormalMixture(double(0.0, 0.0), double(-1e4, 1e4), double(1e-3, 1e-3))
    assert torch.allclose(far.icdf(double(0.25, 0.75)), double(-1e4, 1e4))
    chosen = far.draw(torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)).double())
    assert 400 < (chosen > 0).sum() < 600


def random_factor(channels, seed):
    factor = random(channels, channels, seed=seed).tril(-1)
    return factor + torch.diag(0.3 + random(channels, seed=seed + 9).abs())


@pytest.mark.parametrize("channels", [2, 5])
def test_the_joint_log_density_of_channels_equals_that_of_scipy_and_its_terms_condition_on_those_before(channels):
    loc, factor = random(channels, seed=1), random_factor(channels, 2)
    covariance = (factor @ factor.T).numpy()
    values = random(20, channels, seed=3, spread=3)
    terms = MultivariateNormal(loc, factor).log_prob(values)
    for channel in range(channels):
        before = slice(0, channel + 1)
        oracle = stats.multivariate_normal(loc[before].numpy(), covariance[before, before])
        assert np.allclose(terms[:, before].sum(-1), oracle.logpdf(values[:, before].numpy()), rtol=1e-9)


def test_draws_of_channels_have_their_covariance_and_quantiles_are_those_of_each_channel():
    loc, factor = random(3, seed=1), random_factor(3, 2)
    distribution = MultivariateNormal(loc, factor)
    torch.manual_seed(0)
    drawn = distribution.sample((200_000,))
    covariance = (factor @ factor.T).numpy()
    assert np.allclose(np.cov(drawn.T.numpy()), covariance, atol=0.03 * covariance.max())
    oracle = stats.norm(loc.numpy(), np.sqrt(np.diag(covariance)))
    level = torch.full((3,), 0.1).double()
    assert np.allclose(distribution.icdf(level), oracle.ppf(0.1))
    assert np.allclose(distribution.variance, np.diag(covariance))
    assert np.allclose(distribution.cdf(loc + 1), oracle.cdf(loc.numpy() + 1))


def test_the_multivariate_head_of_one_channel_is_the_normal_head_and_of_raw_zeros_it_is_independent():
    raw, shift, scale = random(4, 3, 2), random(4, 1, seed=1), random(4, 1, seed=2).abs()
    one, normal = MultivariateNormalHead(1)(raw, shift, scale), NormalHead()(raw, shift, scale)
    value, noise = random(4, 3, seed=3), torch.full((4, 3, 1), 0.2).double()
    assert one.log_prob(value).equal(normal.log_prob(value))
    assert one.draw(noise).equal(normal.draw(noise))
    factor = MultivariateNormalHead(3)(torch.zeros(2, 3, 4), torch.zeros(1), torch.tensor([1.0, 2.0, 3.0])).factor
    assert torch.allclose(factor, softplus(0) * torch.diag(torch.tensor([1.0, 2.0, 3.0])).expand(2, 3, 3))


def test_symbols_have_the_probabilities_of_their_logits():
    logits = random(4, 6)
    distribution, oracle = Symbols(logits), torch.distributions.Categorical(logits=logits)
    codes = torch.tensor([0, 5, 2, 3])
    assert torch.allclose(distribution.log_prob(codes.double()), oracle.log_prob(codes))
    assert (distribution.log_prob(double(6.0, -1.0, 0.5, math.nan)) == -math.inf).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 0.5, 1.0, 3.0, 1e6])
@pytest.mark.parametrize("top_k", [None, 1, 3, 99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sharpened_probabilities_are_powers_of_the_likeliest_ones(temperature, top_k, dtype):
    logits = random(5, 6).to(dtype)
    powers = (logits.double().numpy() - logits.double().numpy().max(-1, keepdims=True)) / temperature
    kept = np.exp(powers) * (logits.numpy() >= np.sort(logits.numpy())[:, [-min(top_k or 6, 6)]])
    expected = kept / kept.sum(-1, keepdims=True)
    symbols = Symbols(logits).sharpened(temperature, top_k)
    bins = Binned(logits, torch.arange(5.0, dtype=dtype)).sharpened(temperature, top_k)
    assert np.allclose(symbols.log_probs.exp(), expected, atol=1e-5)
    assert np.allclose(bins.log_masses.exp(), expected, atol=1e-5)
    uniform = open_interval(torch.rand(500, 5, 1, dtype=dtype, generator=torch.Generator().manual_seed(0)))
    uniform[0], uniform[1] = 2**-25, 1 - 2**-24
    assert symbols.batch_shape == bins.batch_shape == (5,)
    possible = expected > 0
    assert possible[np.arange(5), symbols.draw(uniform).long().numpy()].all()
    drawn = bins.draw(uniform).numpy()  # of the two bins that an edge lies between, one is enough
    left, right = (side.clip(0, 5).astype(int) for side in (np.ceil(drawn), np.floor(drawn) + 1))
    assert (possible[np.arange(5), left] | possible[np.arange(5), right]).all()


def test_sharpening_by_nothing_changes_nothing():
    for distribution in (Symbols(random(5, 6)), Binned(random(5, 6), random(5).sort().values), Normal(0.0, 1.0)):
        same = distribution.sharpened(1.0, None)
        uniform = torch.full((5, 1), 0.7).double()
        assert torch.allclose(same.draw(uniform), distribution.draw(uniform))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0.0, None), r"`temperature`: 0\.0 is not above 0"),
        ((-1.0, None), r"`temperature`: -1\.0"),
        ((math.nan, None), r"`temperature`: nan"),
        ((1.0, 0), r"`top_k`: 0 is too small"),
    ],
)
def test_a_sharpening_out_of_its_range_is_named(options, message):
    for distribution in (Symbols(random(5, 6)), Binned(random(5, 6), random(5).sort().values)):
        with pytest.raises(UserError, match=message):
            distribution.sharpened(*options)


@pytest.mark.parametrize(("options", "named"), [((0.5, None), "temperature"), ((1.0, 3), "top_k")])
def test_distributions_without_separate_choices_refuse_to_be_sharpened(options, named):
    for distribution in (Normal(0.0, 1.0), Poisson(double(2.0)), Point(double(2.0))):
        with pytest.raises(UserError, match=rf"`{named}`: this model's head has no separate choices"):
            distribution.sharpened(*options)
