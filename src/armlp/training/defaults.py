"""How both doors set up the Trainer."""

from __future__ import annotations

import logging
import warnings
from typing import Any

MONITOR = "val/monitor"

TRAINER: dict[str, Any] = {
    "max_epochs": -1,  # steps are the measure of training
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}

BEST: dict[str, Any] = {
    "filename": "best",
    "monitor": MONITOR,
    "enable_version_counter": False,
    "save_on_train_epoch_end": False,  # validation goes by steps, not by epochs
}

EARLY_STOPPING: dict[str, Any] = {"monitor": MONITOR, "patience": 10, "check_on_train_epoch_end": False}


def quiet() -> None:
    """Keeps back what Lightning says on every start and nobody can act on; warnings of ours stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message)


_NOT_ACTIONABLE = (
    ".*exists and is not empty.*",  # a resumed run goes on in its own folder
    ".*LeafSpec.*is deprecated.*",  # between lightning and torch
    "Be aware that when using `ckpt_path`, callbacks",  # training's callbacks have nothing to do in a forecast
    "It is recommended to use `self.log.*sync_dist=True",  # scores are of all processes already
    "The number of training batches .* is smaller than the logging interval",  # logging goes by steps
)
