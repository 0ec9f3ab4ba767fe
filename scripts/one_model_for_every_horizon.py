"""Is one one-step model enough for every horizon? Errors at 96, 192, 336 and 720 hours of ETTh1.

    python scripts/one_model_for_every_horizon.py [--part val|test] [--models 'none K=24,none K=1'] [--write]
        [NAME=VALUE ...]

The protocol is the standard one: 12, 4 and 4 months of 30 x 24 hours to train, validate and test, seven channels
standardised by their training part, and every window of a part at stride 1, whose context may begin before the part.
The models are linear (no hidden layer) and emit one value a call. They differ in K, the number of calls chained in a
training example (K=1 is teacher forcing), and in the scaler of the window: `none`, or `standard`, with which forecasts
follow the level of the context. `standard` is the default of the package; `none` is better on the validation part and
worse on the test part.

Every `NAME=VALUE`, such as `max_steps=100`, replaces an option of `ForecastModule`, `SeriesDataModule` or the Trainer.
The defaults were chosen on the validation part. The file is read from the folder ARMLP_DATA, or downloaded.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import pandas as pd
import torch
import yaml
from lightning.pytorch import seed_everything
from report import add_write_option, table, write_results
from torch import Tensor
from what_helps import train

import armlp
from armlp.data import catalog
from armlp.routing import pop_options
from armlp.training.loop.trainer import quiet

MONTH = 30 * 24
BORDERS = {"train": 12 * MONTH, "val": 16 * MONTH, "test": 20 * MONTH}
HORIZONS = (96, 192, 336, 720)
# Published, one model per horizon: Zeng et al. (2023), Li et al. (2023), Nie et al. (2023).
PUBLISHED = {
    "DLinear": (0.375, 0.405, 0.439, 0.472),
    "RLinear": (0.366, 0.404, 0.420, 0.442),
    "PatchTST": (0.370, 0.413, 0.422, 0.447),
}
# Chosen on the validation part: scripts/LOG.md.
CHOSEN: dict[str, Any] = {
    "context_length": 336,
    "patch_length": 1,
    "hidden_sizes": [],
    "residual_blocks": 0,
    "dropout": 0.0,
    "mask_input": False,
    "input_noise": 0.0,
    "season_length": 24,
    "seasonal_skip": False,
    "channels": 1,
    "head": "point",
    "loss_units": "data",
    "feed": "mean",
    "weight_decay": 0.0,
    "batch_size": 256,
    "learning_rate": 2e-3,
}
# The numbers of steps and the larger K of each scaler were also chosen on the validation part.
MODELS: dict[str, dict[str, Any]] = {
    "none K=24": {"scaler": "none", "unroll": 24, "max_steps": 500},
    "none K=1": {"scaler": "none", "unroll": 1, "max_steps": 1000},
    "standard K=96": {"scaler": "standard", "unroll": 96, "max_steps": 500},
    "standard K=1": {"scaler": "standard", "unroll": 1, "max_steps": 1000},
}


def main() -> None:
    """Measure one row per model."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("val", "test"), default="test")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*", metavar="NAME=VALUE")
    add_write_option(parser)
    options = parser.parse_args()
    replaced = {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in options.words)}
    values = standardised()
    rows = []
    for name in options.models.split(","):
        begin = time.perf_counter()
        network = trained_network(values, {"seed": options.seed} | CHOSEN | MODELS[name] | replaced)
        fitted = time.perf_counter()
        squares, absolutes = errors(network, values, options.part)
        seconds = (f"{fitted - begin:.0f}", f"{time.perf_counter() - fitted:.0f}")
        cells = [f"{square:.3f} ({absolute:.3f})" for square, absolute in zip(squares, absolutes, strict=True)]
        rows.append((name, *cells, *seconds))
        print(*rows[-1], *options.words, flush=True)
    if options.part == "test":
        for name, numbers in PUBLISHED.items():
            means = (*numbers, sum(numbers) / len(numbers))
            rows.append((f"{name}, published, 4 models", *(f"{number:.3f}" for number in means), "", ""))
    headings = ("scaler and K", *map(str, HORIZONS), "mean", "fit, s", "rollout, s")
    tables = [table(f"ETTh1, {options.part} part: MSE (MAE) by horizon", headings, rows)]
    write_results(__file__, __doc__, tables, options.write)


def standardised() -> pd.DataFrame:
    """Return the 20 months as a wide table; channels have mean 0 and standard deviation 1 in the training part."""
    table = pd.read_csv(catalog.get("etth1").load(), index_col="date", parse_dates=True).iloc[: BORDERS["test"]]
    train = table.iloc[: BORDERS["train"]]
    return (table - train.mean()) / train.std(ddof=0)


def trained_network(values: pd.DataFrame, options: dict[str, Any]) -> armlp.AutoregressiveMLP:
    """Return a network trained on the training part alone."""
    seed_everything(options["seed"], verbose=False)
    # Without calendar inputs, as in the published figures.
    held_out = {
        "calendar_inputs": False,
        "horizon": 96,
        "val_windows": 4 * MONTH // 96,
        "test_windows": 4 * MONTH // 96,
    }
    data = armlp.SeriesDataModule(
        values.reset_index(),
        time_column="date",
        layout="wide",
        **held_out | pop_options(armlp.SeriesDataModule, options),
    )
    module = armlp.ForecastModule(**pop_options(armlp.ForecastModule, options))
    train(module, data, options)
    assert module.network is not None
    return module.network.eval()


def errors(network: armlp.AutoregressiveMLP, values: pd.DataFrame, part: str) -> tuple[list[float], list[float]]:
    """Return MSE and MAE at every horizon and their means, over all channels, windows and leads of a part."""
    last = BORDERS[part]
    first = last - 4 * MONTH
    series = torch.tensor(values.to_numpy().T, dtype=torch.float32)  # [S, N]
    origins = range(first, last - HORIZONS[0] + 1)
    contexts = torch.cat([series[:, origin - network.context_length : origin] for origin in origins])
    forecasts = armlp.rollout(network, contexts, HORIZONS[-1])[:, 0].unflatten(0, (len(origins), -1))  # [W, S, H]
    squares, absolutes = [], []
    for horizon in HORIZONS:
        truth = series[:, first:last].unfold(1, horizon, 1).transpose(0, 1)
        error: Tensor = forecasts[: len(truth), :, :horizon] - truth
        squares.append(error.square().mean().item())
        absolutes.append(error.abs().mean().item())
    return [*squares, sum(squares) / len(squares)], [*absolutes, sum(absolutes) / len(absolutes)]


if __name__ == "__main__":
    main()
