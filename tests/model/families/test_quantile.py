"""Tests of the distributions given by knots, with quadrature and Python loops as the oracle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from armlp.model.families.base import open_interval
from armlp.model.families.categorical import Binned
from armlp.model.families.quantile import PiecewiseLinearQuantile, QuantileHead

LEVELS = torch.tensor([1e-6, 0.004, 0.02, 0.05, 0.1, 0.37, 0.5, 0.9, 0.951, 0.98, 0.995, 1 - 1e-6], dtype=torch.float64)
properties = settings(max_examples=50)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0, spread=1.5):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softplus(raw):
    return math.log1p(math.exp(raw)) + 1e-4


def naive_knots(raw):
    """The knots of one vector of raw outputs, network units, by a loop from the median outwards."""
    middle = len(QuantileHead.PROBABILITIES) // 2
    normal = stats.norm.ppf(QuantileHead.PROBABILITIES) / 2
    gaps = [softplus(value + math.log(math.expm1(gap))) for value, gap in zip(raw[1:], np.diff(normal), strict=True)]
    knots = [raw[0]] * len(QuantileHead.PROBABILITIES)
    for step in range(1, middle + 1):
        knots[middle - step] = knots[middle - step + 1] - gaps[middle - step]
        knots[middle + step] = knots[middle + step - 1] + gaps[middle + step - 1]
    return knots


def naive_quantile(knots, level, levels=QuantileHead.PROBABILITIES, tail=0.5):
    """Linear between knots; beyond them exponential with a mean excess of a multiple of the outer gap."""
    if level < levels[0]:
        return knots[0] + (knots[1] - knots[0]) * tail * math.log(level / levels[0])
    if level > levels[-1]:
        return knots[-1] - (knots[-1] - knots[-2]) * tail * math.log((1 - level) / (1 - levels[-1]))
    return float(np.interp(level, levels, knots))


def over_levels(function, levels):
    """The integral of a function of the level from 0 to 1, piece by piece between the levels given."""
    ends = sorted({0.0, *levels, 1.0})
    return sum(
        integrate.quad(lambda u: function(min(max(u, 1e-300), 1 - 1e-16)), *ends[i : i + 2])[0]
        for i in range(len(ends) - 1)
    )


def piecewise(kind, seed):
    """A distribution with the levels and knots that a naive oracle needs: shared levels, or those of each value."""
    if kind == "shared":
        distribution = QuantileHead()(random(1, 11, seed=seed), double(5.0), double(3.0))
        return (
            distribution,
            list(QuantileHead.PROBABILITIES),
            (5 + 3 * np.array(naive_knots(random(1, 11, seed=seed)[0].tolist()))),
        )
    logits, edges = random(1, 9, seed=seed), random(1, 8, seed=seed + 50).sort().values
    masses = np.exp(logits[0].numpy()) / np.exp(logits[0].numpy()).sum()
    return Binned(logits, edges), list(masses.cumsum()[:-1]), edges[0].numpy()


@pytest.mark.parametrize("kind", ["shared", "own"])
@pytest.mark.parametrize("seed", range(4))
def test_quantiles_mean_and_variance_of_knots_equal_the_naive_ones(kind, seed):
    distribution, levels, knots = piecewise(kind, seed)

    def quantile(level):
        return naive_quantile(knots, level, levels, distribution.tail)

    for level in LEVELS.tolist():
        assert distribution.icdf(double(level)).item() == pytest.approx(quantile(level), rel=1e-6)
    mean = over_levels(quantile, levels)
    assert distribution.mean.item() == pytest.approx(mean, abs=1e-5)
    variance = over_levels(lambda level: (quantile(level) - mean) ** 2, levels)
    assert distribution.variance.item() == pytest.approx(variance, rel=1e-5)


@pytest.mark.parametrize("kind", ["shared", "own"])
@pytest.mark.parametrize("seed", range(3))
def test_the_closed_form_of_the_crps_is_the_pinball_loss_over_all_levels(kind, seed):
    distribution, levels, knots = piecewise(kind, seed)
    for value in (
        knots[0] - 7.0,
        knots[0] - 0.1,
        knots[0],
        0.3 * knots[2] + 0.7 * knots[3],
        knots[-1],
        knots[-1] + 40.0,
    ):

        def pinball(level, value=value):
            error = value - naive_quantile(knots, level, levels, distribution.tail)
            return max(level * error, (level - 1) * error)

        # The kink of the loss is where the quantile is the value.
        kink = distribution.cdf(double(value)).item()
        expected = 2 * over_levels(pinball, [*levels, kink])
        assert distribution.crps(double(value)).item() == pytest.approx(expected, rel=1e-5)


def test_the_crps_of_the_truth_is_less_than_that_of_a_wrong_forecast():
    truth = QuantileHead()(random(1, 11, seed=2), double(0.0), double(1.0))
    wrong = PiecewiseLinearQuantile(truth.probabilities, truth.knots * 1.3 + 0.2)
    torch.manual_seed(0)
    drawn = truth.sample((20_000,))
    assert truth.crps(drawn).mean() < wrong.crps(drawn).mean()


@given(st.integers(0, 100), st.lists(st.floats(1e-7, 1 - 1e-7), min_size=2, max_size=9).map(sorted))
@properties
def test_quantiles_ascend_with_the_level(seed, levels):
    for kind in ("shared", "own"):
        quantiles = piecewise(kind, seed)[0].icdf(double(*levels))
        assert (quantiles.diff() >= 0).all()
        assert quantiles.shape == (len(levels),)


@given(st.lists(st.floats(-1e3, 1e3), min_size=QuantileHead.outputs, max_size=QuantileHead.outputs))
@properties
def test_knots_ascend_whatever_the_network_says(raw):
    for dtype, least in ((torch.float64, 1e-5), (torch.float32, 0)):
        zero = torch.zeros(1, dtype=dtype)
        knots = QuantileHead()(torch.tensor([raw], dtype=dtype), zero, zero + 1).knots
        assert (knots.diff(dim=-1) >= least).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_quantile_loss_equals_the_naive_pinball_loss(seed):
    raw = random(3, 2, 11, seed=seed)
    distribution = QuantileHead()(raw, torch.full((3, 1), 1.0), torch.full((3, 1), 2.0))
    value, unit = random(3, 2, seed=seed, spread=4), double(0.5, 1.0, 3.0)[:, None]
    loss = QuantileHead().loss(distribution, value, unit)
    for row in range(3):
        for column in range(2):
            total = 0.0
            for level, knot in zip(QuantileHead.PROBABILITIES, naive_knots(raw[row, column].tolist()), strict=True):
                error = (value[row, column].item() - (1 + 2 * knot)) / unit[row, 0].item()
                total += level * error if error >= 0 else (level - 1) * error
            assert loss[row, column].item() == pytest.approx(2 * total / len(QuantileHead.PROBABILITIES), rel=1e-5)


def test_knots_given_by_hand_make_the_staircase_density():
    levels, knots = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.0, 4.0, 6.0])
    distribution = PiecewiseLinearQuantile(levels, knots)
    assert distribution.log_prob(torch.tensor(1.0)).exp().item() == pytest.approx(0.4 / 4)
    assert distribution.log_prob(torch.tensor(7.0)).exp().item() == pytest.approx(0.1 * math.exp(-1.0))
    assert distribution.cdf(torch.tensor(1.0)).item() == pytest.approx(0.2)


@pytest.mark.parametrize("with_loss", ["log_prob", "crps"])
def test_losses_and_gradients_stay_finite_where_knots_are_equal_in_float32(with_loss):
    raw = torch.zeros(1, 11, requires_grad=True)
    distribution = QuantileHead()(raw, torch.tensor([1e6]), torch.tensor([1e-3]))
    assert (distribution.knots.diff() == 0).any()
    loss = getattr(distribution, with_loss)(torch.tensor([[1e6 - 1.0], [1e6], [1e6 + 1.0]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize("least", [-300.0, -88.0, -60.0])
def test_a_bin_of_no_probability_is_never_drawn_and_its_loss_is_finite(least):
    logits = torch.tensor([least, 0.0, least, 1.0, least], requires_grad=True)
    distribution = Binned(logits, torch.tensor([0.0, 1.0, 2.0, 3.0]))
    drawn = distribution.draw(open_interval(torch.linspace(0, 1, 1001))[:, None])
    assert (((drawn >= 0) & (drawn <= 1)) | ((drawn >= 2) & (drawn <= 3))).all()
    loss = distribution.log_prob(torch.tensor([-1.0, 1.5, 4.0]))
    (drawn.sum() + loss.sum()).backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def test_the_crps_of_the_quantile_head_counts_in_multiples_of_the_unit():
    head = QuantileHead("crps")
    distribution = head(random(3, 2, 11), torch.full((3, 1), 1.0), torch.full((3, 1), 2.0))
    value, unit = random(3, 2, seed=1), double(0.5, 1.0, 3.0)[:, None]
    assert torch.allclose(head.loss(distribution, value, unit), distribution.crps(value) / unit)


@pytest.mark.parametrize("seed", [11, 21, 22])  # of these the rounded total is too small
def test_rounding_draws_no_bin_beyond_the_last_possible_one(seed):
    logits = random(500, seed=seed).float()
    logits[-3:] = -300.0
    distribution = Binned(logits, torch.arange(499.0))
    assert distribution.draw(torch.tensor([1 - 2**-24])).item() <= 496  # the edge above the last possible bin
