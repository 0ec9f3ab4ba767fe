"""Scores of a forecast, the same for all models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

DECILES = tuple(tenth / 10 for tenth in range(1, 10))
# The quantiles of a forecast: nine deciles, and the ends of the 95% interval.
LEVELS = (0.025, *DECILES, 0.975)
MEDIAN = LEVELS.index(0.5)


def scores(
    truth: np.ndarray, forecast: np.ndarray, unit: np.ndarray, mean: np.ndarray | None = None
) -> dict[str, float]:
    """Return the scores of quantile forecasts.

    Args:
        truth: `[W, S, H]`: origins, series, leads.
        forecast: `[W, S, H, Q]` quantiles of `LEVELS`, or `Q = 1` for a point forecast, which stands for all quantiles.
        unit: `[S]`, unit of MASE: the mean absolute error of the seasonal naive one season ahead in the training part.
            A series whose unit is nan or 0 is left out.
        mean: `[W, S, H]`, for squared errors; by default the median.

    Returns:
        smape: Mean over series of `200 |y - f| / (|y| + |f|)`, percent, of the median, as in M4; 0 / 0 counts 0.
        mase: Mean over series of the absolute error of the median in units of `unit`, as in M4.
        wql: Mean weighted quantile loss: the sum of twice the pinball loss over the sum of `|y|`, mean of nine deciles.
        crps: The same loss in units of `unit`, mean over series: the CRPS, approximated on nine deciles, of scaled
            values. For a point forecast it is MASE.
        cover80, cover95: Share of values inside the intervals, percent; nan of point forecasts.
        mse, mae: Errors of the mean and of the median, over all values.
    """
    median = forecast[..., MEDIAN if forecast.shape[-1] > 1 else 0]
    error = np.abs(truth - median)
    size = np.abs(truth) + np.abs(median)
    ratio = np.divide(200 * error, size, out=np.zeros_like(error), where=size > 0)
    pinball = _pinball(truth, forecast)
    usable = unit > 0  # not nan either
    scaled = {name: values[:, usable] / unit[usable, None] for name, values in {"mase": error, "crps": pinball}.items()}
    covered = {
        f"cover{level}": 100 * _covered(truth, forecast, *ends)
        for level, ends in {80: (0.1, 0.9), 95: (0.025, 0.975)}.items()
    }
    return {
        "smape": ratio.mean(),
        "mase": scaled["mase"].mean() if usable.any() else np.nan,
        "wql": pinball.sum() / np.abs(truth).sum(),
        "crps": scaled["crps"].mean() if usable.any() else np.nan,
        **covered,
        "mse": np.square(error if mean is None else truth - mean).mean(),
        "mae": error.mean(),
    }


def owa(row: Mapping[str, float], naive2: Mapping[str, float]) -> float:
    """Return the overall weighted average of M4: the mean of sMAPE and MASE relative to Naive2."""
    return (row["smape"] / naive2["smape"] + row["mase"] / naive2["mase"]) / 2


def _pinball(truth: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Return twice the pinball loss, mean over the deciles, `[W, S, H]`; one decile at a time, to save memory."""
    total = np.zeros_like(truth)
    for level in DECILES:
        error = truth - forecast[..., LEVELS.index(level) if forecast.shape[-1] > 1 else 0]
        total += 2 * np.maximum(level * error, (level - 1) * error)
    return total / len(DECILES)


def _covered(truth: np.ndarray, forecast: np.ndarray, low: float, high: float) -> float:
    """Return the share of values between two quantiles, nan for a point forecast."""
    if forecast.shape[-1] == 1:
        return np.nan
    inside = (forecast[..., LEVELS.index(low)] <= truth) & (truth <= forecast[..., LEVELS.index(high)])
    return float(inside.mean())
