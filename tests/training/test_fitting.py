"""Tests of what both doors settle before a training."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch import Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.training.defaults import TRAINER
from armlp.training.fit_callbacks import StopEarly
from armlp.training.fitting import before_fit
from armlp.training.module import ForecastModule

VALIDATIONS = 10  # in a training whose length the recipe chooses


@pytest.mark.parametrize(
    ("series", "given", "stops"),
    [
        pytest.param(3, {}, False, id="few windows"),
        pytest.param(30, {}, True, id="many windows"),
        pytest.param(3, {"patience": 5}, True, id="told when to stop"),
        pytest.param(3, {"monitor": "train/loss"}, True, id="told what to stop by"),
    ],
)
def test_few_windows_do_not_end_a_training_before_its_learning_rate_has_come_down(
    make_table: Callable[..., pd.DataFrame], series: int, given: dict[str, Any], stops: bool
) -> None:
    callback = StopEarly(**given)
    trainer = Trainer(**TRAINER | {"logger": False, "callbacks": [callback]})
    data = SeriesDataModule(make_table(series=series), horizon=6)
    before_fit(trainer, ForecastModule(hidden_sizes=[4], residual_blocks=0, trials=0), data)
    assert (callback.patience < VALIDATIONS) == stops
