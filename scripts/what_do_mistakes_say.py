"""What do mistakes say? The same seven bad tables, given to this package, neuralforecast and gluonts.

    python scripts/what_do_mistakes_say.py [--python neuralforecast=PATH] [--python gluonts=PATH] [--limit 90]

Ten hourly series of a daily season are spoiled as people spoil theirs, and each library is used as its documentation
says first: `Forecaster(...).fit(table).predict()`; `NeuralForecast([MLP(...)], freq="h")` with `fit` and `predict`;
`PandasDataset.from_long_dataframe` and `DeepAREstimator`. Every library trains for as many steps. Two tables without a
mistake come first, to show that all three are used rightly.

Prints a Markdown table: the error, shortened; or that a forecast came without one, what the library warned of (less
what it says of a table without a mistake), whether the forecast is finite and where it should be, and its mean absolute
error against the law of the data. Each run has a process of its own, and a limit of CPU time. A library that lives in
another environment is run by the Python given for it; one that is not installed is left out, which is said.
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
from peers import not_installed

HORIZON, LENGTH, STEPS = 24, 300, 300
START, STEP = pd.Timestamp("2026-01-01"), pd.Timedelta(hours=1)
SHOWN = 160


class Problem(NamedTuple):
    """What is given to a library.

    Attributes:
        table: `unique_id, ds, y`, and `price` where there is a covariate.
        future: `unique_id, ds, price` after the table, where there is a covariate.
    """

    table: pd.DataFrame
    future: pd.DataFrame | None = None


def main() -> None:
    """Prints one row per mistake."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--python", action="append", default=[], metavar="LIBRARY=PATH")
    arguments.add_argument("--limit", type=int, default=90, help="seconds of CPU time of one run")
    arguments.add_argument("--one", nargs=2, metavar=("LIBRARY", "MISTAKE"), help="one run, its result as JSON")
    given = arguments.parse_args()
    if given.one:
        resource.setrlimit(resource.RLIMIT_CPU, (given.limit, given.limit))  # not of the clock: others may compute too
        print(json.dumps(result(*given.one)))
        return
    pythons = dict(word.split("=", 1) for word in given.python)
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(column, name, pythons.get(name, sys.executable), given.limit) for name in LIBRARIES]
    columns = {version: cells for version, cells in (run.result() for run in runs) if version}
    print("|".join(["", " the table ", *(f" {version} " for version in columns), ""]))
    print("|---" * (1 + len(columns)) + "|")
    for row, mistake in enumerate(MISTAKES):
        print("|".join(["", f" {mistake} ", *(f" {cells[row]} " for cells in columns.values()), ""]))


def column(library: str, python: str, limit: int) -> tuple[str, list[str]]:
    """The library's version, empty where it is not installed, and what became of every mistake."""
    version, cells, usual = "", list[str](), set[str]()
    for mistake in MISTAKES:
        command = [python, __file__, "--one", library, mistake, "--limit", str(limit)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            cells.append(f"no word; still running after {limit} s of CPU time")
            print(f"{library} | {mistake} | {cells[-1]}", file=sys.stderr, flush=True)
            continue
        if run.returncode:
            cells.append(f"the process ended with code {run.returncode}")
            print(run.stderr[-2000:], file=sys.stderr)
            continue
        said = json.loads(run.stdout.splitlines()[-1])
        if not said["version"]:
            print(f"It is left out. {not_installed(library, python)}", file=sys.stderr)
            return "", []
        version = said["version"]
        if mistake.startswith("nothing wrong"):
            usual |= set(said["warnings"])
        unusual = " ".join(word for word in said["warnings"] if word not in usual)
        words = [] if said["error"] else [f"warns: {shortened(unusual)}" if unusual else "no word"]
        cells.append("; ".join([*words, said["what"]]).replace("|", "\\|"))
        print(f"{version} | {mistake} | {cells[-1]}", file=sys.stderr, flush=True)
    return version, cells


def result(library: str, mistake: str) -> dict[str, Any]:
    """What one library says of one table."""
    try:
        found: dict[str, Any] = {"version": f"{library} {importlib.metadata.version(library)}", "error": False}
    except importlib.metadata.PackageNotFoundError:
        return {"version": ""}
    problem, words = MISTAKES[mistake](), Words(library)
    logging.getLogger(library).addHandler(words)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found["what"] = judged(LIBRARIES[library](problem), problem)
        except Exception as error:  # every library raises its own
            said = shortened(str(error)) or "(no message)"
            found |= {"what": f"`{type(error).__name__}`: {said}", "error": True}
    ours = [str(one.message) for one in heard if one.category is UserWarning and f"/{library}/" in one.filename]
    return found | {"warnings": list(dict.fromkeys(words.said + ours))}


class Words(logging.Handler):
    """Keeps what a library logs as a warning or worse."""

    def __init__(self, library: str) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one message."""
        self.said.append(record.getMessage())


def shortened(text: str) -> str:
    """One line, of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN].rstrip()} ..."


def judged(forecast: pd.DataFrame, problem: Problem) -> str:
    """Whether a forecast is there, is finite and begins after the last value; and its error."""
    bad = ~np.isfinite(forecast["y"].to_numpy(dtype=float))
    if bad.any():
        return f"{bad.sum()} of {len(forecast)} forecast values are NaN or infinite"
    table = problem.table.dropna(subset="y")
    late = forecast.groupby("unique_id")["ds"].min() - table.groupby("unique_id")["ds"].max()
    missing, wrong = late.isna().sum(), (late.dropna() != STEP).sum()
    notes = [f"{missing} of 10 series without a forecast"] if missing else []
    notes += [f"forecast of {wrong} of 10 series begins at a wrong time"] if wrong else []
    if problem.future is not None:
        prices = future_prices()
        forecast = forecast.merge(prices, on=["unique_id", "ds"], how="left")
    error = (forecast["y"] - law(forecast)).abs()
    return "; ".join([*notes, f"finite forecast, error {error.mean():.2f}"])


def law(table: pd.DataFrame) -> pd.Series:
    """What `y` is without its noise."""
    hours = (table["ds"] - START) / STEP
    one = table["unique_id"].str.removeprefix("series-").astype(int)
    value = 20 + one + 5 * np.sin(2 * np.pi * (hours + one) / 24)
    return value + 3 * table["price"] if "price" in table else value


def clean(covariate: bool = False, length: int = LENGTH) -> pd.DataFrame:
    """A table without a mistake, of 24 more hours than it holds values if there is a covariate."""
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
    table["y"] = law(table) + 0.5 * rng.standard_normal(len(table))
    return table


def with_future(missing: int = 0) -> Problem:
    """A covariate, known for all 24 hours ahead, or for `missing` fewer of one series."""
    table = clean(covariate=True)
    ahead = table["ds"] >= START + LENGTH * STEP
    future = table.loc[ahead].drop(columns="y").reset_index(drop=True)
    untold = (future["unique_id"] == "series-3") & (future["ds"] >= START + (LENGTH + HORIZON - missing) * STEP)
    return Problem(table[~ahead].reset_index(drop=True), future[~untold].reset_index(drop=True))


def future_prices() -> pd.DataFrame:
    """All 24 hours of the covariate."""
    future = with_future().future
    assert future is not None
    return future


def repeated() -> Problem:
    """One hour of one series is there twice, with two values."""
    table = clean()
    again = table[(table["unique_id"] == "series-3") & (table["ds"] == START + 100 * STEP)]
    return Problem(pd.concat([table, again.assign(y=again["y"] + 1)]).sort_values(["unique_id", "ds"], kind="stable"))


def text() -> Problem:
    """One value is `n/a`, so that pandas read the whole column as text."""
    table = clean()
    values = table["y"].astype(str)
    values[1000] = "n/a"
    return Problem(table.assign(y=values))


def spoiled(value: float, share: float) -> Problem:
    """A share of the values is another one; never the last of a series."""
    table = clean()
    chosen = np.random.default_rng(1).random(len(table)) < share
    chosen &= table.duplicated("unique_id", keep="last").to_numpy()
    table.loc[chosen, "y"] = value
    return Problem(table)


def with_gaps() -> Problem:
    """A tenth of the rows is not there."""
    table = spoiled(np.nan, 0.1).table
    return Problem(table.dropna().reset_index(drop=True))


def armlp(problem: Problem) -> pd.DataFrame:
    """The median."""
    from armlp import Forecaster

    covariates = {} if problem.future is None else {"known_covariates": ["price"]}
    table = problem.table if problem.future is None else pd.concat([problem.table, problem.future])
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_steps": STEPS, "enable_progress_bar": False, "default_root_dir": folder}
        forecast = Forecaster(HORIZON, **covariates, **options).fit(table).predict()
    return forecast.rename(columns={"armlp": "y"})[["unique_id", "ds", "y"]]


def neuralforecast(problem: Problem) -> pd.DataFrame:
    """The point forecast of its MLP."""
    from neuralforecast import NeuralForecast
    from neuralforecast.models import MLP

    covariates = None if problem.future is None else ["price"]
    model = MLP(h=HORIZON, input_size=2 * HORIZON, futr_exog_list=covariates, max_steps=STEPS, **PEER_TRAINER)
    forecaster = NeuralForecast([model], freq="h")
    forecaster.fit(problem.table)
    forecast = forecaster.predict() if problem.future is None else forecaster.predict(futr_df=problem.future)
    return forecast.rename(columns={"MLP": "y"})[["unique_id", "ds", "y"]]


def gluonts(problem: Problem) -> pd.DataFrame:
    """The median."""
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.torch import DeepAREstimator
    from lightning.pytorch import seed_everything

    def data(table: pd.DataFrame, **options: Any) -> PandasDataset:
        columns = {"item_id": "unique_id", "timestamp": "ds", "target": "y"}
        return PandasDataset.from_long_dataframe(table, **columns, freq="h", **options)

    seed_everything(0, verbose=False)  # as the others do themselves
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
    "nothing wrong": lambda: Problem(clean()),
    "nothing wrong, with a covariate known ahead": with_future,
    "one hour twice, with two values": repeated,
    "`n/a` among the numbers, all read as text": text,
    "every series shorter than the horizon": lambda: Problem(clean(length=HORIZON - 4)),
    "one value in a hundred infinite": lambda: spoiled(np.inf, 0.01),
    "one value in ten NaN": lambda: spoiled(np.nan, 0.1),
    "one row in ten not there": with_gaps,
    "half of the future covariate of one series not there": lambda: with_future(HORIZON // 2),
}


if __name__ == "__main__":
    main()
