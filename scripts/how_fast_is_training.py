"""How fast is training? Windows a second of a whole `Trainer.fit`, beside bare loops and two other libraries.

    python scripts/how_fast_is_training.py [--peers_python PATH] [--gluonts_python PATH] [--steps 400] [--repeats 5]
        [--write]

Batches of 1,024 windows of 500 series x 1,000, networks 168 -> 256 -> 256 -> 24, one core. A rate is the slope between
a fit of so many steps and one of twice as many, which leaves out what a fit costs once, such as reading the table.
`armlp` is Lightning's Trainer with all callbacks of `Forecaster`: checkpoints, early stopping (that never stops),
dashboard, progress bar. It is compared with

    bare            indexing `values.unfold(0, L+H, 1)`, a Sequential, `mse_loss`, fused AdamW, and nothing else
    same loop       the network and objective of armlp (scaling, masks, head) in such a loop; the difference is the
                    cost of Lightning and the callbacks
    textbook        a Dataset with `__getitem__`, a DataLoader without workers, AdamW with its defaults
    neuralforecast  its MLP
    GluonTS         its SimpleFeedForward

Each of the other libraries runs in its own Python; one that is not installed is left out with a message. All take turns
in every repeat, and the tables hold medians. Seconds are of the processor in each process, which other programs hardly
change. The last table has the floating-point operations a second in the layers, forward and backward, as a share of
what `torch.mm` reaches on the same shapes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from peers import add_python_options, not_installed, python_of, version, versions
from report import add_write_option, table, write_results
from torch import Tensor, nn

SERIES, POINTS, CONTEXT, HORIZON, BATCH = 500, 1_000, 168, 24, 1024
SIZES = (CONTEXT, 256, 256, HORIZON)
NETWORK = {
    "context_length": CONTEXT, "patch_length": HORIZON, "unroll": 1, "hidden_sizes": [256, 256], "residual_blocks": 0,
    "activation": "relu", "dropout": 0.0, "input_noise": 0.0, "non_negative": False,
}  # fmt: skip
MODELS = {
    "textbook network, MSE": {"head": "point", "scaler": "none", "linear_skip": False, "seasonal_skip": False},
    "scaler and skips, MSE": {"head": "point", "level_input": False},
    "scaler and skips, quantile head": {"head": "quantile"},
}
TARGETS = {"bare": 0.85, "textbook DataLoader": 2.0, "neuralforecast MLP": 3.3, "GluonTS SimpleFeedForward": 20.0}


def main() -> None:
    """Measure all in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_python_options(parser, *NAMES)
    parser.add_argument("--steps", type=int, default=400, help="of the shorter fit")
    parser.add_argument("--repeats", type=int, default=5)
    add_write_option(parser)
    parser.add_argument("--peer", help=argparse.SUPPRESS)  # run as another library
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if options.peer is not None:
        answer(PEERS[options.peer])
        return

    runs: dict[str, Callable[[int], float]] = {"bare": bare, "textbook DataLoader": textbook}
    for name, model in MODELS.items():
        runs[f"armlp, {name}"] = lambda steps, model=model: armlp_fit(model, steps)
        runs[f"same loop, {name}"] = lambda steps, model=model: same_loop(model, steps)
    runs["armlp, textbook network, bf16-mixed"] = lambda steps: armlp_fit(
        MODELS["textbook network, MSE"], steps, precision="bf16-mixed"
    )
    with contextlib.ExitStack() as stack:
        for library in NAMES:
            python = python_of(library, options)
            if version(library, python) is None:
                print(f"{NAMES[library]} is left out. {not_installed(library, python)}", flush=True)
                continue
            runs[NAMES[library]] = stack.enter_context(Peer(library, python)).seconds
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run(2)  # imports, and what is compiled or allocated once
        for _ in range(options.repeats):
            for name, run in runs.items():
                # The slow ones take fewer steps, so that a repeat takes minutes.
                steps = options.steps if name not in SLOW else max(10, options.steps // 5)
                seconds[name].append((run(2 * steps) - run(steps)) / steps)
                print(name, f"{1000 * seconds[name][-1]:.2f} ms a step", flush=True)
    tables = tables_of({name: BATCH / statistics.median(values) for name, values in seconds.items()})
    write_results(__file__, __doc__, tables, options.write, versions(tuple(NAMES), options))


def tables_of(rates: dict[str, float]) -> list[str]:
    """Return tables of windows a second, of the cost of Lightning, and of the arithmetic."""
    reference = next(name for name in rates if name.startswith("armlp"))
    rows = [
        (name, f"{rate:,.0f}", f"{rates[reference] / rate:.2f}", f"{TARGETS[name]:g}" if name in TARGETS else "")
        for name, rate in rates.items()
    ]
    headings = ("loop", "windows / s", "armlp, textbook network / this", "target")
    speed = table(f"Batches of {BATCH:,}, one core", headings, rows)
    rows = [(name, f"{rates[f'armlp, {name}'] / rates[f'same loop, {name}']:.2f}") for name in MODELS]
    overhead = table("Speed with Lightning, the loader and the callbacks", ("network", "armlp / same loop"), rows)
    layers = list(itertools.pairwise(SIZES))
    # Forward, the gradient of the weights, and that of the inputs in all layers but the first.
    products = 2 * BATCH * (3 * sum(a * b for a, b in layers) - layers[0][0] * layers[0][1])
    floor = multiplication_seconds(layers)
    rows = [("torch.mm, the same shapes", f"{products / floor / 1e9:.1f}", "1.00")]
    for name in ("bare", reference):
        seconds = BATCH / rates[name]
        rows.append((name, f"{products / seconds / 1e9:.1f}", f"{floor / seconds:.2f}"))
    return [speed, overhead, table("Arithmetic of the layers", ("loop", "GFLOP / s", "share of torch.mm"), rows)]


def multiplication_seconds(layers: list[tuple[int, int]], repeats: int = 60) -> float:
    """Return the median seconds of the matrix products of one step."""
    pairs = []
    for number, (wide, narrow) in enumerate(layers):
        rows, weight, gradient = torch.randn(BATCH, wide), torch.randn(wide, narrow), torch.randn(BATCH, narrow)
        pairs += [(rows, weight), (rows.T, gradient)]
        if number:
            pairs.append((gradient, weight.T))
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        for left, right in pairs:
            torch.mm(left, right)
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds)


def values() -> np.ndarray:
    """Return hourly series with a daily season, `[S, N]` float32."""
    noise = np.random.default_rng(0).standard_normal((SERIES, POINTS))
    level, step = 10 + np.arange(SERIES)[:, None] % 7, np.arange(POINTS)
    return (level + np.sin(2 * np.pi * step / 24) + 0.3 * noise).astype(np.float32)


def long_table() -> Any:
    """Return the same values as a long table of pandas."""
    import pandas as pd

    ids = np.repeat([f"series-{number:03d}" for number in range(SERIES)], POINTS)
    ds = np.tile(pd.date_range("2024-01-01", periods=POINTS, freq="h"), SERIES)
    return pd.DataFrame({"unique_id": ids, "ds": ds, "y": values().ravel()})


def timed(loop: Callable[[], None]) -> float:
    """Return the seconds of the processor that a function takes."""
    begin = time.process_time()
    loop()
    return time.process_time() - begin


def sequential() -> nn.Sequential:
    """Return the network of a textbook."""
    return nn.Sequential(
        nn.Linear(SIZES[0], SIZES[1]),
        nn.ReLU(),
        nn.Linear(SIZES[1], SIZES[2]),
        nn.ReLU(),
        nn.Linear(SIZES[2], SIZES[3]),
    )


def bare(steps: int) -> float:
    """Return the seconds of the barest training loop."""

    def loop() -> None:
        flat = torch.from_numpy(values()).flatten()
        first = (torch.arange(SERIES)[:, None] * POINTS + torch.arange(POINTS - CONTEXT - 2 * HORIZON + 1)).flatten()
        windows, order = flat.unfold(0, CONTEXT + HORIZON, 1), first[torch.randperm(len(first))].split(BATCH)
        network = sequential()
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, fused=True)
        for step in range(steps):
            context, target = windows[order[step % (len(order) - 1)]].split([CONTEXT, HORIZON], 1)
            optimizer.zero_grad()
            F.mse_loss(network(context), target).backward()
            optimizer.step()

    return timed(loop)


class TextbookWindows(torch.utils.data.Dataset):
    """Windows of all series, one at a time."""

    def __init__(self) -> None:
        self.series = torch.from_numpy(values())
        self.count = POINTS - CONTEXT - 2 * HORIZON + 1

    def __len__(self) -> int:
        return SERIES * self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number, first = divmod(index, self.count)
        row = self.series[number]
        return row[first : first + CONTEXT], row[first + CONTEXT : first + CONTEXT + HORIZON]


def textbook(steps: int) -> float:
    """Return the seconds of the training loop of a tutorial."""

    def batches() -> Iterator[list[Tensor]]:
        while True:
            yield from torch.utils.data.DataLoader(TextbookWindows(), BATCH, shuffle=True, drop_last=True)

    def loop() -> None:
        network = sequential()
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
        for _, (context, target) in zip(range(steps), batches(), strict=False):
            optimizer.zero_grad()
            F.mse_loss(network(context), target).backward()
            optimizer.step()

    return timed(loop)


def data() -> Any:
    """Return the data module, without calendar inputs, which the other loops do not have."""
    import armlp

    options = {"horizon": HORIZON, "season_length": 24, "batch_size": BATCH, "calendar_inputs": False}
    return armlp.SeriesDataModule(long_table(), **options)


def armlp_fit(options: dict[str, Any], steps: int, **trainer_options: Any) -> float:
    """Return the seconds of a whole fit."""
    from lightning.pytorch import Trainer

    import armlp
    from armlp.report.console import ConsoleListener
    from armlp.report.progress import StepBar
    from armlp.report.runs import RunLogger
    from armlp.report.tensorboard import Dashboard
    from armlp.training.loop.callbacks import BestCheckpoint, LastCheckpoint, StopEarly
    from armlp.training.loop.trainer import BEST, TRAINER

    def fit() -> None:
        callbacks = [BestCheckpoint(**BEST), LastCheckpoint(), Dashboard(), StepBar(), ConsoleListener()]
        callbacks.append(StopEarly(patience=steps))
        logger = {"logger": RunLogger(folder), "default_root_dir": folder}
        trainer = Trainer(**TRAINER | trainer_options | logger, max_steps=steps, callbacks=callbacks)
        trainer.fit(armlp.ForecastModule(**NETWORK | options), datamodule=data())
        assert trainer.global_step == steps

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        return timed(fit)


def same_loop(options: dict[str, Any], steps: int) -> float:
    """Return the seconds of the network and objective of armlp in a bare loop, with batches of its loader."""
    import armlp
    from armlp.training.objective import unrolled_objective

    def loop() -> None:
        source = data()
        module = armlp.ForecastModule(**NETWORK | options)
        module.settle(source)
        network = module.network
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, fused=True)
        epochs = itertools.repeat(source.train_dataloader())
        for _, windows in zip(range(steps), itertools.chain.from_iterable(epochs), strict=False):
            optimizer.zero_grad()
            unrolled_objective(network, windows).loss.backward()
            optimizer.step()

    return timed(loop)


class Peer:
    """Another library in its own process, which imports once and fits at each call."""

    def __init__(self, library: str, python: str) -> None:
        command = [python, __file__, "--peer", library]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, steps: int) -> float:
        """Return the seconds of a whole fit of so many steps."""
        assert self.process.stdin
        assert self.process.stdout
        print(steps, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: Any) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def answer(library: Callable[[], Callable[[int], float]]) -> None:
    """Fit once for every number of steps in the input, and print the seconds; what the library prints is dropped."""
    answers, nowhere = os.fdopen(os.dup(1), "w"), os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    fit = library()
    for line in sys.stdin:
        print(fit(int(line)), file=answers, flush=True)


def neuralforecast() -> Callable[[int], float]:
    """Return a fit of its MLP, whose steps draw 1,024 windows from 32 series, the default."""
    from neuralforecast import NeuralForecast
    from neuralforecast.models import MLP

    table = long_table()
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}

    def fit(steps: int) -> float:
        model = MLP(
            h=HORIZON, input_size=CONTEXT, num_layers=2, hidden_size=256, max_steps=steps,
            windows_batch_size=BATCH, learning_rate=2e-3, **quiet,
        )  # fmt: skip
        return timed(lambda: NeuralForecast([model], freq="h").fit(table, val_size=0))

    return fit


def gluonts() -> Callable[[int], float]:
    """Return a fit of its SimpleFeedForward, with Student's t, the default."""
    import pandas as pd
    from gluonts.dataset.common import ListDataset
    from gluonts.torch import SimpleFeedForwardEstimator

    start = pd.Period("2024-01-01", freq="h")
    series = ListDataset([{"start": start, "target": row} for row in values()], freq="h")
    quiet = {"enable_progress_bar": False, "logger": False, "accelerator": "cpu"}

    def fit(steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            estimator = SimpleFeedForwardEstimator(
                prediction_length=HORIZON, context_length=CONTEXT, hidden_dimensions=[256, 256], batch_size=BATCH,
                num_batches_per_epoch=steps, trainer_kwargs={"max_epochs": 1, "default_root_dir": folder, **quiet},
            )  # fmt: skip
            return timed(lambda: estimator.train(series))

    return fit


PEERS: dict[str, Callable[[], Callable[[int], float]]] = {
    "neuralforecast": neuralforecast,
    "gluonts": gluonts,
}
NAMES = {"neuralforecast": "neuralforecast MLP", "gluonts": "GluonTS SimpleFeedForward"}
SLOW = tuple(NAMES.values())


if __name__ == "__main__":
    main()
