"""How accurate are the defaults? Scores on the standard test parts, beside baselines and other libraries.

    python scripts/how_accurate.py [DATA SET ...] [MODEL ...] [--seeds 3] [--peers_python PATH] [--gluonts_python PATH]
                                   [--statsforecast_python PATH] [--limit 600] [--again] [--table]

Each model is fitted on the training part of each data set, with the same settings on all, and its forecasts of the
official test part are scored (`scripts/accuracy/scores.py`). Every result is a row of
`scripts/results/how_accurate.csv`, and `scripts/results/how_accurate.md` is written from all rows. A row that exists is
not run again unless `--again` is set, so that a run can be continued. `--table` only writes the tables. Without names,
all data sets and models run, which takes many hours.

Each of the other libraries runs in its own Python, stopped after `--limit` seconds of the processor; one that is not
installed is left out with a message. Seconds are of one core. Data sets that need a download are read from the folder
ARMLP_DATA where they exist.
"""

from __future__ import annotations

import argparse
import datetime
import os
import warnings
from collections.abc import Iterator
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from accuracy import chaos, results, table
from accuracy.benchmarks import load, names
from accuracy.forecasters import Baselines, Forecast, LeftOutError, armlp_forecasts, peer
from accuracy.scores import owa, scores
from peers import add_python_options, not_installed, python_of
from peers import version as version_in
from report import commit, processor

import armlp
from armlp.training.loop.trainer import quiet

BASELINES = ("seasonal-naive", "naive2", "ridge-ar")
ARMLP = ("armlp-fast", "armlp-default", "armlp-best")
LIBRARIES = {
    "statsforecast": ("AutoETS", "AutoTheta", "AutoARIMA"),
    "gluonts": ("SimpleFeedForward", "DeepAR"),
    "neuralforecast": ("MLP", "NHITS", "NBEATS", "DeepAR"),
}
PEERS = {f"{library}-{model}": library for library, models in LIBRARIES.items() for model in models}
# Of the other libraries, the models that have published results on ETTh1.
ETT_MODELS = (*BASELINES, *ARMLP, "neuralforecast-MLP", "neuralforecast-NHITS")
CHAOS_MODELS = (*ARMLP, *chaos.MODELS)
MODELS = (*BASELINES, *ARMLP, *PEERS, *chaos.MODELS)
DETERMINISTIC = (*BASELINES, *(name for name in PEERS if name.startswith("statsforecast-")), "nvar", "nvar-chosen")


def main() -> None:
    """Run the models that have no results yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    data_sets = (*names(), *chaos.SYSTEMS)
    parser.add_argument("names", nargs="*", metavar="DATA SET or MODEL", help=f"{data_sets}; {MODELS}")
    parser.add_argument("--seeds", type=int, default=3, help="runs of every model that draws random numbers")
    add_python_options(parser, *LIBRARIES)
    parser.add_argument("--limit", type=float, default=600, help="seconds for a fit and forecast of another library")
    parser.add_argument("--again", action="store_true", help="run again what has results")
    parser.add_argument("--table", action="store_true", help="only write the tables")
    options = parser.parse_args()
    if unknown := set(options.names) - {*data_sets, *MODELS}:
        parser.error(
            f"{', '.join(unknown)}: neither a data set ({', '.join(data_sets)}) nor a model ({', '.join(MODELS)})"
        )
    quiet()
    torch.set_num_threads(1)
    chosen = [name for name in data_sets if name in options.names] or data_sets
    models = [name for name in MODELS if name in options.names] or MODELS
    if not options.table:
        for seed in range(options.seeds):
            for data_set in chosen:
                for model in models:
                    run(data_set, model, seed, options)
    table.write()


def run(data_set: str, model: str, seed: int, options: argparse.Namespace) -> None:
    """Write the results of one model on one data set, unless they exist or the model does not suit it."""
    chaotic, ett = data_set in chaos.SYSTEMS, data_set.startswith("etth1-")
    suitable = CHAOS_MODELS if chaotic else ETT_MODELS if ett else (*BASELINES, *ARMLP, *PEERS)
    if model not in suitable or (seed and model in DETERMINISTIC):
        return
    key = {"data": data_set, "model": model, "seed": str(seed)}
    if not options.again and any(key.items() <= row.items() for row in results.read()):
        return
    version: str | None = f"armlp {armlp.__version__} {commit()}"
    if model in PEERS:
        library = PEERS[model]
        python = python_of(library, options)
        version = version_in(library, python)
        if version is None:
            print(f"{model} is left out. {not_installed(library, python)}", flush=True)
            return
        version = f"{library} {version}"
    key |= {"date": f"{datetime.date.today()}", "machine": processor(), "version": str(version)}
    try:
        for row in chaos.results(data_set, model, seed) if chaotic else scored(data_set, model, seed, options):
            results.write_row(key | {name: formatted(name, value) for name, value in row.items()})
            print(*(key | row).values(), flush=True)
    except LeftOutError as reason:
        results.write_row(key | {"note": str(reason)})
        print(*key.values(), reason, flush=True)


def scored(data_set: str, model: str, seed: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Return the scores of one model on one data set; a model of armlp has one row for each horizon of ETTh1."""
    benchmark = load(data_set)
    forecasts: Iterator[Forecast]
    if model in BASELINES:
        forecasts = Baselines(benchmark).forecast(model)
    elif model in ARMLP:
        forecasts = armlp_forecasts(benchmark, model.partition("-")[2], seed)
    else:
        forecasts = peer(benchmark, model, seed, python_of(PEERS[model], options), options.limit)
    for forecast in forecasts:
        benchmark = forecast.benchmark
        truth, baselines = benchmark.truth(), Baselines(benchmark)
        unit = baselines.unit.numpy()
        row = scores(truth, forecast.quantiles, unit, forecast.mean)
        if benchmark.name.startswith("etth1-"):  # the scores that are published
            row = {name: row[name] for name in ("mse", "mae")}
        else:
            naive2 = next(baselines.forecast("naive2")).quantiles
            row["owa"] = owa(row, scores(truth, naive2, unit))
        yield {"data": benchmark.name} | row | {"fit_s": forecast.fit_s, "predict_s": forecast.predict_s}


def formatted(name: str, value: Any) -> str:
    """Return a number with five digits, seconds with one decimal, and an empty string for nan."""
    if isinstance(value, str):
        return value
    return "" if value != value else f"{value:.1f}" if name.endswith("_s") else f"{value:.5g}"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*too short to train on.*")
    main()
