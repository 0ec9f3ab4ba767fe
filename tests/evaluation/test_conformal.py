"""Tests of conformal recalibration; numpy and loops over single windows are the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.evaluation.conformal import MIN_WINDOWS, conformal_factors, conformal_scores, recalibrate
from armlp.evaluation.quantiles import interval_quantiles
from armlp.model.rollout import path_noise


def forecasts(windows: int, spread: float, num_paths: int = 200, horizon: int = 6, seed: int = 0):
    """Paths of series of any scale, whose spread is `spread` times what it should be, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    level, scale = (torch.randn(windows, 1, generator=generator) * 50 for _ in range(2))
    scale = scale.abs() + 0.1
    draw = torch.randn(windows, num_paths + 1, horizon, generator=generator)
    truth = level + scale * draw[:, -1]
    paths = level[:, None] + spread * scale[:, None] * draw[:, :-1]
    return paths[..., None], truth[..., None]


def coverage(paths: torch.Tensor, truth: torch.Tensor, level: float) -> float:
    """Share of the truth in the central interval."""
    low, high = np.quantile(paths.numpy(), [(1 - level) / 2, (1 + level) / 2], axis=1, method="hazen")
    return float(((low <= truth.numpy()) & (truth.numpy() <= high)).mean())


@pytest.mark.parametrize("spread", [0.5, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("num_paths", [50, 200])
def test_afterwards_intervals_of_windows_not_seen_cover_at_levels_not_fitted(spread: float, num_paths: int):
    paths, truth = forecasts(500, spread, num_paths)
    factors = conformal_factors(conformal_scores(paths, truth, torch.ones_like(truth, dtype=torch.bool)), 500)
    assert factors is not None
    later, found = forecasts(2000, spread, seed=1)
    for level in (0.8, 0.95):
        assert coverage(recalibrate(later, factors), found, level) == pytest.approx(level, abs=0.02)
    np.testing.assert_allclose(factors, 1 / spread, rtol=0.25)


@pytest.mark.parametrize(("origins", "series", "horizon"), [(50, 1, 1), (50, 1, 12), (200, 1, 1), (1, 50, 1)])
def test_calibrated_forecasts_stay_calibrated(origins: int, series: int, horizon: int):
    """Factors of 50 even paths, used on 200, leave the exact coverage of a normal distribution within half a point."""

    def even_paths(windows: int, count: int, seed: int) -> torch.Tensor:
        noise = path_noise(torch.arange(windows), torch.zeros(windows).long(), count, horizon, (1, 1), seed)
        return torch.special.ndtri(noise[..., 0].double())

    generator = torch.Generator().manual_seed(0)
    found: dict[int, list[float]] = {80: [], 95: []}
    for seed in range(150):
        truth = torch.randn(origins * series, horizon, 1, generator=generator, dtype=torch.float64)
        scores = conformal_scores(even_paths(len(truth), 50, seed), truth, torch.ones_like(truth, dtype=torch.bool))
        factors = conformal_factors(scores, origins)
        assert factors is not None
        later = recalibrate(even_paths(10, 200, 1000 + seed), factors)
        for level, coverages in found.items():
            low, high = interval_quantiles(later, [level])[:, 1:].unbind(1)
            coverages.append(float((torch.special.ndtr(high) - torch.special.ndtr(low)).mean()))
    for level, coverages in found.items():
        assert np.mean(coverages) == pytest.approx(level / 100, abs=0.005)


@pytest.mark.parametrize("origins", [1, 2, 5, 50])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_few_origins_correct_a_part_of_what_is_wrong(origins: int, spread: float):
    """Of the logarithm of the right factor, `n` origins are believed `n / (n + 1)`."""
    paths, truth = forecasts(4000, spread)
    factors = conformal_factors(conformal_scores(paths, truth, torch.ones_like(truth, dtype=torch.bool)), origins)
    assert factors is not None
    believed = np.log(factors.numpy()[:, 4:]) / np.log(1 / spread)  # at the levels that many windows tell well
    np.testing.assert_allclose(believed, origins / (origins + 1), atol=0.08)


def test_each_lead_has_factors_of_its_own():
    paths, truth = forecasts(3000, 1.0, horizon=3)
    paths[:, :, 2] = truth.mean() + 0.3 * (paths[:, :, 2] - truth.mean())  # the same for every window: it has to move
    middle = paths.median(1, keepdim=True).values
    paths[:, :, 0] = middle[:, :, 0] + 0.5 * (paths[:, :, 0] - middle[:, :, 0])
    factors = conformal_factors(conformal_scores(paths, truth, torch.ones_like(truth, dtype=torch.bool)), 500)
    np.testing.assert_allclose(factors[0], 2.0, rtol=0.2)
    np.testing.assert_allclose(factors[1], 1.0, rtol=0.2)


@given(
    st.integers(1, 30), st.integers(1, 5), st.booleans(), st.lists(st.floats(0.25, 4), min_size=11, max_size=11),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60)
def test_the_median_and_the_order_of_paths_stay(
    num_paths: int, horizon: int, vector: bool, row: list[float], seed: int
):
    generator = torch.Generator().manual_seed(seed)
    paths = torch.randn(3, num_paths, horizon, 1 + vector, generator=generator, dtype=torch.float64)
    found = recalibrate(paths, torch.tensor([row]))
    assert found.shape == paths.shape
    np.testing.assert_allclose(np.median(found, 1), np.median(paths, 1), atol=1e-9)
    rank = paths.argsort(1)
    assert (found.gather(1, rank).diff(dim=1) >= 0).all()
    side = torch.sign(paths - torch.from_numpy(np.median(paths, 1, keepdims=True)))
    assert ((found - torch.from_numpy(np.median(paths, 1, keepdims=True))) * side >= -1e-9).all()


def test_factors_of_one_leave_paths_alone_and_leads_beyond_have_those_of_the_last():
    paths, _ = forecasts(4, 1.0, 20)
    torch.testing.assert_close(recalibrate(paths, torch.ones(6, 11)), paths)
    factors = torch.tensor([[1.0] * 11, [3.0] * 11])
    found = recalibrate(paths, factors)
    torch.testing.assert_close(found[:, :, 0], paths[:, :, 0])
    middle = torch.from_numpy(np.median(paths, 1, keepdims=True))
    torch.testing.assert_close(found[:, :, 1:], (middle + 3 * (paths - middle))[:, :, 1:])


@given(st.floats(0.01, 100), st.floats(-1000, 1000))
@settings(max_examples=30)
def test_recalibration_moves_and_scales_with_the_series(scale: float, shift: float):
    paths, truth = (part.double() for part in forecasts(5, 1.0, 30))
    observed = torch.ones_like(truth, dtype=torch.bool)
    scores = conformal_scores(paths, truth, observed)
    torch.testing.assert_close(conformal_scores(shift + scale * paths, shift + scale * truth, observed), scores)
    factors = torch.linspace(0.5, 2, 66).view(6, 11)
    found = recalibrate(shift + scale * paths, factors)
    torch.testing.assert_close(found, shift + scale * recalibrate(paths, factors))


def test_a_score_is_the_distance_of_the_truth_in_units_of_that_of_the_interval():
    generator = np.random.default_rng(0)
    paths, truth = generator.normal(size=(4, 99, 3)), generator.normal(size=(4, 3))
    observed = np.ones_like(truth, dtype=bool)
    observed[1, 2] = False
    scores = conformal_scores(*(torch.from_numpy(part)[..., None] for part in (paths, truth, observed)))
    levels = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85, 0.9, 0.94)
    for window, lead in np.ndindex(4, 3):
        sample, value = paths[window, :, lead], truth[window, lead]
        for place, level in enumerate(levels):
            found = float(scores[window, lead, place])
            if not observed[window, lead]:
                assert np.isnan(found)
                continue
            middle = np.median(sample)
            end = np.quantile(sample, (1 + level) / 2 if value > middle else (1 - level) / 2, method="hazen")
            assert found == pytest.approx((value - middle) / (end - middle))


def test_too_few_windows_tell_nothing():
    paths, truth = forecasts(MIN_WINDOWS, 0.5)
    observed = torch.ones_like(truth, dtype=torch.bool)
    scores = conformal_scores(paths, truth, observed)
    assert conformal_factors(scores, 1) is not None
    assert conformal_factors(scores[1:], 1) is None
    observed[0] = False
    assert conformal_factors(conformal_scores(paths, truth, observed), 1) is None


def test_a_forecast_without_spread_neither_moves_nor_breaks_the_factors():
    paths, truth = forecasts(60, 1.0)
    paths[:5] = paths[:5, :1]
    factors = conformal_factors(conformal_scores(paths, truth, torch.ones_like(truth, dtype=torch.bool)), 500)
    assert torch.isfinite(factors).all()
    torch.testing.assert_close(recalibrate(paths, factors)[:5], paths[:5])
