"""Draws from several uniform numbers: exact distributions, medians, and values that rise with each number."""

import numpy as np
import pytest
import scipy
import torch

from armlp.model.ensemble import EnsembleMixture
from armlp.model.families.location_scale import MultivariateNormal, StudentT
from armlp.model.families.mixture import NormalMixture


def mixture() -> NormalMixture:
    return NormalMixture(torch.tensor([0.3, 1.0, 0.2]), torch.tensor([5.0, -1.0, 2.0]), torch.tensor([0.5, 1.0, 0.2]))


@pytest.mark.parametrize("freedom", [2.1, 4.0, 40.0])
def test_student_t_is_drawn_exactly_and_rises_with_its_first_number(freedom: float) -> None:
    law = StudentT(*torch.tensor([freedom, 1.0, 2.0], dtype=torch.float64))
    uniform = torch.rand(50_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = law.draw(uniform).numpy()
    assert scipy.stats.kstest(drawn, scipy.stats.t(freedom, 1, 2).cdf).pvalue > 0.01
    assert law.draw(torch.tensor([0.5, 0.9], dtype=torch.float64)) == law.median == 1.0
    grid = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    rising = law.draw(torch.stack([grid, torch.full_like(grid, 0.3)], -1))
    assert (rising.diff() > 0).all()


def test_a_mixture_rises_with_both_numbers() -> None:
    grid = torch.linspace(0.01, 0.99, 99)
    for first in range(2):
        parts = [grid, torch.full_like(grid, 0.4)]
        drawn = mixture().draw(torch.stack(parts if first else parts[::-1], -1))
        assert (drawn.diff() >= 0).all()


def test_the_median_of_a_mixture_halves_its_probability() -> None:
    law = mixture()
    assert law.cdf(law.median).item() == pytest.approx(0.5, abs=1e-5)


def test_normal_scores_are_standard_normal() -> None:
    """The scores of draws from a distribution are standard normal, also of channels that vary together."""
    factor = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    law = MultivariateNormal(torch.tensor([1.0, -2.0]).expand(20_000, 2), factor)
    torch.manual_seed(0)
    scores = law.normal_scores(law.sample()).double().numpy()
    assert np.allclose(np.cov(scores.T), np.eye(2), atol=0.03)


def test_an_ensemble_of_joint_distributions_is_a_mixture_of_joint_distributions() -> None:
    """Its likelihood is the mean over the members of the likelihood of the whole vector, not of each channel."""
    factors = torch.tensor([[[1.0, 0.0], [0.9, 0.4]], [[0.5, 0.0], [-0.3, 1.0]]], dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [2.0, -1.0]], dtype=torch.float64)
    value = torch.tensor([[1.5, 0.5]], dtype=torch.float64)
    pool = EnsembleMixture(MultivariateNormal(means, factors), 2)
    laws = [
        scipy.stats.multivariate_normal(mean, factor @ factor.T)
        for mean, factor in zip(means, factors.numpy(), strict=False)
    ]
    expected = np.log(np.mean([law.pdf(value[0]) for law in laws]))
    assert pool.log_prob(value).sum().item() == pytest.approx(expected)
