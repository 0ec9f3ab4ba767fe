"""Tests of values at the ends of float32: with any scaler and head all stays finite and in its units."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from armlp import Forecaster
from armlp.data.detect import find_season
from armlp.data.loaders import OriginLoader, TrainingLoader
from armlp.data.split import Split
from armlp.evaluation.one_step import one_step_nll
from armlp.evaluation.scoreboard import MODEL, Scoreboard
from armlp.model.families import HEADS
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import rollout
from armlp.model.scaling import SCALERS
from armlp.training.objective import unrolled_objective
from armlp.training.sampling import Sampling

ROWS, HORIZON, SEASON = 80, 8, 4
HEADS_OF_NUMBERS = [name for name, head in HEADS.items() if not head.distribution.discrete]
SCALED = [name for name, kind in SCALERS.items() if kind.by_window]
# Every head, and every scaler, each with the usual other one.
PAIRS = [(head, "standard") for head in HEADS_OF_NUMBERS] + [("normal", scaler) for scaler in SCALED[::-1]]
each_pair = pytest.mark.parametrize(("head", "scaler"), dict.fromkeys(PAIRS))


def extreme_series() -> dict[str, list[np.ndarray]]:
    """Series by what is extreme of them."""
    generator, steps = np.random.default_rng(0), np.arange(ROWS)
    wave, noise = 3 + np.sin(np.pi * steps / 2) + 0.1 * generator.normal(size=ROWS), generator.normal(size=ROWS)
    return {
        "large and small": [1e30 * wave, wave, 1e-30 * wave],
        "constant": [np.full(ROWS, value) for value in (0, 7.3, 1e30, 1e-30, -5e20)],
        "a tiny spread": [1 + 1e-4 * noise, 1e30 * (1 + 1e-6 * noise), 1e-30 * (1 + 1e-5 * noise)],
        "a huge spread": [
            10.0 ** generator.uniform(-30, 30, ROWS) * np.sign(noise),
            np.where(steps % 17 == 16, 1e30, 1e-30),
            np.where(steps > 60, 1e30, 0),
        ],
    }


SERIES = extreme_series()


def panel_of(make_panel: Any, series: list[np.ndarray]) -> Any:
    values = torch.from_numpy(np.concatenate(series)).float()[:, None]
    return replace(make_panel([ROWS] * len(series)), values=values)


def random_model(head: str, scaler: str, **options: Any) -> AutoregressiveMLP:
    torch.manual_seed(0)
    options = {
        "head": head,
        "scaler": scaler,
        "season_length": SEASON,
        "patch_length": 4,
        "hidden_sizes": [8],
    } | options
    model = AutoregressiveMLP(12, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


@pytest.mark.parametrize("what", SERIES)
@each_pair
def test_training_forecasts_and_scores_are_finite(head: str, scaler: str, what: str, make_panel: Any):
    panel, split = panel_of(make_panel, SERIES[what]), Split(HORIZON)
    model, ends = random_model(head, scaler), split.train_ends(panel.lengths)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for windows in TrainingLoader(panel, ends, 12, HORIZON, 64):
        objective = unrolled_objective(model, windows, feed="truth", with_nll=True)
        optimizer.zero_grad()
        objective.loss.backward()
        assert objective.loss.isfinite()
        assert objective.nll is None or objective.nll.isfinite()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    board = Scoreboard(panel, ends, HORIZON, SEASON)
    with torch.no_grad():
        for windows in OriginLoader(panel, *split.origins(panel.lengths, "val"), 12, HORIZON):
            paths = Sampling(20).paths(model.eval(), panel, windows, HORIZON)
            assert paths.isfinite().all()
            board.update(paths, windows)
            if model.head.has_density:
                board.update_likelihood(*one_step_nll(model, windows))
            for forecast, values in zip(paths, SERIES[what], strict=True):
                largest = float(np.abs(values).max())
                assert forecast.median(0).values.abs().max() <= 30 * (largest or 1)
    scores = board.summary()[MODEL]
    # A constant has no naive error to measure by.
    unmeasured = {"mase", "rmsse", "scaled_crps", "skill", "owa"} if what == "constant" else set()
    assert {name for name, score in scores.items() if not np.isfinite(score)} == unmeasured


@pytest.mark.parametrize("size", [1e-30, 1e30])
@each_pair
def test_a_forecast_scales_with_its_series_to_the_ends_of_float32(head: str, scaler: str, size: float):
    model = random_model(head, scaler).eval()
    context = 3 + torch.randn(4, 12)
    noise = torch.rand(4, 5, HORIZON, model.head.noise)
    near, far = (rollout(model, factor * context, HORIZON, 5, noise=noise) for factor in (1.0, size))
    torch.testing.assert_close(far / size, near, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1e-30, 1e30])
@each_pair
def test_a_training_does_not_depend_on_the_size_of_the_values(head: str, scaler: str, size: float, make_panel: Any):
    gradients, likelihoods = [], []
    for factor in (1.0, size):
        panel = panel_of(make_panel, [factor * SERIES["large and small"][1]])
        model = random_model(head, scaler)
        windows = TrainingLoader(panel, panel.lengths, 12, HORIZON, 64).sample(32, HORIZON)
        torch.manual_seed(0)
        objective = unrolled_objective(model, windows, feed="truth", with_nll=True)
        objective.loss.backward()
        gradients.append(torch.cat([part.grad.flatten() for part in model.parameters() if part.grad is not None]))
        likelihoods.append(objective.nll)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))
    if likelihoods[0] is not None and likelihoods[1] is not None:
        assert (likelihoods[1] - likelihoods[0]).item() == pytest.approx(np.log(size), rel=1e-4)  # of data units


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_scores_in_units_of_the_series_do_not_depend_on_its_size(size: float, make_panel: Any):
    summaries = []
    for factor in (1.0, size):
        panel, split = panel_of(make_panel, [factor * series for series in SERIES["large and small"][1:2]]), Split(8)
        board = Scoreboard(panel, split.train_ends(panel.lengths), HORIZON, SEASON)
        generator = torch.Generator().manual_seed(0)
        for windows in OriginLoader(panel, *split.origins(panel.lengths, "val"), 12, HORIZON):
            board.update(windows.target[:, None] + factor * torch.randn(1, 9, HORIZON, 1, generator=generator), windows)
        summaries.append(board.summary()[MODEL])
    for name in ("smape", "mase", "rmsse", "wql", "scaled_crps", "coverage_80", "skill", "owa"):
        assert summaries[1][name] == pytest.approx(summaries[0][name], rel=1e-4)
    for name in ("mae", "rmse", "crps"):
        assert summaries[1][name] == pytest.approx(size * summaries[0][name], rel=1e-4)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_season_is_found_in_values_of_any_size(size: float, make_panel: Any):
    panel = panel_of(make_panel, [size * SERIES["large and small"][1]])
    assert find_season(panel, panel.lengths) == SEASON


@pytest.mark.parametrize("beside", [0, 2])
@pytest.mark.parametrize(("value", "rows"), [(7, 12), (7.3, 40)])
def test_a_constant_is_forecast_as_itself_with_hardly_any_spread_integer_or_not(value: float, rows: int, beside: int):
    counts = np.random.default_rng(0).poisson(3, (beside, rows))
    values = np.concatenate([np.full(rows, value), counts.ravel()])
    times = pd.date_range("2024-01-01", periods=rows)
    ids = np.repeat(["constant", *(f"varies {index}" for index in range(beside))], rows)
    table = pd.DataFrame({"unique_id": ids, "ds": np.tile(times, 1 + beside), "y": values})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it never changes
        forecaster = Forecaster(horizon=3, preset="fast", max_steps=60, enable_progress_bar=False, logger=False).fit(
            table
        )
    forecast = forecaster.predict(levels=(95,)).query("unique_id == 'constant'")
    assert forecast["armlp"].to_numpy() == pytest.approx(value, abs=0.1)
    assert (forecast["armlp-hi-95"] - forecast["armlp-lo-95"]).max() < 0.5
