"""Does uncertainty propagate? Coverage and width of 80% intervals by lead, of models that feed back samples or means.

    python scripts/does_uncertainty_propagate.py [ar2] [seasonal] [m4-hourly] [--models exact,default,...] [--write]
        [--budget 180] [--peers_python PATH] [--gluonts_python PATH]

`ar2` and `seasonal`: models train on 200 series simulated from a known autoregression and forecast 500 others, so the
exact distribution is known. `m4-hourly`: models train on the training part without its last 48 steps and forecast
these; the file is read from the folder ARMLP_DATA, or downloaded. No training is stopped early, and nothing is chosen
by the forecast values. Intervals lie between the 10% and 90% quantiles of 200 sampled paths. The models:

    exact              the distribution of the simulation
    default            armlp, every option chosen from the data
    one-step           armlp with one value a call (U=1) and teacher forcing (K=1); ar2 without a scaler
    means fed back     the network of one-step, with the mean of each step's distribution fed back
    linear             one-step without a hidden layer and with a normal distribution: the classic autoregression
    neuralforecast     its DeepAR, trained for --budget seconds; version 3.3 feeds back means
    gluonts            its DeepAR, trained for --budget seconds; it feeds back samples

The other libraries run in their own Python, which also needs armlp; one that is not installed is left out with a
message.

Widths are medians over the series. CRPS is the mean over series and leads, from nine deciles. Both are in units of the
standard deviation of the innovations of a simulation, or of the error of the seasonal naive in the training part of
m4-hourly.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import seed_everything
from peers import add_python_options, not_installed, python_of, version, versions
from report import add_write_option, table, write_results
from what_helps import train

import armlp
from armlp.data import catalog
from armlp.routing import pop_options
from armlp.training.loop.trainer import quiet

HORIZON, PATHS = 48, 200
LEADS = (1, 12, 24, 48)
DECILES = np.arange(1, 10) / 10


class Problem(NamedTuple):
    """A table to train on, and a table to forecast.

    Attributes:
        name: Of the data.
        table: `unique_id, ds, y`; the last H rows of every series are held out of training.
        others: The same columns; the last H rows of every series are forecast.
        season: Steps in a season.
        scaler: Of one-step models; that of the default model is chosen from the data.
        unit: `[W, 1]` or `[1, 1]`, unit of widths and CRPS, data units.
        exact: Deciles `[W, H, 9]`, where the distribution is known.
    """

    name: str
    table: pd.DataFrame
    others: pd.DataFrame
    season: int
    scaler: str
    unit: np.ndarray
    exact: np.ndarray | None = None


class Forecast(NamedTuple):
    """A forecast: its name, deciles `[W, H, 9]`, and the seconds of the fit."""

    name: str
    deciles: np.ndarray
    seconds: float | None = None


def main() -> None:
    """Measure a table per problem."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS), metavar="PROBLEM", help=", ".join(PROBLEMS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--budget", type=int, default=180, help="seconds of training of each other library")
    parser.add_argument("--seed", type=int, default=0)
    add_python_options(parser, *LIBRARIES)
    add_write_option(parser)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)  # run as another library, and save its forecast
    options = parser.parse_args()
    models = options.models.split(",")
    if unknown := set(models) - set(MODELS):
        parser.error(f"--models: {', '.join(unknown)} not known; use some of {', '.join(MODELS)}.")
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"{', '.join(unknown)} not known; use some of {', '.join(PROBLEMS)}.")
    if options.peer:
        forecast = LIBRARIES[models[0]](PROBLEMS[options.problems[0]](), options.seed, options.budget)
        np.savez(options.peer, **forecast._asdict())
        return
    headings = ("model", *(f"in, {lead}" for lead in LEADS), "in, all", *(f"width, {lead}" for lead in LEADS))
    tables = []
    for name in options.problems:
        problem = PROBLEMS[name]()
        rows = []
        for model in models:
            for forecast in MODELS[model](problem, options):
                rows.append((forecast.name, *scores(problem, forecast)))
                print(name, *rows[-1], flush=True)
        tables.append(table(f"{name}: coverage and width of 80% intervals", (*headings, "CRPS", "fit, s"), rows))
    write_results(__file__, __doc__, tables, options.write, versions(tuple(LIBRARIES), options))


def scores(problem: Problem, forecast: Forecast) -> list[str]:
    """Return coverage and width by lead, CRPS and seconds."""
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
    """Return the last values of every series, `[S, length]`."""
    return np.stack([values.to_numpy()[-length:] for _, values in table.groupby("unique_id")["y"]])


def before(table: pd.DataFrame) -> pd.DataFrame:
    """Return every series without its last H rows."""
    return table[table.groupby("unique_id").cumcount(ascending=False) >= HORIZON].reset_index(drop=True)


def ar2() -> Problem:
    """Simulate `y(t) = 1.55 y(t-1) - 0.57 y(t-2) + noise` with noise of variance 1."""
    return autoregression("ar2", {1: 1.55, 2: -0.57}, 1, "none")


def seasonal() -> Problem:
    """Simulate `(1 - 0.8 B)(1 - 0.6 B^24) y(t) = noise`, of which the default takes half a season in a patch."""
    return autoregression("seasonal", {1: 0.8, 24: 0.6, 25: -0.48}, 24, "standard")


def autoregression(name: str, coefficients: dict[int, float], season: int, scaler: str) -> Problem:
    """Simulate a linear autoregression with given coefficients by lag; the noise has variance 1."""
    rng, lags, shares = np.random.default_rng(0), np.array(list(coefficients)), np.array(list(coefficients.values()))
    table, others = simulated(rng, 200, 500, lags, shares), simulated(rng, 500, 240, lags, shares)
    # The distribution after the known values: means by recursion, variances by the weights of the innovations.
    most = lags.max()
    means, weights = last(others, HORIZON + most)[:, :most], np.zeros(HORIZON + most)
    weights[most] = 1
    for lead in range(HORIZON):
        now = most + lead
        means = np.concatenate([means, means[:, now - lags] @ shares[:, None]], axis=1)
        if lead:
            weights[now] = shares @ weights[now - lags]
    deviations = np.sqrt(np.cumsum(weights[most:] ** 2))
    normal = torch.special.ndtri(torch.tensor(DECILES)).numpy()
    exact = means[:, most:, None] + deviations[:, None] * normal
    return Problem(name, table, others, season, scaler, np.ones((1, 1)), exact)


def simulated(rng: np.random.Generator, count: int, length: int, lags: np.ndarray, shares: np.ndarray) -> pd.DataFrame:
    """Return a long table of stationary series."""
    noise = rng.standard_normal((count, length + 400))
    values = np.zeros_like(noise)
    for now in range(lags.max(), noise.shape[1]):
        values[:, now] = values[:, now - lags] @ shares + noise[:, now]
    names = [f"ar-{index:04d}" for index in range(count)]
    columns = {"unique_id": np.repeat(names, length), "ds": np.tile(np.arange(1, length + 1), count)}
    return pd.DataFrame(columns | {"y": values[:, 400:].ravel()})


def m4_hourly() -> Problem:
    """Read the training part of M4 Hourly; the official test part is not used."""
    source = catalog.get("m4-hourly").load()
    table = source if isinstance(source, pd.DataFrame) else pd.read_parquet(source)
    table = table.sort_values(["unique_id", "ds"], ignore_index=True)
    unit = before(table).groupby("unique_id")["y"].apply(lambda y: y.diff(24).abs().mean()).to_numpy()
    return Problem("m4-hourly", table, table, 24, "standard", unit[:, None])


def exact(problem: Problem, options: argparse.Namespace) -> list[Forecast]:
    """Return the distribution of the simulation."""
    return [] if problem.exact is None else [Forecast("exact distribution", problem.exact)]


def armlp_model(name: str, **model: Any) -> Callable[[Problem, argparse.Namespace], list[Forecast]]:
    """Return a function that forecasts by a model of armlp; by `one-step` also with its means fed back."""

    def forecasts(problem: Problem, options: argparse.Namespace) -> list[Forecast]:
        begin = time.perf_counter()
        scaler = {} if name == "default" else {"scaler": problem.scaler}
        network = trained_network(problem, options.seed, scaler | model)
        seconds = time.perf_counter() - begin
        contexts = torch.tensor(last(before(problem.others), network.context_length), dtype=torch.float32)
        paths = armlp.rollout(network, contexts, HORIZON, PATHS)
        found = [Forecast(f"{name}, U={network.patch_length}", deciles(paths), seconds)]
        if name == "one-step":
            found.append(Forecast("one-step, means fed back", mean_fed(network, contexts)))
        return found

    return forecasts


def trained_network(problem: Problem, seed: int, options: dict[str, Any]) -> armlp.AutoregressiveMLP:
    """Return a network trained as by `Forecaster`, but to the last step, so that nothing is chosen by validation."""
    seed_everything(seed, verbose=False)
    usual = {"horizon": HORIZON, "season_length": problem.season, "seed": seed}
    data = armlp.SeriesDataModule(problem.table, **usual | pop_options(armlp.SeriesDataModule, options))
    module = armlp.ForecastModule(**pop_options(armlp.ForecastModule, options))
    train(module, data, options)
    assert module.network is not None
    return module.network.eval()


def mean_fed(network: armlp.AutoregressiveMLP, window: torch.Tensor) -> np.ndarray:
    """Return deciles `[W, H, 9]` of the distribution of every step, conditional on the means of the earlier steps."""
    found = []
    with torch.no_grad():
        for _ in range(HORIZON):
            distribution = network(window)
            found.append(torch.cat([distribution.icdf(torch.full_like(window[:, :1], level)) for level in DECILES], 1))
            window = torch.cat([window[:, 1:], distribution.mean], 1)
    return torch.stack(found, 1).numpy()


def deciles(paths: torch.Tensor) -> np.ndarray:
    """Return deciles `[W, H, 9]` of paths `[W, P, H]`."""
    return np.moveaxis(np.quantile(paths.numpy(), DECILES, axis=1), 0, -1)


def peer(library: str) -> Callable[[Problem, argparse.Namespace], list[Forecast]]:
    """Return a function that forecasts by another library in its own Python, or returns nothing where it is missing."""

    def forecasts(problem: Problem, options: argparse.Namespace) -> list[Forecast]:
        python = python_of(library, options)
        if version(library, python) is None:
            print(f"{library} is left out. {not_installed(library, python)}", flush=True)
            return []
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "forecast.npz"
            command = [python, __file__, problem.name, "--models", library, "--peer", str(file)]
            command += ["--budget", str(options.budget), "--seed", str(options.seed)]
            subprocess.run(command, check=True, stdout=sys.stderr)
            with np.load(file) as saved:
                return [Forecast(str(saved["name"]), saved["deciles"], float(saved["seconds"]))]

    return forecasts


def neuralforecast(problem: Problem, seed: int, budget: int) -> Forecast:
    """Forecast by its DeepAR with Student's t, windows standardised as in its documentation, and a loss at H steps."""
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
    rows = forecaster.predict(before(problem.others)).sort_values(["unique_id", "ds"])
    values = rows.drop(columns=["unique_id", "ds", "DeepAR"]).to_numpy()
    assert values.shape[1] == len(DECILES), list(rows)
    return Forecast("DeepAR, neuralforecast", values.reshape(-1, HORIZON, len(DECILES)), seconds)


def gluonts(problem: Problem, seed: int, budget: int) -> Forecast:
    """Forecast by its DeepAR with the defaults of the class; a week of context where there is a daily season."""
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
    return Forecast("DeepAR, gluonts", deciles(torch.from_numpy(paths)), seconds)


PEER_TRAINER = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
PROBLEMS = {"ar2": ar2, "seasonal": seasonal, "m4-hourly": m4_hourly}
LIBRARIES = {"neuralforecast": neuralforecast, "gluonts": gluonts}
MODELS: dict[str, Callable[[Problem, argparse.Namespace], list[Forecast]]] = {
    "exact": exact,
    "default": armlp_model("default"),
    "one-step": armlp_model("one-step", patch_length=1, unroll=1),
    "linear": armlp_model("linear", patch_length=1, unroll=1, hidden_sizes=[], head="normal"),
    "neuralforecast": peer("neuralforecast"),
    "gluonts": peer("gluonts"),
}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    main()
