"""What helps? Scores of one set of options on several validation folds of a data set, for experiments.

    python scripts/what_helps.py taylor folds=1,2,3,4 val_windows=7 patch_length=48 hidden_sizes=[64] max_steps=600

Fold k holds out `val_windows` origins that end k times their length before the end of the series, and trains on the
values before them. Fold 0 is the validation part of `armlp fit`; leave it out where it is a test part, as the last week
of `taylor` is. Every other `name=value` is an option of `Forecaster`; the rest are chosen from the data. Prints the
mean scores over the folds and the skill of each fold. scripts/LOG.md has what came of it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import yaml
from lightning.pytorch import Trainer, seed_everything

from armlp.data.datamodule import SeriesDataModule
from armlp.evaluation.scoreboard import MODEL
from armlp.routing import pop_options
from armlp.training.loop.trainer import TRAINER, quiet
from armlp.training.module import ForecastModule


def main() -> None:
    """Print one line."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    quiet()
    source, *words = sys.argv[1:]
    options = {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in words)}
    folds = [int(fold) for fold in str(options.pop("folds", 0)).split(",")]
    begin = time.perf_counter()
    rows = [scores(source, fold, dict(options)) for fold in folds]
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    means = " ".join(f"{name}={value:.4g}" for name, value in mean.items())
    skills = ", ".join(f"{row['skill']:.3f}" for row in rows)
    print(f"{' '.join(sys.argv[1:])} | {means} | skills {skills} | {time.perf_counter() - begin:.0f} s", flush=True)


def scores(source: str, fold: int, options: dict[str, object]) -> dict[str, float]:
    """Return the scores at the end of the training; the fold chooses nothing, not even the checkpoint."""
    data_options, model_options = pop_options(SeriesDataModule, options), pop_options(ForecastModule, options)
    seed_everything(int(data_options.get("seed", 0)), verbose=False)
    windows = data_options.get("val_windows", 1)
    data = SeriesDataModule(source, **data_options | {"test_windows": windows * fold})
    module = ForecastModule(**{"val_paths": 100} | model_options)
    train(module, data, options)
    validator = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    validator.validate(module, datamodule=data, verbose=False)
    return module.scores[MODEL]


def train(module: ForecastModule, data: SeriesDataModule, options: dict[str, Any]) -> None:
    """Train to the last step, with options of the Trainer, and save nothing."""
    quietly = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    with tempfile.TemporaryDirectory() as folder:
        Trainer(**TRAINER | quietly | {"default_root_dir": folder} | options).fit(module, datamodule=data)


if __name__ == "__main__":
    main()
