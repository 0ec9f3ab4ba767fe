"""Do intervals cover what they say, as they come from the network and recalibrated?

    python scripts/do_intervals_cover.py [--part inner] [--windows 1] [--step H] [--seeds 1] [DATA SET ...]

Every data set is fitted once per seed with `Forecaster(horizon=H, season_length=m)` and nothing else, and its last
windows are forecast without recalibration, with `split`, and with `adaptive`. `inner` holds out the end of the training
part, which is what one may choose by; `official` is the official test part, one window, to be looked at last.
Printed is the share of values in the 80%/95% intervals, in all and by origin (of more than 8: in their later half),
then the mean distance from 80 and 95 over the data sets.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accuracy.benchmarks import COMPETITIONS, long_table

from armlp import Forecaster
from armlp.data import catalog
from armlp.evaluation.metrics.base import covered
from armlp.training.checkpoint import read_checkpoint

KINDS = ("off", "split", "adaptive")
LEVELS = (80, 95)


def main() -> None:
    """Prints one row per data set and seed."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("names", nargs="*", default=COMPETITIONS, metavar="DATA SET")
    arguments.add_argument("--part", choices=("inner", "official"), default="inner")
    arguments.add_argument("--windows", type=int, default=1)
    arguments.add_argument("--step", type=int)
    arguments.add_argument("--horizon", type=int, help="that of the catalog where left out")
    arguments.add_argument("--seeds", type=int, default=1)
    options = arguments.parse_args()
    if options.part == "official":
        options.windows, options.step, options.horizon = 1, None, None
    found: dict[str, list[pd.DataFrame]] = {kind: [] for kind in KINDS}
    for name in options.names:
        for seed in range(options.seeds):
            tables = backtests(name, seed, options)
            print(name, seed, *(f"| {kind} {spelled(tables[kind])}" for kind in KINDS), flush=True)
            for kind, table in tables.items():
                found[kind].append(coverage(table))
    for kind, rows in found.items():
        off = 100 * (pd.DataFrame(rows) - [level / 100 for level in LEVELS]).abs()
        print(f"mean distance, {kind}: " + " / ".join(f"{off[level].mean():.2f}" for level in LEVELS))


def backtests(name: str, seed: int, options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """The backtest tables of one fit, by kind of recalibration."""
    entry = catalog.get(name)
    table = series_of(entry)
    if options.part == "official":
        table = pd.concat([table, long_table(entry.load_test())])
    windows: dict[str, Any] = {"test_windows": options.windows, "test_step": options.step}
    horizon = options.horizon or entry.options.horizon
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        quietly = {"default_root_dir": folder, "enable_progress_bar": False}
        season = entry.options.season_length
        forecaster = Forecaster(horizon, seed=seed, season_length=season, conformal="split", **windows, **quietly)
        forecaster.fit(table).save(Path(folder) / "model.ckpt")
        for kind in KINDS:
            checkpoint = read_checkpoint(Path(folder) / "model.ckpt")
            checkpoint["hyper_parameters"]["conformal"] = kind
            torch.save(checkpoint, Path(folder) / "kind.ckpt")
            loaded = Forecaster.load(Path(folder) / "kind.ckpt", enable_progress_bar=False)
            tables[kind] = loaded.backtest(table, options.windows, options.step, levels=LEVELS)
    return tables


def series_of(entry: catalog.Entry) -> pd.DataFrame:
    """The training part as a long table; each column of a wide one is a series."""
    source = entry.load()
    if str(source).endswith(".csv"):
        wide = pd.read_csv(source, parse_dates=["date"]).rename(columns={"date": "ds"})
        return wide.melt("ds", var_name="unique_id", value_name="y")
    return long_table(source)


def coverage(table: pd.DataFrame) -> dict[int, float]:
    """The share of observed values in the intervals, by level."""
    table = table[table["y"].notna()]
    return {
        level: covered(table["y"], table[f"armlp-lo-{level}"], table[f"armlp-hi-{level}"]).mean() for level in LEVELS
    }


def spelled(table: pd.DataFrame) -> str:
    """Coverage in all; then of each of a few origins, or of the later half of many."""
    rank = table.groupby("unique_id")["cutoff"].rank("dense").astype(int)
    said = _percent(table)
    if 1 < rank.max() <= 8:
        return f"{said} (by origin {', '.join(_percent(part) for _, part in table.groupby(rank))})"
    return said if rank.max() == 1 else f"{said} (later half {_percent(table[rank > rank.max() / 2])})"


def _percent(table: pd.DataFrame) -> str:
    return "/".join(f"{100 * share:.1f}" for share in coverage(table).values())


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*too short to train on.*")
    warnings.filterwarnings("ignore", message=".*too few to recalibrate by.*")
    main()
