"""Tests of the objective, with loops over values and finite differences as the oracles."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.data.windows import Windows
from armlp.model.heads import HEADS
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import scale_window
from armlp.training.objective import FEEDS, LOSS_UNITS, loss_unit, one_step_nll, unrolled_objective

LENGTH = 6
DENSE = ["normal", "student_t", "quantile"]


def random_model(seed=0, **options):
    torch.manual_seed(seed)
    options = {"hidden_sizes": [5], "patch_length": 2, "season_length": 3, "activation": "tanh"} | options
    model = AutoregressiveMLP(LENGTH, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return model.double()


def random_windows(span, batch=4, channels=1, missing=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, LENGTH + span, channels) if channels > 1 else (batch, LENGTH + span)
    values = 10 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    observed = torch.rand(shape, generator=generator) >= missing
    observed[:, LENGTH - 2 :: 2] = True
    number = torch.arange(batch)
    (context, target), (seen, target_seen) = (part.split([LENGTH, span], 1) for part in (values, observed))
    return Windows(context, seen, target, target_seen, number, number)


def unit_of(windows, row, units, channel):
    kept = windows.context[(row, slice(None), *channel)][windows.observed[(row, slice(None), *channel)]]
    if units == "relative":
        return kept.abs().mean()
    return kept.std(correction=0) if units == "network" else torch.tensor(1.0).double()


def naive_loss(model, windows, units):
    """The mean of the head's loss over observed values, window by window, patch by patch, value by value."""
    total, count, likelihood = 0.0, 0, 0.0
    patch = model.patch_length
    for row in range(len(windows.context)):
        one = slice(row, row + 1)
        window, seen = windows.context[one], windows.observed[one]
        scaling = scale_window(model.scaler, window, seen)
        for first in range(0, windows.target.shape[1], patch):
            distribution = model.conditional(window[:, -LENGTH:], seen[:, -LENGTH:], scaling)
            loss = torch.empty_like(distribution.mean)
            for place in torch.ones_like(loss).nonzero().tolist():
                unit = unit_of(windows, row, units, channel=place[2:])
                target = windows.target[one, first : first + patch]
                whole = model.head.loss(distribution, target, torch.full_like(loss, unit.item()))
                if windows.target_observed[one, first : first + patch][tuple(place)]:
                    total, count = total + whole[tuple(place)], count + 1
                    if model.head.has_density:
                        likelihood = likelihood - distribution.log_prob(target)[tuple(place)]
            window = torch.cat([window, distribution.mean], 1)
            seen = torch.cat([seen, torch.ones_like(distribution.mean, dtype=torch.bool)], 1)
    return total / count, likelihood / count


def gradients(model, windows, units="relative", feed="mean", seed=0):
    torch.manual_seed(seed)
    loss = unrolled_objective(model, windows, units, feed).loss
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("units", LOSS_UNITS)
@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_objective_equals_the_naive_loop_over_observed_values(head, units, unroll, channels):
    model = random_model(head=head, channels=channels, mask_input=True)
    windows = random_windows(2 * unroll, channels=channels)
    assert not windows.target_observed.all()
    assert not windows.observed.all()
    objective = unrolled_objective(model, windows, units, "mean", with_nll=True)
    loss, nll = naive_loss(model, windows, units)
    assert torch.allclose(objective.loss, loss)
    if head == "point":
        assert objective.nll is None
    else:
        assert torch.allclose(objective.nll, nll)
        assert not objective.nll.requires_grad


@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_what_lies_under_a_masked_target_moves_neither_loss_nor_gradient(head, feed, unroll):
    model, windows = random_model(head=head), random_windows(2 * unroll)
    other = windows._replace(target=torch.where(windows.target_observed, windows.target, 1e3))
    torch.manual_seed(0)
    one = unrolled_objective(model, windows, "relative", feed, with_nll=True)
    torch.manual_seed(0)
    another = unrolled_objective(model, other, "relative", feed, with_nll=True)
    assert one.loss.equal(another.loss)
    assert one.nll is None or one.nll.equal(another.nll)
    assert gradients(model, windows, feed=feed).equal(gradients(model, other, feed=feed))


def test_a_batch_with_nothing_observed_has_no_loss():
    model, windows = random_model(), random_windows(2)
    windows = windows._replace(target_observed=torch.zeros_like(windows.target_observed))
    assert unrolled_objective(model, windows, "relative", "mean").loss == 0
    assert not gradients(model, windows).any()


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_gradients_through_the_chain_equal_finite_differences(head, feed):
    model, windows = random_model(head=head, mask_input=True), random_windows(6)

    def loss():
        torch.manual_seed(3)
        return unrolled_objective(model, windows, "network", feed).loss.item()

    computed = gradients(model, windows, "network", feed, seed=3)
    measured, step = [], 1e-6
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        for index in range(len(flat)):
            before = flat[index].item()
            sides = []
            for side in (1, -1):
                flat[index] = before + side * step
                sides.append(loss())
            flat[index] = before
            measured.append((sides[0] - sides[1]) / (2 * step))
    assert torch.allclose(computed, torch.tensor(measured).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_runs_through_the_patches_that_were_fed_back(head, feed):
    model, windows = random_model(head=head), random_windows(4, missing=0)
    windows.target_observed[:, :2] = False  # the loss is that of the second patch
    with torch.no_grad():
        torch.manual_seed(0)
        fed = model(windows.context)
        fed = fed.mean if feed == "mean" else fed.draw(torch.rand(4, 2, model.head.noise, dtype=torch.float64))
    scaling = scale_window(model.scaler, windows.context, windows.observed)
    window = torch.cat([windows.context[:, 2:], fed], 1)
    distribution = model.conditional(window, windows.observed, scaling)
    loss = model.head.loss(distribution, windows.target[:, 2:], scaling.magnitude).mean()
    torch.manual_seed(0)
    assert torch.allclose(unrolled_objective(model, windows, "relative", feed).loss, loss)
    cut = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
    assert not torch.allclose(gradients(model, windows, feed=feed), cut, rtol=1e-2)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_the_second_patch_never_sees_the_target_of_the_first(head, feed):
    model, windows = random_model(head=head), random_windows(4, missing=0)

    def second_term(target):
        seen = windows.target_observed.clone()
        seen[:, :2] = False
        torch.manual_seed(0)
        return unrolled_objective(model, windows._replace(target=target, target_observed=seen), "relative", feed).loss

    moved = windows.target.clone()
    moved[:, :2] += 5
    assert second_term(moved).equal(second_term(windows.target))
    torch.manual_seed(0)
    one = unrolled_objective(model, windows, "relative", feed).loss
    torch.manual_seed(0)
    assert not unrolled_objective(model, windows._replace(target=moved), "relative", feed).loss.equal(one)


def test_the_likelihood_is_measured_only_where_it_was_asked_for():
    model, windows = random_model(head="normal"), random_windows(2)
    silent, telling = (unrolled_objective(model, windows, with_nll=asked) for asked in (False, True))
    assert silent.nll is None
    assert telling.nll is not None
    assert silent.loss.equal(telling.loss)


@pytest.mark.parametrize("scaler", ["none", "mean_abs", "standard"])
def test_input_noise_is_told_in_network_units_and_moves_neither_scaling_nor_target(scaler):
    model, windows = random_model(head="normal", scaler=scaler), random_windows(2)
    scaling = scale_window(scaler, windows.context, windows.observed)
    torch.manual_seed(0)
    noisy = windows.context + 0.3 * scaling.scale * torch.randn_like(windows.context)
    scores = model.conditional(noisy, windows.observed, scaling).log_prob(windows.target)
    torch.manual_seed(0)
    loss = unrolled_objective(model, windows, input_noise=0.3).loss
    assert torch.allclose(loss, -scores[windows.target_observed].mean())


def test_a_sampled_chain_differs_from_sample_to_sample_and_a_mean_chain_does_not():
    model, windows = random_model(head="normal"), random_windows(4)
    losses = {}
    for feed in FEEDS:
        losses[feed] = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            losses[feed].append(unrolled_objective(model, windows, "relative", feed).loss.item())
    assert losses["mean"][0] == losses["mean"][1]
    assert losses["sample"][0] != losses["sample"][1]


@pytest.mark.parametrize("units", LOSS_UNITS)
@pytest.mark.parametrize("head", ["point", "quantile"])
@given(factor=st.floats(0.01, 100))
@settings(max_examples=8, deadline=None)
def test_relative_and_network_losses_do_not_change_with_the_units_of_the_data(head, units, factor):
    model, windows = random_model(head=head), random_windows(6)
    scaled = windows._replace(context=factor * windows.context, target=factor * windows.target)
    one, other = (unrolled_objective(model, batch, units, "mean").loss for batch in (windows, scaled))
    power = {"point": 2, "quantile": 1}[head]
    assert torch.allclose(other, one * (factor**power if units == "data" else 1))


@pytest.mark.parametrize("units", LOSS_UNITS)
@pytest.mark.parametrize("head", ["normal", "student_t"])
def test_likelihoods_are_of_the_units_of_the_data(head, units):
    model, windows = random_model(head=head), random_windows(6)
    scaled = windows._replace(context=10 * windows.context, target=10 * windows.target)
    one, other = (unrolled_objective(model, batch, units, "mean", with_nll=True) for batch in (windows, scaled))
    assert torch.allclose(other.loss, one.loss + math.log(10))
    assert torch.allclose(one.loss, one.nll)


@pytest.mark.parametrize("scaler", ["none", "mean_abs", "standard"])
def test_units_are_those_of_the_context(scaler):
    windows = random_windows(1)
    scaling = scale_window(scaler, windows.context, windows.observed)
    for row in range(4):
        kept = windows.context[row][windows.observed[row]]
        scale = {"none": torch.tensor(1.0).double(), "mean_abs": kept.mean(), "standard": kept.std(correction=0)}
        for units, unit in (("relative", kept.mean()), ("network", scale[scaler]), ("data", 1.0)):
            assert loss_unit(scaling, units)[row, 0].item() == pytest.approx(float(unit))


@pytest.mark.parametrize("head", DENSE)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("span", [1, 4, 5])
def test_the_one_step_likelihood_equals_a_loop_of_forward_calls(head, channels, span):
    model = random_model(head=head, channels=channels, mask_input=True).eval()
    windows = random_windows(span, channels=channels)
    values = torch.cat([windows.context, windows.target], 1)
    observed = torch.cat([windows.observed, windows.target_observed], 1)
    expected, number = 0.0, 0
    for row in range(len(values)):
        for first in range(LENGTH, LENGTH + span - 1, 2):  # whole patches of two
            known, scored = slice(first - LENGTH, first), slice(first, first + 2)
            distribution = model(values[row : row + 1, known], observed[row : row + 1, known])
            scores = distribution.log_prob(values[row : row + 1, scored])[0]
            for score, seen in zip(scores.flatten(), observed[row, scored].flatten(), strict=True):
                expected, number = expected - score.item() * bool(seen), number + bool(seen)
    total, count = one_step_nll(model, windows)
    assert count == number
    assert total.item() == pytest.approx(expected)
    assert total.dtype == torch.float64


@pytest.mark.parametrize("head", DENSE)
def test_the_one_step_likelihood_is_that_of_teacher_forcing_where_one_patch_is_scored(head):
    model, windows = random_model(head=head), random_windows(2)
    total, count = one_step_nll(model, windows)
    assert torch.allclose(total / count, unrolled_objective(model, windows, with_nll=True).nll)
