"""Tests of the metrics, with numpy loops over values as the oracle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.evaluation.metrics.base import Paths, crps
from armlp.evaluation.metrics.calibration import Coverage, IntervalScore
from armlp.evaluation.metrics.point import (
    ErrorRate,
    MeanAbsoluteError,
    MeanAbsoluteScaledError,
    RootMeanSquaredError,
    SymmetricMAPE,
)
from armlp.evaluation.metrics.probabilistic import (
    ContinuousRankedProbabilityScore,
    EnergyScore,
    PinballLoss,
    ScaledCRPS,
    energy_score,
)

HORIZON = 5


def naive_smape(forecast, truth):
    size = abs(forecast) + abs(truth)
    return 200 * abs(forecast - truth) / size if size else 0.0


def naive_crps(paths, truth):
    """The fair estimator by its double loop over pairs of paths."""
    count = len(paths)
    accuracy = sum(abs(path - truth) for path in paths) / count
    if count == 1:
        return accuracy
    pairs = sum(abs(one - other) for one in paths for other in paths)
    return accuracy - pairs / (2 * count * (count - 1))


def naive_energy(paths, truth, seen):
    """The fair energy score of one window's future, by loops over paths and pairs, as large as that of one value."""
    errors = [(path - truth)[seen] for path in paths]
    accuracy = sum(map(np.linalg.norm, errors)) / len(paths)
    pairs = sum(np.linalg.norm(one - other) for one in errors for other in errors)
    return (accuracy - pairs / (2 * len(paths) * (len(paths) - 1))) / np.sqrt(max(1, seen.sum()))


def naive_pinball(paths, truth):
    """The mean over the quartiles."""
    losses = []
    for level in (0.25, 0.5, 0.75):
        excess = truth - np.quantile(paths, level, method="hazen")
        losses.append(level * excess if excess > 0 else (level - 1) * excess)
    return sum(losses) / 3


def naive_interval_score(paths, truth):
    low, high = np.quantile(paths, [0.1, 0.9], method="hazen")
    return high - low + 10 * max(low - truth, truth - high, 0)


def naive_cover(level):
    def covered(paths, truth):
        low, high = np.quantile(paths, [0.5 - level / 200, 0.5 + level / 200], method="hazen")
        return float(low <= truth <= high)

    return covered


# A maker of each metric, and its score of one value from the paths there, the truth and the unit.
METRICS = {
    "mae": (MeanAbsoluteError, lambda paths, truth, unit: abs(np.median(paths) - truth)),
    "smape": (SymmetricMAPE, lambda paths, truth, unit: naive_smape(np.median(paths), truth)),
    "mase": (MeanAbsoluteScaledError, lambda paths, truth, unit: abs(np.median(paths) - truth) / unit),
    "crps": (ContinuousRankedProbabilityScore, lambda paths, truth, unit: naive_crps(paths, truth)),
    "coverage": (
        lambda horizon, num_series=0: Coverage(horizon, 80, num_series=num_series),
        lambda paths, truth, unit: naive_cover(80)(paths, truth),
    ),
    "pinball": (
        lambda horizon, num_series=0: PinballLoss(horizon, [0.25, 0.5, 0.75], num_series=num_series),
        lambda paths, truth, unit: naive_pinball(paths, truth),
    ),
    "interval score": (
        lambda horizon, num_series=0: IntervalScore(horizon, 80, num_series=num_series),
        lambda paths, truth, unit: naive_interval_score(paths, truth),
    ),
}
each_metric = pytest.mark.parametrize("name", METRICS)


def random_batch(batch=6, paths=7, channels=1, seed=0, seen=0.7):
    generator = torch.Generator().manual_seed(seed)
    shape = (HORIZON, channels) if channels > 1 else (HORIZON,)
    drawn = 3 + 2 * torch.randn(batch, paths, *shape, generator=generator, dtype=torch.float64)
    truth = 3 + 2 * torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    observed = torch.rand(truth.shape, generator=generator) < seen
    unit = 0.5 + torch.rand(batch, 1, *shape[1:], generator=generator, dtype=torch.float64)
    unit[1] = torch.nan  # a series that never changes
    return drawn, truth, observed, unit


def naive_means(score, paths, truth, observed, unit):
    """The mean in total and at each lead, by a loop over values."""
    scores = [[] for _ in range(HORIZON)]
    for place in np.ndindex(*truth.shape):
        row, lead, *channel = place
        if observed[place]:
            value = score(
                paths[(row, slice(None), lead, *channel)].numpy(), truth[place].item(), unit[(row, 0, *channel)].item()
            )
            if not math.isnan(value):
                scores[lead].append(value)
    return np.mean([value for lead in scores for value in lead]), [np.mean(lead) for lead in scores]


@each_metric
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("paths", [1, 2, 7, 40])
def test_a_metric_equals_the_naive_loop_over_observed_values(name, channels, paths):
    make, score = METRICS[name]
    batch = random_batch(paths=paths, channels=channels, batch=12)
    metric = make(HORIZON)
    metric.update(*batch)
    total, by_lead = naive_means(score, *batch)
    assert metric.compute().item() == pytest.approx(total, rel=1e-5)
    assert metric.by_lead().tolist() == pytest.approx(by_lead, rel=1e-5)


@each_metric
@pytest.mark.parametrize("channels", [1, 2])
def test_by_series_a_metric_is_that_of_the_windows_of_the_series(name, channels):
    batch = random_batch(channels=channels, batch=9)
    series = torch.tensor([2, 0, 0, 2, 4, 2, 4, 0, 0])
    metric = METRICS[name][0](HORIZON, num_series=5)
    metric.update(*batch, series=series)
    found = metric.by_series()
    assert found[[1, 3]].isnan().all()
    for index in (0, 2, 4):
        alone = METRICS[name][0](HORIZON)
        alone.update(*(part[series == index] for part in batch))
        assert found[index].item() == pytest.approx(alone.compute().item())


@each_metric
def test_what_is_left_out_is_observed_and_has_no_unit(name):
    paths, truth, observed, unit = random_batch()
    metrics = [METRICS[name][0](HORIZON) for _ in range(2)]
    metrics[0].update(paths, truth)
    metrics[1].update(paths, truth, torch.ones_like(observed), torch.full_like(unit, torch.nan))
    assert metrics[0].by_lead().nan_to_num(-1).equal(metrics[1].by_lead().nan_to_num(-1))
    assert metrics[0].compute().isnan() == (name == "mase")


@each_metric
@given(cut=st.integers(1, 8), channels=st.sampled_from([1, 2]))
@settings(max_examples=10)
def test_batches_add_up_to_the_whole(name, cut, channels):
    batch = random_batch(batch=9, channels=channels)
    whole, parts = (METRICS[name][0](HORIZON) for _ in range(2))
    whole.update(*batch)
    parts.update(*(part[:cut] for part in batch))
    parts.update(*(part[cut:] for part in batch))
    assert parts.by_lead().tolist() == pytest.approx(whole.by_lead().tolist())
    assert parts.compute().item() == pytest.approx(whole.compute().item())


@each_metric
def test_reset_forgets_all_batches(name):
    metric = METRICS[name][0](HORIZON)
    metric.update(*random_batch(seed=1))
    metric.reset()
    metric.update(*random_batch(seed=2))
    fresh = METRICS[name][0](HORIZON)
    fresh.update(*random_batch(seed=2))
    assert metric.by_lead().equal(fresh.by_lead())


@each_metric
def test_what_was_not_observed_does_not_count(name):
    paths, truth, observed, unit = random_batch(seen=0.5)
    metrics = [METRICS[name][0](HORIZON) for _ in range(2)]
    metrics[0].update(paths, truth, observed, unit)
    metrics[1].update(paths, torch.where(observed, truth, 1e9), observed, unit)
    assert metrics[0].by_lead().equal(metrics[1].by_lead())


@each_metric
def test_a_metric_of_nothing_is_not_a_number(name):
    paths, truth, observed, unit = random_batch()
    metric = METRICS[name][0](HORIZON)
    metric.update(paths, truth, torch.zeros_like(observed), unit)
    assert metric.compute().isnan()
    assert metric.by_lead().isnan().all()


@each_metric
def test_a_lead_that_was_never_observed_is_not_a_number_and_leaves_the_others_alone(name):
    paths, truth, observed, unit = random_batch(seen=2)
    observed[:, 3] = False
    metric = METRICS[name][0](HORIZON)
    metric.update(paths, truth, observed, unit)
    assert metric.by_lead().isnan().tolist() == [False, False, False, True, False]
    assert metric.compute().isfinite()


@pytest.mark.parametrize("name", ["mae", "smape", "mase", "crps", "pinball", "interval score"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_forecast_that_diverged_is_not_left_out_of_the_score(name, value):
    paths, truth, observed, unit = random_batch(seen=2)
    paths[2, :, 1] = value
    metric = METRICS[name][0](HORIZON)
    metric.update(paths, truth, observed, unit)
    assert not metric.compute().isfinite()
    assert metric.by_lead().isfinite().tolist() == [True, False, True, True, True]


def test_the_score_of_a_perfect_forecast_is_zero():
    paths, truth, observed, unit = random_batch()
    perfect = truth[:, None].expand_as(paths)
    for name in ("mae", "smape", "mase", "crps"):
        metric = METRICS[name][0](HORIZON)
        metric.update(perfect, truth, observed, unit)
        assert metric.compute() == 0


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12), st.floats(-100, 100, width=32))
@settings(max_examples=60)
def test_crps_equals_the_double_loop_over_pairs(paths, truth):
    score = ContinuousRankedProbabilityScore(1).score(
        Paths(torch.tensor(paths).double().view(1, -1, 1)), torch.tensor([[truth]]).double(), torch.ones(1, 1)
    )
    assert score.item() == pytest.approx(naive_crps(paths, truth), abs=1e-9)


def test_crps_of_one_path_is_its_absolute_error():
    paths, truth, _, unit = random_batch(paths=1)
    assert ContinuousRankedProbabilityScore(HORIZON).score(Paths(paths), truth, unit).equal((paths[:, 0] - truth).abs())


def test_crps_is_fair_to_few_paths():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(20_000, 1, generator=generator)
    expected = 1 / math.sqrt(math.pi)  # of a standard normal forecast of a standard normal truth
    for count in (2, 3, 10):
        paths = torch.randn(20_000, count, 1, generator=generator)
        metric = ContinuousRankedProbabilityScore(1)
        metric.update(paths, truth, torch.ones_like(truth, dtype=torch.bool), torch.ones(20_000, 1))
        assert metric.compute().item() == pytest.approx(expected, abs=0.02)


def test_scores_of_paths_that_share_the_distribution_evenly_are_those_of_the_distribution():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 1, generator=generator).double()
    normal = torch.distributions.Normal(0, 1)
    exact = truth * (2 * normal.cdf(truth) - 1) + 2 * normal.log_prob(truth).exp() - 1 / math.sqrt(math.pi)
    strata = torch.rand(4000, 20, generator=generator).argsort(1) + torch.rand(4000, 20, generator=generator)
    paths = normal.icdf(strata.double() / 20)[..., None]
    found = {even: ContinuousRankedProbabilityScore(1) for even in (True, False)}
    together = {even: EnergyScore(1) for even in (True, False)}
    for even in found:
        for metric in (found[even], together[even]):
            metric.update(Paths(paths, even=even), truth)
        assert found[even].compute().item() == pytest.approx(together[even].compute().item())
    assert found[True].compute().item() == pytest.approx(exact.mean().item(), rel=5e-3)
    assert found[False].compute().item() < 0.97 * exact.mean().item()


def test_crps_does_not_drown_in_the_level_of_the_data():
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(-8, 8, (1, 200, 4), generator=generator).float()  # exact in float32 at this level
    score = ContinuousRankedProbabilityScore(4).score
    low, high = (score(Paths(steps + level), torch.full((1, 4), level), torch.ones(1, 1)) for level in (0.0, 1e6))
    assert torch.allclose(low, high, rtol=1e-4)


def test_smape_is_zero_where_forecast_and_truth_are_zero_and_200_where_one_of_them_is():
    paths = torch.tensor([[[0.0, 0.0, 5.0, 1.0]]])
    truth = torch.tensor([[0.0, 3.0, 0.0, 3.0]])
    score = SymmetricMAPE(4).score(Paths(paths), truth, torch.ones(1, 1))
    assert score.tolist() == [[0, 200, 200, 100]]


@pytest.mark.parametrize("level", [50, 80, 95])
def test_coverage_of_the_true_distribution_is_its_level(level):
    generator = torch.Generator().manual_seed(1)
    paths = torch.rand(4000, 400, 1, generator=generator)
    truth = torch.rand(4000, 1, generator=generator)
    metric = Coverage(1, level)
    metric.update(paths, truth, torch.ones_like(truth, dtype=torch.bool), torch.ones(4000, 1))
    assert metric.compute().item() == pytest.approx(level / 100, abs=0.02)


def test_coverage_counts_the_ends_of_the_interval():
    paths = torch.arange(11.0).view(1, 11, 1).expand(1, 11, 4)  # the 80% interval is 0.6..9.4
    truth = torch.tensor([[0.61, 9.39, 0.59, 9.41]])
    score = Coverage(4, 80).score(Paths(paths), truth, torch.ones(1, 1))
    assert score.tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("paths", [1, 2, 3, 8])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_point_forecast_is_the_median_of_the_paths(paths, channels):
    drawn = random_batch(paths=paths, channels=channels)[0]
    assert np.allclose(Paths(drawn).median(), np.median(drawn, axis=1))


def test_scaled_crps_is_crps_in_units_of_the_naive_error():
    paths, truth, unit = torch.randn(4, 7, 3), torch.randn(4, 3), torch.tensor([[1.0], [2.0], [4.0], [torch.nan]])
    score = ScaledCRPS(3).score(Paths(paths), truth, unit)
    assert score[:3].equal(ContinuousRankedProbabilityScore(3).score(Paths(paths), truth, unit)[:3] / unit[:3])
    assert score[3].isnan().all()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("paths", [2, 3, 8])
def test_the_energy_score_equals_the_double_loop_over_paths(paths, channels):
    drawn, truth, observed, _ = random_batch(paths=paths, channels=channels)
    score = energy_score(drawn, truth, observed)
    assert score.shape == truth.shape
    for row in range(len(truth)):
        expected = naive_energy(drawn[row].numpy(), truth[row].numpy(), observed[row].numpy())
        assert torch.allclose(score[row], torch.full_like(score[row], expected))


@pytest.mark.parametrize("paths", [2, 5])
def test_of_a_single_value_the_energy_score_is_crps(paths):
    drawn, truth, _, _ = random_batch(paths=paths)
    drawn, truth = drawn[..., :1], truth[..., :1]
    assert torch.allclose(energy_score(drawn, truth, torch.ones_like(truth, dtype=torch.bool)), crps(drawn, truth))


@pytest.mark.parametrize("filler", [1e9, torch.nan])
def test_the_energy_score_does_not_see_what_was_not_observed(filler):
    drawn, truth, observed, _ = random_batch(seen=0.5)
    other = torch.where(observed, truth, filler)
    assert energy_score(drawn, truth, observed).equal(energy_score(drawn, other, observed))


def test_the_energy_score_is_fair_to_few_paths_and_measures_how_values_hang_together():
    generator = torch.Generator().manual_seed(0)
    seen = torch.ones(20_000, 2, dtype=torch.bool)

    def sample(correlation, *shape):
        one, other = torch.randn(2, *shape, generator=generator)
        return torch.stack([one, correlation * one + (1 - correlation**2) ** 0.5 * other], -1)

    truth = sample(0.9, 20_000)
    right, few, wrong = (
        energy_score(sample(correlation, 20_000, paths), truth, seen)[:, 0]
        for correlation, paths in ((0.9, 12), (0.9, 2), (-0.9, 12))
    )
    error = (right - few).std() / 20_000**0.5
    assert (right - few).mean().abs() < 4 * error
    assert (wrong - right).mean() > 10 * (wrong - right).std() / 20_000**0.5
    margins = [crps(sample(correlation, 20_000, 12), truth).mean().item() for correlation in (0.9, -0.9)]
    assert margins[0] == pytest.approx(margins[1], rel=0.02)  # which the score of each value does not


@pytest.mark.parametrize("score", [lambda paths, truth: energy_score(paths, truth, truth == truth), crps])
def test_scores_have_finite_gradients_where_paths_and_truth_are_alike(score):
    paths = torch.ones(3, 4, 5, requires_grad=True)
    value = score(paths, torch.ones(3, 5))
    assert value.abs().max() < 1e-6
    value.sum().backward()
    assert paths.grad.isfinite().all()


@pytest.mark.parametrize("score", ["crps", "energy"])
def test_scores_are_least_where_the_forecast_is_the_truth(score):
    """A proper score: of normal forecasts the right mean and spread do best."""
    generator = torch.Generator().manual_seed(0)
    truth = 1 + 2 * torch.randn(20_000, 1, generator=generator)
    noise = torch.randn(20_000, 8, 1, generator=generator)
    scores = {}
    for mean, spread in ((1, 2), (1.5, 2), (0.5, 2), (1, 1.3), (1, 3)):
        paths = mean + spread * noise
        found = crps(paths, truth) if score == "crps" else energy_score(paths, truth, truth == truth)
        scores[mean, spread] = found.mean().item()
    assert min(scores, key=scores.__getitem__) == (1, 2)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_error_rate_is_the_share_of_symbols_that_most_paths_do_not_say(channels):
    shape = (HORIZON, channels) if channels > 1 else (HORIZON,)
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.6, 0.2, 0.15, 0.05])
    paths, truth = (
        torch.multinomial(weights, math.prod(size), replacement=True, generator=generator).view(size).float()
        for size in ((30, 101, *shape), (30, *shape))
    )
    observed = torch.rand(truth.shape, generator=generator) < 0.7
    metric = ErrorRate(HORIZON)
    metric.update(paths, truth, observed, torch.ones(30, 1))
    wrong = [[] for _ in range(HORIZON)]
    for place in np.ndindex(*truth.shape):
        if observed[place]:
            counts = np.bincount(paths[(place[0], slice(None), *place[1:])].numpy().astype(int), minlength=4)
            wrong[place[1]].append(counts.argmax() != truth[place].item())
    assert metric.by_lead().tolist() == pytest.approx([np.mean(lead) for lead in wrong])
    assert metric.compute().item() == pytest.approx(np.mean([miss for lead in wrong for miss in lead]))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_root_mean_squared_error_is_that_of_numpy_to_the_ends_of_float32(size):
    paths, truth, observed, _ = random_batch()
    paths, truth = (size * paths).float(), (size * truth).float()
    metric = RootMeanSquaredError(HORIZON)
    metric.update(paths, truth, observed)
    errors = np.where(observed, np.median(paths.double(), axis=1) - truth.double().numpy(), np.nan)
    assert metric.compute().item() == pytest.approx(np.sqrt(np.nanmean(errors**2)), rel=1e-5)
    assert metric.by_lead().tolist() == pytest.approx(np.sqrt(np.nanmean(errors**2, axis=0)), rel=1e-5)


@given(
    st.lists(st.sampled_from([-2.0, 0.5, 1.0, 3.0, math.nan]), min_size=1, max_size=9),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
@settings(max_examples=60)
def test_quantiles_of_paths_are_those_of_numpy(paths, levels):
    found = Paths(torch.tensor(paths).double().view(1, -1, 1)).quantiles(levels)[:, 0, 0]
    for level, value in zip(levels, found.tolist(), strict=True):
        if math.isnan(sum(map(abs, paths))):
            assert math.isnan(value)
        else:
            assert value == pytest.approx(np.quantile(paths, level, method="hazen"), abs=1e-12)
