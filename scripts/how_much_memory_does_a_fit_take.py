"""How much memory does a fit take? Peaks on 20,000 series of 1,000 values, beside bare loops and other libraries.

    python scripts/how_much_memory_does_a_fit_take.py [PROGRAM ...] [--peers_python PATH] [--gluonts_python PATH]
        [--write]

Every program runs in a new process on the same Parquet file (integer ids and times, float32 values). It takes 50 steps
of 1,024 windows of 168 + 24 values and trains a network 168 -> 256 -> 256 -> 24:

    bare            indexing `values.unfold(0, L+H, 1)`, no validation
    textbook        a Dataset with `__getitem__`, a shuffling DataLoader without workers, no validation
    armlp           `Forecaster.fit` on the file, with validation of all series
    neuralforecast  its MLP on the file as pandas reads it, no validation
    gluonts         its SimpleFeedForward on a `ListDataset` of arrays, in its default batches of 32, no validation

Peaks are VmHWM of Linux: resident memory, shared libraries included. 1 MB is 10^6 bytes. A library that is not
installed is left out with a message.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile

from peers import EXTRAS, add_python_options, not_installed, python_of, version, versions
from report import add_write_option, table, write_results

# A new process writes the file, because on Linux the peak of a process is at least that of its parent.
WRITE = """
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
step = np.arange(1000)
schema = pa.schema([("unique_id", pa.int32()), ("ds", pa.int64()), ("y", pa.float32())])
with pq.ParquetWriter("table.parquet", schema) as file:
    for first in range(0, 20000, 1000):
        ids = np.arange(first, first + 1000)[:, None]
        noise = np.random.default_rng(first).standard_normal((1000, 1000))
        y = 10 + ids % 7 + np.sin(2 * np.pi * step / 24) + 0.3 * noise
        columns = [np.repeat(ids.astype(np.int32), 1000), np.tile(step, 1000), y.astype(np.float32).ravel()]
        file.write_table(pa.table(columns, schema=schema))
"""
ARRAY = """
import numpy as np, pyarrow.parquet as pq
values = pq.read_table("table.parquet", columns=["y"])["y"].to_numpy().reshape(20000, 1000)
"""
LOOP = """
network = torch.nn.Sequential(
    torch.nn.Linear(168, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 24)
)
optimizer = torch.optim.AdamW(network.parameters())
for _, (context, target) in zip(range(50), batches):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(network(context), target).backward()
    optimizer.step()
"""
BARE = f"""
import torch
{ARRAY}
windows = torch.from_numpy(values).flatten().unfold(0, 192, 1)
first = (torch.arange(20000)[:, None] * 1000 + torch.arange(809)).flatten()
batches = (windows[rows].split([168, 24], 1) for rows in first[torch.randperm(len(first))].split(1024))
{LOOP}
"""
TEXTBOOK = f"""
import torch
{ARRAY}
class Windows(torch.utils.data.Dataset):
    def __len__(self):
        return 20000 * 809
    def __getitem__(self, index):
        series, first = divmod(index, 809)
        window = values[series, first : first + 192]
        return window[:168], window[168:]
batches = torch.utils.data.DataLoader(Windows(), 1024, shuffle=True)
{LOOP}
"""
ARMLP = """
import armlp
forecaster = armlp.Forecaster(
    24, season_length=24, context_length=168, patch_length=24, hidden_sizes=[256, 256], residual_blocks=0, dropout=0.0,
    batch_size=1024, max_steps=50, enable_progress_bar=False,
)
forecaster.fit("table.parquet")
"""
NEURALFORECAST = """
import pandas as pd
from neuralforecast import NeuralForecast
from neuralforecast.models import MLP
model = MLP(
    h=24, input_size=168, num_layers=2, hidden_size=256, max_steps=50, windows_batch_size=1024,
    enable_progress_bar=False, logger=False, enable_checkpointing=False, accelerator="cpu",
)
NeuralForecast([model], freq=1).fit(pd.read_parquet("table.parquet"), val_size=0)
"""
GLUONTS = f"""
import pandas as pd
from gluonts.dataset.common import ListDataset
from gluonts.torch import SimpleFeedForwardEstimator
{ARRAY}
start = pd.Period("2024-01-01", freq="h")
series = ListDataset([{{"start": start, "target": row}} for row in values], freq="h")
SimpleFeedForwardEstimator(
    prediction_length=24, context_length=168, hidden_dimensions=[256, 256], num_batches_per_epoch=50,
    trainer_kwargs={{"max_epochs": 1, "enable_progress_bar": False, "logger": False, "accelerator": "cpu"}},
).train(series)
"""
PEERS = ("neuralforecast", "gluonts")
PEAK = """
import re
print("peak", re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""


def main() -> None:
    """Run the programs one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="of the list above; all if none is named")
    add_python_options(parser, *PEERS)
    add_write_option(parser)
    options = parser.parse_args()
    programs = {
        "bare": (sys.executable, BARE),
        "textbook": (sys.executable, TEXTBOOK),
        "armlp": (sys.executable, ARMLP),
        "neuralforecast": (python_of("neuralforecast", options), NEURALFORECAST),
        "gluonts": (python_of("gluonts", options), GLUONTS),
    }
    if unknown := set(options.programs) - set(programs):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(programs)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, WRITE, folder)
        for name in options.programs or programs:
            python, program = programs[name]
            if name in EXTRAS and version(name, python) is None:
                print(f"{name} is left out. {not_installed(name, python)}", file=sys.stderr)
                continue
            peak = run(python, program, folder)
            print(name, f"{peak / 1e6:,.0f} MB", file=sys.stderr, flush=True)
            rows.append((name, f"{peak / 1e6:,.0f}"))
    tables = [table("Memory of a fit, 20,000 series x 1,000", ("program", "peak, MB"), rows)]
    write_results(__file__, __doc__, tables, options.write, versions(PEERS, options))


def run(python: str, program: str, folder: str) -> int:
    """Run a program, and return its peak of memory in bytes."""
    done = subprocess.run([python, "-c", program + PEAK], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-3000:]}")
    return 1024 * int(done.stdout.split("peak ")[-1])


if __name__ == "__main__":
    main()
