"""Tests of the distributions of counts, with scipy and mpmath as the oracle."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from armlp.model.families.counts import NegativeBinomial, Poisson

LEVELS = torch.tensor([1e-6, 0.004, 0.02, 0.05, 0.1, 0.37, 0.5, 0.9, 0.951, 0.98, 0.995, 1 - 1e-6], dtype=torch.float64)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("mean", [1e-4, 0.3, 7.0, 900.0, 1e6])
@pytest.mark.parametrize("successes", [1e-3, 0.5, 40.0, 999.0, 1001.0, 1e5, 1e8])
def test_log_probabilities_of_counts_are_exact_for_any_dispersion(mean, successes):
    excess = mean / math.sqrt(successes)
    counts = sorted({0, 1, 17, int(mean), int(mean + 3 * excess), 1_000_000})
    distribution = NegativeBinomial(double(mean), double(excess))
    got = distribution.log_prob(double(*counts))
    with mpmath.workdps(40):
        size = (mpmath.mpf(mean) / mpmath.mpf(excess)) ** 2
        expected = [
            mpmath.loggamma(count + size) - mpmath.loggamma(size) - mpmath.loggamma(count + 1)
            + size * mpmath.log(size / (size + mean)) + count * mpmath.log(mean / (size + mean))
            for count in counts
        ]  # fmt: skip
    assert np.allclose(got, [float(part) for part in expected], rtol=1e-10, atol=1e-7)


def test_counts_without_excess_variance_are_those_of_a_poisson_distribution():
    for mean in (0.01, 3.0, 5000.0):
        counts = torch.arange(6000.0).double()
        negative, poisson = NegativeBinomial(double(mean), double(1e-9)), Poisson(double(mean))
        assert torch.allclose(negative.log_prob(counts), poisson.log_prob(counts), rtol=1e-9, atol=1e-9)
        assert torch.allclose(negative.cdf(counts), poisson.cdf(counts), atol=1e-9)
        assert negative.icdf(LEVELS).equal(poisson.icdf(LEVELS))


@pytest.mark.parametrize("mean", [0.001, 0.7, 15.0, 25.0, 400.0, 1e5])
@pytest.mark.parametrize("excess", [None, 0.01, 1.0, 5.0])
def test_quantiles_of_counts_step_exactly_where_the_distribution_function_does(mean, excess):
    distribution = Poisson(double(mean)) if excess is None else NegativeBinomial(double(mean), double(excess * mean))
    successes = excess and (1 / excess) ** 2
    oracle = stats.poisson(mean) if excess is None else stats.nbinom(successes, successes / (successes + mean))
    counts = np.unique(oracle.ppf(np.linspace(0.001, 0.999, 50)))
    steps = oracle.cdf(counts)
    apart = (steps > 1e-6) & (steps < 1 - 1e-6) & (oracle.pmf(counts) > 1e-7) & (oracle.pmf(counts + 1) > 1e-7)
    counts, steps = counts[apart], torch.from_numpy(steps[apart])
    assert len(counts)
    assert distribution.icdf(steps - 1e-9).tolist() == counts.tolist()
    assert distribution.icdf(steps + 1e-9).tolist() == (counts + 1).tolist()


def test_a_diverged_network_gives_counts_that_are_no_number():
    nothing = double(math.nan, 2.0)
    for distribution in (Poisson(nothing), NegativeBinomial(nothing, nothing)):
        assert distribution.icdf(double(0.3, 0.3)).isnan().tolist() == [True, False]
