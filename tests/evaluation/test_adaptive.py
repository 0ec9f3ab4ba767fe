"""Tests of adaptive recalibration; a plain loop over single truths is the oracle."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.evaluation.conformal import COVERAGES, AdaptiveFactors, conformal_factors, conformal_scores, recalibrate


def recalibrated(adaptive: AdaptiveFactors, paths: torch.Tensor, truth: torch.Tensor, *times: torch.Tensor):
    """The recalibrated paths of one channel, `[B, P, H]`."""
    truth = truth[..., None]
    return adaptive.recalibrate(paths[..., None], truth, torch.ones_like(truth, dtype=torch.bool), *times)[..., 0]


def scores_of(paths: torch.Tensor, truth: torch.Tensor):
    """The scores of paths `[B, P, H]` of one channel; those without truth are nan."""
    truth = truth[..., None]
    return conformal_scores(paths[..., None], truth.nan_to_num(0), ~truth.isnan())


class Stream(NamedTuple):
    """Forecasts of origins in time, `[N, S, P, H]` and the truth `[N, S, H]`, `step` apart."""

    paths: torch.Tensor
    truth: torch.Tensor
    step: int

    def times(self, origin: int) -> tuple[torch.Tensor, torch.Tensor]:
        series, horizon = self.truth.shape[1:]
        due = origin * self.step + torch.arange(horizon)
        return torch.full((series,), origin * self.step - 1), due.expand(series, horizon)

    def followed(self, factors: torch.Tensor | None = None, at_once: int = 1, **options: float) -> torch.Tensor:
        """The recalibrated paths, several origins a call."""
        horizon, series = self.truth.shape[2], self.truth.shape[1]
        adaptive = AdaptiveFactors(factors, horizon, self.step, series, **options)
        moved = []
        for first in range(0, len(self.paths), at_once):
            part = slice(first, first + at_once)
            paths, truth = self.paths[part].flatten(0, 1), self.truth[part].flatten(0, 1)
            times = [self.times(origin) for origin in range(len(self.paths))[part]]
            cutoff, due = (torch.cat(some) for some in zip(*times, strict=True))
            moved.append(recalibrated(adaptive, paths, truth, cutoff, due))
        return torch.cat(moved).view_as(self.paths)


def make_stream(origins: int, series: int, horizon: int, step: int, scale=1.0, num_paths: int = 60, seed: int = 0):
    """Forecasts that spread as they should, of truths that spread `scale` times as much."""
    generator = torch.Generator().manual_seed(seed)
    paths = torch.randn(origins, series, num_paths, horizon, generator=generator, dtype=torch.float64)
    values = torch.randn(origins * step + horizon, series, generator=generator, dtype=torch.float64)
    due = step * torch.arange(origins)[:, None] + torch.arange(horizon)
    scales = torch.as_tensor(scale, dtype=torch.float64).expand(len(values))
    return Stream(paths, (values * scales[:, None])[due].transpose(1, 2), step)


def coverage(paths: torch.Tensor, truth: torch.Tensor, level: float) -> float:
    """Share of the truth in the central interval."""
    low, high = np.quantile(paths.numpy(), [(1 - level) / 2, (1 + level) / 2], axis=2, method="hazen")
    return float(((low <= truth.numpy()) & (truth.numpy() <= high)).mean())


@pytest.mark.parametrize(("series", "step"), [(1, 4), (20, 4), (20, 1)])
def test_when_the_variance_doubles_coverage_comes_back_and_that_of_fixed_factors_does_not(series: int, step: int):
    origins, half = 1200 // step, 200 // step
    scale = torch.ones(origins * step + 4)
    scale[half * step :] = 2**0.5
    stream = make_stream(origins, series, 4, step, scale)
    moved, late = stream.followed(), slice(origins // 2, None)
    for level in (0.8, 0.95):
        assert coverage(moved[late], stream.truth[late], level) == pytest.approx(level, abs=0.02)
    assert coverage(stream.paths[late], stream.truth[late], 0.8) < 0.7
    assert coverage(stream.paths[late], stream.truth[late], 0.95) < 0.88


def test_without_a_shift_both_cover():
    before, stream = make_stream(300, 20, 3, 3, 1.5, seed=1), make_stream(300, 20, 3, 3, 1.5)
    truth = before.truth.flatten(0, 1)
    factors = conformal_factors(scores_of(before.paths.flatten(0, 1), truth), 300)
    split = recalibrate(stream.paths.flatten(0, 1)[..., None], factors).view_as(stream.paths)
    for level in (0.8, 0.95):
        assert coverage(split, stream.truth, level) == pytest.approx(level, abs=0.02)
        assert coverage(stream.followed(factors), stream.truth, level) == pytest.approx(level, abs=0.02)


@given(st.integers(0, 99), st.integers(1, 6), st.floats(0.1, 5), st.floats(0, 0.2))
@settings(max_examples=8)
def test_adaptive_coverage_at_every_lead_is_right_in_the_long_run_for_any_stream(
    seed: int, step: int, size: float, turn: float
):
    origins, horizon = 400, 4
    scale = 1 + size * torch.sin(turn * torch.arange(origins * step + horizon)).abs()
    stream = make_stream(origins, 2, horizon, step, scale, 20, seed)
    adaptive = AdaptiveFactors(None, horizon, step, 2, rate=0.1, max_factor=50.0)
    used, all_scores = [], []
    for origin in range(origins):
        paths, truth = stream.paths[origin], stream.truth[origin]
        recalibrated(adaptive, paths, truth, *stream.times(origin))
        used.append(adaptive.factors)
        all_scores.append(scores_of(paths, truth))
    scores = torch.stack(all_scores)
    missed = (scores > torch.stack(used)[:, None]).double().mean((0, 1))
    rate = 0.1 / np.ceil(np.arange(1, horizon + 1) / step)
    reach = np.log(50) + 0.1
    for lead, level in np.ndindex(*missed.shape):
        assert abs(missed[lead, level] - (1 - COVERAGES[level])) <= reach / (origins * rate[lead]) + horizon / origins


@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 3, 7]), st.floats(0, 0.5))
@settings(max_examples=20)
def test_the_forecasts_are_those_of_a_loop_over_single_truths(
    seed: int, step: int, series: int, at_once: int, missing: float
):
    origins, horizon = 7, 4
    stream = make_stream(origins, series, horizon, step, 2.0, 20, seed)
    generator = torch.Generator().manual_seed(seed)
    gone = torch.rand(stream.truth.shape, generator=generator) < missing
    stream.truth[gone] = torch.nan
    start = torch.linspace(0.5, 2, horizon * len(COVERAGES)).view(horizon, -1)
    found = stream.followed(start, at_once, rate=0.3)
    logarithms = start.double().log().numpy()
    scores = [scores_of(paths, truth).numpy() for paths, truth in zip(stream.paths, stream.truth, strict=True)]
    used: list[np.ndarray] = []
    for now in range(origins):
        for before, lead, one, level in np.ndindex(now, horizon, series, len(COVERAGES)):
            known_at = before * step + lead
            if not (now - 1) * step - 1 < known_at <= now * step - 1 or np.isnan(scores[before][one, lead, level]):
                continue
            missed = scores[before][one, lead, level] > used[before][lead, level]
            rate = 0.3 / series / np.ceil((lead + 1) / step)
            logarithms[lead, level] += rate * (missed - (1 - COVERAGES[level]))
        used.append(np.exp(logarithms).astype(np.float32))
        expected = recalibrate(stream.paths[now][..., None], torch.from_numpy(used[now]))[..., 0]
        torch.testing.assert_close(found[now], expected, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=20)
def test_nothing_after_a_cutoff_is_looked_at(seed: int, step: int, cut: int):
    stream = make_stream(9, 3, 5, step, 1.5, 20, seed)
    truth = stream.truth.clone()
    for origin in range(9):
        _, due = stream.times(origin)
        truth[origin][due > cut * step - 1] = 1e6
    found, changed = stream.followed(), stream._replace(truth=truth).followed()
    torch.testing.assert_close(changed[: cut + 1], found[: cut + 1], rtol=0, atol=0)


def test_the_median_and_the_order_of_paths_stay():
    stream = make_stream(40, 3, 3, 3, 3.0)
    found = stream.followed()
    assert not torch.allclose(found, stream.paths)
    np.testing.assert_allclose(np.median(found, 2), np.median(stream.paths, 2), atol=1e-9)
    assert (found.gather(2, stream.paths.argsort(2)).diff(dim=2) >= 0).all()


def test_of_vectors_every_channel_counts():
    stream = make_stream(30, 4, 3, 3, 2.0)
    adaptive, vector = AdaptiveFactors(None, 3, 3, 4), AdaptiveFactors(None, 3, 3, 2)
    for origin in range(30):
        paths, truth, (cutoff, due) = stream.paths[origin], stream.truth[origin], stream.times(origin)
        recalibrated(adaptive, paths, truth, cutoff, due)
        both, true = (torch.stack(part.split(2), -1) for part in (paths, truth))
        found = vector.recalibrate(both, true, torch.ones_like(true, dtype=torch.bool), cutoff[:2], due[:2])
        assert found.shape == (2, 60, 3, 2)
    torch.testing.assert_close(vector.factors, adaptive.factors)


def test_forecasts_that_never_spread_stretch_no_more_than_they_may():
    stream = make_stream(2000, 1, 1, 1, num_paths=5)
    found = stream._replace(paths=torch.zeros_like(stream.paths)).followed()
    assert not found.any()
