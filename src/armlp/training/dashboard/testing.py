"""What a test shows, in the run of its checkpoint."""

from __future__ import annotations

import math
import os
import warnings

from lightning.pytorch import Callback, LightningModule, Trainer

from armlp.evaluation.backtest import MODEL
from armlp.training.checkpoint import read_checkpoint
from armlp.training.dashboard.pages import add_charts, add_lead_curves
from armlp.training.dashboard.texts import score_table
from armlp.training.module import ForecastModule
from armlp.training.runs import run_folder
from armlp.training.verdict import verdict

_EVENTS, _SUFFIX = "events.out.tfevents.*", ".test"


class TestDashboard(Callback):
    """Writes an event file beside that of the training, in place of that of an earlier test.

    A checkpoint that was moved away from its run has none to write into, and nothing is made for it.

    Args:
        checkpoint: Path of the checkpoint that is tested.
    """

    __test__ = False  # the name is not one of a test

    def __init__(self, checkpoint: str | os.PathLike[str]) -> None:
        self.checkpoint = checkpoint

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows scores, lead curves and charts."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        run = run_folder(self.checkpoint)
        if not trainer.is_global_zero or not any(run.glob(_EVENTS)):
            return
        assert isinstance(pl_module, ForecastModule)
        step = read_checkpoint(self.checkpoint)["global_step"]
        try:
            for earlier in run.glob(_EVENTS + _SUFFIX):
                earlier.unlink()
            writer = SummaryWriter(run, filename_suffix=_SUFFIX)
        except OSError as error:
            sentence = f"{run} cannot be written ({error.strerror}), so TensorBoard will not show the test."
            warnings.warn(sentence, stacklevel=2)
            return
        with writer:
            for name, value in pl_module.scores[MODEL].items():
                if not math.isnan(value):
                    writer.add_scalar(f"test/{name}", value, step)
            judge = pl_module.judge
            add_lead_curves(writer, "test", judge.curves)
            place = writer, "test", step, pl_module, pl_module, judge.diagnostics.exemplars()
            measured = judge.curves, judge.calibration, judge.coverage
            add_charts(*place, *measured, pl_module.datamodule.test_dataloader())
            lines = [f"Tested on {pl_module.datamodule.panel.name}.", score_table(pl_module.scores)]
            writer.add_text("test", "\n\n".join([*lines, *verdict(pl_module.scores)]), step)
