"""Tests of the callbacks: the last checkpoint, and the writer that makes tables and pictures of paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.fan_charts import series_fan
from armlp.forecaster import Forecaster
from armlp.report.forecast_writer import ForecastWriter


def steps_of(run: Path) -> dict[str, int]:
    """After how many steps the checkpoints of a run were saved."""
    return {path.stem: torch.load(path, weights_only=True)["global_step"] for path in (run / "checkpoints").iterdir()}


def test_the_last_checkpoint_is_that_of_the_end(program: Any, trained: Any):
    run = program.fit(trained.source, "--trainer.max_steps=3", "--data.horizon=6")  # validated after step 2 only
    assert steps_of(run) == {"best": 2, "last": 3}


def test_training_stops_when_it_only_gets_worse_and_keeps_the_best(program: Any, trained: Any):
    ruinous = ("--model.learning_rate=30", "--trainer.max_steps=40", "--early_stopping.patience=1")
    run = program.fit(trained.source, *ruinous, "--data.horizon=6")
    # Lightning logs a validation under the last step before it, counted from 0.
    errors = {event.step + 1: event.value for event in EventAccumulator(str(run)).Reload().Scalars("val/monitor")}
    steps = steps_of(run)
    assert steps["best"] == min(errors, key=errors.__getitem__)
    assert steps["best"] < steps["last"] < 40


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"levels": (0,)}, "`levels`: 0"),
        ({"levels": (80, 100)}, "`levels`: 100"),
        ({"levels": (80, 80.0)}, "names a level twice"),
        ({"num_paths": 0}, "`num_paths`: 0"),
    ],
)
def test_a_writer_refuses_what_it_could_not_write(options: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        ForecastWriter(**options)


def test_the_order_of_the_rows_does_not_come_from_the_table(trained: Any, make_table: Any):
    table = make_table(series=12, rows=50)  # s00 to s11
    shuffled = table.sample(frac=1, random_state=0)
    forecaster = Forecaster.load(trained.best, enable_progress_bar=False)
    pd.testing.assert_frame_equal(forecaster.predict(table), forecaster.predict(shuffled))


def test_missing_truth_is_missing_in_the_backtest(program: Any, trained: Any):
    table = trained.table.copy()
    table.loc[len(table) - 2, "y"] = np.nan
    table.to_parquet("holes.parquet")
    options = ("--data.source=holes.parquet", "--data.test_windows=1", "--forecast.output=b.parquet")
    program("test", "--ckpt_path", trained.best, *options)
    backtest = pd.read_parquet("b.parquet")
    assert np.flatnonzero(backtest["y"].isna()).tolist() == [len(backtest) - 2]
    assert backtest["armlp"].notna().all()


def test_a_fan_shows_history_truth_and_baseline_where_they_are(make_table: Any):
    panel = SeriesDataModule(make_table(), horizon=6).panel
    paths = torch.zeros(5, 6, 1)
    values = panel.series(1)[:, 0]
    within = series_fan(panel, 1, 80, paths, 24, history=18)
    assert torch.equal(within.history, values[62:80])
    assert within.truth is not None
    assert torch.equal(within.truth, values[80:86])
    assert within.baseline is not None
    assert torch.equal(within.baseline, values[56:62])
    assert within.times[0] - within.history_times[-1] == np.timedelta64(1, "h")
    assert (len(within.history_times), len(within.times)) == (18, 6)
    beyond = series_fan(panel, 1, len(values), paths, 24, history=1000)
    assert beyond.truth is None
    assert len(beyond.history) == len(values)
    assert beyond.title == "s01"


def test_pictures_are_drawn_of_any_number_of_series(program: Any, trained: Any, make_table: Any):
    for count in (1, 9):
        make_table(series=count, rows=60).to_parquet("table.parquet")
        options = ("--data.source=table.parquet", f"--forecast.plot={count}.png", "--forecast.output=f.csv")
        program("predict", "--ckpt_path", trained.best, *options)
        assert Path(f"{count}.png").read_bytes().startswith(b"\x89PNG")
