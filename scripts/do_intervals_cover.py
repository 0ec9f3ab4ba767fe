"""Do intervals cover what they say? Coverage of 80% and 95% intervals, uncalibrated and recalibrated.

    python scripts/do_intervals_cover.py [--part inner] [--windows 1] [--step H] [--seeds 1] [--write] [DATA SET ...]
    python scripts/do_intervals_cover.py --single 200 [--part inner] [--write]

Every data set is fitted once per seed with `Forecaster(horizon=H, season_length=m)` and nothing else. Its last windows
are forecast without recalibration (`off`), with `split` and with `adaptive`. `--part inner` holds out the end of the
training part and may serve choices; `--part official` is the official test part, one window, and may not.

The table has the share of values in the 80% / 95% intervals, in percent; of several origins also by origin, of more
than 8 also in their later half. The last row is the mean distance from 80 and 95 over the data sets.

`--single N` instead draws N series at random from M3, a third of them yearly, quarterly and monthly each, and fits and
forecasts every one alone, with all defaults. MASE is that of the median; the seasonal naive's stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accuracy.benchmarks import COMPETITIONS, load, long_table
from report import add_write_option, table, write_results

from armlp import Forecaster
from armlp.data import catalog
from armlp.evaluation.metrics.base import covered
from armlp.training.loop.checkpoint import read_checkpoint

SINGLE = ("period", "series", "in 80 / 95%", "MASE", "of the seasonal naive", "seconds each")
KINDS = ("off", "split", "adaptive")
LEVELS = (80, 95)


def main() -> None:
    """Prints one row per data set and seed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=COMPETITIONS, metavar="DATA SET")
    parser.add_argument("--part", choices=("inner", "official"), default="inner")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--step", type=int)
    parser.add_argument("--horizon", type=int, help="by default that of the catalog")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max_steps", type=int, help="of the training; fewer for a quick look")
    add_write_option(parser)
    parser.add_argument("--single", type=int, help="fit so many series of M3 alone, instead of data sets")
    options = parser.parse_args()
    if options.single is not None:
        tables = [table(f"Single series of M3, {options.part} part", SINGLE, single_series(options))]
        write_results(__file__, __doc__, tables, options.write)
        return
    if options.part == "official":
        options.windows, options.step, options.horizon = 1, None, None
    rows = []
    coverages: dict[str, list[dict[int, float]]] = {kind: [] for kind in KINDS}
    for name in options.names:
        for seed in range(options.seeds):
            found = backtests(name, seed, options)
            rows.append((name, str(seed), *(summary(found[kind]) for kind in KINDS)))
            print(*rows[-1], sep=" | ", flush=True)
            for kind, backtest in found.items():
                coverages[kind].append(coverage(backtest))
    shares = [level / 100 for level in LEVELS]
    distances = (100 * (pd.DataFrame(each) - shares).abs().mean() for each in coverages.values())
    rows.append(("mean distance", "", *(" / ".join(f"{value:.2f}" for value in each) for each in distances)))
    tables = [table(f"Coverage of 80% / 95% intervals, {options.part} part", ("data set", "seed", *KINDS), rows)]
    write_results(__file__, __doc__, tables, options.write)


def single_series(options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Return a row for each period of M3, and one for all of them."""
    found = []
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for period in ("yearly", "quarterly", "monthly"):
            benchmark = load(f"m3-{period}")
            kept = 0 if options.part == "official" else benchmark.horizon  # rows at the end that are left out
            least = 2 * benchmark.horizon + 8
            series = [one.iloc[: len(one) - kept] for _, one in benchmark.table.groupby("unique_id")]
            series = [one for one in series if len(one) >= least]
            order = np.random.default_rng(0).permutation(len(series))[: -(-options.single // 3)]
            tasks = [(series[index], benchmark.horizon, benchmark.season_length) for index in order]
            for result in pool.map(single, tasks):
                found.append({"period": period} | result)
                print(
                    *(f"{value:.2f}" if isinstance(value, float) else value for value in found[-1].values()), flush=True
                )
    results = pd.DataFrame(found)
    rows = []
    for name, part in (*results.groupby("period", sort=False), ("all", results)):
        means = part.drop(columns="period").mean()
        cover = f"{100 * means['in 80']:.1f} / {100 * means['in 95']:.1f}"
        others = (f"{means[column]:.2f}" for column in ("mase", "naive", "seconds"))
        rows.append((name, str(len(part)), cover, *others))
    return rows


def single(task: tuple[pd.DataFrame, int, int]) -> dict[str, float]:
    """Fit one series without its last H values, forecast these, and return scores."""
    values, horizon, season = task
    past, truth = values.iloc[:-horizon], values["y"].to_numpy()[-horizon:]
    begin = time.perf_counter()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        forecaster = Forecaster(horizon, season_length=season, enable_progress_bar=False, logger=False).fit(past)
        forecast = forecaster.predict(levels=LEVELS)
    scores = {f"in {level}": coverage(forecast.assign(y=truth))[level] for level in LEVELS}
    history = past["y"].to_numpy()
    unit = np.abs(history[season:] - history[:-season]).mean()
    naive = np.tile(history[-season:], -(-horizon // season))[:horizon]
    scores |= {"mase": np.abs(truth - forecast["armlp"]).mean() / unit, "naive": np.abs(truth - naive).mean() / unit}
    return scores | {"seconds": time.perf_counter() - begin}


def backtests(name: str, seed: int, options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Return the backtest tables of one fit, by kind of recalibration."""
    entry = catalog.get(name)
    values = series_of(entry)
    if options.part == "official":
        values = pd.concat([values, long_table(entry.load_test())])
    training: dict[str, Any] = {"test_windows": options.windows, "test_step": options.step}
    training |= {} if options.max_steps is None else {"max_steps": options.max_steps}
    horizon = options.horizon or entry.defaults.horizon
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        quietly = {"default_root_dir": folder, "enable_progress_bar": False}
        season = entry.defaults.season_length
        forecaster = Forecaster(horizon, seed=seed, season_length=season, conformal="split", **training, **quietly)
        forecaster.fit(values).save(Path(folder) / "model.ckpt")
        for kind in KINDS:
            checkpoint = read_checkpoint(Path(folder) / "model.ckpt")
            checkpoint["hyper_parameters"]["conformal"] = kind
            torch.save(checkpoint, Path(folder) / "kind.ckpt")
            loaded = Forecaster.load(Path(folder) / "kind.ckpt", enable_progress_bar=False)
            tables[kind] = loaded.backtest(values, options.windows, options.step, levels=LEVELS)
    return tables


def series_of(entry: catalog.Entry) -> pd.DataFrame:
    """Return the training part as a long table; each column of a wide table is a series."""
    source = entry.load()
    if str(source).endswith(".csv"):
        wide = pd.read_csv(source, parse_dates=["date"]).rename(columns={"date": "ds"})
        return wide.melt("ds", var_name="unique_id", value_name="y")
    return long_table(source)


def coverage(backtest: pd.DataFrame) -> dict[int, float]:
    """Return the share of observed values in the intervals, by level."""
    rows = backtest[backtest["y"].notna()]
    return {level: covered(rows["y"], rows[f"armlp-lo-{level}"], rows[f"armlp-hi-{level}"]).mean() for level in LEVELS}


def summary(backtest: pd.DataFrame) -> str:
    """Return the coverage over all origins; then that of each of a few origins, or of the later half of many."""
    rank = backtest.groupby("unique_id")["cutoff"].rank("dense").astype(int)
    overall = percent(backtest)
    if 1 < rank.max() <= 8:
        return f"{overall} (by origin {', '.join(percent(part) for _, part in backtest.groupby(rank))})"
    return overall if rank.max() == 1 else f"{overall} (later half {percent(backtest[rank > rank.max() / 2])})"


def percent(backtest: pd.DataFrame) -> str:
    """Return the coverage of all levels in percent."""
    return " / ".join(f"{100 * share:.1f}" for share in coverage(backtest).values())


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*too short to train on.*")
    warnings.filterwarnings("ignore", message=".*too few to recalibrate by.*")
    main()
