"""The least spread of few series: as wide as the errors of a naive forecast, and nothing else changes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy
import torch

from armlp import Forecaster
from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.transforms import AtLeastNaive

HORIZON, PATHS = 6, 2000


def table_of(values: np.ndarray) -> pd.DataFrame:
    """Return series `[S, n]` as a long table."""
    series, length = values.shape
    ids = np.repeat([f"{index:04}" for index in range(series)], length)
    return pd.DataFrame({"unique_id": ids, "ds": np.tile(np.arange(length), series), "y": values.ravel()})


def widened(values: np.ndarray, paths: torch.Tensor, season: int = 1, factor: float = 1.0, **kind: Any) -> torch.Tensor:
    """Return paths `[S, P, H, 1]` after the end of series `[S, n]`, widened."""
    data = SeriesDataModule(table_of(values), horizon=HORIZON, season_length=season)
    network = AutoregressiveMLP(4, HORIZON, head="normal", **kind)
    series = torch.arange(len(values))
    empty = torch.empty(len(values), 0, 1)
    windows = Windows(empty, empty, empty, empty, series, data.panel.lengths)
    return AtLeastNaive(data, factor)(network, paths, windows)


def flat(values: np.ndarray) -> torch.Tensor:
    """Return paths that all stay at the last value."""
    return torch.from_numpy(values[:, -1:, None, None]).float().expand(-1, PATHS, HORIZON, 1)


def test_paths_get_the_quantiles_of_naive_errors() -> None:
    """At each lead the quantiles are those of Student's t in units of the errors, the better naive method's."""
    values = np.random.default_rng(0).standard_normal((3, 60)).cumsum(1) + np.tile([0, 5, -5, 2], 15)
    found = widened(values, flat(values), season=4).numpy()[..., 0] - values[:, -1:, None]
    for row, series in zip(found, values, strict=True):
        before = 0.0
        for lead in range(1, HORIZON + 1):
            lags = lead, 4 * -(-lead // 4)
            error = min(np.sqrt(np.mean((series[lag:] - series[:-lag]) ** 2)) for lag in lags)
            before = max(before, error)
            for level in (0.1, 0.9):
                exact = before * scipy.stats.t(5).ppf(level)
                assert np.quantile(row[:, lead - 1], level) == pytest.approx(exact, rel=0.01)


def test_intervals_of_a_random_walk_cover() -> None:
    """Paths without any spread get intervals that hold about what they should at every lead."""
    values = np.random.default_rng(1).standard_normal((400, 40 + HORIZON)).cumsum(1)
    past, future = values[:, :40], values[:, 40:]
    found = widened(past, flat(past)).numpy()[..., 0]
    low, high = np.quantile(found, [0.1, 0.9], axis=1)
    assert ((low <= future) & (future <= high)).mean(0) == pytest.approx(0.82, abs=0.07)


def test_wider_paths_stay_as_they_are() -> None:
    values = np.random.default_rng(2).standard_normal((2, 50))
    paths = 1000 * torch.randn(2, PATHS, HORIZON, 1, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(widened(values, paths), paths, atol=1e-3)


def test_the_median_and_the_ranks_of_the_paths_stay() -> None:
    """So the dependence between leads stays too."""
    values = np.random.default_rng(3).standard_normal((2, 50)).cumsum(1)
    paths = 0.01 * torch.randn(2, PATHS, HORIZON, 1, generator=torch.Generator().manual_seed(0))
    found = widened(values, paths)
    assert torch.equal(found.argsort(1), paths.argsort(1))
    assert torch.allclose(found.median(1).values, paths.median(1).values, atol=0.01)


def test_the_shortest_series_have_a_spread_too() -> None:
    """With fewer than four errors the spread is that of the values, and grows as that of a random walk."""
    found = widened(np.array([[1.0, 3.0]]), torch.zeros(1, PATHS, HORIZON, 1))
    spread = found.std(1)[0, :, 0]
    assert torch.allclose(spread / spread[0], torch.arange(1.0, HORIZON + 1).sqrt(), rtol=1e-3)


def test_few_series_are_widened_and_many_are_not() -> None:
    """It is chosen from the number of validation windows, and the option switches it off."""
    values = np.random.default_rng(4).standard_normal((40, 60)).cumsum(1)
    tiny: dict[str, Any] = {"hidden_sizes": [4], "max_steps": 3, "enable_progress_bar": False, "logger": False}
    few, many = (Forecaster(HORIZON, **tiny).fit(table_of(part)) for part in (values[:3], values))
    off = Forecaster(HORIZON, min_spread=0.0, **tiny).fit(table_of(values[:3]))
    chosen = [one._fitted()["hyper_parameters"]["min_spread"] for one in (few, many, off)]
    assert chosen == [1.25, 0.0, 0.0]
    wide, narrow = (one.sample(num_paths=200).std(1) for one in (few, off))
    assert (wide >= narrow - 1e-4).all()
    assert (wide > 1.01 * narrow).any()
