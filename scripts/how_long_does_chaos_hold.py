"""How long does a forecast of chaos hold? Valid times of a one-step and a direct model of Lorenz' equations.

    python scripts/how_long_does_chaos_hold.py [--part val|test] [--models one-step,direct] [--seeds 1] [--write]
        [NAME=VALUE ...]

Both models get the last states (x, y, z), sampled every 0.02 units of time, each channel standardised, and are trained
by mean squared error on the same 10,000 points. One call of the one-step model emits the next state, one call of the
direct model the next 100. Both are rolled out from 40 starts after the training part. A forecast holds until the root
mean square over the channels of its error, in standard deviations of the attractor, exceeds 0.4. This valid time is in
Lyapunov times, 1 / 0.9056 units of time each, in which a small error grows by a factor of e.

Every `NAME=VALUE`, such as `max_steps=2000`, replaces an option of `ForecastModule`, `SeriesDataModule` or the Trainer.
The defaults were chosen on the validation starts, another stretch of the same trajectory.
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
from report import add_write_option, table, write_results
from what_helps import train

import armlp
from armlp.data.catalog import generated
from armlp.routing import pop_options
from armlp.training.loop.trainer import quiet

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
    """Measure one row per model and seed."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=FIRST, default="test")
    parser.add_argument("--models", default=",".join(PATCH))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("words", nargs="*", metavar="NAME=VALUE")
    add_write_option(parser)
    options = parser.parse_args()
    replaced = {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in options.words)}
    states = trajectory()
    rows = []
    for name in options.models.split(","):
        for seed in range(options.seeds):
            begin = time.perf_counter()
            network = trained_network(states, CHOSEN | {"patch_length": PATCH[name], "seed": seed} | replaced)
            seconds = time.perf_counter() - begin
            times, first_error = valid_times(network, states, FIRST[options.part])
            quantiles = [f"{np.quantile(times, level):.2f}" for level in (0.5, 0.1, 0.9, 1)]
            rows.append((name, str(seed), *quantiles, f"{first_error:.1e}", f"{seconds:.0f}"))
            print(*rows[-1], *options.words, flush=True)
    title = f"Valid time from {STARTS} {options.part} starts, Lyapunov times"
    headings = ("model", "seed", "median", "10%", "90%", "longest", "RMSE of the first step", "fit, s")
    write_results(__file__, __doc__, [table(title, headings, rows)], options.write)


def trajectory() -> np.ndarray:
    """Return states on the attractor `[N, 3]`; channels have mean 0 and standard deviation 1 in the training part."""

    def slope(state: np.ndarray) -> np.ndarray:
        x, y, z = state
        return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    transient, substeps = 1000, 5
    length = FIRST["test"] + STARTS * APART + HORIZON
    states = generated._runge_kutta(slope, np.ones(3), STEP / substeps, (transient + length) * substeps)
    states = states[substeps - 1 :: substeps][transient:]
    train = states[:POINTS]
    return (states - train.mean(0)) / train.std(0)


def trained_network(states: np.ndarray, options: dict[str, Any]) -> armlp.AutoregressiveMLP:
    """Return a network trained on the first 10,000 points."""
    seed_everything(options["seed"], verbose=False)
    held_out = 100  # the data module needs a validation window, which is not used
    table = pd.DataFrame(states[: POINTS + held_out], columns=list("xyz")).assign(ds=np.arange(POINTS + held_out))
    data_options = {"layout": "vector", "horizon": held_out, "season_length": 1}
    data = armlp.SeriesDataModule(table, **data_options | pop_options(armlp.SeriesDataModule, options))
    module = armlp.ForecastModule(**pop_options(armlp.ForecastModule, options))
    train(module, data, options)
    assert module.network is not None
    return module.network.eval()


def valid_times(network: armlp.AutoregressiveMLP, states: np.ndarray, first: int) -> tuple[np.ndarray, float]:
    """Return the valid time of every start in Lyapunov times, `[40]`, and the RMSE of the first step."""
    origins = first + APART * np.arange(STARTS)
    contexts = np.stack([states[origin - network.context_length : origin] for origin in origins])
    truth = np.stack([states[origin : origin + HORIZON] for origin in origins])
    forecast = armlp.rollout(network, torch.tensor(contexts, dtype=torch.float32), HORIZON)[:, 0].numpy()
    error = np.sqrt(((forecast - truth) ** 2).mean(-1))  # [40, H]
    wrong = np.concatenate([error > LIMIT, np.ones((STARTS, 1), dtype=bool)], 1)
    return wrong.argmax(1) * STEP * EXPONENT, float(np.sqrt((error[:, 0] ** 2).mean()))


if __name__ == "__main__":
    main()
