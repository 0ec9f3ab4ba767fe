"""Tests of counts in tensors alone, with scipy as the oracle."""

import numpy as np
import pytest
import torch
from scipy import stats

from armlp.model.families.count_quantiles import traced_least_count, traced_probability
from armlp.model.families.counts import NegativeBinomial, Poisson

MEANS = (1e-3, 0.3, 1.0, 20.0, 300.0, 1e5)
EXCESSES = (None, 1e-3, 0.1, 1.0, 10.0)  # in units of the deviation of a Poisson distribution


def distribution(mean, share, shape):
    mean = torch.full(shape, mean, dtype=torch.float64)
    return Poisson(mean) if share is None else NegativeBinomial(mean, share * mean.sqrt())


@pytest.mark.parametrize("share", EXCESSES)
@pytest.mark.parametrize("mean", MEANS)
def test_the_distribution_function_of_counts_is_that_of_scipy(mean, share):
    spread = np.sqrt(mean * (1 + (share or 0) ** 2))
    count = torch.from_numpy(np.unique((mean + spread * np.linspace(-4, 8, 41)).round().clip(0)))
    counts = distribution(mean, share, count.shape)
    found = traced_probability(count, counts.rate, *(counts.more or [None]), counts.log_prob(count))
    successes = None if share is None else mean / share**2
    oracle = stats.poisson(mean) if share is None else stats.nbinom(successes, successes / (successes + mean))
    np.testing.assert_allclose(found, oracle.cdf(count.numpy()), rtol=0, atol=1e-8)


@pytest.mark.parametrize("share", EXCESSES)
@pytest.mark.parametrize("mean", MEANS)
def test_counts_are_drawn_as_scipy_finds_them(mean, share):
    ends = torch.tensor([2**-25, 1 - 2**-24], dtype=torch.float64)
    level = torch.cat([torch.rand(200, generator=torch.Generator().manual_seed(0)).double().clamp(*ends), ends])
    counts = distribution(mean, share, level.shape)
    excess = None if share is None else counts.more[0]
    found = traced_least_count(level, counts.rate, excess, counts.variance.sqrt(), counts.log_prob)
    assert found.equal(counts.icdf(level))
