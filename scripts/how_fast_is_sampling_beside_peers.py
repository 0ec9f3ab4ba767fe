"""How fast are sampled forecasts? M4 Hourly, 200 paths of 48 steps: a whole forecast call, beside other libraries.

    python scripts/how_fast_is_sampling_beside_peers.py [--peers_python PATH] [--gluonts_python PATH] [--repeats 5]

    armlp sample      Forecaster.sample(), the default recipe: paths as an array
    armlp predict     Forecaster.predict(): the table of the median and of two intervals
    GluonTS           DeepAR, predictor.predict(): its paths
    neuralforecast    DeepAR and a recursive GRU, both of Student's t: NeuralForecast.predict(), its table. Both feed
                      back means: they roll out one path, however many values they draw from the law of each step

Every model is trained for ten steps, which do not change what a forecast costs, and then forecasts on one core what
follows the training part. Peers run in interpreters of their own; what is not installed is left out, which is said.
All take turns, but what has taken a minute in all has no more. A rate is points times the paths that are rolled out,
by the median of the seconds of the processor. The file is read from the folder ARMLP_DATA if it is there, and
downloaded otherwise.
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

os.environ["OMP_NUM_THREADS"] = "1"

HORIZON, PATHS, STEPS, SLOW = 48, 200, 10, 60
QUIET = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
WANTED = {"GluonTS DeepAR": 10, "neuralforecast DeepAR": 100, "neuralforecast GRU": 100}


def main() -> None:
    """Trains all, lets them take turns, and prints the rates."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--peers_python", default=sys.executable, help="has neuralforecast")
    arguments.add_argument("--gluonts_python", default=sys.executable, help="has gluonts[torch]")
    arguments.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)  # this process is one: its name and the table
    given = arguments.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if given.peer:
        answer(*given.peer)
        return

    from peers import not_installed, version
    from rich.console import Console
    from rich.table import Table

    from armlp.data import catalog

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, console.status("training") as status:
        source = catalog.get("m4-hourly").load()
        path = Path(folder) / "table.parquet"
        table = long_table(source).assign(unique_id=lambda table: table["unique_id"].astype(str))
        table.to_parquet(path)
        points = table["unique_id"].nunique() * HORIZON
        runs = ours(table, folder)
        for name, library in PEERS.items():
            module = library.__name__
            python = given.gluonts_python if module == "gluonts" else given.peers_python
            if version(module, python) is None:
                console.print(f"{name} is left out. {not_installed(module, python)}", markup=False, soft_wrap=True)
            else:
                runs[name] = Peer(python, name, path).seconds
        found: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(given.repeats):
            for name, run in runs.items():
                if sum(found[name]) < SLOW:
                    status.update(f"{name}, {repeat + 1} of {given.repeats}")
                    found[name].append(run())
    taken = {name: statistics.median(each) for name, each in found.items()}
    paths = {name: 1 if name.startswith("neuralforecast") else PATHS for name in taken}
    rates = {name: points * paths[name] / value for name, value in taken.items()}
    table = Table("M4 Hourly, 48 steps", "call, s", "paths", "points x paths / s", "armlp sample / this", "to reach")
    for name, rate in rates.items():
        ratio = f"{rates['armlp sample'] / rate:.1f}"
        table.add_row(name, f"{taken[name]:.2f}", str(paths[name]), f"{rate:,.0f}", ratio, str(WANTED.get(name, "")))
    Console().print(table)


def long_table(source: Any) -> Any:
    """A catalog table, or the file of one, as pandas."""
    import pandas as pd

    return source if isinstance(source, pd.DataFrame) else pd.read_parquet(source)


def timed(run: Callable[[], object]) -> float:
    """Seconds of the processor."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def ours(table: Any, folder: str) -> dict[str, Callable[[], float]]:
    """This library's two ways."""
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
    """A library in an interpreter of its own, which trains once and stays."""

    def __init__(self, python: str, name: str, table: Path) -> None:
        command = [python, __file__, "--peer", name, str(table)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self) -> float:
        """Seconds of a forecast."""
        assert self.process.stdin
        assert self.process.stdout
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def answer(name: str, path: str) -> None:
    """Forecasts, as a peer, until nobody asks any more; what the library prints goes elsewhere."""
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    answers, nowhere = os.fdopen(os.dup(1), "w"), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    forecast = PEERS[name](name, pd.read_parquet(path))
    for _ in sys.stdin:
        print(timed(forecast), file=answers, flush=True)


def gluonts(name: str, table: Any) -> Callable[[], object]:
    """Its DeepAR with the defaults of the class."""
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
    """Its DeepAR, or its GRU as a recursion, with a week of context."""
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


PEERS: dict[str, Callable[[str, Any], Callable[[], object]]] = {
    "GluonTS DeepAR": gluonts,
    "neuralforecast DeepAR": neuralforecast,
    "neuralforecast GRU": neuralforecast,
}


if __name__ == "__main__":
    main()
