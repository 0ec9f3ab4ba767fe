"""Do paths hold together? Sums, maxima and first passages of sampled paths, beside independent draws.

    python scripts/do_paths_hold_together.py [--part inner] [--series 500] [--write] [DATA SET ...]

Every data set is fitted once with `Forecaster(horizon=H, season_length=m)` and nothing else, and forecast from the end
of each series, 200 paths. `independent` are the paths of the same fit with the values of a patch drawn independently of
each other. `--part inner` holds out the last H values of the training part and may serve choices; `--part official` is
the official test part and may not. `taylor` is forecast from the last seven midnights.

The simulated series have known futures: 50 from the end of each series.

    ar2             x_t = 1.2 x_(t-1) - 0.4 x_(t-2) + e_t, 300 series of 120 values
    seasonal-ar     (1 - 0.6 B)(1 - 0.5 B^12) x_t = e_t, 300 series of 144 values
    random-walk     with a drift of 0.2 of the deviation of a step, 300 series of 100 values
    garch           a walk whose steps are GARCH(1, 1) with a = 0.1 and b = 0.85, 300 series of 150 values
    vector-ar       two channels that drive each other, 300 series of 120 values

The columns: the share of the truth in 80% / 95% intervals of single values, of the sum over 6 steps and over the
horizon, and of the largest value, in percent; the mean probability that a path exceeds the largest value of the last
season (or 6 steps) / the share of futures that do; the correlation of deviations 1 and 6 steps apart, of the paths /
of the truth; energy and variogram scores, in units of the independent paths' scores; seconds of the forecast.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accuracy.benchmarks import load
from report import add_write_option, table, write_results

from armlp import Forecaster
from armlp.evaluation.metrics.probabilistic import EnergyScore, VariogramScore

REAL = ("m3-monthly", "m3-quarterly", "tourism-monthly", "m4-hourly", "taylor")
PATHS, FUTURES = 200, 50
HEADINGS = (
    "data set", "paths", "single values", "sum of 6", "sum of all", "maximum", "exceed", "lag 1", "lag 6", "energy",
    "variogram", "seconds",
)  # fmt: skip


# Of paths or futures `[S, P, H, V]`.
FUNCTIONS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda values: values,
    lambda values: values[:, :, :6].sum(2),
    lambda values: values.sum(2),
    lambda values: values.max(2),
)


class Problem(NamedTuple):
    """Series to fit and to forecast from, and their futures.

    Attributes:
        past: Table to fit, `unique_id, ds` and a column for each of `V` targets.
        contexts: Table whose ends are the origins; that of `past` if None.
        futures: `[S, C, H, V]`: `C` futures of each series of the contexts, in the order of their ids.
        season_length: Of the data.
        targets: Names of the target columns.
    """

    past: pd.DataFrame
    contexts: pd.DataFrame | None
    futures: np.ndarray
    season_length: int
    targets: list[str]


def main() -> None:
    """Print two rows per data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=[*REAL, *SIMULATED], metavar="DATA SET")
    parser.add_argument("--part", choices=("inner", "official"), default="inner")
    parser.add_argument("--series", type=int, help="at most so many series, drawn at random")
    parser.add_argument("--preset", default="default", help="of the fit; fast for a quick look")
    add_write_option(parser)
    options = parser.parse_args()
    rows = []
    for name in options.names:
        problem = simulated(name) if name in SIMULATED else benchmark(name, options.part == "official", options.series)
        rows += compare(name, problem, options.preset)
        print(*(" | ".join(row) for row in rows[-2:]), sep="\n", flush=True)
    write_results(__file__, __doc__, [table(f"Joint forecasts, {options.part} part", HEADINGS, rows)], options.write)


def benchmark(name: str, official: bool, most: int | None) -> Problem:
    """Return a data set of the catalog, or a random sample of its series."""
    found = load(name)
    frame = found.table[["unique_id", "ds", "y"]]
    if not official:
        frame = frame[frame.groupby("unique_id").cumcount(ascending=False) >= found.tested]
        lengths = frame.groupby("unique_id")["y"].transform("size")
        frame = frame[lengths > 2 * found.horizon + 6]
    ids = frame["unique_id"].unique()
    if most is not None and most < len(ids):
        frame = frame[frame["unique_id"].isin(np.random.default_rng(0).choice(ids, most, replace=False))]
    tested = found.horizon + (found.windows - 1) * found.step
    left = frame.groupby("unique_id").cumcount(ascending=False)
    parts, futures = [], []
    for window in range(found.windows):
        end = tested - window * found.step
        parts.append(frame[left >= end].assign(unique_id=frame["unique_id"] + f" {window}"))
        future = frame[(left < end) & (left >= end - found.horizon)]
        futures.append(np.stack([y.to_numpy() for _, y in future.groupby("unique_id")["y"]]))
    order = np.argsort(
        [f"{one} {window}" for window in range(found.windows) for one in sorted(frame["unique_id"].unique())]
    )
    truth = np.concatenate(futures)[order][:, None, :, None]
    contexts = pd.concat(parts) if found.windows > 1 else None
    past = frame[left >= tested]
    return Problem(past, contexts, truth, found.season_length, ["y"])


def compare(name: str, problem: Problem, preset: str) -> list[tuple[str, ...]]:
    """Return the rows of a data set: paths as they are, and independent inside a patch."""
    horizon = problem.futures.shape[2]
    forecaster = Forecaster(
        horizon,
        season_length=problem.season_length,
        target_columns=problem.targets,
        preset=preset,
        enable_progress_bar=False,
        logger=False,
    ).fit(problem.past)
    origins = problem.past if problem.contexts is None else problem.contexts
    found = {}
    dependence = forecaster.module.network.dependence
    for kind in ("armlp", "independent"):
        forecaster.module.network.dependence = dependence if kind == "armlp" else None
        begin = time.perf_counter()
        paths = forecaster.sample(problem.contexts, num_paths=PATHS)
        found[kind] = paths.reshape(*paths.shape[:3], -1), time.perf_counter() - begin
    scores = {kind: joint_scores(paths, problem.futures) for kind, (paths, _) in found.items()}
    level = highest_before(origins, problem)
    rows = []
    for kind, (paths, seconds) in found.items():
        ratio = [here / there for here, there in zip(scores[kind], scores["independent"], strict=True)]
        covers = [coverage(function(paths), function(problem.futures)) for function in FUNCTIONS]
        exceeds = (f"{100 * (part.max(2) > level).mean():.0f}" for part in (paths, problem.futures))
        lags = (" / ".join(f"{part:.2f}" for part in correlations(paths, problem.futures, lag)) for lag in (1, 6))
        rows.append(
            (name, kind, *covers, " / ".join(exceeds), *lags, *(f"{one:.3f}" for one in ratio), f"{seconds:.1f}")
        )
    return rows


def highest_before(origins: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the largest value of the last season, or of 6 steps, before each origin, `[S, 1, V]`."""
    last = origins.groupby("unique_id").tail(max(6, problem.season_length))
    return last.groupby("unique_id")[problem.targets].max().to_numpy()[:, None]


def coverage(paths: np.ndarray, futures: np.ndarray) -> str:
    """Return the share of futures `[S, C, ...]` in 80% / 95% intervals of paths `[S, P, ...]`, in percent."""
    shares = []
    for level in (80, 95):
        tails = [0.5 - level / 200, 0.5 + level / 200]
        low, high = np.quantile(paths, tails, axis=1, keepdims=True, method="hazen")
        shares.append(f"{100 * ((futures >= low) & (futures <= high)).mean():.1f}")
    return " / ".join(shares)


def correlations(paths: np.ndarray, futures: np.ndarray, lag: int) -> tuple[float, float]:
    """Return the mean product of standardised deviations `lag` steps apart: of the paths, and of the futures."""
    if lag >= paths.shape[2]:
        return np.nan, np.nan
    mean, deviation = paths.mean(1, keepdims=True), paths.std(1, keepdims=True) + 1e-12
    found = []
    for part in (paths, futures):
        scores = (part - mean) / deviation
        scores = scores / np.sqrt((scores**2).mean())
        found.append(float((scores[:, :, lag:] * scores[:, :, :-lag]).mean()))
    return found[0], found[1]


def joint_scores(paths: np.ndarray, futures: np.ndarray) -> tuple[float, float]:
    """Return the energy and the variogram score, means over series of scores in units of the series' size."""
    size = np.abs(futures).mean((1, 2, 3), keepdims=True)
    drawn, truth = torch.from_numpy(paths / size), torch.from_numpy(futures / size)
    metrics = EnergyScore(truth.shape[2]), VariogramScore(truth.shape[2])
    for index in range(min(5, truth.shape[1])):  # futures that are scored
        for metric in metrics:
            metric.update(drawn, truth[:, index].to(drawn))
    return metrics[0].compute().item(), metrics[1].compute().item()


def simulated(name: str) -> Problem:
    """Return series of a known law with many futures each."""
    horizon, season, length, draw = SIMULATED[name]
    rng = np.random.default_rng(0)
    values = draw(rng, 300, length, horizon)  # [S, C, length + H, V]
    columns = ["x", "z"][: values.shape[3]] if values.shape[3] > 1 else ["y"]
    ids = np.repeat([f"{index:03}" for index in range(len(values))], length)
    past: dict[str, Any] = {"unique_id": ids, "ds": np.tile(np.arange(length), len(values))}
    past |= {column: values[:, 0, :length, channel].ravel() for channel, column in enumerate(columns)}
    return Problem(pd.DataFrame(past), None, values[:, :, length:], season, columns)


def linear(coefficients: dict[int, float]) -> Callable[..., np.ndarray]:
    """Return a simulation of x_t = sum of c_k x_(t-k) + e_t."""

    def draw(rng: np.random.Generator, series: int, length: int, horizon: int) -> np.ndarray:
        total, burn = length + horizon, 200
        noise = rng.standard_normal((series, FUTURES, burn + total))
        noise[:, :, : burn + length] = noise[:, :1, : burn + length]  # one past
        values = np.zeros_like(noise)
        for step in range(max(coefficients), burn + total):
            parts = (share * values[:, :, step - lag] for lag, share in coefficients.items())
            values[:, :, step] = noise[:, :, step] + sum(parts)
        return values[:, :, burn:, None]

    return draw


def random_walk(rng: np.random.Generator, series: int, length: int, horizon: int) -> np.ndarray:
    """Return walks with drift."""
    steps = 0.2 + rng.standard_normal((series, FUTURES, length + horizon))
    steps[:, :, :length] = steps[:, :1, :length]
    return steps.cumsum(2)[..., None]


def garch(rng: np.random.Generator, series: int, length: int, horizon: int) -> np.ndarray:
    """Return walks whose steps have a variance that depends on the steps before."""
    noise = rng.standard_normal((series, FUTURES, length + horizon))
    noise[:, :, :length] = noise[:, :1, :length]
    steps, variance = np.zeros_like(noise), np.ones(noise.shape[:2])
    for step in range(noise.shape[2]):
        steps[:, :, step] = np.sqrt(variance) * noise[:, :, step]
        variance = 0.05 + 0.1 * steps[:, :, step] ** 2 + 0.85 * variance
    return steps.cumsum(2)[..., None]


def vector_ar(rng: np.random.Generator, series: int, length: int, horizon: int) -> np.ndarray:
    """Return two channels that drive each other and share half of the variance of their noise."""
    total, burn, matrix = length + horizon, 100, np.array([[0.7, 0.2], [-0.3, 0.6]])
    root = np.linalg.cholesky(np.array([[1, 0.5], [0.5, 1]]))
    noise = rng.standard_normal((series, FUTURES, burn + total, 2)) @ root.T
    noise[:, :, : burn + length] = noise[:, :1, : burn + length]
    values = np.zeros_like(noise)
    for step in range(1, burn + total):
        values[:, :, step] = values[:, :, step - 1] @ matrix.T + noise[:, :, step]
    return values[:, :, burn:]


# By name: horizon, season, length and simulation.
SIMULATED: dict[str, tuple[int, int, int, Callable[..., np.ndarray]]] = {
    "ar2": (18, 1, 120, linear({1: 1.2, 2: -0.4})),
    "seasonal-ar": (18, 12, 144, linear({1: 0.6, 12: 0.5, 13: -0.3})),
    "random-walk": (18, 1, 100, random_walk),
    "garch": (18, 1, 150, garch),
    "vector-ar": (18, 1, 120, vector_ar),
}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*too short to train on.*")
    main()
