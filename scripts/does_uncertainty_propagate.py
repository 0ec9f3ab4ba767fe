"""Does uncertainty propagate? Coverage and width of 80% intervals by lead, where paths are fed what was sampled.

    python scripts/does_uncertainty_propagate.py [ar2] [m4-hourly] [--models exact,default,...] [--budget 180]

`ar2`: 200 simulated series of a known autoregression train, and 500 others are forecast, so the exact law is known.
`m4-hourly`: the last 48 steps of the training part are forecast after training on what lies before them; the file is
read from the folder ARMLP_DATA if it is there, and downloaded otherwise. Nothing is stopped early or chosen on what is
forecast. Every interval lies between the 10% and 90% quantiles of 200 sampled paths. The models:

    exact              the law of the simulation, beside its intervals
    default            every option left to the data
    one-step           one value a call, U=1, and teacher forcing, K=1; windows of ar2, which has one law, not scaled
    means fed back     the same network; each step's distribution is that of the network, but its mean is fed back
    linear             as one-step, but no hidden layer and a normal distribution: the classic autoregression
    neuralforecast     its DeepAR, with the time that --budget gives; of version 3.3, it feeds back its means
    gluonts            its DeepAR, likewise, which feeds back samples

A peer is left out where it is not installed, which is said: run this script by the Python that has it.

Widths are medians over the series, and CRPS means over series and leads from nine deciles; both in units of the
innovation's standard deviation (ar2), or of the error of the seasonal naive in the training part (m4-hourly).
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import seed_everything
from peers import not_installed
from rich.console import Console
from rich.table import Table
from what_helps import train

import armlp
from armlp.data import catalog
from armlp.routing import pop_options
from armlp.training.trainer import quiet

HORIZON, PATHS = 48, 200
LEADS = (1, 12, 24, 48)
DECILES = np.arange(1, 10) / 10
# Roots 0.95 and 0.6: the variance still grows at lead 48.
COEFFICIENTS = (1.55, -0.57)


class Problem(NamedTuple):
    """What is learned and what is forecast.

    Attributes:
        name: Of the data.
        table: `unique_id, ds, y`; the last H rows of every series are held out of training.
        others: Of the same columns; the last H rows of every series are forecast.
        season: Steps in a season.
        scaler: Of one-step models; the default one's is left to the data.
        unit: `[W]` or scalar, what widths and CRPS are told in, data units.
        exact: Deciles `[W, H, 9]`, where the law is known.
    """

    name: str
    table: pd.DataFrame
    others: pd.DataFrame
    season: int
    scaler: str
    unit: np.ndarray
    exact: np.ndarray | None = None


class Forecast(NamedTuple):
    """Deciles `[W, H, 9]` by name, and the seconds that fitting took."""

    name: str
    deciles: np.ndarray
    seconds: float | None = None


def main() -> None:
    """Prints a table per problem."""
    quiet()
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("problems", nargs="*", default=list(PROBLEMS), metavar="PROBLEM")
    arguments.add_argument("--models", default=",".join(MODELS))
    arguments.add_argument("--budget", type=int, default=180, help="seconds of training of each peer")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    if unknown := set(given.models.split(",")) - set(MODELS):
        arguments.error(f"--models: {', '.join(unknown)} not known; use some of {', '.join(MODELS)}.")
    for name in given.problems:
        problem = PROBLEMS[name]()
        table = Table(title=f"{name}: what 80% intervals cover, and how wide they are", title_justify="left")
        table.add_column("model")
        for heading in (
            *(f"in, {lead}" for lead in LEADS),
            "all",
            *(f"width, {lead}" for lead in LEADS),
            "CRPS",
            "fit s",
        ):
            table.add_column(heading, justify="right")
        for model in given.models.split(","):
            for forecast in MODELS[model](problem, given.seed, given.budget):
                cells = scores(problem, forecast)
                table.add_row(forecast.name, *cells)
                print(name, forecast.name, *cells, flush=True)
        Console(width=130).print(table)


def scores(problem: Problem, forecast: Forecast) -> list[str]:
    """Coverage and width by lead, CRPS, seconds."""
    truth = last(problem.others, HORIZON)
    low, high = forecast.deciles[..., 0], forecast.deciles[..., -1]
    covered = (low <= truth) & (truth <= high)
    width = np.median((high - low) / problem.unit, axis=0)
    error = truth[..., None] - forecast.deciles
    crps = 2 * np.maximum(DECILES * error, (DECILES - 1) * error).mean(-1) / problem.unit
    coverage = [f"{100 * covered[:, lead - 1].mean():.0f}%" for lead in LEADS] + [f"{100 * covered.mean():.0f}%"]
    widths = [f"{width[lead - 1]:.2f}" for lead in LEADS]
    return [*coverage, *widths, f"{crps.mean():.3f}", "" if forecast.seconds is None else f"{forecast.seconds:.0f}"]


def last(table: pd.DataFrame, length: int) -> np.ndarray:
    """`[S, length]` last values of every series."""
    return np.stack([values.to_numpy()[-length:] for _, values in table.groupby("unique_id")["y"]])


def before(table: pd.DataFrame) -> pd.DataFrame:
    """Every series without its last H rows."""
    return table[table.groupby("unique_id").cumcount(ascending=False) >= HORIZON].reset_index(drop=True)


def ar2() -> Problem:
    """Series of `y(t) = 1.55 y(t-1) - 0.57 y(t-2) + noise` of variance 1."""
    rng = np.random.default_rng(0)
    table, others = simulated(rng, 200, 500), simulated(rng, 500, 240)
    # The law of the values after two known ones: means by recursion, variances by the weights of the innovations.
    means, weights = last(others, HORIZON + 2)[:, :2], np.zeros(HORIZON + 2)
    weights[2] = 1
    for lead in range(HORIZON):
        means = np.concatenate([means, means[:, [-1, -2]] @ np.array(COEFFICIENTS)[:, None]], axis=1)
        if lead:
            weights[lead + 2] = np.dot(COEFFICIENTS, weights[[lead + 1, lead]])
    deviations = np.sqrt(np.cumsum(weights[2:] ** 2))
    normal = torch.special.ndtri(torch.tensor(DECILES)).numpy()
    exact = means[:, 2:, None] + deviations[:, None] * normal
    return Problem("ar2", table, others, 1, "none", np.ones((1, 1)), exact)


def simulated(rng: np.random.Generator, count: int, length: int) -> pd.DataFrame:
    """A long table of stationary series."""
    noise = rng.standard_normal((count, length + 200))
    values = np.zeros_like(noise)
    for now in range(2, noise.shape[1]):
        values[:, now] = values[:, [now - 1, now - 2]] @ np.array(COEFFICIENTS) + noise[:, now]
    names = [f"ar-{index:04d}" for index in range(count)]
    columns = {"unique_id": np.repeat(names, length), "ds": np.tile(np.arange(1, length + 1), count)}
    return pd.DataFrame(columns | {"y": values[:, 200:].ravel()})


def m4_hourly() -> Problem:
    """The training part of M4 Hourly; its official test part is not looked at."""
    source = catalog.get("m4-hourly").load()
    table = source if isinstance(source, pd.DataFrame) else pd.read_parquet(source)
    table = table.sort_values(["unique_id", "ds"], ignore_index=True)
    unit = before(table).groupby("unique_id")["y"].apply(lambda y: y.diff(24).abs().mean()).to_numpy()
    return Problem("m4-hourly", table, table, 24, "standard", unit[:, None])


def exact(problem: Problem, seed: int, budget: int) -> list[Forecast]:
    """The law of the simulation."""
    return [] if problem.exact is None else [Forecast("exact law", problem.exact)]


def ours(name: str, **options: Any) -> Callable[[Problem, int, int], list[Forecast]]:
    """A model of this package; where it emits one value a call, also what comes of feeding back its means."""

    def forecasts(problem: Problem, seed: int, budget: int) -> list[Forecast]:
        begin = time.perf_counter()
        network = trained(problem, seed, ({} if name == "default" else {"scaler": problem.scaler}) | options)
        seconds = time.perf_counter() - begin
        contexts = torch.tensor(last(before(problem.others), network.context_length), dtype=torch.float32)
        paths = armlp.rollout(network, contexts, HORIZON, PATHS)
        found = [Forecast(f"{name}, U={network.patch_length}", deciles(paths), seconds)]
        if name == "one-step":
            found.append(Forecast("  its means fed back", mean_fed(network, contexts)))
        return found

    return forecasts


def trained(problem: Problem, seed: int, options: dict[str, Any]) -> armlp.AutoregressiveMLP:
    """A network as `Forecaster` would train it, but to the end: nothing is chosen on what is forecast."""
    seed_everything(seed, verbose=False)
    given = {"horizon": HORIZON, "season_length": problem.season, "seed": seed} | pop_options(
        armlp.SeriesDataModule, options
    )
    data = armlp.SeriesDataModule(problem.table, **given)
    module = armlp.ForecastModule(**pop_options(armlp.ForecastModule, options))
    train(module, data, options)
    assert module.network is not None
    return module.network.eval()


def mean_fed(network: armlp.AutoregressiveMLP, window: torch.Tensor) -> np.ndarray:
    """`[W, H, 9]` deciles of every step's own distribution, given the means of the steps before it."""
    found = []
    with torch.no_grad():
        for _ in range(HORIZON):
            distribution = network(window)
            found.append(torch.cat([distribution.icdf(torch.full_like(window[:, :1], level)) for level in DECILES], 1))
            window = torch.cat([window[:, 1:], distribution.mean], 1)
    return torch.stack(found, 1).numpy()


def deciles(paths: torch.Tensor) -> np.ndarray:
    """`[W, H, 9]` of paths `[W, P, H]`."""
    return np.moveaxis(np.quantile(paths.numpy(), DECILES, axis=1), 0, -1)


def neuralforecast(problem: Problem, seed: int, budget: int) -> list[Forecast]:
    """Its DeepAR with Student's t, a standardised window as in its documentation, and a loss at H steps a window."""
    if not installed("neuralforecast"):
        return []
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import DistributionLoss
    from neuralforecast.models import DeepAR

    begin = time.perf_counter()
    model = DeepAR(
        h=HORIZON,
        input_size=7 * 24 if problem.season > 1 else HORIZON,
        h_train=HORIZON,
        trajectory_samples=PATHS,
        loss=DistributionLoss("StudentT", quantiles=DECILES.tolist()),
        scaler_type="standard",
        windows_batch_size=128,
        max_steps=100_000,
        max_time={"seconds": budget},
        random_seed=seed,
        **PEER_TRAINER,
    )
    forecaster = NeuralForecast([model], freq=1)
    forecaster.fit(before(problem.table))
    seconds = time.perf_counter() - begin
    table = forecaster.predict(before(problem.others)).sort_values(["unique_id", "ds"])
    values = table.drop(columns=["unique_id", "ds", "DeepAR"]).to_numpy()
    assert values.shape[1] == len(DECILES), list(table)
    return [Forecast("DeepAR, neuralforecast", values.reshape(-1, HORIZON, len(DECILES)), seconds)]


def gluonts(problem: Problem, seed: int, budget: int) -> list[Forecast]:
    """Its DeepAR with the defaults of the class, and a week of context where there is a daily season."""
    if not installed("gluonts"):
        return []
    from gluonts.dataset.common import ListDataset
    from gluonts.torch.model.deepar import DeepAREstimator

    def data(table: pd.DataFrame) -> ListDataset:
        start = pd.Period("2000-01-01", freq="h")
        return ListDataset([{"start": start, "target": y.to_numpy()} for _, y in table.groupby("unique_id")["y"]], "h")

    seed_everything(seed, verbose=False)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        limits = {"max_epochs": 100_000, "max_time": {"seconds": budget}, "default_root_dir": folder}
        estimator = DeepAREstimator(
            freq="h",
            prediction_length=HORIZON,
            context_length=7 * 24 if problem.season > 1 else HORIZON,
            lags_seq=None if problem.season > 1 else [1, 2, 3],
            time_features=None if problem.season > 1 else [],
            num_parallel_samples=PATHS,
            trainer_kwargs=limits | PEER_TRAINER,
        )
        predictor = estimator.train(data(before(problem.table)), cache_data=True)
    seconds = time.perf_counter() - begin
    paths = np.stack([forecast.samples for forecast in predictor.predict(data(before(problem.others)))])
    return [Forecast("DeepAR, gluonts", deciles(torch.from_numpy(paths)), seconds)]


def installed(name: str) -> bool:
    """Whether a peer is there; says so if not."""
    found = importlib.util.find_spec(name) is not None
    if not found:
        print(f"Its DeepAR is left out. {not_installed(name, sys.executable)}", flush=True)
    return found


PEER_TRAINER = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
PROBLEMS = {"ar2": ar2, "m4-hourly": m4_hourly}
MODELS: dict[str, Callable[[Problem, int, int], list[Forecast]]] = {
    "exact": exact,
    "default": ours("default"),
    "one-step": ours("one-step", patch_length=1, unroll=1),
    "linear": ours("linear", patch_length=1, unroll=1, hidden_sizes=[], head="normal"),
    "neuralforecast": neuralforecast,
    "gluonts": gluonts,
}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    main()
