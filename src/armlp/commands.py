"""The two commands that Lightning lacks: `score` and `export`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from armlp.arguments import check_argument
from armlp.data.datamodule import SeriesDataModule
from armlp.errors import LARGEST_SEED, UserError, check_bounds
from armlp.evaluation.one_step import score_table
from armlp.files import prepare_output, write_table
from armlp.training.checks import warn_of_other_frequency
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.module import ForecastModule
from armlp.training.settle import settle_model


class CommandTrainer(Trainer):
    """A Lightning Trainer that can also score rows and export rollouts."""

    def score(
        self,
        model: ForecastModule,
        datamodule: SeriesDataModule,
        ckpt_path: str | None = None,
        output: str | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Any:
        """Score every row by its probability given the rows before it; unlikely rows are anomalies.

        Args:
            ckpt_path: Checkpoint to load weights from; default: the weights that the model has.
            output: Table to write, `.parquet` or `.csv`; default: `scores.parquet` in the run folder.
            seed: Seed of the draws in the PIT of values that have a probability, such as counts.
            progress: Show a progress bar if it takes long.

        Returns:
            The table of `armlp.evaluation.one_step.score_table`.
        """
        seed = check_argument("seed", seed, int)
        check_bounds("seed", seed, 0, LARGEST_SEED)
        if output is not None:
            source = datamodule.source
            if isinstance(source, (str, os.PathLike)) and Path(output).resolve() == Path(source).resolve():
                raise UserError(f"--output: {output} is the data itself; give the table a name of its own.")
            prepare_output(output, (".parquet", ".csv"))
        settle_model(model.settings, datamodule)  # refuses data of another kind
        warn_of_other_frequency(datamodule)
        if ckpt_path is not None:
            model.restore(read_checkpoint(ckpt_path))
        table = score_table(model.network.to(self.strategy.root_device), datamodule.panel, seed, progress)
        if output is not None:
            write_table(table, output)
        return table

    def export(
        self,
        model: ForecastModule,
        datamodule: SeriesDataModule,
        ckpt_path: str | None = None,
        output: str | None = None,
        horizon: int | None = None,
        num_paths: int = 200,
        levels: Sequence[float] = (80, 95),
    ) -> None:
        """Write the whole rollout as one ONNX file, to forecast without torch and without armlp.

        Args:
            ckpt_path: Checkpoint to load weights from; default: the weights that the model has.
            output: File to write, `.onnx`; default: `model.onnx` in the run folder.
            horizon: Recommended horizon, stored with the model; default: that of the training. Any other works too.
            num_paths: Recommended number of sampled futures. Any other works too.
            levels: Central coverages of the intervals, in percent.
        """
        from armlp.export import write_onnx

        if ckpt_path is not None:
            model.restore(read_checkpoint(ckpt_path))
        write_onnx(model, datamodule.hparams, output or "model.onnx", horizon, num_paths, levels)
