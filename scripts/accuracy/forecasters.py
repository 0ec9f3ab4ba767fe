"""Forecasts of a benchmark: by baselines, by armlp, and by other libraries in their own Python."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accuracy.benchmarks import ETT_HORIZONS, Benchmark, chunks, load
from accuracy.scores import LEVELS

import armlp
from armlp.evaluation.baselines import History
from armlp.evaluation.baselines.naive import Naive2, naive_errors, seasonal_naive
from armlp.evaluation.baselines.ridge import RidgeAR

PEERS = Path(__file__).with_name("peers.py")
TOO_LONG = 3  # exit status of peers.py where it expects to exceed the limit
INTERVALS = (20, 40, 60, 80, 95)  # their ends are LEVELS
# Of ETTh1: rows of a context, more than any model uses, and sampled paths whose centre is the forecast.
CONTEXT, PATHS = 1500, 100


class Forecast(NamedTuple):
    """Quantiles `[W, S, H, Q]` of `LEVELS`, or `Q = 1` with the median; seconds; the mean `[W, S, H]` if known."""

    benchmark: Benchmark
    quantiles: np.ndarray
    fit_s: float
    predict_s: float
    mean: np.ndarray | None = None


class LeftOutError(Exception):
    """Raised with the reason where there is no forecast."""


class Baselines:
    """The baselines of armlp on one benchmark."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        data = armlp.SeriesDataModule(
            benchmark.table, horizon=benchmark.horizon, season_length=benchmark.season_length, calendar_inputs=False
        )
        self.panel = data.panel
        self.ends = self.panel.lengths - benchmark.tested
        self.unit, _ = naive_errors(self.panel, self.ends, benchmark.season_length)
        series, windows = len(self.panel), torch.arange(benchmark.windows)
        self.series = torch.arange(series).repeat(benchmark.windows)
        self.origins = (self.ends + windows[:, None] * benchmark.step).flatten()

    def forecast(self, name: str) -> Iterator[Forecast]:
        """Forecast by `seasonal-naive`, `naive2` or `ridge-ar`."""
        panel, horizon, season = self.panel, self.benchmark.horizon, self.benchmark.season_length
        begin = time.process_time()
        made: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
        if name == "seasonal-naive":

            def made(series: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
                return seasonal_naive(panel, series, origin, horizon, season)
        elif name == "naive2":
            naive2 = Naive2(panel, self.ends, season)

            def made(series: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
                return naive2.forecast(series, origin, horizon)
        else:
            # As by default in armlp: seven daily seasons, three of any other, at least H, at most half a series.
            wish = max(season * (7 if 24 <= season <= 48 else 1 if season > 48 else 3), horizon, 10)
            context = max(1, min(wish, int(self.ends.float().median()) // 2))
            ridge = RidgeAR(History(panel, self.ends, self.unit, context, horizon, season))

            def made(series: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
                return ridge.forecast(series, origin, horizon)

        fitted = time.process_time()
        values = torch.cat(
            [made(*part) for part in zip(self.series.split(2000), self.origins.split(2000), strict=True)]
        )
        shape = (self.benchmark.windows, len(panel), horizon, 1)
        yield Forecast(self.benchmark, values.numpy().reshape(shape), fitted - begin, time.process_time() - fitted)


def armlp_forecasts(benchmark: Benchmark, preset: str, seed: int) -> Iterator[Forecast]:
    """Forecast by a preset of armlp; ETTh1 has one model for all horizons."""
    ett = benchmark.name.startswith("etth1-")
    benchmark = load(f"etth1-{ETT_HORIZONS[0]}") if ett else benchmark
    options: dict[str, Any] = {} if preset == "default" else {"preset": preset}
    if ett:  # the four months are validation
        options["val_windows"] = benchmark.held_out // benchmark.horizon
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        options |= {"season_length": benchmark.season_length, "default_root_dir": folder, "enable_progress_bar": False}
        forecaster = armlp.Forecaster(benchmark.horizon, seed=seed, **options).fit(benchmark.train())
        fit_s = time.process_time() - begin
    if ett:
        yield from _of_all_horizons(forecaster, benchmark, fit_s)
        return
    begin = time.process_time()
    table = forecaster.predict(benchmark.contexts(0, benchmark.windows), benchmark.horizon, INTERVALS)
    seconds = time.process_time() - begin
    names = [f"armlp-lo-{level}" for level in reversed(INTERVALS)] + ["armlp"]
    names += [f"armlp-hi-{level}" for level in INTERVALS]
    quantiles = table.sort_values(["unique_id", "ds"])[names].to_numpy().reshape(-1, benchmark.horizon, len(names))
    yield Forecast(benchmark, benchmark.in_order(quantiles), fit_s, seconds)


def _of_all_horizons(forecaster: armlp.Forecaster, benchmark: Benchmark, fit_s: float) -> Iterator[Forecast]:
    """Roll out to the longest horizon of ETTh1; the shorter forecasts are its beginnings."""
    begin = time.process_time()
    medians, means = [], []  # [W, S, 720] of each chunk
    for first, last in chunks(benchmark.windows, 50):
        paths = forecaster.sample(benchmark.contexts(first, last, CONTEXT), ETT_HORIZONS[-1], num_paths=PATHS)
        paths = paths.reshape(-1, last - first, *paths.shape[1:]).swapaxes(0, 1)
        medians.append(np.median(paths, 2))
        means.append(paths.mean(2))
    median, mean = np.concatenate(medians), np.concatenate(means)
    seconds = time.process_time() - begin
    for each in (load(f"etth1-{horizon}") for horizon in ETT_HORIZONS):
        part = np.s_[: each.windows, :, : each.horizon]
        yield Forecast(each, median[part][..., None], fit_s, seconds, mean[part])


def peer(benchmark: Benchmark, name: str, seed: int, python: str, limit: float) -> Iterator[Forecast]:
    """Forecast by another library, which is stopped after `limit` seconds of the processor.

    Raises:
        LeftOutError: It takes longer, or fails.
    """

    def limit_seconds() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 10))

    point = benchmark.name.startswith("etth1-")
    job = {key: getattr(benchmark, key) for key in ("horizon", "season_length", "freq", "held_out")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        numbered(benchmark.train()).to_parquet(folder / "train.parquet", index=False)
        for chunk in chunks(benchmark.windows):
            contexts = benchmark.contexts(*chunk, 3 * benchmark.horizon if point else None)
            numbered(contexts).to_parquet(folder / f"contexts-{chunk[0]:05}.parquet", index=False)
        (folder / "job.json").write_text(json.dumps(job | {"seed": seed, "limit": limit, "point": point}))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NIXTLA_ID_AS_COL": "1"}
        run = subprocess.run(
            [python, PEERS, name, folder], env=environment, cwd=folder, capture_output=True, preexec_fn=limit_seconds
        )
        if run.returncode in (TOO_LONG, -signal.SIGXCPU):
            raise LeftOutError(f"over {limit:.0f} s")
        if run.returncode:
            raise LeftOutError(f"failed: {(run.stderr.decode().strip() or 'killed').splitlines()[-1]}")
        table = pd.read_parquet(folder / "forecast.parquet").sort_values(["unique_id", "ds"])
        done = json.loads((folder / "done.json").read_text())
    columns = ["0.5"] if point else [str(level) for level in LEVELS]
    quantiles = table[columns].to_numpy().astype(np.float64).reshape(-1, benchmark.horizon, len(columns))
    assert len(quantiles) == benchmark.windows * benchmark.table["unique_id"].nunique()
    yield Forecast(benchmark, benchmark.in_order(quantiles), done["fit_s"], done["predict_s"])


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the times of each series by 1, 2, ..."""
    return table.assign(ds=table.groupby("unique_id", sort=False).cumcount() + 1)
