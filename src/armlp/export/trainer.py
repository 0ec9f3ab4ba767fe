"""The command that exports: a method of the trainer, as all commands are."""

from __future__ import annotations

from collections.abc import Sequence

from armlp.data.datamodule import SeriesDataModule
from armlp.training.checkpoint import read_checkpoint
from armlp.training.module import ForecastModule
from armlp.training.scoring import ScoringTrainer


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
