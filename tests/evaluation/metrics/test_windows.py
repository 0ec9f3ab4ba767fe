"""Tests of the metrics that judge windows as a whole, or one forecast beside another."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torchmetrics.utilities import dim_zero_sum

import armlp
from armlp.evaluation.metrics.base import Paths
from armlp.evaluation.metrics.calibration import Coverage, SumCoverage
from armlp.evaluation.metrics.probabilistic import energy_score

HORIZON = 5


def random_batch(batch=6, paths=7, channels=1, seed=0, seen=0.7):
    generator = torch.Generator().manual_seed(seed)
    shape = (HORIZON, channels) if channels > 1 else (HORIZON,)
    drawn = torch.randn(batch, paths, *shape, generator=generator, dtype=torch.float64)
    truth = torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    return drawn, truth, torch.rand(truth.shape, generator=generator) < seen


def naive_variogram(paths, truth, seen, order):
    """One window by loops over pairs of values."""
    paths, truth = [path[seen] for path in paths], truth[seen]
    wrong = []
    for one in range(len(truth)):
        for other in range(one):
            actual = abs(truth[one] - truth[other]) ** order
            expected = np.mean([abs(path[one] - path[other]) ** order for path in paths])
            wrong.append((actual - expected) ** 2)
    return np.mean(wrong) if wrong else np.nan


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("order", [0.5, 1, 2])
def test_the_variogram_score_equals_the_loop_over_pairs_of_observed_values(channels, order):
    paths, truth, observed = random_batch(channels=channels, seen=0.5)
    observed[0] = False
    metric = armlp.VariogramScore(truth.shape[1], order)
    score = metric.score(Paths(paths), torch.where(observed, truth, torch.nan), torch.ones(()))
    assert score.shape == truth.shape
    for row in range(len(truth)):
        expected = naive_variogram(paths[row].numpy(), truth[row].numpy(), observed[row].numpy(), order)
        assert score[row].flatten().tolist() == pytest.approx([expected] * truth[row].numel(), nan_ok=True)


def test_the_variogram_score_measures_how_values_hang_together():
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(2000, 21, 8, generator=generator)
    walks, metrics = steps.cumsum(2), [armlp.VariogramScore(8) for _ in range(2)]
    loose = walks.std((0, 1)) * steps  # as wide at every lead, but of values that know nothing of each other
    for metric, paths in zip(metrics, (walks, loose), strict=True):
        metric.update(paths[:, 1:], walks[:, 0])
    assert metrics[0].compute() < 0.8 * metrics[1].compute()


@pytest.mark.parametrize("channels", [1, 2])
def test_the_energy_score_of_windows_is_weighted_by_what_was_observed(channels):
    paths, truth, observed = random_batch(channels=channels)
    expected = energy_score(paths, truth, observed)[observed].mean().item()
    for chunk in (1, 1 << 24):
        metric = armlp.EnergyScore(HORIZON, chunk=chunk)
        metric.update(paths, truth, observed)
        assert metric.compute().item() == pytest.approx(expected)


@pytest.mark.parametrize("make", [armlp.EnergyScore, armlp.VariogramScore])
def test_a_single_path_does_not_tell_how_values_hang_together(make):
    with pytest.raises(TypeError, match="two paths or more"):
        make(HORIZON).update(*random_batch(paths=1))


def test_paths_have_no_log_score():
    with pytest.raises(TypeError, match="needs a distribution"):
        armlp.LogScore(HORIZON).update(*random_batch())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("whole", [True, False])
def test_the_pit_of_paths_is_the_mean_over_all_the_levels_that_the_truth_may_have(channels, whole):
    paths, truth, observed = random_batch(batch=40, channels=channels)
    if whole:  # with ties
        paths, truth = paths.round(), truth.round()
    metric = armlp.PITHistogram(HORIZON, bins=4)
    metric.update(paths, torch.where(observed, truth, torch.nan), observed)
    levels = [[] for _ in range(HORIZON)]
    for place in np.argwhere(observed.numpy()):
        row, lead, *channel = place
        drawn, value = paths[(row, slice(None), lead, *channel)].numpy(), truth[tuple(place)].item()
        low, high = (drawn < value).sum(), (drawn <= value).sum() + 1
        levels[lead].append(low / 8 + (np.arange(10_000) + 0.5) / 10_000 * (high - low) / 8)
    by_lead = [np.histogram(lead, bins=4, range=(0, 1), density=True)[0] for lead in levels]
    assert np.allclose(metric.by_lead(), by_lead, atol=1e-3)
    every = np.concatenate([np.ravel(lead) for lead in levels])
    assert np.allclose(metric.compute(), np.histogram(every, bins=4, range=(0, 1), density=True)[0], atol=1e-3)


def test_the_pit_of_calibrated_paths_is_flat_and_of_narrow_ones_a_bowl():
    generator = torch.Generator().manual_seed(0)
    paths, truth = torch.randn(20_000, 19, 1, generator=generator), torch.randn(20_000, 1, generator=generator)
    flat, bowl = armlp.PITHistogram(1, bins=10), armlp.PITHistogram(1, bins=10)
    flat.update(paths, truth)
    bowl.update(paths / 2, truth)
    assert (flat.compute() - 1).abs().max() < 0.1
    assert bowl.compute()[[0, -1]].min() > 2 > 1 > bowl.compute()[1:-1].max()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_valid_prediction_time_equals_the_loop_over_leads(channels):
    paths, truth, _ = random_batch(batch=30, paths=1, channels=channels)
    paths = truth[:, None] + 0.4 * paths
    paths[3, :, 2] = torch.nan  # a forecast that diverged holds no longer
    unit = 0.5 + torch.rand(30, *truth[0, :1].shape, generator=torch.Generator().manual_seed(1)).double()
    metric = armlp.ValidPredictionTime(HORIZON, limit=0.9, step=0.5, num_series=2)
    series = torch.arange(30) % 2
    metric.update(paths, truth, unit=unit, series=series)
    times = []
    for row in range(30):
        lead = 0
        while lead < HORIZON:
            error = (paths[row, 0, lead] - truth[row, lead]) / unit[row, 0]
            if not error.square().mean().sqrt() <= 0.9:
                break
            lead += 1
        times.append(0.5 * lead)
    assert 0 < min(np.mean(times[::2]), np.mean(times)) < 0.5 * HORIZON
    assert metric.compute().item() == pytest.approx(np.mean(times))
    assert metric.by_series().tolist() == pytest.approx([np.mean(times[::2]), np.mean(times[1::2])])
    assert metric.by_lead().tolist() == pytest.approx(
        [np.mean([time > lead / 2 for time in times]) for lead in range(5)]
    )


def test_skill_is_one_less_the_ratio_of_the_scores_and_reset_forgets():
    paths, truth, observed = random_batch()
    reference = torch.zeros(6, 1, HORIZON).double()
    skill = armlp.Skill(armlp.MeanAbsoluteError(HORIZON))
    for seed in (1, 2):
        skill.update(random_batch(seed=seed)[0], reference, truth, observed)
        skill.reset()
    skill.update(paths, reference, truth, observed)
    ours, theirs = ((forecast - truth).abs()[observed].mean() for forecast in (paths.median(1).values, reference[:, 0]))
    assert skill.compute().item() == pytest.approx(float(1 - ours / theirs))
    errors = [
        np.nanmean(np.where(observed, (forecast - truth).abs(), np.nan), axis=0)
        for forecast in (paths.median(1).values, reference[:, 0])
    ]
    assert skill.by_lead().tolist() == pytest.approx(1 - errors[0] / errors[1])


def test_owa_is_the_mean_of_two_ratios():
    paths, truth, observed = random_batch()
    reference, unit = torch.ones(6, 1, HORIZON).double(), torch.full((6, 1), 2.0)
    owa = armlp.OverallWeightedAverage(HORIZON)
    owa.update(paths, reference, truth, observed, unit)
    ratios = []
    for metric in (armlp.SymmetricMAPE, armlp.MeanAbsoluteScaledError):
        ours, theirs = metric(HORIZON), metric(HORIZON)
        ours.update(paths, truth, observed, unit)
        theirs.update(reference, truth, observed, unit)
        ratios.append(ours.compute() / theirs.compute())
    assert owa.compute().item() == pytest.approx(float(sum(ratios) / 2))


def test_the_reference_itself_has_skill_zero_and_owa_one():
    paths, truth, observed = random_batch()
    for metric, expected in ((armlp.Skill(armlp.ScaledCRPS(HORIZON)), 0), (armlp.OverallWeightedAverage(HORIZON), 1)):
        metric.update(paths, paths, truth, observed, torch.ones(6, 1))
        assert metric.compute() == expected
        assert metric.by_lead().tolist() == [expected] * HORIZON


@pytest.mark.parametrize(
    "make",
    [lambda *series: armlp.Skill(armlp.MeanAbsoluteError(HORIZON, *series)),
     lambda *series: armlp.OverallWeightedAverage(HORIZON, *series)],
)  # fmt: skip
def test_skill_and_owa_of_a_series_are_those_of_its_windows_alone(make):
    paths, truth, observed = random_batch()
    batch = paths, torch.ones(6, 1, HORIZON).double(), truth, observed, torch.full((6, 1), 2.0)
    series = torch.tensor([0, 1, 0, 1, 0, 1])
    whole = make(2)
    whole.update(*batch, series=series)
    for one in (0, 1):
        alone = make()
        alone.update(*(part[series == one] for part in batch))
        assert whole.by_series()[one].item() == pytest.approx(alone.compute().item())


PLAIN = (
    armlp.ContinuousRankedProbabilityScore, armlp.EnergyScore, armlp.ErrorRate, armlp.MeanAbsoluteError,
    armlp.MeanAbsoluteScaledError, armlp.PITHistogram, armlp.PinballLoss, armlp.RootMeanSquaredError,
    armlp.RootMeanSquaredScaledError, armlp.ScaledCRPS, armlp.SymmetricMAPE, armlp.ValidPredictionTime,
    armlp.VariogramScore, armlp.WeightedQuantileLoss,
)  # fmt: skip


@pytest.mark.parametrize("make", PLAIN)
def test_the_state_of_a_metric_is_sums_of_fixed_size_that_add_over_processes(make):
    metrics = [make(HORIZON) for _ in range(3)]
    assert set(metrics[0]._reductions.values()) == {dim_zero_sum}
    sizes = {name: getattr(metrics[0], name).shape for name in metrics[0]._defaults}
    halves = [(*random_batch(seed=seed), torch.ones(6, 1)) for seed in (1, 2)]
    for metric, half in zip(metrics[1:], halves, strict=True):
        metric.update(*half)
        metrics[0].update(*half)
    for name, size in sizes.items():
        assert getattr(metrics[0], name).shape == size
        assert torch.allclose(getattr(metrics[1], name) + getattr(metrics[2], name), getattr(metrics[0], name))
    metrics[0].update(*(part[:0] for part in halves[0]))  # a process without windows
    assert all(getattr(metrics[0], name).isfinite().all() for name in sizes)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_coverage_of_sums_equals_the_loop_over_windows(channels):
    paths, truth, observed = random_batch(batch=40, channels=channels, paths=50)
    metric = SumCoverage(HORIZON, 80)
    metric.update(paths, truth, observed)
    inside = []
    paths, truth, observed = (
        part.numpy().reshape(*part.shape[: part.dim() - (channels > 1)], channels) for part in (paths, truth, observed)
    )
    for row, channel in np.ndindex(40, channels):
        seen = observed[row, :, channel]
        sums = paths[row][:, seen, channel].sum(1)
        low, high = np.quantile(sums, [0.1, 0.9], method="hazen")
        inside += [low <= truth[row, seen, channel].sum() <= high] * seen.sum()
    assert metric.compute().item() == pytest.approx(np.mean(inside))


def test_the_coverage_of_sums_sees_that_values_depend_on_each_other():
    """Values that move together: independent paths of the right spread at each lead hold far too few of the sums."""
    rng = np.random.default_rng(0)
    together = torch.from_numpy(rng.standard_normal((2000, 1)).repeat(HORIZON, 1))
    for paths, expected in (
        (rng.standard_normal((2000, 100, 1)).repeat(HORIZON, 2), 0.8),
        (rng.standard_normal((2000, 100, HORIZON)), 2 * norm.cdf(norm.ppf(0.9) / HORIZON**0.5) - 1),
    ):
        single, sums = Coverage(HORIZON, 80), SumCoverage(HORIZON, 80)
        for metric in (single, sums):
            metric.update(torch.from_numpy(paths), together)
        assert single.compute().item() == pytest.approx(0.8, abs=0.03)
        assert sums.compute().item() == pytest.approx(expected, abs=0.03)
