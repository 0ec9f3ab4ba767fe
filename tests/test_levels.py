"""Whole-program tests of a series near 1e9 that varies by 1, which float32 alone would lose."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.charts import series_fan
from armlp.evaluation.scoreboard import BASELINE, MODEL
from armlp.forecaster import Forecaster
from armlp.report.forecast_writer import ForecastWriter
from armlp.training.module import ForecastModule
from armlp.training.recipe import recipe

OPTIONS: dict[str, Any] = {"hidden_sizes": [8], "max_steps": 5, "enable_progress_bar": False}
LEVELS = [0.0, 1e9, 3e10]


def near(level: float, rows: int = 120) -> pd.DataFrame:
    steps = np.arange(rows)
    return pd.DataFrame({"unique_id": "a", "ds": steps, "y": level + np.sin(2 * np.pi * steps / 12)})


def data_of(table: pd.DataFrame, levels: list[float] | None) -> SeriesDataModule:
    """A data module of a table whose series lie the levels higher."""
    data = SeriesDataModule(table, horizon=6, season_length=24, test_windows=1)
    if levels is not None:
        data._panel = replace(data.panel, base_values=torch.tensor(levels, dtype=torch.float64)[:, None])
    return data


@pytest.fixture(scope="module")
def fitted(make_table: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> ForecastModule:
    """A trained module."""
    folder = tmp_path_factory.mktemp("levels")
    forecaster = Forecaster(horizon=6, season_length=24, min_spread=0.0, default_root_dir=str(folder), **OPTIONS)
    forecaster.fit(make_table()).save(folder / "model.ckpt")
    return ForecastModule.load_from_checkpoint(folder / "model.ckpt", weights_only=True)


def written(module: ForecastModule, data: SeriesDataModule, stage: str, folder: Path) -> tuple[Any, Any, Any]:
    """The table, the table of paths and the scores of a stage."""
    paths = folder / "paths.parquet"
    writer = ForecastWriter(None, paths=str(paths), num_paths=20, plot=str(folder / "fans.png"))
    trainer = Trainer(logger=False, callbacks=[writer], enable_progress_bar=False, enable_model_summary=False)
    getattr(trainer, stage)(module, datamodule=data, **({"verbose": False} if stage == "test" else {}))
    return writer.table, pd.read_parquet(paths), module.scores if stage == "test" else None


@pytest.mark.parametrize("stage", ["predict", "test"])
def test_forecasts_truth_and_paths_lie_the_level_higher(
    stage: str, fitted: ForecastModule, make_table: Any, tmp_path: Path
):
    plain, plain_paths, plain_scores = written(fitted, data_of(make_table(), None), stage, tmp_path)
    table, paths, scores = written(fitted, data_of(make_table(), LEVELS), stage, tmp_path)
    for shown, stored in ((table, plain), (paths, plain_paths)):
        level = shown["unique_id"].map(dict(zip(["s00", "s01", "s02"], LEVELS, strict=True)))
        for column in set(shown.columns) - {"unique_id", "ds", "cutoff", "path"}:
            assert shown[column].dtype == np.float64
            np.testing.assert_allclose(shown[column] - level, stored[column], atol=1e-5)  # float64 near 3e10
            alike = level == 0
            np.testing.assert_allclose(shown[column][alike], stored[column][alike], rtol=1e-6)
    if scores is not None:
        for name in (MODEL, BASELINE, "drift", "ridge AR"):
            shifted = dict(scores[name]), dict(plain_scores[name])
            for metric in ("smape", "wql", "owa"):  # of the level itself
                assert shifted[0].pop(metric) < shifted[1].pop(metric)
            assert shifted[0] == pytest.approx(shifted[1], rel=1e-4, abs=1e-4)


def test_a_chart_is_drawn_in_data_units(make_table: Any):
    panel = data_of(make_table(), LEVELS).panel
    paths = panel.in_data_units(torch.tensor([1]), torch.zeros(1, 9, 6, 1))[0]
    fan = series_fan(panel, 1, 90, paths, 24, 30)
    assert fan.truth is not None
    assert fan.baseline is not None
    for part in (fan.history, fan.paths, fan.truth, fan.baseline):
        assert part.dtype == torch.float64
        assert ((part - 1e9).abs() < 100).all()


def test_a_forecast_is_cut_off_at_the_zero_of_the_data(fitted: ForecastModule, make_table: Any):
    data, module = data_of(make_table(), [-10.0, -1e9, 3e10]), fitted
    assert module.network.non_negative  # the table that it was trained on is
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    batches: Any = trainer.predict(module, datamodule=data)
    first, below, above = batches[0]
    assert first.min() == 0
    assert first.max() > 0
    assert (below == 0).all()
    assert above.std(0).min() > 0


def test_whether_values_go_below_zero_is_told_by_data_units(make_table: Any):
    table = make_table().assign(y=lambda table: table["y"] - 11)  # below and above 0
    for levels, non_negative in ((None, False), ([0.0, 1e9, 1e9], False), ([1e9] * 3, True), ([-1e9] * 3, False)):
        assert recipe(data_of(table, levels))["non_negative"].value is non_negative


def test_counts_with_a_level_are_no_counts_to_a_head(make_table: Any, settled: Any):
    data = data_of(make_table().assign(y=lambda table: table["y"].round() % 5), LEVELS)
    assert recipe(data)["head"].value == "quantile"
    sentence = r"`head` poisson is for counts, but series 's02' of the table .* level of 3e\+10"
    with pytest.raises(UserError, match=sentence):
        settled(data, head="poisson")


def test_a_series_near_a_billion_that_varies_by_one_is_forecast(tmp_path: Path):
    options = OPTIONS | {"max_steps": 100, "default_root_dir": str(tmp_path)}
    forecaster = Forecaster(horizon=12, season_length=12, **options).fit(near(1e9))
    table = forecaster.predict()
    truth = 1e9 + np.sin(2 * np.pi * np.arange(120, 132) / 12)
    assert np.abs(table["armlp"] - truth).max() < 0.2
    assert forecaster.sample(num_paths=3).dtype == np.float64
