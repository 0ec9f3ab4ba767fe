"""Tests of the callbacks of a training."""

from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def steps_of(run: Path) -> dict[str, int]:
    """After how many steps the checkpoints of a run were saved."""
    return {path.stem: torch.load(path, weights_only=True)["global_step"] for path in (run / "checkpoints").iterdir()}


def test_the_last_checkpoint_is_that_of_the_end(program: Any, trained: Any):
    run = program.fit(trained.source, "--trainer.max_steps=3", "--data.horizon=6")  # validated after step 2 only
    assert steps_of(run) == {"best": 2, "last": 3}


def test_training_stops_when_it_only_gets_worse_and_keeps_the_best(program: Any, trained: Any):
    ruinous = ("--model.learning_rate=30", "--trainer.max_steps=40", "--early_stopping.patience=1")
    run = program.fit(trained.source, *ruinous, "--data.horizon=6", logs=True)
    # Lightning logs a validation under the last step before it, counted from 0.
    errors = {event.step + 1: event.value for event in EventAccumulator(str(run)).Reload().Scalars("val/monitor")}
    steps = steps_of(run)
    assert steps["best"] == min(errors, key=errors.__getitem__)
    assert steps["best"] < steps["last"] < 40
