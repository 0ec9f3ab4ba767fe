"""Tests of the objective, with loops over windows, paths and values, and finite differences, as the oracles."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlp.data.covariates import Covariates
from armlp.data.windows import Windows
from armlp.evaluation.one_step import one_step_nll
from armlp.model.families import HEADS
from armlp.model.families.base import open_interval
from armlp.model.families.location_scale import MultivariateNormalHead
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import SCALERS
from armlp.training.objective import (
    FEEDS,
    LEAD_WEIGHTS,
    LOSS_UNITS,
    lead_weights,
    loss_unit,
    unrolled_objective,
)

LENGTH, PATCH = 6, 2
SIZES = {"known": [0, 4], "past": [0], "calendar": [0], "static": [3]}
NUMBERS = [name for name in HEADS if name != "symbols"]
CONTINUOUS = [name for name, head in HEADS.items() if not head.distribution.discrete]
DENSE = [name for name, head in HEADS.items() if head.distribution.has_density]
# Their draws are functions of the parameters at fixed noise; those of others have a gradient by other means.
REPARAMETRISED = [name for name in CONTINUOUS if name != "mixture"]


def random_model(seed=0, **options):
    torch.manual_seed(seed)
    options = {
        "hidden_sizes": [4],
        "patch_length": PATCH,
        "season_length": 3,
        "activation": "tanh",
        "bins": 5,
    } | options
    options["symbols"] = 4 if options.get("head") == "symbols" else 0
    model = AutoregressiveMLP(LENGTH, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return model.double()


def random_windows(span, model=None, batch=4, channels=1, missing=0.2, seed=0):
    """Windows of values that the model's head can have, with covariates of `SIZES`."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, LENGTH + span, channels)
    values = 10 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if model is not None and model.head.discrete:
        values = values.round().abs() % (model.symbols or math.inf)
    observed = torch.rand(shape, generator=generator) >= missing
    observed[:, LENGTH - 2 :: 2] = True
    number, ahead = torch.arange(batch), -(-span // PATCH) * PATCH  # covariates reach to the end of the last patch
    (context, target), (seen, target_seen) = (part.split([LENGTH, span], 1) for part in (values, observed))
    covariates = Covariates(
        known=torch.randint(0, 4, (batch, LENGTH + ahead, 2), generator=generator).double(),
        past=torch.randn(batch, LENGTH + ahead, 1, generator=generator, dtype=torch.float64),
        calendar=torch.randn(batch, ahead, 1, generator=generator, dtype=torch.float64),
        static=torch.randint(0, 3, (batch, 1), generator=generator).double(),
    )
    return Windows(context, seen, target, target_seen, number, number, covariates)


def unit_of(windows, row, units, channel):
    kept = windows.context[(row, slice(None), *channel)][windows.observed[(row, slice(None), *channel)]]
    if units == "relative":
        return kept.abs().mean()
    return kept.std(correction=0) if units == "network" else torch.tensor(1.0).double()


def covariates_of(windows, row, step):
    """What a patch so many steps after the origin may see: nothing of the past columns from the origin on."""
    known, past, calendar, static = (part[row : row + 1] for part in windows.covariates)
    past = torch.cat([past[:, step:LENGTH], torch.zeros(1, step, 1).double()], 1)[:, -LENGTH:]
    return Covariates(known[:, step : step + LENGTH + PATCH], past, calendar[:, step:], static)


def naive_chains(model, windows, feed, paths=1, links=None):
    """The distributions and the patches of every window and path, with the input cut off after every so many links."""
    count, shape = windows.target.shape[1] // PATCH, (PATCH, *windows.target.shape[2:], model.head.noise)
    sampled = feed == "sample" or (model.symbols and feed == "mean")
    noise = [
        torch.rand(len(windows.context) * paths, *shape, dtype=torch.float64) for _ in range(count * bool(sampled))
    ]
    for row in range(len(windows.context)):
        one = slice(row, row + 1)
        scaling = model.measure_scaling(windows.context[one], windows.observed[one])
        for path in range(paths):
            window, seen = windows.context[one], windows.observed[one]
            distributions, patches = [], []
            for link in range(count):
                if links and link % links == 0:
                    window = window.detach()
                known = covariates_of(windows, row, link * PATCH)
                distributions.append(model.predict_patch(window[:, -LENGTH:], seen[:, -LENGTH:], scaling, known))
                patch = distributions[-1].mean
                if sampled:
                    patch = distributions[-1].draw(open_interval(noise[link][row * paths + path])[None])
                part = slice(link * PATCH, (link + 1) * PATCH)
                patch_observed = torch.ones_like(patch, dtype=torch.bool)
                if feed == "truth":
                    patch, patch_observed = windows.target[one, part], windows.target_observed[one, part]
                window, seen = torch.cat([window, patch], 1), torch.cat([seen, patch_observed], 1)
                patches.append(patch)
            yield row, distributions, torch.cat(patches, 1)[0]


def naive_loss(model, windows, units, feed="mean", links=None, weights=None):
    """Means of the head's loss and the negative log-likelihood over observed values, value by value."""
    total, count, likelihood = 0.0, 0, 0.0
    for row, distributions, _ in naive_chains(model, windows, feed, links=links):
        for link, distribution in enumerate(distributions):
            part = slice(link * PATCH, (link + 1) * PATCH)
            target, seen = windows.target[row : row + 1, part], windows.target_observed[row : row + 1, part]
            if isinstance(model.head, MultivariateNormalHead):
                seen = seen.all(-1, keepdim=True).expand_as(seen)  # judged together, or not at all
            for place in torch.ones_like(target).nonzero().tolist():
                if seen[tuple(place)]:
                    unit = torch.full_like(target, unit_of(windows, row, units, channel=place[2:]).item())
                    weight = 1 if weights is None else weights[link * PATCH + place[1]]
                    total = total + weight * model.head.loss(distribution, target, unit)[tuple(place)]
                    count += 1
                    if model.head.has_density:
                        likelihood = likelihood - distribution.log_prob(target)[tuple(place)]
    return total / count, likelihood / count


def naive_score(model, windows, units, objective, paths, links=None):
    """The mean score of sampled futures over observed values, by loops over pairs of paths."""
    futures = [[] for _ in windows.context]
    for row, _, future in naive_chains(model, windows, "sample", paths, links):
        futures[row].append(future)
    total, count = 0.0, 0
    for row, drawn in enumerate(futures):
        seen, target = windows.target_observed[row], windows.target[row]
        unit = torch.stack([unit_of(windows, row, units, (channel,)) for channel in range(target.shape[1])])
        errors = [((future - target) / unit)[seen] for future in drawn]
        pairs = [one - other for index, one in enumerate(errors) for other in errors[:index]]
        size = torch.Tensor.abs if objective == "crps" else torch.linalg.vector_norm
        score = sum(map(size, errors)) / paths - sum(map(size, pairs)) / (paths * (paths - 1))
        if objective == "energy":
            score = score / seen.sum().sqrt() * torch.ones(int(seen.sum()), dtype=torch.float64)
        total, count = total + score.sum(), count + seen.sum()
    return total / count


def gradients(model, loss):
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def assert_slopes_are_finite_differences(model, loss, step=1e-5, count=24):
    """Along random directions through all weights, each of which would show any weight's wrong gradient."""
    computed, weights = gradients(model, loss()), list(model.parameters())
    start = torch.nn.utils.parameters_to_vector(weights).detach()
    directions = torch.randn(count, len(start), dtype=start.dtype, generator=torch.Generator().manual_seed(1))
    directions /= directions.norm(dim=1, keepdim=True)
    measured = []
    for direction in directions:
        sides = []
        for side in (1, -1):
            torch.nn.utils.vector_to_parameters(start + side * step * direction, weights)
            sides.append(loss().item())
        measured.append((sides[0] - sides[1]) / (2 * step))
    assert torch.allclose(directions @ computed, torch.tensor(measured).double(), rtol=1e-4, atol=1e-6)


def seeded(seed, *args, **options):
    torch.manual_seed(seed)
    return unrolled_objective(*args, **options)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("units", LOSS_UNITS)
@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_objective_equals_the_naive_loop_over_observed_values(head, units, unroll, channels):
    model = random_model(head=head, channels=channels, mask_input=True)
    windows = random_windows(PATCH * unroll, model, channels=channels)
    assert not windows.target_observed.all()
    assert not windows.observed.all()
    objective = seeded(0, model, windows, units, "mean", with_nll=True)
    torch.manual_seed(0)
    loss, nll = naive_loss(model, windows, units)
    assert torch.allclose(objective.loss, loss)
    if head == "point":
        assert objective.nll is None
    else:
        assert torch.allclose(objective.nll, nll)
        assert not objective.nll.requires_grad


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("gradient", ["full", "last", 2, 3])
def test_the_gradient_runs_as_far_back_as_in_a_naive_chain_cut_by_hand(head, feed, gradient):
    model = random_model(head=head, mask_input=True, covariate_sizes=SIZES)
    windows = random_windows(5 * PATCH, model)
    objective = seeded(0, model, windows, "network", feed, gradient=gradient)
    torch.manual_seed(0)
    links = {"full": None, "last": 1}.get(gradient, gradient)
    loss, _ = naive_loss(model, windows, "network", feed, links)
    assert torch.allclose(objective.loss, loss)
    computed = gradients(model, objective.loss)
    assert torch.allclose(computed, gradients(model, loss), rtol=1e-6, atol=1e-9)
    if gradient != "full" and feed != "truth" and not model.symbols:  # symbols and the truth pass none on
        assert not torch.allclose(computed, gradients(model, seeded(0, model, windows, "network", feed).loss))


def test_through_the_last_patch_only_the_gradient_is_that_of_windows_that_are_data():
    model, windows = random_model(head="normal", scaler="none"), random_windows(3 * PATCH)
    values, observed = windows.context, windows.observed
    expected = 0
    for link in range(3):
        part = slice(link * PATCH, (link + 1) * PATCH)
        one = windows._replace(
            context=values[:, -LENGTH:],
            observed=observed[:, -LENGTH:],
            target=windows.target[:, part],
            target_observed=windows.target_observed[:, part],
        )
        expected = expected + gradients(model, unrolled_objective(model, one).loss) * one.target_observed.sum()
        patch = model.predict_patch(
            values[:, -LENGTH:], observed[:, -LENGTH:], model.measure_scaling(values, observed)
        ).mean
        values = torch.cat([values, patch.detach()], 1)
        observed = torch.cat([observed, torch.ones_like(patch, dtype=torch.bool)], 1)
    loss = unrolled_objective(model, windows, feed="mean", gradient="last").loss
    assert torch.allclose(gradients(model, loss), expected / windows.target_observed.sum())


@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("feed", ["mean", "sample"])
@pytest.mark.parametrize("head", HEADS)
def test_values_of_masked_targets_change_neither_loss_nor_gradient(head, feed, unroll):
    model = random_model(head=head)
    windows = random_windows(PATCH * unroll, model)
    other = windows._replace(target=torch.where(windows.target_observed, windows.target, 1e3))
    one, another = (seeded(0, model, batch, "relative", feed, with_nll=True) for batch in (windows, other))
    assert one.loss.equal(another.loss)
    assert one.nll is None or one.nll.equal(another.nll)
    assert gradients(model, one.loss).equal(gradients(model, another.loss))


@pytest.mark.parametrize("objective", ["head", "crps", "energy"])
def test_a_batch_with_nothing_observed_has_no_loss(objective):
    model, windows = random_model(), random_windows(PATCH)
    windows = windows._replace(target_observed=torch.zeros_like(windows.target_observed))
    loss = unrolled_objective(model, windows, objective=objective).loss
    assert loss == 0
    assert not gradients(model, loss).any()


@pytest.mark.parametrize(
    ("head", "feed"),
    [(head, "mean") for head in NUMBERS] + [(head, "sample") for head in [*REPARAMETRISED, "symbols"]],
)
def test_gradients_through_the_chain_equal_finite_differences(head, feed):
    model = random_model(head=head, mask_input=True)
    windows = random_windows(3 * PATCH, model)
    assert_slopes_are_finite_differences(model, lambda: seeded(3, model, windows, "network", feed).loss)


@pytest.mark.parametrize("objective", ["crps", "energy"])
@pytest.mark.parametrize("head", [head for head in REPARAMETRISED if HEADS[head].distribution.noise])
def test_gradients_of_scores_of_paths_equal_finite_differences(head, objective):
    model, windows = random_model(head=head), random_windows(2 * PATCH)
    options = {"loss_units": "network", "objective": objective}
    assert_slopes_are_finite_differences(model, lambda: seeded(3, model, windows, **options).loss)


@pytest.mark.parametrize("feed", ["mean", "sample"])
@pytest.mark.parametrize("head", HEADS)
def test_a_second_patch_fed_by_the_first_never_sees_its_target(head, feed):
    model = random_model(head=head)
    windows = random_windows(2 * PATCH, model, missing=0)
    moved = windows.target.clone()
    moved[:, :PATCH] = (moved[:, :PATCH] + 5) % (model.symbols or math.inf)
    unseen = windows.target_observed.clone()
    unseen[:, :PATCH] = False
    batches = [windows, windows._replace(target=moved)]
    losses = [seeded(0, model, batch._replace(target_observed=unseen), "relative", feed).loss for batch in batches]
    assert losses[0].equal(losses[1])
    losses = [seeded(0, model, batch, "relative", feed).loss for batch in batches]
    assert not losses[0].equal(losses[1])


def test_the_likelihood_is_measured_only_where_it_was_asked_for():
    model, windows = random_model(head="normal"), random_windows(PATCH)
    silent, telling = (unrolled_objective(model, windows, with_nll=asked) for asked in (False, True))
    assert silent.nll is None
    assert telling.nll is not None
    assert silent.loss.equal(telling.loss)


@pytest.mark.parametrize("scaler", SCALERS)
def test_input_noise_is_told_in_network_units_and_moves_neither_scaling_nor_target(scaler):
    model, windows = random_model(head="normal", scaler=scaler), random_windows(PATCH)
    scaling = model.measure_scaling(windows.context, windows.observed)
    torch.manual_seed(0)
    noisy = windows.context + 0.3 * scaling.scale * torch.randn_like(windows.context)
    scores = model.predict_patch(noisy, windows.observed, scaling).log_prob(windows.target)
    loss = seeded(0, model, windows, input_noise=0.3).loss
    assert torch.allclose(loss, -scores[windows.target_observed].mean())


def test_symbols_get_no_input_noise():
    model = random_model(head="symbols")
    windows = random_windows(3 * PATCH, model)
    losses = [seeded(0, model, windows, input_noise=noise).loss for noise in (0.0, 2.0)]
    assert losses[0].equal(losses[1])


def test_a_sampled_chain_differs_from_sample_to_sample_and_a_mean_chain_does_not():
    model, windows = random_model(head="normal"), random_windows(2 * PATCH)
    losses = {feed: [seeded(seed, model, windows, "relative", feed).loss for seed in (0, 1)] for feed in FEEDS}
    assert losses["mean"][0] == losses["mean"][1]
    assert losses["sample"][0] != losses["sample"][1]


@pytest.mark.parametrize("objective", ["crps", "energy"])
@pytest.mark.parametrize("units", LOSS_UNITS)
@pytest.mark.parametrize(("channels", "gradient"), [(1, "full"), (2, "full"), (1, "last"), (2, 2)])
@pytest.mark.parametrize("head", ["student_t", "mixture"])
def test_scores_of_paths_equal_the_double_loop_over_paths(head, objective, units, channels, gradient):
    model = random_model(head=head, channels=channels, covariate_sizes=SIZES)
    windows = random_windows(3 * PATCH, channels=channels)
    loss = seeded(0, model, windows, units, objective=objective, gradient=gradient).loss
    torch.manual_seed(0)
    links = {"full": None, "last": 1}.get(gradient, gradient)
    expected = naive_score(model, windows, units, objective, 4, links)
    assert torch.allclose(loss, expected)
    assert torch.allclose(gradients(model, loss), gradients(model, expected), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("objective", ["crps", "energy"])
@torch.no_grad()
def test_the_expected_score_of_paths_does_not_depend_on_their_number(objective):
    model, windows = random_model(head="normal"), random_windows(2 * PATCH, missing=0.1)
    windows = Windows(*(part.repeat(500, *[1] * (part.dim() - 1)) for part in windows[:6]))
    estimates = {}
    for paths in (2, 3, 16):
        parts = [seeded(seed, model, windows, objective=objective, num_paths=paths).loss.item() for seed in range(16)]
        estimates[paths] = stats.norm(sum(parts) / 16, stats.sem(parts))
    for few in (2, 3):
        difference = estimates[few].mean() - estimates[16].mean()
        assert abs(difference) < 4 * math.hypot(estimates[few].std(), estimates[16].std())
    assert estimates[2].std() < 0.01 * estimates[2].mean()  # enough to see a bias


@pytest.mark.parametrize("objective", ["crps", "energy"])
@torch.no_grad()
def test_of_one_value_the_scores_of_paths_expect_the_closed_form(objective):
    model, windows = random_model(head="normal", patch_length=1), random_windows(1, missing=0)
    normal = model(windows.context)
    place = (windows.target - normal.mean) / normal.stddev
    standard = torch.distributions.Normal(0.0, 1.0)
    density = standard.log_prob(place).exp()
    closed = normal.stddev * (place * (2 * standard.cdf(place) - 1) + 2 * density - math.pi**-0.5)
    unit = windows.context.abs().mean(1, keepdim=True)
    many = Windows(*(part.repeat(20_000, *[1] * (part.dim() - 1)) for part in windows[:6]))
    loss = seeded(0, model, many, objective=objective).loss
    assert loss.item() == pytest.approx((closed / unit).mean().item(), rel=0.01)


@pytest.mark.parametrize("kind", LEAD_WEIGHTS)
def test_leads_count_as_they_are_weighted(kind):
    model, windows = random_model(head="normal"), random_windows(3 * PATCH)
    weights = lead_weights(kind, 3 * PATCH)
    loss, nll = naive_loss(model, windows, "data", weights=weights.tolist())
    objective = unrolled_objective(model, windows, "data", "mean", with_nll=True, lead_weighting=kind)
    assert torch.allclose(objective.loss, loss)
    assert torch.allclose(objective.nll, nll)  # which is a measure, not weighted


def test_near_leads_count_more_or_far_ones_or_all_alike():
    for count in (1, 2, 9):
        weights = {kind: lead_weights(kind, count) for kind in LEAD_WEIGHTS}
        assert all(parts.mean().item() == pytest.approx(1) for parts in weights.values())
        assert weights["even"].equal(torch.ones(count))
        assert (weights["near"].diff() < 0).all()
        assert (weights["far"].diff() > 0).all()
        if count == 9:
            assert weights["far"][8] / weights["far"][0] == pytest.approx(3)
            assert weights["near"][0] / weights["near"][8] == pytest.approx(3)


def test_an_unrolled_chain_under_the_seasonal_scaler_is_a_plain_one_of_the_deseasonalized_values():
    options = {"head": "point", "level_input": False, "season_length": 3}
    seasonal, plain = (random_model(scaler=scaler, **options) for scaler in ("seasonal", "none"))
    windows = random_windows(4 * PATCH, missing=0)
    values = torch.cat([windows.context, windows.target], 1)
    means = torch.stack([windows.context[:, phase::3].mean(1) for phase in range(3)], 1)
    left = values - means[:, torch.arange(values.shape[1]) % 3]
    left = left / left[:, :LENGTH].square().mean(1, keepdim=True).sqrt()
    context, target = left.split([LENGTH, 4 * PATCH], 1)
    loss = unrolled_objective(seasonal, windows, "network", "mean").loss
    expected = unrolled_objective(plain, windows._replace(context=context, target=target), "data", "mean").loss
    assert torch.allclose(loss, expected)


@pytest.mark.parametrize("units", LOSS_UNITS)
@pytest.mark.parametrize("head", ["point", "quantile"])
@pytest.mark.parametrize("scaler", [name for name, kind in SCALERS.items() if kind.by_window])
@given(factor=st.floats(0.01, 100))
@settings(max_examples=4)
def test_relative_and_network_losses_do_not_change_with_the_units_of_the_data(head, units, scaler, factor):
    model, windows = random_model(head=head, scaler=scaler), random_windows(3 * PATCH)
    scaled = windows._replace(context=factor * windows.context, target=factor * windows.target)
    one, other = (unrolled_objective(model, batch, units, "mean").loss for batch in (windows, scaled))
    power = {"point": 2, "quantile": 1}[head]
    assert torch.allclose(other, one * (factor**power if units == "data" else 1))


@pytest.mark.parametrize("units", LOSS_UNITS)
@pytest.mark.parametrize("head", [head for head in CONTINUOUS if head not in ("point", "quantile")])
def test_likelihoods_are_of_the_units_of_the_data(head, units):
    model, windows = random_model(head=head), random_windows(3 * PATCH)
    scaled = windows._replace(context=10 * windows.context, target=10 * windows.target)
    one, other = (unrolled_objective(model, batch, units, "mean", with_nll=True) for batch in (windows, scaled))
    assert torch.allclose(other.loss, one.loss + math.log(10))
    assert torch.allclose(one.loss, one.nll)


@pytest.mark.parametrize("scaler", ["none", "mean_abs", "standard"])
def test_units_are_those_of_the_context(scaler):
    windows = random_windows(1)
    scaling = SCALERS[scaler]().measure(windows.context, windows.observed)
    for row in range(4):
        kept = windows.context[row][windows.observed[row]]
        scale = {"none": torch.tensor(1.0).double(), "mean_abs": kept.mean(), "standard": kept.std(correction=0)}
        for units, unit in (("relative", kept.mean()), ("network", scale[scaler]), ("data", 1.0)):
            assert loss_unit(scaling, units)[row, 0].item() == pytest.approx(float(unit))


@pytest.mark.parametrize("head", DENSE)
@pytest.mark.parametrize(("channels", "members", "covariates"), [(1, 1, False), (2, 1, True), (1, 2, True)])
@pytest.mark.parametrize("span", [1, 4, 5])
def test_the_one_step_likelihood_equals_a_loop_of_forward_calls(head, channels, members, covariates, span):
    options = {"channels": channels, "members": members, "covariate_sizes": SIZES if covariates else None}
    model = random_model(head=head, mask_input=True, **options).eval()
    windows = random_windows(span, model, channels=channels)
    values = torch.cat([windows.context, windows.target], 1)
    observed = torch.cat([windows.observed, windows.target_observed], 1)
    expected, number = 0.0, 0
    for row in range(len(values)):
        for first in range(0, span, PATCH):
            at, seen, scored = slice(row, row + 1), slice(first, first + LENGTH), slice(first + LENGTH, None)
            known, past, calendar, static = (part[at] for part in windows.covariates)
            beside = Covariates(known[:, first:], past[:, seen], calendar[:, first:], static) if covariates else None
            distribution = model(values[at, seen], observed[at, seen], beside)
            target, mask = values[at, scored][:, :PATCH], observed[row, scored][:PATCH]
            there = target.shape[1]
            whole = torch.cat([target, target[:, :1]], 1)[:, :PATCH]
            if head == "multivariate_normal" and channels > 1:  # judged together, or not at all
                mask = mask.all(-1, keepdim=True).expand_as(mask)
            if members == 1:
                joint = distribution.log_prob(whole)[0, :there][mask].sum()
            else:  # a mixture of the members' joint distributions
                each = distribution.members.log_prob(torch.cat([whole] * members))[:, :there]
                joint = (each.double() * mask).sum((1, 2)).logsumexp(0) - math.log(members)
            expected, number = expected - joint.item(), number + mask.sum()
    total, count = one_step_nll(model, windows if covariates else windows._replace(covariates=None))
    assert count == number
    assert total.item() == pytest.approx(expected)
    assert total.dtype == torch.float64


@pytest.mark.parametrize("head", DENSE)
def test_the_one_step_likelihood_is_that_of_teacher_forcing_where_one_patch_is_scored(head):
    model = random_model(head=head)
    windows = random_windows(PATCH, model)
    total, count = one_step_nll(model, windows)
    assert torch.allclose(total / count, unrolled_objective(model, windows, with_nll=True).nll)
