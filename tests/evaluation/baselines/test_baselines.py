"""Tests of what holds for every registered baseline, and of published scores."""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import armlp.evaluation.baselines  # registers them  # noqa: F401
from armlp.data.tables.read import read_panel
from armlp.evaluation.baselines import BASELINES, History
from armlp.evaluation.baselines.naive import naive_errors
from armlp.evaluation.metrics.point import MeanAbsoluteScaledError, SymmetricMAPE

each_baseline = pytest.mark.parametrize(
    "name", [name for name, kind in BASELINES.items() if kind.__module__.startswith("armlp.")]
)


def forecast_by(name, panel, ends, series, origin, horizon=7, season=4):
    history = History(panel, ends, naive_errors(panel, ends, season)[0], 6, horizon, season)
    return BASELINES[name].fit(history).forecast(series, origin, horizon)


def test_the_baselines_have_the_names_by_which_scores_are_logged():
    assert {"seasonal naive", "Naive2", "drift", "ridge AR", "theta"} <= BASELINES.keys()


@each_baseline
@pytest.mark.parametrize("channels", [1, 2])
def test_a_baseline_sees_nothing_at_or_after_its_origin_and_is_fitted_on_nothing_held_out(name, channels, make_panel):
    panel = make_panel([60, 50], channels=channels)
    ends, series, origin = panel.lengths - 10, torch.tensor([0, 1]), panel.lengths - 10
    before = forecast_by(name, panel, ends, series, origin)
    for index in (0, 1):
        panel.series(index)[-10:] = torch.nan
    assert before.isfinite().all()
    assert forecast_by(name, panel, ends, series, origin).equal(before)


@each_baseline
@pytest.mark.parametrize("channels", [1, 2])
def test_a_baseline_shifts_with_the_levels_of_the_series(name, channels, make_panel):
    panel = make_panel([60, 50], channels=channels)
    panel.values[:] -= 30  # not above 0, so that Naive2 is additive
    levels = torch.tensor([[-1e9, 4.0], [0.0, -7.0]], dtype=torch.float64)[:, :channels]
    higher = replace(panel, base_values=levels)
    ends, series, origin = panel.lengths - 10, torch.tensor([0, 1]), panel.lengths - 4
    plain, shifted = (forecast_by(name, each, ends, series, origin) for each in (panel, higher))
    assert torch.allclose(shifted - levels[:, None], plain.double(), atol=1e-5)


@each_baseline
@pytest.mark.parametrize("channels", [1, 2])
def test_a_baseline_is_finite_whatever_the_series(name, channels, make_panel):
    panel = make_panel([1, 2, 5, 40, 40, 40, 40], channels=channels, missing=0.4)
    panel.series(3)[:] = 0.0
    panel.series(4)[20:] = 1e30
    panel.series(5)[:] = torch.arange(40)[:, None] % 4 == 0  # mostly zeros
    panel.series(6)[:] *= 1e-30
    series = torch.arange(7).repeat_interleave(2)
    origin = torch.stack([(panel.lengths - 5).clamp(min=1), panel.lengths], 1).flatten()
    assert forecast_by(name, panel, panel.lengths - 5, series, origin).isfinite().all()


def test_on_m4_hourly_the_naive_forecasts_score_as_published():
    folder = Path(os.environ.get("ARMLP_DATA", Path(__file__).parents[4] / "shared/data"))
    files = [folder / f"m4_hourly_{part}.parquet" for part in ("train", "test")]
    if not all(file.exists() for file in files):
        pytest.skip(f"the M4 Hourly tables are not in {folder}; ARMLP_DATA can name another folder")
    panel = read_panel(pd.concat(map(pd.read_parquet, files)))
    ends, series = panel.lengths - 48, torch.arange(len(panel))
    unit = naive_errors(panel, ends, 24)[0][:, None]
    truth = torch.stack([panel.series(index)[-48:] for index in range(len(panel))])
    published = {"seasonal naive": (13.912, 1.193), "Naive2": (18.383, 2.395)}
    for name in published:
        forecast = forecast_by(name, panel, ends, series, ends, 48, 24)
        for make, expected in zip((SymmetricMAPE, MeanAbsoluteScaledError), published[name], strict=True):
            metric = make(48)
            metric.update(forecast[:, None], truth, unit=unit)
            assert metric.compute().item() == pytest.approx(expected, abs=6e-4), name
