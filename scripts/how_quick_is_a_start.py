"""How quick is a start? From nothing to the first forecast of AirPassengers, each time in a new process.

    python scripts/how_quick_is_a_start.py [PROGRAM ...] [--repeats 5] [--peers_python PATH] [--gluonts_python PATH]
        [--statsforecast_python PATH]

Every program reads the same file of 144 months, trains if it has to, and prints a forecast of 12 more:

    armlp in Python             Forecaster().fit(table).predict(), every option left to the data
    armlp predict               from a checkpoint that was trained before
    armlp fit, armlp predict    two commands, two processes
    armlp --help                no forecast: what it costs to ask
    import                      no forecast: Lightning, imported as it is
    import without gc           the same without looking for garbage
    quick import                what the program imports, `armlp.cli` with all libraries, as the program imports it
    textbook                    `import torch`, and a small MLP that takes as many steps as armlp does, then rolled out
    neuralforecast              the first example of its README: NBEATS, 100 steps
    gluonts                     the first example of its README: DeepAR, 5 epochs of 50 steps
    statsforecast               AutoETS, which has nothing to do with neural networks

The peers' interpreters are options, because they can seldom share an environment with others; the default is the one
that runs this script. What is not installed is left out, which is said. Every program runs once before it is timed, so
that files are compiled and known to the system.

All run unless some are named by how their names begin. They take turns; medians are told. `to the forecast` ends when
it is printed, `whole` when the last process has ended; CPU seconds are those of the processes, with all their threads,
which other programs disturb less. Peaks are of resident memory, of the largest process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from peers import not_installed, version
from rich.console import Console
from rich.table import Table

# This process has to stay small: on Linux the peak of a process is at least that of the one that started it.
SOURCE = "from armlp.data import catalog; catalog.resolve('air-passengers')[0].to_csv('table.csv', index=False)"
STEPS = "import sys, torch; print(torch.load(sys.argv[1], weights_only=True)['global_step'])"
READ = "import pandas as pd; table = pd.read_csv('table.csv', parse_dates=['ds'])"
ARMLP = f"""
import armlp; {READ}
forecaster = armlp.Forecaster(horizon=12, enable_progress_bar=False).fit(table)
print("forecast", forecaster.predict()["armlp"].tolist())
"""
IMPORT = "import lightning.pytorch; print('forecast []')"
QUICK_IMPORT = """
from armlp.__main__ import import_cli
import_cli()
print("forecast []")
"""
TEXTBOOK = """
import csv, torch
with open("table.csv") as file:
    values = torch.tensor([float(row["y"]) for row in csv.DictReader(file)])
center, spread = values.mean(), values.std()
windows = ((values - center) / spread).unfold(0, 37, 1)
network = torch.nn.Sequential(torch.nn.Linear(36, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimizer = torch.optim.Adam(network.parameters())
for _ in range({steps}):
    batch = windows[torch.randint(len(windows), (32,))]
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(network(batch[:, :-1]), batch[:, -1:]).backward()
    optimizer.step()
context = windows[-1, 1:]
with torch.no_grad():
    for _ in range(12):
        context = torch.cat([context, network(context[-36:])])
print("forecast", (context[-12:] * spread + center).tolist())
"""
NEURALFORECAST = f"""
from neuralforecast import NeuralForecast
from neuralforecast.models import NBEATS
{READ}
forecaster = NeuralForecast(models=[NBEATS(input_size=24, h=12, max_steps=100)], freq="MS")
forecaster.fit(df=table)
print("forecast", forecaster.predict()["NBEATS"].tolist())
"""
GLUONTS = f"""
from gluonts.dataset.pandas import PandasDataset
from gluonts.torch import DeepAREstimator
{READ}
columns = dict(item_id="unique_id", timestamp="ds", target="y")
dataset = PandasDataset.from_long_dataframe(table, **columns, freq="M")
estimator = DeepAREstimator(prediction_length=12, freq="M", trainer_kwargs={{"max_epochs": 5}})
print("forecast", [one.median.tolist() for one in estimator.train(dataset).predict(dataset)])
"""
STATSFORECAST = f"""
from statsforecast import StatsForecast
from statsforecast.models import AutoETS
{READ}
forecaster = StatsForecast(models=[AutoETS(season_length=12)], freq="MS")
print("forecast", forecaster.forecast(df=table, h=12)["AutoETS"].tolist())
"""


class Cost(NamedTuple):
    """What one run of a program took: seconds until the forecast and in all, seconds of CPU, and bytes at the peak."""

    forecast: float
    whole: float
    cpu: float
    peak: float


def main() -> None:
    """Runs all programs in turn, and prints the medians."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("programs", nargs="*", default=[""], metavar="PROGRAM", help="of the list above")
    arguments.add_argument("--repeats", type=int, default=5, help="of every program")
    arguments.add_argument("--peers_python", default=sys.executable, help="has neuralforecast")
    arguments.add_argument("--gluonts_python", default=sys.executable, help="has gluonts[torch]")
    arguments.add_argument("--statsforecast_python", default=sys.executable, help="has statsforecast")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-c", SOURCE], check=True)
        measured: dict[str, list[Cost]] = {}
        found = {name: run for name, run in programs(given).items() if name.startswith(tuple(given.programs))}
        for repeat in range(given.repeats + 1):
            for name, commands in found.items():
                costs = cost(commands)
                if repeat:
                    measured.setdefault(name, []).append(costs)
                print(repeat, name, *(f"{value:.3g}" for value in costs), file=sys.stderr, flush=True)
    table = Table("", "to the forecast, s", "whole, s", "CPU, s", "peak, MB", title="Cold start")
    for name, costs in measured.items():
        forecast, whole, cpu, peak = map(statistics.median, zip(*costs, strict=True))
        table.add_row(name, *(f"{value:.1f}" for value in (forecast, whole, cpu)), f"{peak / 1e6:,.0f}")
    Console().print(table)


def programs(given: argparse.Namespace) -> dict[str, list[list[str]]]:
    """The commands of every program that can be run here."""
    ours = [sys.executable, "-m", "armlp"]
    fit = [*ours, "fit", "--data.source", "table.csv", "--data.horizon", "12", "--trainer.enable_progress_bar", "false"]
    cost([[*fit, "--trainer.default_root_dir", "before"]])
    run = Path("before/lightning_logs/version_0/checkpoints")
    steps = subprocess.check_output([sys.executable, "-c", STEPS, str(run / "last.ckpt")], text=True).strip()
    predict = [*ours, "predict", "--forecast.output", "forecast.csv", "--ckpt_path"]
    # The second command finds what the first has left, in a folder that is its own.
    both = [
        [*fit, "--trainer.default_root_dir", "now"],
        [*predict, "now/lightning_logs/version_0/checkpoints/best.ckpt"],
    ]
    found = {
        "armlp in Python": [[sys.executable, "-c", ARMLP]],
        "armlp predict": [[*predict, str(run / "best.ckpt")]],
        "armlp fit, armlp predict": [["rm", "-rf", "now"], *both],
        "armlp --help": [[*ours, "--help"]],
        "import": [[sys.executable, "-c", IMPORT]],
        "import without gc": [[sys.executable, "-c", f"import gc; gc.disable(); {IMPORT}"]],
        "quick import": [[sys.executable, "-c", QUICK_IMPORT]],
        f"textbook, {steps} steps": [[sys.executable, "-c", TEXTBOOK.replace("{steps}", steps)]],
    }
    peers = {
        "neuralforecast": (given.peers_python, NEURALFORECAST),
        "gluonts": (given.gluonts_python, GLUONTS),
        "statsforecast": (given.statsforecast_python, STATSFORECAST),
    }
    for name, (python, program) in peers.items():
        known = version(name, python)
        if known is None:
            print(f"{name} is left out. {not_installed(name, python)}", file=sys.stderr)
        else:
            found[f"{name} {known}"] = [[python, "-c", program]]
    return found


def cost(commands: list[list[str]]) -> Cost:
    """What commands take that follow each other."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # whose files are compiled anew at every start
    begin, forecast, cpu, peak = time.perf_counter(), None, 0.0, 0.0
    for command in commands:
        with (
            open("said.txt", "w+") as said,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if "forecast [" in line:  # a progress bar may stand before it
                    forecast = time.perf_counter() - begin
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{command} failed:\n{said.read()[-3000:]}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, 1024 * usage.ru_maxrss)  # Linux counts it in KiB
    whole = time.perf_counter() - begin
    return Cost(whole if forecast is None else forecast, whole, cpu, peak)


if __name__ == "__main__":
    main()
