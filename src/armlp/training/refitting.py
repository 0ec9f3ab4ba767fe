"""A backtest that trains anew on the way, as a forecaster who retrains every so often would have done."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer, seed_everything

from armlp.data.datamodule import SeriesDataModule
from armlp.training.callbacks import ForecastWriter
from armlp.training.fitting import fit
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.training.report import print_scores, print_summaries


def backtest_refitting(
    source: Any,
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    trainer: Mapping[str, Any],
    writer: ForecastWriter,
    refit: int,
    preferred: Mapping[str, Choice],
    printed: bool = True,
) -> dict[str, dict[str, float]]:
    """Trains at every so many origins on what lies before them only, and tests from these.

    Args:
        source: Of the data module.
        data: Its options; `test_windows` says how many origins there are.
        model: Options of the module; what is left out is chosen anew each time.
        trainer: Options of the Trainer, of training and test. It leaves no run.
        writer: Which collects the table.
        refit: How many origins are tested by one model.
        preferred: What the trials of an earlier training have settled; there are no others.
        printed: Whether the report of a test follows.

    Returns:
        The scores over all origins, by forecaster, as `Scoreboard.summary` returns them.

    Raises:
        UserError: No series is long enough, or the data cannot be used.
    """
    writer.gathers = True
    windows, origins, board, scores = data["test_windows"], 0, None, {}
    for first in range(0, windows, refit):
        tested = min(refit, windows - first)
        part = SeriesDataModule(source, **{**data, "test_windows": tested})
        part.later_windows = windows - first - tested
        with tempfile.TemporaryDirectory() as folder:
            options = {**trainer, "logger": False, "default_root_dir": folder, "enable_progress_bar": False}
            module = _trained(part, model, options, preferred)
            own = {name: value for name, value in options.items() if name not in ("callbacks", "enable_checkpointing")}
            Trainer(**own, enable_checkpointing=False, callbacks=[writer]).test(module, datamodule=part, verbose=False)
        if board is not None:
            module.judge.scoreboard.join(board)
        board = module.judge.scoreboard
        origins += len(part.test_split.origins(part.panel.lengths, "test")[0])
        scores = board.summary(module.device)
    if printed:
        every = "every origin" if refit == 1 else f"every {refit} origins"
        print_scores(scores, f"Test, {origins} x {part.horizon} steps, trained anew for {every}")
        print_summaries(writer.table)
    return scores


def _trained(
    data: SeriesDataModule, model: Mapping[str, Any], options: Mapping[str, Any], preferred: Mapping[str, Choice]
) -> ForecastModule:
    """The best of a training, as `fit` would have it."""
    seed_everything(data.seed, verbose=False)
    module = ForecastModule(**{**model, "trials": 0})
    module.prefer(preferred)
    checkpoint = fit(module, data, {**options, "enable_checkpointing": True})
    module.load_state_dict(checkpoint["state_dict"])
    module.on_load_checkpoint(checkpoint)
    return module
