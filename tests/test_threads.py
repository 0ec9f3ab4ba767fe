"""Calls of one Forecaster, and of several, from several threads."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from armlp import Forecaster

MakeTable = Callable[..., pd.DataFrame]
Call = Callable[[], Any]
OPTIONS: dict[str, Any] = {"max_steps": 4, "enable_progress_bar": False, "logger": False}


@pytest.fixture(scope="module")
def forecasters(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> list[Forecaster]:
    """Two of different networks, heads, horizons and seasons."""
    options = OPTIONS | {"default_root_dir": str(tmp_path_factory.mktemp("runs"))}
    return [
        Forecaster(6, hidden_sizes=[8], context_length=24, **options).fit(make_table()),
        Forecaster(
            4, hidden_sizes=[6], context_length=10, head="normal", conformal="split", val_windows=12, **options
        ).fit(make_table(rows=150, first=3)),
    ]


def together(calls: list[Call], threads: int = 4) -> list[Any]:
    """What calls return where all threads begin at once."""
    barrier = threading.Barrier(threads)
    with ThreadPoolExecutor(threads, initializer=barrier.wait) as pool:
        return list(pool.map(lambda call: call(), calls))


def equal(one: Any, other: Any) -> bool:
    """Whether two answers are the same to the last bit."""
    return bool(one.equals(other)) if isinstance(one, pd.DataFrame) else np.array_equal(one, other)


def call_of(forecaster: Forecaster, table: pd.DataFrame, method: str, number: int) -> Call:
    """A call whose answer depends on its number."""
    horizon = 2 + number % 5
    options: dict[str, dict[str, Any]] = {
        "predict": {"horizon": horizon, "seed": number, "levels": (50 + number,)},
        "sample": {"horizon": horizon, "seed": number, "num_paths": 5 + number},
        "score": {"seed": number},
        "backtest": {"horizon": horizon, "seed": number, "windows": 1 + number % 3, "step": 3},
    }
    return lambda: getattr(forecaster, method)(table, **options[method])


@pytest.mark.filterwarnings("ignore:.*Caution")
def test_every_method_answers_the_same_from_several_threads(forecasters: list[Forecaster], make_table: MakeTable):
    tables = [make_table(series=1 + number % 3, rows=40 + 9 * number, seed=number) for number in range(5)]
    calls = [
        call_of(forecasters[number % 2], tables[number % 5], method, number)
        for number in range(6)
        for method in ("predict", "sample", "score", "backtest")
    ]
    alone = [call() for call in calls]
    for one, other in zip(alone, together(calls), strict=True):
        assert equal(one, other)


def test_forecasters_are_fitted_in_several_threads_as_in_one(make_table: MakeTable):
    options = OPTIONS | {"hidden_sizes": [8], "residual_blocks": 1, "dropout": 0.3, "enable_checkpointing": False}

    def fitted(seed: int) -> np.ndarray:
        return Forecaster(6, seed=seed, **options).fit(make_table(seed=seed)).sample(num_paths=5)

    calls: list[Call] = [partial(fitted, seed) for seed in range(4)]
    alone = [call() for call in calls]
    assert all(equal(one, other) for one, other in zip(alone, together(calls), strict=True))
    assert not equal(alone[0], alone[1])
