"""How fast are sampled forecasts? A whole forecast call on M4 Hourly, 200 paths of 48 steps, beside other libraries.

    python scripts/how_fast_is_sampling_beside_peers.py [--peers_python PATH] [--gluonts_python PATH] [--repeats 5]
        [--write]

    armlp sample      Forecaster.sample(), the default options: paths as an array
    armlp predict     Forecaster.predict(): a table of the median and of two intervals
    GluonTS           DeepAR, predictor.predict(): paths
    neuralforecast    DeepAR and a recursive GRU, both with Student's t: NeuralForecast.predict(), a table. Both feed
                      back means, so they roll out one path, however many values they draw at each step

Every model is trained for ten steps, because the time of a forecast does not depend on the weights, and then forecasts
the 48 steps after the training part on one core. Each of the other libraries runs in its own Python; one that is not
installed is left out with a message. Models take turns, and one that has taken a minute in total is not run again. A
rate is the number of points times the number of paths that are rolled out, divided by the median of the seconds of the
processor. The file is read from the folder ARMLP_DATA, or downloaded.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import add_python_options, not_installed, python_of, version, versions
from report import add_write_option, table, write_results

os.environ["OMP_NUM_THREADS"] = "1"

HORIZON, PATHS, STEPS, MOST_SECONDS = 48, 200, 10, 60
QUIET = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
TARGETS = {"GluonTS DeepAR": 10, "neuralforecast DeepAR": 100, "neuralforecast GRU": 100}


def main() -> None:
    """Train all models, and time their forecasts in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    add_python_options(parser, *LIBRARIES)
    add_write_option(parser)
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)  # run as another library: its model and the table
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if options.peer:
        answer(*options.peer)
        return

    from rich.console import Console

    from armlp.data import catalog

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, console.status("training") as status:
        source = catalog.get("m4-hourly").load()
        path = Path(folder) / "table.parquet"
        values = long_table(source).assign(unique_id=lambda values: values["unique_id"].astype(str))
        values.to_parquet(path)
        points = values["unique_id"].nunique() * HORIZON
        runs = armlp_forecasts(values, folder)
        for name, library in PEERS.items():
            module = library.__name__
            python = python_of(module, options)
            if version(module, python) is None:
                console.print(f"{name} is left out. {not_installed(module, python)}", markup=False, soft_wrap=True)
            else:
                runs[name] = Peer(python, name, path).seconds
        times: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(options.repeats):
            for name, run in runs.items():
                if sum(times[name]) < MOST_SECONDS:
                    status.update(f"{name}, {repeat + 1} of {options.repeats}")
                    times[name].append(run())
    medians = {name: statistics.median(each) for name, each in times.items()}
    paths = {name: 1 if name.startswith("neuralforecast") else PATHS for name in medians}
    rates = {name: points * paths[name] / seconds for name, seconds in medians.items()}
    rows = []
    for name, rate in rates.items():
        ratio = f"{rates['armlp sample'] / rate:.1f}"
        rows.append((name, f"{medians[name]:.2f}", str(paths[name]), f"{rate:,.0f}", ratio, str(TARGETS.get(name, ""))))
    headings = ("model", "call, s", "paths", "points x paths / s", "armlp sample / this", "target")
    tables = [table("M4 Hourly, 48 steps", headings, rows)]
    write_results(__file__, __doc__, tables, options.write, versions(LIBRARIES, options))


def long_table(source: Any) -> Any:
    """Return a catalog table, or the file of one, as pandas."""
    import pandas as pd

    return source if isinstance(source, pd.DataFrame) else pd.read_parquet(source)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds of the processor that a function takes."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def armlp_forecasts(table: Any, folder: str) -> dict[str, Callable[[], float]]:
    """Return the two forecasts of armlp, timed."""
    import torch

    import armlp

    torch.set_num_threads(1)
    options = {"max_steps": STEPS, "default_root_dir": folder, "enable_progress_bar": False, "accelerator": "cpu"}
    forecaster = armlp.Forecaster(HORIZON, season_length=24, **options).fit(table)
    return {
        "armlp sample": lambda: timed(lambda: forecaster.sample(num_paths=PATHS)),
        "armlp predict": lambda: timed(lambda: forecaster.predict(num_paths=PATHS)),
    }


class Peer:
    """A model of another library in its own process, which trains once and forecasts at each call."""

    def __init__(self, python: str, name: str, table: Path) -> None:
        command = [python, __file__, "--peer", name, str(table)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self) -> float:
        """Return the seconds of a forecast."""
        assert self.process.stdin
        assert self.process.stdout
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def answer(name: str, path: str) -> None:
    """Forecast once for every line of input, and print the seconds; what the library prints is dropped."""
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    answers, nowhere = os.fdopen(os.dup(1), "w"), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    forecast = PEERS[name](name, pd.read_parquet(path))
    for _ in sys.stdin:
        print(timed(forecast), file=answers, flush=True)


def gluonts(name: str, table: Any) -> Callable[[], object]:
    """Return the forecast of DeepAR with the defaults of the class."""
    import pandas as pd
    from gluonts.dataset.common import ListDataset
    from gluonts.torch.model.deepar import DeepAREstimator

    start = pd.Period("2000-01-01", freq="h")
    data = ListDataset([{"start": start, "target": y.to_numpy()} for _, y in table.groupby("unique_id")["y"]], "h")
    with tempfile.TemporaryDirectory() as folder:
        limits = {"max_epochs": 1, "default_root_dir": folder} | QUIET
        estimator = DeepAREstimator(
            freq="h",
            prediction_length=HORIZON,
            num_parallel_samples=PATHS,
            num_batches_per_epoch=STEPS,
            trainer_kwargs=limits,
        )
        predictor = estimator.train(data)
    return lambda: [forecast.samples for forecast in predictor.predict(data)]


def neuralforecast(name: str, table: Any) -> Callable[[], object]:
    """Return the forecast of DeepAR or of a recursive GRU, with a week of context."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import DistributionLoss
    from neuralforecast.models import GRU, DeepAR

    common = {"h": HORIZON, "input_size": 168, "max_steps": STEPS, "scaler_type": "standard"} | QUIET
    loss = DistributionLoss("StudentT", level=[80, 95], num_samples=PATHS)
    if name.endswith("DeepAR"):
        model = DeepAR(trajectory_samples=PATHS, loss=loss, **common)
    else:
        model = GRU(recurrent=True, loss=loss, **common)
    forecaster = NeuralForecast([model], freq=1)
    forecaster.fit(table)
    return lambda: forecaster.predict()


LIBRARIES = ("neuralforecast", "gluonts")
PEERS: dict[str, Callable[[str, Any], Callable[[], object]]] = {
    "GluonTS DeepAR": gluonts,
    "neuralforecast DeepAR": neuralforecast,
    "neuralforecast GRU": neuralforecast,
}


if __name__ == "__main__":
    main()
