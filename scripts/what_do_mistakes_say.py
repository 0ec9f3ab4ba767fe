"""What do mistakes say? The errors and warnings of three libraries on the same seven bad tables.

    python scripts/what_do_mistakes_say.py [--peers_python PATH] [--gluonts_python PATH] [--limit 90] [--write]

Ten hourly series with a daily season get a common mistake. Each library is used as its documentation shows first:
`Forecaster(...).fit(table).predict()`; `NeuralForecast([MLP(...)], freq="h")` with `fit` and `predict`;
`PandasDataset.from_long_dataframe` and `DeepAREstimator`. All train for the same number of steps. Two tables without a
mistake come first, to check that all three are used correctly.

A cell has the error, shortened; or, where a forecast is returned, the warnings (without those on a table that has no
mistake), whether the forecast is finite and at the right times, and its mean absolute error against the values without
noise. Each run is a new process with a limit of CPU time. The other libraries run in their own Python; one that is not
installed is left out with a message.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from peers import add_python_options, not_installed, python_of
from report import add_write_option, table, write_results

HORIZON, LENGTH, STEPS = 24, 300, 300
START, STEP = pd.Timestamp("2026-01-01"), pd.Timedelta(hours=1)
SHOWN = 160


class Problem(NamedTuple):
    """Input of a library.

    Attributes:
        table: `unique_id, ds, y`, and `price` where there is a covariate.
        future: `unique_id, ds, price` after the table, where there is a covariate.
    """

    table: pd.DataFrame
    future: pd.DataFrame | None = None


def main() -> None:
    """Measure one row per mistake."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_python_options(parser, "neuralforecast", "gluonts")
    parser.add_argument("--limit", type=int, default=90, help="seconds of CPU time of one run")
    parser.add_argument("--mistakes", type=int, default=len(MISTAKES), help="the first so many; fewer for a quick look")
    add_write_option(parser)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # one run: library and mistake; prints JSON
    options = parser.parse_args()
    if options.one:
        # CPU time, because other programs may slow down the clock time.
        resource.setrlimit(resource.RLIMIT_CPU, (options.limit, options.limit))
        print(json.dumps(result(*options.one)))
        return
    mistakes = list(MISTAKES)[: options.mistakes]
    pythons = {name: sys.executable if name == "armlp" else python_of(name, options) for name in LIBRARIES}
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(column, name, python, mistakes, options.limit) for name, python in pythons.items()]
    columns = {version: cells for version, cells in (run.result() for run in runs) if version}
    rows = [(mistake, *(cells[row] for cells in columns.values())) for row, mistake in enumerate(mistakes)]
    write_results(__file__, __doc__, [table("Answers to a bad table", ("table", *columns), rows)], options.write)


def column(library: str, python: str, mistakes: list[str], limit: int) -> tuple[str, list[str]]:
    """Return the version of a library, empty where it is not installed, and its answer to every mistake."""
    version, cells, usual = "", list[str](), set[str]()
    for mistake in mistakes:
        command = [python, __file__, "--one", library, mistake, "--limit", str(limit)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            cells.append(f"no warning; still running after {limit} s of CPU time")
            print(f"{library} | {mistake} | {cells[-1]}", file=sys.stderr, flush=True)
            continue
        if run.returncode:
            cells.append(f"the process ended with code {run.returncode}")
            print(run.stderr[-2000:], file=sys.stderr)
            continue
        answer = json.loads(run.stdout.splitlines()[-1])
        if not answer["version"]:
            print(f"{library} is left out. {not_installed(library, python)}", file=sys.stderr)
            return "", []
        version = answer["version"]
        if mistake.startswith("no mistake"):
            usual |= set(answer["warnings"])
        unusual = " ".join(warning for warning in answer["warnings"] if warning not in usual)
        before = [] if answer["error"] else [f"warns: {shortened(unusual)}" if unusual else "no warning"]
        cells.append("; ".join([*before, answer["result"]]))
        print(f"{version} | {mistake} | {cells[-1]}", file=sys.stderr, flush=True)
    return version, cells


def result(library: str, mistake: str) -> dict[str, Any]:
    """Return the answer of one library to one table."""
    try:
        answer: dict[str, Any] = {"version": f"{library} {importlib.metadata.version(library)}", "error": False}
    except importlib.metadata.PackageNotFoundError:
        return {"version": ""}
    problem, log = MISTAKES[mistake](), Log()
    logging.getLogger(library).addHandler(log)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer["result"] = check(LIBRARIES[library](problem), problem)
        except Exception as error:  # each library has its own exceptions
            message = shortened(str(error)) or "(no message)"
            answer |= {"result": f"`{type(error).__name__}`: {message}", "error": True}
    warned = [str(one.message) for one in caught if one.category is UserWarning and f"/{library}/" in one.filename]
    return answer | {"warnings": list(dict.fromkeys(log.messages + warned))}


class Log(logging.Handler):
    """Keeps the messages of level warning or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def shortened(text: str) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN].rstrip()} ..."


def check(forecast: pd.DataFrame, problem: Problem) -> str:
    """Describe whether a forecast is complete, finite and begins after the last value, and its error."""
    bad = ~np.isfinite(forecast["y"].to_numpy(dtype=float))
    if bad.any():
        return f"{bad.sum()} of {len(forecast)} forecast values are NaN or infinite"
    known = problem.table.dropna(subset="y")
    delay = forecast.groupby("unique_id")["ds"].min() - known.groupby("unique_id")["ds"].max()
    missing, wrong = delay.isna().sum(), (delay.dropna() != STEP).sum()
    notes = [f"{missing} of 10 series without a forecast"] if missing else []
    notes += [f"forecast of {wrong} of 10 series begins at a wrong time"] if wrong else []
    if problem.future is not None:
        prices = future_prices()
        forecast = forecast.merge(prices, on=["unique_id", "ds"], how="left")
    error = (forecast["y"] - noiseless(forecast)).abs()
    return "; ".join([*notes, f"finite forecast, error {error.mean():.2f}"])


def noiseless(table: pd.DataFrame) -> pd.Series:
    """Return `y` without its noise."""
    hours = (table["ds"] - START) / STEP
    one = table["unique_id"].str.removeprefix("series-").astype(int)
    value = 20 + one + 5 * np.sin(2 * np.pi * (hours + one) / 24)
    return value + 3 * table["price"] if "price" in table else value


def clean(covariate: bool = False, length: int = LENGTH) -> pd.DataFrame:
    """Return a table without a mistake; with a covariate, it has 24 more hours."""
    rng = np.random.default_rng(0)
    rows = length + HORIZON * covariate
    table = pd.DataFrame(
        {
            "unique_id": np.repeat([f"series-{one}" for one in range(10)], rows),
            "ds": np.tile(pd.date_range(START, periods=rows, freq=STEP), 10),
        }
    )
    if covariate:
        table["price"] = rng.integers(0, 3, len(table)).astype(float)
    table["y"] = noiseless(table) + 0.5 * rng.standard_normal(len(table))
    return table


def with_future(missing: int = 0) -> Problem:
    """Return a table with a covariate that is known for all 24 hours ahead, or for `missing` fewer of one series."""
    table = clean(covariate=True)
    ahead = table["ds"] >= START + LENGTH * STEP
    future = table.loc[ahead].drop(columns="y").reset_index(drop=True)
    unknown = (future["unique_id"] == "series-3") & (future["ds"] >= START + (LENGTH + HORIZON - missing) * STEP)
    return Problem(table[~ahead].reset_index(drop=True), future[~unknown].reset_index(drop=True))


def future_prices() -> pd.DataFrame:
    """Return all 24 hours of the covariate."""
    future = with_future().future
    assert future is not None
    return future


def repeated() -> Problem:
    """Repeat one hour of one series, with another value."""
    table = clean()
    again = table[(table["unique_id"] == "series-3") & (table["ds"] == START + 100 * STEP)]
    return Problem(pd.concat([table, again.assign(y=again["y"] + 1)]).sort_values(["unique_id", "ds"], kind="stable"))


def text() -> Problem:
    """Make one value `n/a`, so that pandas reads the whole column as text."""
    table = clean()
    values = table["y"].astype(str)
    values[1000] = "n/a"
    return Problem(table.assign(y=values))


def spoiled(value: float, share: float) -> Problem:
    """Replace a share of the values, but never the last of a series."""
    table = clean()
    chosen = np.random.default_rng(1).random(len(table)) < share
    chosen &= table.duplicated("unique_id", keep="last").to_numpy()
    table.loc[chosen, "y"] = value
    return Problem(table)


def with_gaps() -> Problem:
    """Leave out a tenth of the rows."""
    table = spoiled(np.nan, 0.1).table
    return Problem(table.dropna().reset_index(drop=True))


def armlp(problem: Problem) -> pd.DataFrame:
    """Forecast the median."""
    from armlp import Forecaster

    covariates = {} if problem.future is None else {"known_covariates": ["price"]}
    table = problem.table if problem.future is None else pd.concat([problem.table, problem.future])
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_steps": STEPS, "enable_progress_bar": False, "default_root_dir": folder}
        forecast = Forecaster(HORIZON, **covariates, **options).fit(table).predict()
    return forecast.rename(columns={"armlp": "y"})[["unique_id", "ds", "y"]]


def neuralforecast(problem: Problem) -> pd.DataFrame:
    """Forecast by its MLP."""
    from neuralforecast import NeuralForecast
    from neuralforecast.models import MLP

    covariates = None if problem.future is None else ["price"]
    model = MLP(h=HORIZON, input_size=2 * HORIZON, futr_exog_list=covariates, max_steps=STEPS, **PEER_TRAINER)
    forecaster = NeuralForecast([model], freq="h")
    forecaster.fit(problem.table)
    forecast = forecaster.predict() if problem.future is None else forecaster.predict(futr_df=problem.future)
    return forecast.rename(columns={"MLP": "y"})[["unique_id", "ds", "y"]]


def gluonts(problem: Problem) -> pd.DataFrame:
    """Forecast the median."""
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.torch import DeepAREstimator
    from lightning.pytorch import seed_everything

    def data(table: pd.DataFrame, **options: Any) -> PandasDataset:
        columns = {"item_id": "unique_id", "timestamp": "ds", "target": "y"}
        return PandasDataset.from_long_dataframe(table, **columns, freq="h", **options)

    seed_everything(0, verbose=False)  # the others set a seed themselves
    with tempfile.TemporaryDirectory() as folder:
        trainer = PEER_TRAINER | {"max_epochs": STEPS // 50, "default_root_dir": folder}
        estimator = DeepAREstimator(
            "h",
            HORIZON,
            context_length=2 * HORIZON,
            num_feat_dynamic_real=0 if problem.future is None else 1,
            trainer_kwargs=trainer,
        )
        dataset = to_forecast = data(problem.table)
        if problem.future is not None:
            covariates = {"feat_dynamic_real": ["price"]}
            dataset = data(problem.table, **covariates)
            to_forecast = data(pd.concat([problem.table, problem.future]), **covariates, future_length=HORIZON)
        forecasts = list(estimator.train(dataset).predict(to_forecast))
    tables = [
        pd.DataFrame({"unique_id": one.item_id, "ds": one.index.to_timestamp(), "y": one.quantile(0.5)})
        for one in forecasts
    ]
    return pd.concat(tables, ignore_index=True)


PEER_TRAINER = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
LIBRARIES: dict[str, Callable[[Problem], pd.DataFrame]] = {
    "armlp": armlp,
    "neuralforecast": neuralforecast,
    "gluonts": gluonts,
}
MISTAKES: dict[str, Callable[[], Problem]] = {
    "no mistake": lambda: Problem(clean()),
    "no mistake, with a covariate known ahead": with_future,
    "one hour twice, with different values": repeated,
    "`n/a` among the numbers, all read as text": text,
    "every series shorter than the horizon": lambda: Problem(clean(length=HORIZON - 4)),
    "one value in a hundred infinite": lambda: spoiled(np.inf, 0.01),
    "one value in ten NaN": lambda: spoiled(np.nan, 0.1),
    "one row in ten missing": with_gaps,
    "half of the future covariate of one series missing": lambda: with_future(HORIZON // 2),
}


if __name__ == "__main__":
    main()
