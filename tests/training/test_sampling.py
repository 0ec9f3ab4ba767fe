"""Tests of how forecasts are drawn: within what memory, and how precisely."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy

from armlp import Forecaster, UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.sampling import Sampling

SMALL: dict[str, Any] = {"max_steps": 4, "hidden_sizes": [32], "enable_progress_bar": False, "logger": False}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_table: Callable[..., pd.DataFrame]) -> Forecaster:
    folder = str(tmp_path_factory.mktemp("fitted"))
    return Forecaster(horizon=6, **SMALL, default_root_dir=folder).fit(make_table())


class CountingStrategy(SingleDeviceStrategy):
    """Keeps the number of windows of every batch that a Trainer takes."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.sizes: list[int] = []

    def batch_to_device(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        self.sizes.append(len(batch.series))
        return super().batch_to_device(batch, *args, **kwargs)


def counting(fitted: Forecaster, folder: Path) -> tuple[Forecaster, list[int]]:
    """The forecaster, and the list of its batch sizes from now on."""
    strategy = CountingStrategy()
    fitted.save(folder / "model.ckpt")
    return Forecaster.load(folder / "model.ckpt", strategy=strategy, enable_progress_bar=False), strategy.sizes


def test_little_memory_means_few_series_at_once_and_the_same_forecast(
    fitted: Forecaster, make_table: Callable[..., pd.DataFrame], tmp_path: Path
):
    forecaster, sizes = counting(fitted, tmp_path)
    plenty = forecaster.predict(make_table(), num_paths=1000)
    assert sizes == [3]
    little = forecaster.predict(make_table(), num_paths=1000, memory="600kB")
    assert sizes == [3, 2, 1]
    pd.testing.assert_frame_equal(plenty, little, rtol=1e-5)


def test_the_smallest_memory_that_works_is_named_and_works(fitted: Forecaster):
    with pytest.raises(UserError, match=r"`memory`: 1 MB .* 10000 paths of 6 steps .* 3MB is the smallest"):
        fitted.predict(num_paths=10_000, memory="1MB")
    assert len(fitted.predict(num_paths=10_000, memory="3MB")) == 18


def test_backtests_keep_within_the_memory_too(
    fitted: Forecaster, make_table: Callable[..., pd.DataFrame], tmp_path: Path
):
    forecaster, sizes = counting(fitted, tmp_path)
    with pytest.warns(UserWarning, match="Caution"):
        forecaster.backtest(make_table(), windows=2, num_paths=1000, memory="600kB")
    assert max(sizes) == 2
    assert sum(sizes) == 6


@pytest.mark.parametrize("memory", ["0", "much", "-1GB"])
def test_memory_that_is_no_amount_is_refused(fitted: Forecaster, memory: str):
    with pytest.raises(UserError, match=rf"`memory`: '{re.escape(memory)}' is not an amount of memory"):
        fitted.predict(memory=memory)


def test_twice_the_paths_or_steps_or_channels_are_half_the_series():
    sampling = Sampling(num_paths=100, memory=10**6)

    def at_once(sampling: Sampling, steps: int, channels: int = 1) -> int:
        return sampling.series_at_once(AutoregressiveMLP(5, channels=channels), steps)

    half = at_once(sampling, 10) // 2
    others = at_once(sampling, 20), at_once(sampling, 10, 2), at_once(sampling._replace(num_paths=200), 10)
    assert others == (half, half, half)


def test_coarser_products_give_nearly_the_same_forecast(fitted: Forecaster):
    exact, coarse = (fitted.sample(num_paths=50, precision=precision) for precision in ("32-true", "bf16-mixed"))
    assert coarse.dtype == np.float32
    assert not np.array_equal(exact, coarse)
    assert np.abs(exact - coarse).max() < 0.05 * exact.std()


def test_a_precision_that_there_is_not_is_refused(fitted: Forecaster, tmp_path: Path):
    with pytest.raises(UserError, match=r"`forecast.precision`: 16-true is none of 32-true, bf16-mixed"):
        fitted.predict(precision="16-true")
