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
from armlp.training.checkpoint import read_checkpoint
from armlp.training.checks import warn_of_other_frequency
from armlp.training.module import ForecastModule
from armlp.training.settle import settle


class ScoringTrainer(Trainer):
    """Lightning's Trainer, which can also score rows."""

    def score(
        self,
        model: ForecastModule,
        datamodule: SeriesDataModule,
        ckpt_path: str | None = None,
        output: str | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Any:
        """Score every row by what was expected one step before it: an unlikely one is an anomaly.

        Args:
            model: Trained.
            datamodule: Of the rows.
            ckpt_path: The weights; those of the model where left out.
            output: Table to write, `.parquet` or `.csv`; `scores.parquet` in the run folder where left out.
            seed: Of the draws within the PIT of counts and symbols.
            progress: Show a bar if it takes long.

        Returns:
            The table of `armlp.evaluation.one_step.score_table`.

        Raises:
            UserError: The data are not those of the model, or it has no density, or the table cannot be written.
        """
        seed = check_argument("seed", seed, int)
        check_bounds("seed", seed, 0, LARGEST_SEED)
        if output is not None:
            source = datamodule.source
            if isinstance(source, (str, os.PathLike)) and Path(output).resolve() == Path(source).resolve():
                raise UserError(f"--output: {output} is the data itself; give the table a name of its own.")
            prepare_output(output, (".parquet", ".csv"))
        settle(model.settings, datamodule)  # which refuses data of another kind
        warn_of_other_frequency(datamodule)
        if ckpt_path is not None:
            model.load_state_dict(read_checkpoint(ckpt_path)["state_dict"])
        assert model.network is not None
        table = score_table(model.network.to(self.strategy.root_device), datamodule.panel, seed, progress)
        if output is not None:
            write_table(table, output)
        return table


class ExportingTrainer(ScoringTrainer):
    """Lightning's Trainer, which can also score rows and export rollouts."""

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
        """Write one ONNX file that holds the whole rollout, to forecast without torch and without armlp.

        Args:
            model: Trained.
            datamodule: Of the training; its table is not read.
            ckpt_path: The weights; those of the model where left out.
            output: File to write, `.onnx`; `model.onnx` in the run folder where left out.
            horizon: How far forecasts are recommended to reach; that of the training where left out. Any is possible.
            num_paths: How many sampled futures are recommended. Any number is possible.
            levels: Central coverages of the intervals, in percent.

        Raises:
            UserError: What writes ONNX is not installed, the file cannot be written, or ONNX cannot hold the model.
        """
        from armlp.export import write_onnx

        if ckpt_path is not None:
            checkpoint = read_checkpoint(ckpt_path)
            model.load_state_dict(checkpoint["state_dict"])
            model.on_load_checkpoint(checkpoint)
        write_onnx(model, datamodule.hparams, output or "model.onnx", horizon, num_paths, levels)
