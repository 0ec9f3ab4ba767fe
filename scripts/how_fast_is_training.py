"""How fast is training? Windows a second of a whole `Trainer.fit`, beside bare loops and two other libraries.

    python scripts/how_fast_is_training.py [--peers LIBRARY=PYTHON ...] [--steps 400] [--repeats 5]

Batches of 1,024 windows of 500 series x 1,000, networks 168 -> 256 -> 256 -> 24, one core. A rate is the slope between
a fit of so many steps and one of twice as many, so that what a fit costs once, validation and the checks of the table
among it, does not count. Ours are Lightning's Trainer with all callbacks that `Forecaster` has: checkpoints, early
stopping (of endless patience), dashboard, bar. They are compared with

bare            indexing `values.unfold(0, L+H, 1)`, a Sequential, `mse_loss`, fused AdamW, and nothing else;
same loop       our network and objective (scaling, masks, head) in such a loop: what Lightning and callbacks cost;
textbook        a Dataset with `__getitem__`, a DataLoader without workers, AdamW as it is;
neuralforecast  MLP, and GluonTS' SimpleFeedForward, in interpreters that have them: `--peers neuralforecast=PYTHON
                gluonts=PYTHON`.

All take turns in every repeat; medians of the repeats are told. Seconds are those of the processor in this process,
which other programs of the machine hardly change. The last table is the arithmetic: floating-point operations a second
in the layers, forward and backward, as a share of what `torch.mm` reaches on the same shapes.
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
WANTED = {"bare": 0.85, "textbook DataLoader": 2.0, "neuralforecast MLP": 3.3, "GluonTS SimpleFeedForward": 20.0}


def main() -> None:
    """Measures in turn, and prints the tables."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--peers", nargs="*", default=[], metavar="LIBRARY=PYTHON", help="where a peer is")
    arguments.add_argument("--steps", type=int, default=400, help="of the shorter fit")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--peer", help=argparse.SUPPRESS)  # this process is one of --peers
    given = arguments.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if given.peer is not None:
        answer(PEERS[given.peer])
        return
    from peers import not_installed, version

    runs: dict[str, Callable[[int], float]] = {"bare": bare, "textbook DataLoader": textbook}
    for name, options in MODELS.items():
        runs[f"armlp, {name}"] = lambda steps, options=options: ours(options, steps)
        runs[f"same loop, {name}"] = lambda steps, options=options: same_loop(options, steps)
    runs["armlp, textbook network, bf16-mixed"] = lambda steps: ours(
        MODELS["textbook network, MSE"], steps, precision="bf16-mixed"
    )
    with contextlib.ExitStack() as stack:
        for library, python in (one.split("=", 1) for one in given.peers):
            if version(library, python) is None:
                print(f"{NAMES[library]} is left out. {not_installed(library, python)}", flush=True)
                continue
            runs[NAMES[library]] = stack.enter_context(Peer(library, python)).seconds
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run(2)  # imports, and what is compiled or allocated once
        for _ in range(given.repeats):
            for name, run in runs.items():
                # The slower ones take fewer steps, so that no repeat takes hours.
                steps = given.steps if name not in SLOW else max(10, given.steps // 5)
                seconds[name].append((run(2 * steps) - run(steps)) / steps)
                print(name, f"{1000 * seconds[name][-1]:.2f} ms a step", flush=True)
    report({name: BATCH / statistics.median(found) for name, found in seconds.items()})


def report(rates: dict[str, float]) -> None:
    """Prints windows a second beside each other, and the arithmetic of them."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=120)
    own = next(name for name in rates if name.startswith("armlp"))
    table = Table(
        "", "windows / s", "armlp, textbook network / this", "wanted", title=f"Batches of {BATCH:,}, one core"
    )
    for name, rate in rates.items():
        wanted = WANTED.get(name)
        table.add_row(name, f"{rate:,.0f}", f"{rates[own] / rate:.2f}", "" if wanted is None else f"{wanted:g}")
    console.print(table)
    table = Table("", "armlp / same loop", title="What Lightning, the loader and our callbacks leave of the same loop")
    for name in MODELS:
        table.add_row(name, f"{rates[f'armlp, {name}'] / rates[f'same loop, {name}']:.2f}")
    console.print(table)
    layers = list(itertools.pairwise(SIZES))
    # Forward, the gradient of the weights, and that of the inputs in all layers but the first.
    products = 2 * BATCH * (3 * sum(a * b for a, b in layers) - layers[0][0] * layers[0][1])
    floor = multiplication_seconds(layers)
    table = Table("", "GFLOP / s", "share of torch.mm", title="Arithmetic of the layers")
    table.add_row("torch.mm, the same shapes", f"{products / floor / 1e9:.1f}", "1.00")
    for name in ("bare", own):
        found = BATCH / rates[name]
        table.add_row(name, f"{products / found / 1e9:.1f}", f"{floor / found:.2f}")
    console.print(table)


def multiplication_seconds(layers: list[tuple[int, int]], repeats: int = 60) -> float:
    """Seconds of one step's matrix products by themselves, the median of many."""
    pairs = []
    for number, (wide, narrow) in enumerate(layers):
        rows, weight, gradient = torch.randn(BATCH, wide), torch.randn(wide, narrow), torch.randn(BATCH, narrow)
        pairs += [(rows, weight), (rows.T, gradient)]
        if number:
            pairs.append((gradient, weight.T))
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        for left, right in pairs:
            torch.mm(left, right)
        found.append(time.process_time() - begin)
    return statistics.median(found)


def values() -> np.ndarray:
    """Hourly series of a daily season, `[S, N]` float32."""
    noise = np.random.default_rng(0).standard_normal((SERIES, POINTS))
    level, step = 10 + np.arange(SERIES)[:, None] % 7, np.arange(POINTS)
    return (level + np.sin(2 * np.pi * step / 24) + 0.3 * noise).astype(np.float32)


def long_table() -> Any:
    """The same as a long table of pandas."""
    import pandas as pd

    ids = np.repeat([f"series-{number:03d}" for number in range(SERIES)], POINTS)
    ds = np.tile(pd.date_range("2024-01-01", periods=POINTS, freq="h"), SERIES)
    return pd.DataFrame({"unique_id": ids, "ds": ds, "y": values().ravel()})


def timed(loop: Callable[[], None]) -> float:
    """Seconds of the processor."""
    begin = time.process_time()
    loop()
    return time.process_time() - begin


def sequential() -> nn.Sequential:
    """The textbook's network."""
    return nn.Sequential(
        nn.Linear(SIZES[0], SIZES[1]),
        nn.ReLU(),
        nn.Linear(SIZES[1], SIZES[2]),
        nn.ReLU(),
        nn.Linear(SIZES[2], SIZES[3]),
    )


def bare(steps: int) -> float:
    """Seconds of the least that a training loop does."""

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
    """One window at a time."""

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
    """Seconds of the loop that tutorials teach."""

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
    """Ours, without the calendar, of which the others know nothing."""
    import armlp

    options = {"horizon": HORIZON, "season_length": 24, "batch_size": BATCH, "calendar_inputs": False}
    return armlp.SeriesDataModule(long_table(), **options)


def ours(options: dict[str, Any], steps: int, **trainer_options: Any) -> float:
    """Seconds of a whole fit."""
    from lightning.pytorch import Trainer

    import armlp
    from armlp.report.console import ConsoleListener
    from armlp.report.progress import StepBar
    from armlp.report.runs import RunLogger
    from armlp.report.tensorboard import Dashboard
    from armlp.training.callbacks import BestCheckpoint, LastCheckpoint, StopEarly
    from armlp.training.trainer import BEST, TRAINER

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
    """Seconds of our network and objective in a loop as bare as can be, batches from our loader."""
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
    """Another library in an interpreter of its own, which stays, so that it imports once."""

    def __init__(self, library: str, python: str) -> None:
        command = [python, __file__, "--peer", library]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, steps: int) -> float:
        """Seconds of a whole fit of so many steps."""
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
    """Answers, as a peer, until nobody asks any more; what the library prints goes elsewhere."""
    answers, nowhere = os.fdopen(os.dup(1), "w"), os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    fit = library()
    for line in sys.stdin:
        print(fit(int(line)), file=answers, flush=True)


def neuralforecast() -> Callable[[int], float]:
    """Its MLP, whose steps draw 1,024 windows from 32 series, as they do by default."""
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
    """Its SimpleFeedForward, with a Student's t as its head, as it is by default."""
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
