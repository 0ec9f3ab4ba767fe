"""A backtest that trains anew before its origins, with the options of the first training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, DeviceStatsMonitor, LearningRateMonitor

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.training.fit import fit_with_options
from armlp.training.loop.listener import FitListener
from armlp.training.loop.requested import Requested, warn_of_missing_callbacks
from armlp.training.loop.trainer import TRAINER, as_list, callback_states, restore_states
from armlp.training.module import ForecastModule

_NEEDS_RUN = (Checkpoint, DeviceStatsMonitor, LearningRateMonitor)


def repeated_options(
    checkpoint: Mapping[str, Any], data: dict[str, Any], model: dict[str, Any], trainer: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the options of data, model and Trainer that repeat the training of a checkpoint.

    `data`, `model` and `trainer` are options that replace those of the training.
    """
    if "requested" not in checkpoint:
        raise UserError("`refit`: the checkpoint does not hold the options of its training; fit anew.")
    requested = Requested(**checkpoint["requested"])
    warn_of_missing_callbacks(requested, as_list(trainer.get("callbacks")))
    return requested.data | data, requested.model | model, TRAINER | requested.trainer | trainer


def backtest_refitting(
    source: Any,
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    trainer: Mapping[str, Any],
    writer: Any,
    refit: int,
    listener: FitListener | None = None,
    states: Sequence[dict[str, Any]] | None = None,
) -> dict[str, dict[str, float]]:
    """Train at every `refit`-th origin on the rows before it, test the next `refit` origins, and return the scores.

    Options that are left out are chosen anew each time, also by trials, from the rows before the origin. There is no
    run folder, so callbacks that write checkpoints or need a logger are left out.

    `source` is the table; `data`, `model` and `trainer` are options, `test_windows` of the data the number of origins.
    `writer` is the `ForecastWriter` that collects the table. `states` are those of the callbacks at the start of each
    training; default: the current ones.
    """
    writer.gathers = True
    callbacks = as_list(trainer.get("callbacks"))
    states = callback_states(callbacks) if states is None else states
    options = {**trainer, "logger": False, "enable_progress_bar": False}
    windows, origins, board, scores = data["test_windows"], 0, None, {}
    for first in range(0, windows, refit):
        tested = min(refit, windows - first)
        part = SeriesDataModule(source, **{**data, "test_windows": tested})
        part.later_windows = windows - first - tested
        seed_everything(part.settings.seed, verbose=False)
        restore_states(callbacks, states)
        kept = [one for one in callbacks if not isinstance(one, _NEEDS_RUN)]
        module, checkpoint = fit_with_options(ForecastModule(**model), part, options, kept)
        assert checkpoint is not None
        module.restore(checkpoint)
        tester = Trainer(**options | {"callbacks": [writer], "enable_checkpointing": False})
        tester.test(module, datamodule=part, verbose=False)
        if board is not None:
            module.evaluation.scoreboard.join(board)
        board = module.evaluation.scoreboard
        origins += len(part.test_split.origins(part.panel.lengths, "test")[0])
        scores = board.summary(module.device)
    if listener is not None:
        listener.backtest_ended(scores, origins, part.horizon, refit, writer.table)
    return scores
