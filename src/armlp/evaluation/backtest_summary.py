"""Summaries of a backtest table by lead or by series."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from armlp.arguments import check_argument
from armlp.errors import UserError
from armlp.evaluation.metrics.base import covered
from armlp.evaluation.quantiles import MODEL

_BY = {"lead": "lead", "series": "unique_id"}
_REQUIRED = ("unique_id", "ds", "cutoff")


def summarize_backtest(table: Any, by: str = "series") -> Any:
    """Summarize a backtest table by lead or by series; every observed value has the same weight.

    Args:
        table: The result of `Forecaster.backtest` or `armlp test`: pandas, polars (lazy too) or pyarrow.
        by: `series`, sorted by sMAPE with the worst first; or `lead`, counted from the first row of a window.

    Returns:
        A table of the same kind with the columns `lead` or `unique_id`; `channel`, for vector series; `count`, the
        number of observed values; `mae`, `rmse` (data units), `smape` (percent, as in the M4 competition), and
        `coverage-80` (share inside) for each level; of a table with `armlp-share` only `error_rate`. A diverged
        forecast has an infinite error.

    Raises:
        UserError: The table is not a backtest table, or `by` is not known.
    """
    if check_argument("by", by, str) not in _BY:
        raise UserError(f"by: {by!r} is not known; use one of {', '.join(_BY)}.")
    try:
        frame = nw.from_native(table)
    except TypeError as error:
        raise UserError(
            f"table: this is a {type(table).__name__}; give what Forecaster.backtest returned or armlp test wrote."
        ) from error
    eager = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    rows = eager.to_pandas()
    targets = [name for name in rows.columns if name == "y" or name.startswith("y-")]
    if not targets or any(name not in rows.columns for name in (*_REQUIRED, *(MODEL + name[1:] for name in targets))):
        raise UserError(
            f"The table has the columns {', '.join(map(str, rows.columns))}, but a backtest table has unique_id, ds, "
            "cutoff, y and armlp: give what Forecaster.backtest returned or armlp test wrote."
        )
    lead = rows.groupby(["unique_id", "cutoff"], observed=True)["ds"].rank(method="first").astype(int)
    rows = rows.assign(lead=lead)
    parts = []
    for target in targets:
        scores = _scores(rows, target[1:])
        measured = scores.groupby(rows[_BY[by]], observed=True, sort=True).sum()
        count = measured.pop("count")
        means = measured.div(count, axis=0)
        if "rmse" in means:
            means["rmse"] **= 0.5
        part = pd.concat([count.astype(int), means], axis=1).reset_index()
        if len(targets) > 1:
            part.insert(1, "channel", target[2:])
        parts.append(part)
    found = pd.concat(parts)
    if by == "series":
        found = found.sort_values("smape" if "smape" in found else "error_rate", ascending=False, kind="stable")
    elif len(targets) > 1:
        found = found.sort_values("lead", kind="stable")
    return _like(eager, found.reset_index(drop=True), lazy=eager is not frame)


def _scores(rows: pd.DataFrame, suffix: str) -> pd.DataFrame:
    """Return the scores of each row, 0 where the truth was not observed."""
    truth, forecast = rows[f"y{suffix}"], rows[f"{MODEL}{suffix}"]
    observed = truth.notna()
    scores: dict[str, Any] = {"count": observed}
    if f"{MODEL}-share" in rows and "y-share" not in rows:
        scores["error_rate"] = truth != forecast
    else:
        error = (truth - forecast).abs().astype(float)
        size = truth.abs() + forecast.abs()
        scores["mae"], scores["rmse"] = error, error**2
        scores["smape"] = (200 * error / size).where(size != 0, 0.0)
        diverged = observed & ~np.isfinite(forecast.astype(float))
        scores = {name: score if name == "count" else score.mask(diverged, np.inf) for name, score in scores.items()}
        for name in rows.columns:
            low = f"{MODEL}{suffix}-lo-"
            if name.startswith(low):
                level = name.removeprefix(low)
                scores[f"coverage-{level}"] = covered(truth, rows[name], rows[f"{MODEL}{suffix}-hi-{level}"])
    return pd.DataFrame(scores).astype(float).where(observed, 0.0)


def _like(eager: Any, found: pd.DataFrame, lazy: bool) -> Any:
    """Convert `found` to the library of `eager`."""
    if eager.implementation.is_pandas():
        return found
    frame = nw.from_native(found, eager_only=True)
    if not eager.implementation.is_polars():
        return frame.to_arrow()
    return frame.to_polars().lazy() if lazy else frame.to_polars()
