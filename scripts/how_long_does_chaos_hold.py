"""How long does a forecast of chaos hold? Rolls out one-step and direct models of Lorenz from its full state.

    python scripts/how_long_does_chaos_hold.py [--part val|test] [--models one-step,direct] [max_steps=2000 ...]

Both models see the last states (x, y, z), every 0.02 units of time, each channel standardised, and are trained by
mean squared error on the same 10,000 points. The one-step model was trained to emit the next state only, the direct
one the next 100; both are rolled out from 40 starts after the training part. A forecast holds until the root mean
square over the channels of its error, in standard deviations of the attractor, exceeds 0.4: that valid time is told in
Lyapunov times, 1 / 0.9056 units of time each, in which a small error grows e-fold. Every `name=value` is an option of
`ForecastModule`, `SeriesDataModule` or the Trainer in place of what was chosen on the validation starts, which are
another stretch of the same trajectory.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from lightning.pytorch import seed_everything
from rich.console import Console
from rich.table import Table
from what_helps import train

import armlp
from armlp.data.catalog import generated
from armlp.routing import pop_options
from armlp.training.trainer import quiet

STEP, EXPONENT, LIMIT = 0.02, 0.9056, 0.4
POINTS, STARTS, APART, HORIZON = 10_000, 40, 250, 1000
FIRST = {"val": POINTS + 500, "test": POINTS + 500 + STARTS * APART + HORIZON}
# Chosen on the validation starts: scripts/LOG.md.
CHOSEN: dict[str, Any] = {
    "context_length": 2,
    "unroll": 1,
    "hidden_sizes": [128],
    "residual_blocks": 2,
    "dropout": 0.0,
    "mask_input": False,
    "input_noise": 0.0,
    "season_length": 1,
    "channels": 3,
    "head": "point",
    "scaler": "none",
    "loss_units": "data",
    "optimizer": "muon",
    "weight_decay": 0.0,
    "batch_size": 256,
    "learning_rate": 5e-3,
    "max_steps": 12_000,
}
PATCH = {"one-step": 1, "direct": 100}


def main() -> None:
    """Prints one row per model."""
    quiet()
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--part", choices=FIRST, default="test")
    arguments.add_argument("--models", default=",".join(PATCH))
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("options", nargs="*", metavar="NAME=VALUE")
    given = arguments.parse_args()
    options = {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in given.options)}
    states = trajectory()
    table = Table(title=f"Lorenz, valid time in Lyapunov times, {STARTS} {given.part} starts", title_justify="left")
    for heading in ("model", "seed", "median", "10%", "90%", "longest", "one-step RMSE", "fit s"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name in given.models.split(","):
        for seed in range(given.seeds):
            begin = time.perf_counter()
            network = trained(states, CHOSEN | {"patch_length": PATCH[name], "seed": seed} | options)
            seconds = time.perf_counter() - begin
            times, first_error = valid_times(network, states, FIRST[given.part])
            spread = [f"{np.quantile(times, level):.2f}" for level in (0.5, 0.1, 0.9, 1)]
            row = (name, str(seed), *spread, f"{first_error:.1e}", f"{seconds:.0f}")
            table.add_row(*row)
            print(*row, *given.options, flush=True)
    Console(width=110).print(table)


def trajectory() -> np.ndarray:
    """`[N, 3]` states on the attractor, each channel with mean 0 and standard deviation 1 over the training part."""

    def slope(state: np.ndarray) -> np.ndarray:
        x, y, z = state
        return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    transient, substeps = 1000, 5
    length = FIRST["test"] + STARTS * APART + HORIZON
    states = generated._runge_kutta(slope, np.ones(3), STEP / substeps, (transient + length) * substeps)
    states = states[substeps - 1 :: substeps][transient:]
    train = states[:POINTS]
    return (states - train.mean(0)) / train.std(0)


def trained(states: np.ndarray, options: dict[str, Any]) -> armlp.AutoregressiveMLP:
    """A network trained on the first 10,000 points."""
    seed_everything(options["seed"], verbose=False)
    held_out = 100  # the data module wants a validation window; nothing looks at it
    table = pd.DataFrame(states[: POINTS + held_out], columns=list("xyz")).assign(ds=np.arange(POINTS + held_out))
    data_options = {"layout": "vector", "horizon": held_out, "season_length": 1}
    data = armlp.SeriesDataModule(table, **data_options | pop_options(armlp.SeriesDataModule, options))
    module = armlp.ForecastModule(**pop_options(armlp.ForecastModule, options))
    train(module, data, options)
    assert module.network is not None
    return module.network.eval()


def valid_times(network: armlp.AutoregressiveMLP, states: np.ndarray, first: int) -> tuple[np.ndarray, float]:
    """How long the forecast from every start holds, `[40]` Lyapunov times, and the RMSE of the first step."""
    origins = first + APART * np.arange(STARTS)
    contexts = np.stack([states[origin - network.context_length : origin] for origin in origins])
    truth = np.stack([states[origin : origin + HORIZON] for origin in origins])
    forecast = armlp.rollout(network, torch.tensor(contexts, dtype=torch.float32), HORIZON)[:, 0].numpy()
    error = np.sqrt(((forecast - truth) ** 2).mean(-1))  # [40, H]
    wrong = np.concatenate([error > LIMIT, np.ones((STARTS, 1), dtype=bool)], 1)
    return wrong.argmax(1) * STEP * EXPONENT, float(np.sqrt((error[:, 0] ** 2).mean()))


if __name__ == "__main__":
    main()
