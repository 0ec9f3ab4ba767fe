"""`score` from the command line and Python: what it finds, how often it is wrong, and what its table looks like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import signal, stats

from armlp import Forecaster
from armlp.errors import UserError

MakeTable = Callable[..., pd.DataFrame]
QUIET: dict[str, Any] = {"enable_progress_bar": False, "limit_val_batches": 0, "enable_checkpointing": False}
LINEAR: dict[str, Any] = {"hidden_sizes": [], "head": "normal", "ridge_init": True, "patch_length": 1, "unroll": 1}
TINY: dict[str, Any] = {"horizon": 4, "context_length": 24, "hidden_sizes": [4], "residual_blocks": 0, "max_steps": 2}


def long(values: np.ndarray) -> pd.DataFrame:
    """A long table of the series `[S, n]`."""
    series, rows = values.shape
    times = pd.date_range("2024-01-01", periods=rows, freq="h")
    ids = np.repeat([f"s{index:02d}" for index in range(series)], rows)
    return pd.DataFrame({"unique_id": ids, "ds": np.tile(times, series), "y": values.ravel()})


def as_pandas(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    return frame


def auc(scores: pd.Series, planted: np.ndarray) -> float:
    """The area under the ROC curve, from ranks; low scores are to be the planted ones."""
    found = stats.mannwhitneyu(scores[~planted], scores[planted]).statistic
    return float(found / planted.sum() / (~planted).sum())


def test_spikes_level_shifts_and_missing_seasons_rank_on_top(tmp_path: Path):
    def days(seed: int, series: int) -> np.ndarray:
        """Thirty days of open and closed hours."""
        noise = np.random.default_rng(seed).standard_normal((series, 720))
        return 10 + 3 * np.where(np.arange(720) % 24 < 12, -1, 1) + 0.3 * noise

    forecaster = Forecaster(
        24, **LINEAR, context_length=48, max_steps=100, learning_rate=0.05, **QUIET, default_root_dir=str(tmp_path)
    ).fit(long(days(0, 6)))
    values, generator = days(1, 9), np.random.default_rng(2)
    kinds = {name: np.zeros(values.shape, dtype=bool) for name in ("spike", "shift", "missing season")}
    for series in range(3):
        at = generator.choice(np.arange(60, 720), 6, replace=False)
        values[series, at] += 2.5 * generator.choice([-1, 1], 6)
        kinds["spike"][series, at] = True
    for series in range(3, 6):
        values[series, 400:] += 3
        kinds["shift"][series, 400] = True
    for series in range(6, 9):
        values[series, 492:504] -= 6  # stayed closed
        kinds["missing season"][series, 492:504] = True
    scores = forecaster.score(long(values))
    assert len(scores) == values[:, 48:].size
    every = sum(kinds.values())[:, 48:].ravel() > 0
    for planted in (*(kind[:, 48:].ravel() for kind in kinds.values()), every):
        # Rows of one kind look like the rows of the others.
        judged = planted | ~every
        assert auc(scores["tail_probability"][judged], planted[judged]) > 0.95


def test_the_rate_of_false_alarms_on_new_data_is_their_level(tmp_path: Path):
    noise = np.random.default_rng(0).standard_normal((30, 800))
    values = signal.lfilter([1], [1, -0.7], noise)[:, 200:]
    options = {"scaler": "none", "level_input": False, "context_length": 8, "season_length": 1, "batch_size": 256}
    forecaster = Forecaster(
        5, **LINEAR, **options, max_steps=150, learning_rate=0.03, **QUIET, default_root_dir=str(tmp_path)
    ).fit(long(values[:20]))
    scores = forecaster.score(long(values[20:]))
    expected = stats.norm.logpdf(signal.lfilter([1, -0.7], [1], values[20:])[:, 8:].ravel())
    assert np.mean(np.abs(scores["log_likelihood"] - expected)) < 0.1
    for level in (0.01, 0.05, 0.2):
        alarms = int((scores["tail_probability"] < level).sum())
        assert stats.binomtest(alarms, len(scores), level).pvalue > 1e-3


def test_both_doors_score_the_same(trained: Any, program: Any):
    printed = program("score", "--ckpt_path", trained.best, "--data.source", trained.source, "--output", "scores.csv")
    assert "score table: scores.csv" in printed
    scores = Forecaster.load(trained.best, enable_progress_bar=False).score(trained.table)
    assert list(scores) == ["unique_id", "ds", "y", "log_likelihood", "pit", "tail_probability"]
    written = pd.read_csv("scores.csv", parse_dates=["ds"])
    pd.testing.assert_frame_equal(written, scores, check_dtype=False, rtol=1e-6)
    truth = trained.table.merge(scores, on=["unique_id", "ds"])
    assert len(truth) == len(scores)
    np.testing.assert_allclose(truth["y_x"], truth["y_y"], rtol=1e-6)
    assert scores[["pit", "tail_probability"]].stack().between(0, 1).all()


def test_rows_of_context_and_rows_without_a_value_are_left_out(make_table: MakeTable, tmp_path: Path):
    table = make_table(series=2, rows=90)
    forecaster = Forecaster(**TINY, **QUIET, default_root_dir=str(tmp_path)).fit(table)
    short = table[table["unique_id"] == "s01"].tail(30)
    holed = pd.concat([table[table["unique_id"] == "s00"], short])
    holed.iloc[50, 2] = np.nan
    holed = holed.drop(holed.index[60])
    scores = forecaster.score(pl.from_pandas(holed))
    assert isinstance(scores, pl.DataFrame)
    expected = pd.concat([holed.iloc[24:89].dropna(), short.iloc[15:]])
    pd.testing.assert_frame_equal(
        as_pandas(scores)[["unique_id", "ds"]], expected[["unique_id", "ds"]].reset_index(drop=True), check_dtype=False
    )
    assert scores["log_likelihood"].is_finite().all()


def test_vectors_have_columns_of_each_channel(make_table: MakeTable, tmp_path: Path):
    table = make_table(rows=90).assign(z=lambda table: -table["y"])
    table.loc[80, "z"] = np.nan
    options = {"target_columns": ["y", "z"], "head": "multivariate_normal", "known_covariates": ["x"]}
    table["x"] = np.arange(len(table)) % 7
    forecaster = Forecaster(**TINY, **options, **QUIET, default_root_dir=str(tmp_path)).fit(table)
    scores = forecaster.score()
    names = [f"{what}-{channel}" for channel in "yz" for what in ("y", "log_likelihood", "pit", "tail_probability")]
    assert list(scores) == ["unique_id", "ds", *names]
    holed = scores.loc[80 - 24]
    assert holed[["y-y", "pit-y", "tail_probability-y"]].notna().all()
    # Where one channel is missing, the density of all of them together is not known.
    assert holed[["y-z", "pit-z", "tail_probability-z", "log_likelihood-y", "log_likelihood-z"]].isna().all()
    assert scores.drop(index=80 - 24).notna().all(axis=None)


def test_symbols_are_spelled_and_scored(tmp_path: Path):
    letters = np.random.default_rng(0).choice(list("aab"), 300)
    table = pd.DataFrame({"unique_id": "text", "ds": range(300), "y": letters})
    forecaster = Forecaster(**TINY, symbols=True, **QUIET, default_root_dir=str(tmp_path)).fit(table)
    scores = forecaster.score(seed=1)
    assert scores["y"].tolist() == letters[24:].tolist()
    assert (scores["log_likelihood"] < 0).all()
    again, other = forecaster.score(seed=1), forecaster.score(seed=2)
    pd.testing.assert_frame_equal(scores, again)
    pd.testing.assert_frame_equal(scores.drop(columns="pit"), other.drop(columns="pit"))
    assert (scores["pit"] != other["pit"]).all()


def test_a_series_with_a_level_is_scored_as_without(make_table: MakeTable, tmp_path: Path):
    table = make_table(series=1, rows=90)
    forecaster = Forecaster(**TINY, **QUIET, scaler="standard", level_input=False, default_root_dir=str(tmp_path))
    plain = forecaster.fit(table).score()
    raised = forecaster.score(table.assign(y=table["y"] + 1e9))
    np.testing.assert_allclose(raised["y"] - 1e9, plain["y"], atol=1e-6)
    columns = ["log_likelihood", "pit", "tail_probability"]
    np.testing.assert_allclose(raised[columns], plain[columns], rtol=1e-3, atol=1e-4)


def test_what_cannot_be_scored_is_said(trained: Any, program: Any, make_table: MakeTable, tmp_path: Path):
    with pytest.raises(UserError, match="nothing fitted yet"):
        Forecaster().score("sine")
    options = ("score", "--ckpt_path", trained.best, "--data.source", trained.source)
    assert "is the data itself" in program.refuses(*options, "--output", trained.source)
    assert "must end in .parquet or .csv" in program.refuses(*options, "--output", "scores.txt")
    forecaster = Forecaster(**TINY, head="point", **QUIET, default_root_dir=str(tmp_path / "runs")).fit(make_table())
    with pytest.raises(UserError, match="point head forecasts a value without a distribution"):
        forecaster.score()
