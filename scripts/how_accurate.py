"""How accurate are the defaults? Trains, forecasts and scores on the official splits of named data sets.

    python scripts/how_accurate.py [--seeds 3] [DATA SET ...]

Every data set is fitted with `Forecaster(horizon=H, season_length=m)` and nothing else, on its training part, and
scored once on its official test part: sMAPE and MASE of the median as the M4 competition defines them, and coverage of
the intervals, beside the seasonal naive. Data sets that must be downloaded are read from the folder ARMLP_DATA if they
are there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings

import narwhals as nw
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from armlp import Forecaster
from armlp.data import catalog

DEFAULT = ["m4-hourly", *(name for name in catalog.names() if name.startswith(("m3-", "tourism-")))]


def main() -> None:
    """Prints one row per data set and seed."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("names", nargs="*", default=DEFAULT, metavar="DATA SET")
    arguments.add_argument("--seeds", type=int, default=1)
    options = arguments.parse_args()
    table = Table(title="Official test parts, defaults only", title_justify="left")
    for heading in ("data", "model", "seed", "sMAPE", "MASE", "in 80%", "in 95%", "fit s", "predict s"):
        table.add_column(heading, justify="left" if heading in ("data", "model") else "right")
    for name in options.names:
        for row in rows(name, options.seeds):
            table.add_row(name, *row)
            print(name, *row, flush=True)
    Console(width=110).print(table)


def rows(name: str, seeds: int) -> list[tuple[str, ...]]:
    """The rows of one data set: the seasonal naive, then a model per seed."""
    entry = catalog.get(name)
    assert entry.load_test is not None, f"{name} has no official test part"
    train, test = long_table(entry.load()), long_table(entry.load_test())
    season = entry.options.season_length or 1
    naive = train.groupby("unique_id", sort=False, group_keys=False)["y"].apply(
        lambda y: pd.Series(np.resize(y.to_numpy()[-season:], int(entry.options.horizon or 0)))
    )
    baseline = test.sort_values(["unique_id", "ds"]).assign(armlp=naive.to_numpy())
    found = [("seasonal naive", "", *scores(train, baseline, season), "", "", "", "")]
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            forecaster = Forecaster(
                entry.options.horizon,
                seed=seed,
                season_length=season,
                default_root_dir=folder,
                enable_progress_bar=False,
            ).fit(train)
            fitted = time.perf_counter()
            forecast = test.merge(forecaster.predict(), on=["unique_id", "ds"], validate="one_to_one")
            done = time.perf_counter()
        assert len(forecast) == len(test)
        covered = [
            f"{100 * forecast['y'].between(forecast[f'armlp-lo-{level}'], forecast[f'armlp-hi-{level}']).mean():.0f}%"
            for level in (80, 95)
        ]
        seconds = (f"{fitted - begin:.0f}", f"{done - fitted:.1f}")
        found.append(("armlp", str(seed), *scores(train, forecast, season), *covered, *seconds))
    return found


def long_table(source: object) -> pd.DataFrame:
    """A catalog table, or the file of one, as pandas, sorted."""
    table = pd.read_parquet(source) if isinstance(source, (str, bytes)) or hasattr(source, "__fspath__") else source
    return nw.from_native(table, eager_only=True).to_pandas().sort_values(["unique_id", "ds"], ignore_index=True)


def scores(train: pd.DataFrame, forecast: pd.DataFrame, season: int) -> tuple[str, str]:
    """sMAPE and MASE, each the mean over series of the mean over leads."""
    error = (forecast["y"] - forecast["armlp"]).abs()
    size = forecast["y"].abs() + forecast["armlp"].abs()
    smape = (200 * error / size.where(size > 0, 1)).groupby(forecast["unique_id"]).mean()
    scale = train.groupby("unique_id")["y"].apply(lambda y: y.diff(season).abs().mean())
    mase = error.groupby(forecast["unique_id"]).mean() / scale[scale > 0]
    return f"{smape.mean():.2f}", f"{mase.mean():.3f}"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*too short to train on.*")
    main()
