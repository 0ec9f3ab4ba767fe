"""Tests of what the network knows before the first step, with least squares by numpy as the oracle."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.training.module import ForecastModule
from armlp.training.warm_start import ridge_regression

PENALTIES = np.logspace(-6, 1, 8)
CONTEXT, HORIZON, ORIGINS = 8, 6, 30


def naive_ridge(inputs, outputs, weight, penalty):
    """Weighted least squares with an intercept that is not penalised, as one system of equations."""
    share = weight**2 / (weight**2).sum()
    centred = inputs - share @ inputs
    strength = penalty * (share @ centred**2).mean()
    left = np.column_stack([inputs, np.ones(len(inputs))]) * np.sqrt(share)[:, None]
    below = np.column_stack([np.sqrt(strength) * np.eye(inputs.shape[1]), np.zeros(inputs.shape[1])])
    right = np.vstack([outputs * np.sqrt(share)[:, None], np.zeros((inputs.shape[1], outputs.shape[1]))])
    solution = np.linalg.lstsq(np.vstack([left, below]), right, rcond=None)[0]
    return solution[:-1].T, solution[-1]


def random_regression(rows, noise, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, 5)) @ generator.normal(size=(5, 5)) + 10
    outputs = inputs @ generator.normal(size=(5, 2)) - 3 + noise * generator.normal(size=(rows, 2))
    return inputs, outputs, generator.uniform(0.1, 2, rows)


@pytest.mark.parametrize(("rows", "noise"), [(400, 0.1), (40, 3.0), (12, 10.0), (12, 100.0)])
@pytest.mark.parametrize("seed", range(3))
def test_ridge_regression_equals_least_squares_at_the_penalty_that_does_best_on_rows_left_out(rows, noise, seed):
    inputs, outputs, weight = random_regression(rows, noise, seed)
    kept = np.arange(rows) % 4 != 0
    errors = []
    for penalty in PENALTIES:
        slope, intercept = naive_ridge(inputs[kept], outputs[kept], weight[kept], penalty)
        left = outputs[~kept] - inputs[~kept] @ slope.T - intercept
        errors.append(((weight[~kept, None] * left) ** 2).sum())
    expected = naive_ridge(inputs, outputs, weight, PENALTIES[int(np.argmin(errors))])
    found = ridge_regression(*map(torch.from_numpy, (inputs, outputs, weight)))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-8)


def test_globally_scaled_training_sees_standardised_values_and_saves_their_units(tmp_path):
    table = pd.DataFrame({"ds": range(300), "x": np.sin(np.arange(300)) * 5 + 40, "z": np.cos(np.arange(300)) - 7})
    data = SeriesDataModule(table, layout="vector", horizon=HORIZON, season_length=1)
    module = ForecastModule(context_length=CONTEXT, hidden_sizes=[4], scaler="global", loss_units="network")
    Trainer(max_steps=1, logger=False, enable_progress_bar=False, default_root_dir=tmp_path).fit(module, data)
    kept = table.iloc[: 300 - HORIZON]
    assert torch.allclose(module.network.level.flatten(), torch.tensor([40.0, -7.0]), atol=0.1)
    assert np.allclose(module.network.spread.flatten(), kept[["x", "z"]].std(ddof=0), rtol=0.02)
    assert {"network.level", "network.spread"} <= module.state_dict().keys()


def test_a_row_without_weight_has_no_say():
    inputs, outputs, weight = random_regression(60, 1.0)
    weight[::5] = 0
    other = np.where(weight[:, None] == 0, 1e3, outputs)
    fits = [ridge_regression(*map(torch.from_numpy, (inputs, values, weight))) for values in (outputs, other)]
    assert all(torch.allclose(one, another) for one, another in zip(*fits, strict=True))


@pytest.mark.parametrize("inputs", [torch.zeros(20, 3), torch.ones(20, 3), torch.arange(20.0)[:, None].expand(20, 3)])
def test_constant_or_equal_inputs_give_finite_slopes(inputs):
    slope, intercept = ridge_regression(inputs, torch.arange(20.0)[:, None], torch.ones(20))
    assert slope.isfinite().all()
    assert intercept.isfinite().all()


@pytest.fixture(scope="module")
def autoregression() -> pd.DataFrame:
    """Simulated AR(2) data around a level of 50."""
    noise, values = np.random.default_rng(0).standard_normal(2000), [0.0, 0.0]
    for shock in noise:
        values.append(1.2 * values[-1] - 0.5 * values[-2] + shock)
    table: pd.DataFrame = pd.DataFrame({"ds": np.arange(2000), "y": 50 + np.array(values[2:])})
    return table


@pytest.fixture
def started(tmp_path: Path) -> Any:
    """A maker of modules whose training stood still for one step and was validated."""

    def start(table: pd.DataFrame, season: int = 1, **options: Any) -> ForecastModule:
        torch.manual_seed(0)
        module = ForecastModule(learning_rate=0.0, weight_decay=0.0, **{"context_length": CONTEXT} | options)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            max_steps=1, max_epochs=-1, num_sanity_val_steps=0, enable_model_summary=False,
            default_root_dir=tmp_path, **quiet,
        )  # fmt: skip
        data = SeriesDataModule(table, horizon=HORIZON, val_windows=ORIGINS, season_length=season)
        trainer.fit(module, datamodule=data)
        return module

    return start


def scaling_of(contexts, scaler):
    """The shift and the scale of every context."""
    if scaler == "none":
        return np.zeros((len(contexts), 1)), np.ones((len(contexts), 1))
    shift = contexts[:, -1:] if scaler == "last" else contexts.mean(1, keepdims=True)
    return shift, contexts.std(1, keepdims=True)


def least_squares_error(values, scaler, patch):
    """Mean absolute error over the validation origins of a least-squares autoregression fed its own forecasts."""
    end = len(values) - ORIGINS * HORIZON
    windows = np.lib.stride_tricks.sliding_window_view(values[:end], CONTEXT + patch)
    shift, scale = scaling_of(windows[:, :CONTEXT], scaler)
    weight = scale / np.abs(windows[:, :CONTEXT]).mean(1, keepdims=True)  # errors count relative to the level
    left, right = np.split(np.column_stack([(windows - shift) / scale, np.ones(len(windows))]), [CONTEXT], axis=1)
    left, right = np.column_stack([left, right[:, -1]]), right[:, :-1]
    weights = np.linalg.lstsq(weight * left, weight * right, rcond=None)[0]
    errors = []
    for origin in range(end, len(values), HORIZON):
        window = values[origin - CONTEXT : origin]
        shift, scale = scaling_of(window[None], scaler)
        window = (window - shift[0]) / scale[0]
        while len(window) < CONTEXT + HORIZON:
            window = np.append(window, np.append(window[-CONTEXT:], 1) @ weights)
        forecast = shift[0] + scale[0] * window[CONTEXT:]
        errors.append(np.abs(forecast - values[origin : origin + HORIZON]).mean())
    return np.mean(errors)


@pytest.mark.parametrize(
    "options",
    [
        {"scaler": "none", "hidden_sizes": [], "loss_units": "data"},
        {"scaler": "standard", "hidden_sizes": []},
        {"scaler": "last", "hidden_sizes": [16], "residual_blocks": 1},
        {"scaler": "none", "hidden_sizes": [16], "seasonal_skip": True, "season": 4},
        {"scaler": "none", "hidden_sizes": [16], "members": 3},
        {"scaler": "standard", "hidden_sizes": [16], "patch_length": HORIZON},
    ],
)
def test_training_starts_at_the_best_linear_autoregression(options, autoregression, started):
    options = {"patch_length": 1, "seasonal_skip": False, "head": "point", "ridge_init": True} | options
    module = started(autoregression, **options)
    expected = least_squares_error(autoregression["y"].to_numpy(), options["scaler"], options["patch_length"])
    assert module.scores["armlp"]["mae"] == pytest.approx(expected, rel=0.02)


def test_without_a_ridge_training_starts_further_off(autoregression, started):
    options = {"patch_length": 1, "head": "point", "scaler": "none", "hidden_sizes": [16]}
    errors = [started(autoregression, **options, ridge_init=ridge).scores["armlp"]["mae"] for ridge in (True, False)]
    assert errors[1] > 1.2 * errors[0]


def test_a_context_too_long_for_a_ridge_is_refused(autoregression, started):
    with pytest.raises(UserError, match=r"`ridge_init`: the context has 5000 inputs, and 4096 are the most"):
        started(autoregression, context_length=5000, ridge_init=True, hidden_sizes=[4], residual_blocks=0)


@pytest.mark.parametrize("ridge", [False, True])
def test_bins_hold_equally_many_of_what_the_location_leaves_over(ridge, autoregression, started):
    module = started(
        autoregression, head="categorical", bins=10, scaler="none", patch_length=1, unroll=1, ridge_init=ridge
    )
    values = autoregression["y"].to_numpy()[: 2000 - ORIGINS * HORIZON]
    windows = np.lib.stride_tricks.sliding_window_view(values, CONTEXT + 1)
    residuals = windows[:, -1] - windows[:, -2]  # the skip of a season of one step carries the location
    if ridge:
        design = np.column_stack([windows[:, :-1], np.ones(len(windows))])
        residuals = residuals - design @ np.linalg.lstsq(design, residuals, rcond=None)[0]
    expected = np.quantile(residuals, np.arange(1, 10) / 10)
    # Within the standard error of a quantile.
    assert np.allclose(module.network.head.edges, expected, atol=0.05 if ridge else 1e-3)
