"""The metrics beside independent libraries: utilsforecast, scoringrules, and scipy's integrals."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats
from utilsforecast import losses

import armlp
from armlp.evaluation.baselines.naive import naive_errors
from armlp.model.ensemble import EnsembleMixture
from armlp.model.families.counts import NegativeBinomial, Poisson
from armlp.model.families.location_scale import Laplace, Normal, StudentT
from armlp.model.families.mixture import NormalMixture

SERIES, PATHS, HORIZON, SEASON = 4, 40, 6, 3
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


@pytest.fixture(scope="module")
def forecasts(make_panel):
    """Forecasts of the last rows of a panel: the tables of utilsforecast, and what a metric takes."""
    panel = make_panel([30, 24, 41, 28])
    ends = panel.lengths - HORIZON
    truth = torch.stack([panel.series(index)[-HORIZON:, 0] for index in range(SERIES)]).double()
    paths = truth[:, None] + torch.randn(SERIES, PATHS, HORIZON, generator=torch.Generator().manual_seed(0)).double()
    ids = [f"s{index}" for index in range(SERIES)]
    table = pd.DataFrame({"unique_id": np.repeat(ids, HORIZON), "ds": np.tile(np.arange(HORIZON), SERIES)})
    table["y"], table["armlp"] = truth.flatten().numpy(), np.median(paths, axis=1).ravel()
    for level in LEVELS:
        table[f"q{level}"] = np.quantile(paths, level, axis=1, method="hazen").ravel()
    table["armlp-lo-80"], table["armlp-hi-80"] = table["q0.1"], table["q0.9"]
    train = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": range(int(end)), "y": panel.series(index)[: int(end), 0].numpy()})
        for index, (name, end) in enumerate(zip(ids, ends, strict=True))
    )
    units = naive_errors(panel, ends, SEASON)
    return table, train, paths, truth, units


def scaled(loss):
    return lambda table, train: loss(table, ["armlp"], seasonality=SEASON, train_df=train)


ORACLES = {
    "mae": (armlp.MeanAbsoluteError, {}, 0, lambda table, _: losses.mae(table, ["armlp"])),
    "rmse": (armlp.RootMeanSquaredError, {}, 0, lambda table, _: losses.rmse(table, ["armlp"])),
    "smape": (armlp.SymmetricMAPE, {}, 0, lambda table, _: losses.smape(table, ["armlp"])),
    "mase": (armlp.MeanAbsoluteScaledError, {}, 0, scaled(losses.mase)),
    "rmsse": (armlp.RootMeanSquaredScaledError, {}, 1, scaled(losses.rmsse)),
    "pinball": (
        armlp.PinballLoss, {"probabilities": [0.3]}, 0,
        lambda table, _: losses.quantile_loss(table, {"armlp": "q0.3"}, 0.3),
    ),
    "mean pinball": (
        armlp.PinballLoss, {}, 0,
        lambda table, _: losses.mqloss(table, {"armlp": [f"q{level}" for level in LEVELS]}, np.array(LEVELS)),
    ),
    "coverage": (armlp.Coverage, {"level": 80}, 0, lambda table, _: losses.coverage(table, ["armlp"], 80)),
    "interval": (armlp.IntervalScore, {"level": 80}, 0, lambda table, _: losses.winkler_score(table, ["armlp"], 80)),
}  # fmt: skip


@pytest.mark.parametrize("name", ORACLES)
def test_by_series_and_in_total_a_metric_is_that_of_utilsforecast(name, forecasts):
    table, train, paths, truth, units = forecasts
    make, options, unit, oracle = ORACLES[name]
    metric = make(HORIZON, num_series=SERIES, **options)
    metric.update(paths, truth, unit=units[unit], series=torch.arange(SERIES))
    expected = oracle(table, train)["armlp"].to_numpy() * (200 if name == "smape" else 1)
    assert metric.by_series().tolist() == pytest.approx(expected, rel=1e-6)
    if name == "rmse":
        assert metric.compute().item() == pytest.approx(np.sqrt((expected**2).mean()), rel=1e-6)
    else:
        assert metric.compute().item() == pytest.approx(expected.mean(), rel=1e-6)


def test_the_weighted_quantile_loss_is_that_of_gluonts(forecasts):
    """As its documentation says: the sum of quantile losses, twice, over that of absolute values, mean over levels."""
    table, _, paths, truth, _ = forecasts
    metric = armlp.WeightedQuantileLoss(HORIZON)
    metric.update(paths, truth)
    weighted = []
    for level in LEVELS:
        error = table["y"] - table[f"q{level}"]
        weighted.append(2 * (error * (level - (error < 0))).abs().sum() / table["y"].abs().sum())
    assert metric.compute().item() == pytest.approx(np.mean(weighted))


def test_a_missing_value_is_left_out_of_the_root_of_its_window_only(forecasts):
    table, train, paths, truth, units = forecasts
    observed = torch.ones_like(truth, dtype=torch.bool)
    observed[1, 2:4] = False
    observed[3] = False
    metric = armlp.RootMeanSquaredScaledError(HORIZON)
    metric.update(paths, torch.where(observed, truth, torch.nan), observed, units[1])
    kept = table[observed.flatten().numpy()]
    expected = losses.rmsse(kept, ["armlp"], seasonality=SEASON, train_df=train[train["unique_id"] != "s3"])
    assert metric.compute().item() == pytest.approx(expected["armlp"].mean(), rel=1e-6)


DISTRIBUTIONS = {
    "normal": (Normal, (1.0, 2.0), stats.norm(1, 2)),
    "laplace": (Laplace, (1.0, 2.0), stats.laplace(1, 2)),
    "student_t": (StudentT, (3.5, 1.0, 2.0), stats.t(3.5, 1, 2)),
    "student_t of many degrees": (StudentT, (80.0, 1.0, 2.0), stats.t(80, 1, 2)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("truth", [-9.0, 1.0, 2.2, 30.0])
def test_the_closed_form_crps_is_the_integral(name, truth):
    make, parameters, oracle = DISTRIBUTIONS[name]
    distribution = make(*(torch.full((1, 1), value).double() for value in parameters))
    metric = armlp.ContinuousRankedProbabilityScore(1)
    metric.update(distribution, torch.tensor([[truth]]).double())
    below = integrate.quad(lambda value: oracle.cdf(value) ** 2, -np.inf, truth)[0]
    above = integrate.quad(lambda value: oracle.sf(value) ** 2, truth, np.inf)[0]
    assert metric.compute().item() == pytest.approx(below + above, rel=1e-5)


def mixture():
    weights, loc, scale = [0.2, 0.5, 0.3], [-3.0, 0.0, 4.0], [0.5, 2.0, 1.0]
    parts = (torch.tensor(part).double().view(1, 1, 3) for part in (np.log(weights), loc, scale))
    return NormalMixture(*parts), weights, [stats.norm(*pair) for pair in zip(loc, scale, strict=True)]


@pytest.mark.parametrize("truth", [-9.0, 0.3, 5.0])
def test_the_closed_form_crps_of_a_mixture_is_the_integral(truth):
    distribution, weights, parts = mixture()
    metric = armlp.ContinuousRankedProbabilityScore(1)
    metric.update(distribution, torch.tensor([[truth]]).double())

    def squared(value):
        return (
            sum(weight * part.cdf(value) for weight, part in zip(weights, parts, strict=True)) - (value > truth)
        ) ** 2

    expected = sum(integrate.quad(squared, *ends, limit=200)[0] for ends in ((-30, truth), (truth, 30)))
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("truth", [0.0, 3.0, 40.0, 1000.0])
@pytest.mark.parametrize("excess", [None, 0.01, 0.04, 0.5, 3.0, 60.0])
@pytest.mark.parametrize("mean", [0.1, 3.0, 700.0])
def test_the_closed_form_crps_of_counts_is_the_sum(mean, excess, truth):
    rate = torch.full((1, 1), mean).double()
    if excess is None:
        distribution, oracle = Poisson(rate), stats.poisson(mean)
    else:
        successes = (mean / excess) ** 2
        distribution = NegativeBinomial(rate, torch.full_like(rate, excess))
        oracle = stats.nbinom(successes, successes / (successes + mean))
    metric = armlp.ContinuousRankedProbabilityScore(1)
    metric.update(distribution, torch.tensor([[truth]]).double())
    counts = np.arange(oracle.ppf(1 - 1e-12) + truth + 100)
    assert metric.compute().item() == pytest.approx(((oracle.cdf(counts) - (counts >= truth)) ** 2).sum(), rel=1e-6)


def test_a_pool_of_members_has_no_crps_in_closed_form():
    metric = armlp.ContinuousRankedProbabilityScore(1)
    with pytest.raises(TypeError, match="EnsembleMixture has no CRPS in closed form: give sampled paths"):
        metric.update(EnsembleMixture(Normal(torch.zeros(2, 1), torch.ones(2, 1)), 2), torch.zeros(1, 1))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_log_score_coverage_and_pit_of_a_distribution_are_those_of_scipy(name):
    make, parameters, oracle = DISTRIBUTIONS[name]
    truth = torch.linspace(-9, 9, 24).double().view(4, 6)
    distribution = make(*(torch.full((4, 6), value).double() for value in parameters))
    metrics = armlp.LogScore(6), armlp.Coverage(6, 80), armlp.PITHistogram(6, bins=5)
    for metric in metrics:
        metric.update(distribution, truth)
    score, coverage, pit = (metric.compute().numpy() for metric in metrics)
    assert score == pytest.approx(-oracle.logpdf(truth).mean())
    assert coverage == ((oracle.cdf(truth) > 0.1) & (oracle.cdf(truth) < 0.9)).mean()
    assert pit == pytest.approx(np.histogram(oracle.cdf(truth), bins=5, range=(0, 1))[0] * 5 / 24)


@pytest.mark.parametrize(
    ("distribution", "oracle"),
    [
        (Poisson(torch.full((5000, 1), 2.5)), stats.poisson(2.5)),
        (NegativeBinomial(torch.full((5000, 1), 2.0), torch.full((5000, 1), 2.0)), stats.nbinom(1, 1 / 3)),
    ],
)
def test_the_pit_of_counts_is_flat_where_they_follow_the_forecast(distribution, oracle):
    truth = torch.from_numpy(oracle.rvs((5000, 1), random_state=np.random.default_rng(0))).float()
    metric = armlp.PITHistogram(1, bins=10)
    metric.update(distribution, truth)
    assert (metric.compute() - 1).abs().max() < 0.1
    metric.reset()
    metric.update(distribution, truth + 2)
    assert metric.compute()[0] < 0.2 < 1.5 < metric.compute()[-1]


@pytest.fixture(scope="module")
def rules():
    return pytest.importorskip("scoringrules", reason="scoringrules is not installed; it needs Python 3.11")


def test_scores_of_paths_are_those_of_scoringrules(rules, forecasts):
    _, _, paths, truth, _ = forecasts
    members, levels = paths.numpy(), np.quantile(paths, [0.1, 0.9], axis=1, method="hazen")
    values = paths.shape[2]
    pairs = values * (values - 1)
    expected = {
        armlp.ContinuousRankedProbabilityScore(HORIZON): rules.crps_ensemble(truth, members, 1, estimator="fair"),
        armlp.IntervalScore(HORIZON, 80): rules.interval_score(truth, *levels, 0.2),
        # Theirs is not divided by the root of the number of values, and sums over all pairs.
        armlp.EnergyScore(HORIZON): rules.es_ensemble(truth, members, estimator="fair") / values**0.5,
        armlp.VariogramScore(HORIZON): rules.vs_ensemble(truth, members, p=0.5) / pairs,
        armlp.VariogramScore(HORIZON, order=1): rules.vs_ensemble(truth, members, p=1) / pairs,
    }
    for metric, score in expected.items():
        metric.update(paths, truth)
        assert metric.compute().item() == pytest.approx(np.mean(score), rel=1e-6), metric


def test_closed_form_scores_are_those_of_scoringrules(rules):
    truth = np.array([[-9.0, 0.3, 5.0]])
    distribution, weights, parts = mixture()
    loc, scale = (np.array([part.args[index] for part in parts]) for index in (0, 1))
    normal, student = torch.tensor([[[1.0]], [[2.0]]]).double(), torch.tensor([[[5.0]], [[1.0]], [[2.0]]]).double()
    cases = [
        (Normal(*normal), rules.crps_normal, rules.logs_normal, (1, 2)),
        (Laplace(*normal), rules.crps_laplace, rules.logs_laplace, (1, 2)),
        (StudentT(*student), rules.crps_t, rules.logs_t, (5, 1, 2)),
        (distribution, rules.crps_mixnorm, rules.logs_mixnorm, (loc, scale, np.array(weights))),
    ]
    counts, excess = torch.full((1, 1), 3.0).double(), torch.full((1, 1), 1.5).double()
    of_counts = [
        (Poisson(counts), rules.crps_poisson, rules.logs_poisson, (3.0,)),
        (NegativeBinomial(counts, excess), rules.crps_negbinom, rules.logs_negbinom, (4.0, 4 / 7)),
    ]
    for distribution, crps, logs, parameters in [*cases, *of_counts]:
        truth = np.array([[0.0, 2.0, 11.0]]) if distribution.discrete else truth
        metrics = {armlp.ContinuousRankedProbabilityScore(3): crps, armlp.LogScore(3): logs}
        for metric, oracle in metrics.items():
            metric.update(distribution, torch.from_numpy(truth))
            expected = [float(np.squeeze(oracle(value, *parameters))) for value in truth[0]]
            assert metric.by_lead().tolist() == pytest.approx(expected, rel=1e-6)
