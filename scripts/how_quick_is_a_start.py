"""How quick is a start? Time from a new process to the first forecast of AirPassengers.

    python scripts/how_quick_is_a_start.py [PROGRAM ...] [--repeats 5] [--peers_python PATH] [--gluonts_python PATH]
        [--statsforecast_python PATH] [--write]

Every program reads the same file of 144 months, trains if it needs to, and prints a forecast of the next 12:

    armlp in Python             Forecaster().fit(table).predict(), every option chosen from the data
    armlp predict               from a checkpoint that was trained before
    armlp fit, armlp predict    two commands, two processes
    armlp --help                no forecast
    import                      no forecast: `import lightning.pytorch`
    import without gc           the same with garbage collection off
    quick import                no forecast: all libraries as the program imports them, `armlp.__main__.import_cli`
    textbook                    `import torch`, and a small MLP that takes as many steps as armlp and is rolled out
    neuralforecast              the first example of its README: NBEATS, 100 steps
    gluonts                     the first example of its README: DeepAR, 5 epochs of 50 steps
    statsforecast               AutoETS, no neural network

A PROGRAM is the beginning of such a name; all run if none is given. Every program runs once before it is timed, so that
Python files are compiled and cached. A library that is not installed is left out with a message.

Programs take turns, and the table holds medians. `to the forecast` ends when the forecast is printed, `whole` when the
last process has ended. CPU seconds are of the processes with all their threads; other programs affect them less. Peaks
are of resident memory, of the largest process.
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

from peers import add_python_options, not_installed, python_of, version, versions
from report import add_write_option, table, write_results

PEERS = ("neuralforecast", "gluonts", "statsforecast")
# These run in new processes, because on Linux the peak of a process is at least that of its parent.
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
    """Cost of one run of a program: seconds to the forecast and in total, CPU seconds, and peak of memory in bytes."""

    forecast: float
    whole: float
    cpu: float
    peak: float


def main() -> None:
    """Run the programs in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs="*", default=[""], metavar="PROGRAM", help="beginning of a name in the list")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of every program")
    add_python_options(parser, *PEERS)
    add_write_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-c", SOURCE], check=True)
        measured: dict[str, list[Cost]] = {}
        chosen = {name: run for name, run in programs(options).items() if name.startswith(tuple(options.programs))}
        for repeat in range(options.repeats + 1):
            for name, commands in chosen.items():
                costs = cost(commands)
                if repeat:
                    measured.setdefault(name, []).append(costs)
                print(repeat, name, *(f"{value:.3g}" for value in costs), file=sys.stderr, flush=True)
    rows = []
    for name, costs in measured.items():
        forecast, whole, cpu, peak = map(statistics.median, zip(*costs, strict=True))
        rows.append((name, *(f"{value:.1f}" for value in (forecast, whole, cpu)), f"{peak / 1e6:,.0f}"))
    headings = ("program", "to the forecast, s", "whole, s", "CPU, s", "peak, MB")
    tables = [table("Start to forecast in a new process", headings, rows)]
    write_results(__file__, __doc__, tables, options.write, versions(PEERS, options))


def programs(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Return the commands of every program that can be run here, by name."""
    ours = [sys.executable, "-m", "armlp"]
    fit = [*ours, "fit", "--data.source", "table.csv", "--data.horizon", "12", "--trainer.enable_progress_bar", "false"]
    cost([[*fit, "--trainer.default_root_dir", "before"]])
    run = Path("before/lightning_logs/version_0/checkpoints")
    steps = subprocess.check_output([sys.executable, "-c", STEPS, str(run / "last.ckpt")], text=True).strip()
    predict = [*ours, "predict", "--forecast.output", "forecast.csv", "--ckpt_path"]
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
    for name, program in zip(PEERS, (NEURALFORECAST, GLUONTS, STATSFORECAST), strict=True):
        python = python_of(name, options)
        installed = version(name, python)
        if installed is None:
            print(f"{name} is left out. {not_installed(name, python)}", file=sys.stderr)
        else:
            found[f"{name} {installed}"] = [[python, "-c", program]]
    return found


def cost(commands: list[list[str]]) -> Cost:
    """Run commands one after the other, and return what they cost."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # it would compile all files at every start
    begin, forecast, cpu, peak = time.perf_counter(), None, 0.0, 0.0
    for command in commands:
        with (
            open("errors.txt", "w+") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if "forecast [" in line:  # a progress bar may precede it
                    forecast = time.perf_counter() - begin
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                errors.seek(0)
                raise SystemExit(f"{command} failed:\n{errors.read()[-3000:]}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, 1024 * usage.ru_maxrss)  # in KiB on Linux
    whole = time.perf_counter() - begin
    return Cost(whole if forecast is None else forecast, whole, cpu, peak)


if __name__ == "__main__":
    main()
