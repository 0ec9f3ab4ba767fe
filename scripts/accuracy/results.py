"""The file of results: one row per data set, model and seed, kept sorted."""

from __future__ import annotations

import csv
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "results"
FILE = FOLDER / "how_accurate.csv"
KEY = ("data", "model", "seed")
SCORES = ("smape", "mase", "owa", "wql", "crps", "cover80", "cover95", "mse", "mae", "valid_time")
COLUMNS = (*KEY, *SCORES, "fit_s", "predict_s", "note", "date", "machine", "version")
Row = dict[str, str]


def read() -> list[Row]:
    """Read all rows."""
    if not FILE.exists():
        return []
    with FILE.open(newline="") as file:
        return list(csv.DictReader(file))


def write_row(row: Row) -> None:
    """Add a row, or replace that of the same data set, model and seed; reads the file anew to keep other rows."""
    rows = [old for old in read() if any(old[name] != row[name] for name in KEY)]
    rows.append({name: row.get(name, "") for name in COLUMNS})
    rows.sort(key=lambda row: tuple(row[name] for name in KEY))
    FOLDER.mkdir(exist_ok=True)
    unfinished = FILE.with_suffix(".unfinished")
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(FILE)
