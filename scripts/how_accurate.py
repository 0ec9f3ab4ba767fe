"""How accurate are the defaults, beside baselines and other libraries? The standard test parts, scored alike.

    python scripts/how_accurate.py [DATA SET ...] [MODEL ...] [--seeds 3] [--peers_python PATH] [--gluonts_python PATH]
                                   [--stats_python PATH] [--limit 600] [--again] [--table]

Each model is fitted on the training part of each data set with the same settings on all, and its forecasts of the
official test part are scored once: `scripts/accuracy/scores.py` says how. Every result is a row of
`scripts/results/how_accurate.csv`, and the table `scripts/results/how_accurate.md` is written from all of them. Rows
that are there are not run again (`--again` does), so a run can be continued; `--table` runs nothing. With neither data
sets nor models named it runs all of them: hours.

Peers run in interpreters of their own, each stopped after `--limit` seconds; what is not installed is left out, which
is said. Seconds are those of one core. Data sets that must be downloaded are read from the folder ARMLP_DATA if they
are there.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from accuracy import chaos, results, table
from accuracy.benchmarks import load, names
from accuracy.forecasters import Baselines, Forecast, LeftOutError, ours, peer
from accuracy.scores import owa, scores
from peers import not_installed
from peers import version as version_in

import armlp
from armlp.training.trainer import quiet

BASELINES = ("seasonal-naive", "naive2", "ridge-ar")
OURS = ("armlp-fast", "armlp-default", "armlp-best")
LIBRARIES = {
    "statsforecast": ("AutoETS", "AutoTheta", "AutoARIMA"),
    "gluonts": ("SimpleFeedForward", "DeepAR"),
    "neuralforecast": ("MLP", "NHITS", "NBEATS", "DeepAR"),
}
PEERS = {f"{library}-{model}": library for library, models in LIBRARIES.items() for model in models}
# One model per horizon: those alone that are known for it.
OF_ETT = (*BASELINES, *OURS, "neuralforecast-MLP", "neuralforecast-NHITS")
OF_CHAOS = (*OURS, *chaos.MODELS)
MODELS = (*BASELINES, *OURS, *PEERS, *chaos.MODELS)
SEEDLESS = (*BASELINES, *(name for name, library in PEERS.items() if library == "statsforecast"), "nvar", "nvar-chosen")


def main() -> None:
    """Runs what is not there yet, and writes the table."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = (*names(), *chaos.SYSTEMS)
    arguments.add_argument("names", nargs="*", metavar="DATA SET or MODEL", help=f"{known}; {MODELS}")
    arguments.add_argument("--seeds", type=int, default=3, help="of models that draw anything; 0, 1, ...")
    arguments.add_argument("--peers_python", default=sys.executable, help="has neuralforecast")
    arguments.add_argument("--gluonts_python", default=sys.executable, help="has gluonts[torch]")
    arguments.add_argument("--stats_python", default=sys.executable, help="has statsforecast")
    arguments.add_argument("--limit", type=float, default=600, help="seconds for a fit and forecast of a peer")
    arguments.add_argument("--again", action="store_true", help="run also what there are results of")
    arguments.add_argument("--table", action="store_true", help="write the table only")
    given = arguments.parse_args()
    if unknown := set(given.names) - {*known, *MODELS}:
        arguments.error(
            f"{', '.join(unknown)}: neither a data set ({', '.join(known)}) nor a model ({', '.join(MODELS)})"
        )
    quiet()
    torch.set_num_threads(1)
    data_sets = [name for name in known if name in given.names] or list(known)
    models = [name for name in MODELS if name in given.names] or list(MODELS)
    if not given.table:
        for seed in range(given.seeds):
            for data_set in data_sets:
                for model in models:
                    run(data_set, model, seed, given)
    table.write()


def run(data_set: str, model: str, seed: int, given: argparse.Namespace) -> None:
    """One result, if it is to be had and not there."""
    chaotic, ett = data_set in chaos.SYSTEMS, data_set.startswith("etth1-")
    suited = OF_CHAOS if chaotic else OF_ETT if ett else (*BASELINES, *OURS, *PEERS)
    if model not in suited or (seed and model in SEEDLESS):
        return
    key = {"data": data_set, "model": model, "seed": str(seed)}
    if not given.again and any(key.items() <= row.items() for row in results.read()):
        return
    version: str | None = f"armlp {armlp.__version__}{commit()}"
    if model in PEERS:
        library = PEERS[model]
        version = version_in(library, python_of(library, given))
        if version is None:
            print(f"{model} is left out. {not_installed(library, python_of(library, given))}", flush=True)
            return
        version = f"{library} {version}"
    key |= {"date": f"{datetime.date.today()}", "machine": machine(), "version": str(version)}
    try:
        for found in chaos.results(data_set, model, seed) if chaotic else scored(data_set, model, seed, given):
            results.put(key | {name: spelled(name, value) for name, value in found.items()})
            print(*(value for value in (key | found).values()), flush=True)
    except LeftOutError as reason:
        results.put(key | {"note": str(reason)})
        print(*key.values(), reason, flush=True)


def scored(data_set: str, model: str, seed: int, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The scores of one model on one data set; of ours on all horizons of ETTh1."""
    benchmark = load(data_set)
    forecasts: Iterator[Forecast]
    if model in BASELINES:
        forecasts = Baselines(benchmark).forecast(model)
    elif model in OURS:
        forecasts = ours(benchmark, model.partition("-")[2], seed)
    else:
        forecasts = peer(benchmark, model, seed, python_of(PEERS[model], given), given.limit)
    for forecast in forecasts:
        benchmark = forecast.benchmark
        truth, baselines = benchmark.truth(), Baselines(benchmark)
        unit = baselines.unit.numpy()
        row = scores(truth, forecast.quantiles, unit, forecast.mean)
        if benchmark.name.startswith("etth1-"):  # as it is scored everywhere
            row = {name: row[name] for name in ("mse", "mae")}
        else:
            naive2 = next(baselines.forecast("naive2")).quantiles
            row["owa"] = owa(row, scores(truth, naive2, unit))
        yield {"data": benchmark.name} | row | {"fit_s": forecast.fit_s, "predict_s": forecast.predict_s}


def python_of(library: str, given: argparse.Namespace) -> str:
    """The interpreter that has a library."""
    names = {"statsforecast": given.stats_python, "gluonts": given.gluonts_python}
    return str(names.get(library, given.peers_python))


def spelled(name: str, value: Any) -> str:
    """A number in five digits, seconds in tenths; nothing for what is not known."""
    if isinstance(value, str):
        return value
    return "" if value != value else f"{value:.1f}" if name.endswith("_s") else f"{value:.5g}"


def machine() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """The state of the package's repository, if it is in one."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    run = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], capture_output=True).returncode
    return "" if run.returncode else f" {run.stdout.strip()}{'+' if changed else ''}"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*too short to train on.*")
    main()
