"""Download data sets once into a folder, which can also be filled by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from armlp.errors import UserError

_ETT = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small"
_M4 = "https://raw.githubusercontent.com/Mcompetitions/M4-methods/master/Dataset"

# SHA-256 of each file, on which at least two public sources agree; for monthly, quarterly and yearly M4, one source.
_SHA256 = {
    "ETTh1.csv": "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    "ETTh2.csv": "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
    "ETTm1.csv": "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e",
    "ETTm2.csv": "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd",
    "Hourly-train.csv": "ea59b7783573c49077a835ab6465c7d66f1474783360f310988a9a737fbca62f",
    "Hourly-test.csv": "71a57fccb15e534d973626ada4fb87febf789e9317715b7cc6dd3b5f90db6f42",
    "Daily-train.csv": "78e94591c60c06309f1e544fd7b2ccba28f3616b01913dd336a1d1d98483a1ec",
    "Daily-test.csv": "633b0815626ae266d36872c4d53e95eb93ee8d43e79587fceec519eba3e6b05e",
    "Weekly-train.csv": "d478d3f6ed673e6ed3c2cb0fbed5425f72eedd51318ebebeb0b5ecfcefc37714",
    "Weekly-test.csv": "3b2bc4be8e636e802260dcd843ca3c5da40536a1fbe1ecb3229a97dae4f44688",
    "Monthly-train.csv": "63aaa56198b4a22279a2fec541f56921f3bed6d8e0f84e550206df9276f2e9b9",
    "Monthly-test.csv": "5e3538bf23b4a09f4078180c3e2b34859f0382e1c4f22564affc1797e8f3f48f",
    "Quarterly-train.csv": "4450678cd493aa965c14bde984a5b62a66d8c3b2f7af1e53779bc91ff008ccdc",
    "Quarterly-test.csv": "bf1cab3b969a744c220cdc148e3829803eaa5da2754270fc4f376e775cd7d0ae",
    "Yearly-train.csv": "6aa668d4f04654c0bf5f07b266a51c556f0df2faf4709f852653755396a249e4",
    "Yearly-test.csv": "6dc2dd45b3af320389e2d3735cb4b3cdf320b63cbcda15d1a17193ab99702306",
}


def folder() -> Path:
    """Return the folder of downloads: `ARMLP_DATA`, or the cache of the user."""
    import pooch

    return Path(os.environ.get("ARMLP_DATA") or pooch.os_cache("armlp")).expanduser()


def ett(name: str) -> Path:
    """Return a file of the Electricity Transformer Temperature data, such as `ETTh1`."""
    return _fetch(f"{_ETT}/{name}.csv")


def m4(period: str, part: str) -> pd.DataFrame | Path:
    """Return the M4 series of one period (such as `Hourly`), long.

    `ds` counts from 1 in the part `train`, and goes on in the part `test`. A long table that someone has put into the
    folder is taken if the official file is not there.
    """
    by_hand = folder() / f"m4_{period.lower()}_{part}.parquet"
    if by_hand.exists() and not (folder() / f"{period}-{part}.csv").exists():
        return by_hand
    # One row per series, padded with missing values.
    wide = {name: pd.read_csv(_fetch(f"{_M4}/{name.capitalize()}/{period}-{name}.csv"), index_col=0)
            for name in dict.fromkeys(["train", part])}  # fmt: skip
    values = wide[part].to_numpy(dtype=np.float64)
    rows, columns = np.nonzero(~np.isnan(values))
    starts = np.zeros(len(values), np.int64) if part == "train" else wide["train"].count(axis="columns").to_numpy()
    ids = wide[part].index.to_numpy()[rows]
    return pd.DataFrame({"unique_id": ids, "ds": columns + 1 + starts[rows], "y": values[rows, columns]})


def _fetch(url: str) -> Path:
    """Return the file of an address, downloaded if the folder does not hold it."""
    import pooch

    name = url.rpartition("/")[2]
    try:
        return Path(pooch.retrieve(url, known_hash=_SHA256[name], fname=name, path=folder()))
    except (OSError, ValueError) as error:
        # requests raises OSErrors, and pooch a ValueError for a wrong checksum.
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{url} could not be downloaded into {folder()} ({reason}): put {name} there by hand, or set "
            "ARMLP_DATA to the folder that holds it."
        ) from error
