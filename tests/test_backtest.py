"""Whole-program tests of backtests; forecasts of tables cut off at the origin are the oracle."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from armlp import Forecaster, UserError, summarize_backtest

MakeTable = Callable[..., pd.DataFrame]
SMALL: dict[str, Any] = {
    "max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "hidden_sizes": [8],
    "enable_progress_bar": False,
}  # fmt: skip
TIMES = ["unique_id", "cutoff", "ds"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> Forecaster:
    """A forecaster with H=6 that has not seen the last 20 rows of its table."""
    folder = str(tmp_path_factory.mktemp("fitted"))
    options = {"test_windows": 5, "test_step": 3, "test_gap": 2}
    return Forecaster(6, **options, **SMALL, default_root_dir=folder).fit(make_table())


def expected_of(
    predict: Callable[..., pd.DataFrame], table: pd.DataFrame, windows: int, step: int, gap: int, horizon: int = 6
) -> pd.DataFrame:
    """The forecasts of a backtest, each from the table cut off at its origin."""
    parts = []
    for window in range(windows):
        ends = gap + horizon + step * (windows - 1 - window)
        known = table.groupby("unique_id").head(-ends)
        forecast = predict(known, horizon=gap + horizon)
        forecast["cutoff"] = forecast["unique_id"].map(known.groupby("unique_id")["ds"].max())
        parts.append(forecast.groupby("unique_id").tail(horizon))
    return pd.concat(parts).sort_values(TIMES, ignore_index=True)


@pytest.mark.parametrize(("windows", "step", "gap"), [(1, None, 0), (3, None, 0), (4, 2, 0), (2, 9, 1), (3, 4, 5)])
def test_a_backtest_is_the_forecasts_of_the_table_cut_off_at_each_origin(
    windows: int, step: int | None, gap: int, fitted: Forecaster, make_table: MakeTable
):
    table = make_table(series=4, rows=80, seed=1, first=7)
    found = fitted.backtest(table, windows, step, gap)
    levels = [f"armlp-{side}-{level}" for level in (80, 95) for side in ("lo", "hi")]
    assert list(found.columns) == ["unique_id", "ds", "cutoff", "y", "armlp", *levels]
    expected = expected_of(fitted.predict, table, windows, step or 6, gap)
    names = [*TIMES, "armlp", *levels]
    pd.testing.assert_frame_equal(found[names], expected[names], check_dtype=False, rtol=1e-4)
    truth = found[["unique_id", "ds"]].merge(table, on=["unique_id", "ds"], how="left")
    np.testing.assert_allclose(found["y"], truth["y"], rtol=1e-6)


def test_a_series_too_short_for_some_origins_has_the_others(fitted: Forecaster, make_table: MakeTable):
    table = make_table(series=2, rows=60, first=7)
    table = pd.concat([table[table["unique_id"] == "s07"], table[table["unique_id"] == "s08"].head(15)])
    found = fitted.backtest(table, windows=4)
    assert found.groupby("unique_id")["cutoff"].nunique().to_dict() == {"s07": 4, "s08": 2}


@pytest.mark.parametrize("kind", ["vector", "covariates", "levels", "counts"])
def test_tables_of_every_kind_are_backtested_as_they_are_forecast(kind: str, make_table: MakeTable, tmp_path: Path):
    table, options = make_table(rows=72), {}
    if kind == "vector":
        table, options = table.assign(z=-table["y"]), {"target_columns": ["y", "z"]}
    elif kind == "covariates":
        known, place = np.sin(np.arange(len(table))), np.where(np.arange(len(table)) % 3, "a", "b")
        table, options = table.assign(x=known, place=place), {"known_covariates": ["x", "place"]}
    elif kind == "levels":
        table["y"] += 1e9
    else:
        table["y"] = np.round(table["y"])
        options = {"head": "poisson"}
    forecaster = Forecaster(6, test_windows=2, **options, **SMALL, default_root_dir=str(tmp_path)).fit(table)
    found = forecaster.backtest(windows=2, gap=0, num_paths=20)

    def predict(known: pd.DataFrame, horizon: int) -> pd.DataFrame:
        later = table.drop(known.index).groupby("unique_id").head(horizon).drop(columns="y")
        future = later if kind == "covariates" else None
        return forecaster.predict(known, horizon, num_paths=20, future=future)

    expected = expected_of(predict, table, 2, 6, 0)
    names = [name for name in found.columns if not name.startswith("y")]
    rtol = 1e-12 if kind == "levels" else 1e-4
    pd.testing.assert_frame_equal(found[names], expected[names], check_dtype=False, rtol=rtol)


def test_symbols_are_backtested_and_counted(tmp_path: Path, make_table: MakeTable):
    table = make_table(rows=72)
    table["y"] = np.where(np.arange(len(table)) % 2, "up", "down")
    options = {"test_windows": 3, "symbols": True}
    forecaster = Forecaster(6, **options, **SMALL, default_root_dir=str(tmp_path)).fit(table)
    found = forecaster.backtest(windows=3, step=2)
    assert set(found["y"]) == {"up", "down"}
    wrong = (found["y"] != found["armlp"]).groupby(found["unique_id"]).mean()
    summary = summarize_backtest(found).set_index("unique_id")["error_rate"]
    assert summary.to_dict() == pytest.approx(wrong.to_dict())


def test_the_evaluation_and_the_plots_of_nixtla_read_the_table_as_it_is(fitted: Forecaster, make_table: MakeTable):
    from utilsforecast.evaluation import evaluate
    from utilsforecast.losses import coverage, mae, mqloss, smape
    from utilsforecast.plotting import plot_series

    table = fitted.backtest(windows=3, step=4)
    scores = evaluate(table, [mae, smape, mqloss, coverage], level=[80, 95])
    other = evaluate(
        fitted.backtest(pl.from_pandas(make_table()), 3, 4), [mae, smape, mqloss, coverage], level=[80, 95]
    )
    keys = ["unique_id", "cutoff", "metric"]
    pd.testing.assert_frame_equal(
        scores.sort_values(keys, ignore_index=True), other.to_pandas().sort_values(keys, ignore_index=True),
        check_dtype=False, rtol=1e-5,
    )  # fmt: skip
    means = scores.groupby(["metric", "unique_id"])["armlp"].mean()
    ours = summarize_backtest(table).set_index("unique_id")
    for name, theirs in {"mae": "mae", "coverage-80": "coverage_level80", "coverage-95": "coverage_level95"}.items():
        assert ours[name].to_dict() == pytest.approx(means[theirs].to_dict())
    assert ours["smape"].to_dict() == pytest.approx((200 * means["smape"]).to_dict())  # theirs is a share of the sum
    assert plot_series(make_table(), table, models=["armlp"], level=[80, 95]) is not None


@pytest.mark.parametrize(
    ("convert", "kind"),
    [(pl.from_pandas, pl.DataFrame), (lambda table: pl.from_pandas(table).lazy(), pl.LazyFrame),
     (lambda table: pa.Table.from_pandas(table, preserve_index=False), pa.Table)],
)  # fmt: skip
def test_the_same_kind_of_table_comes_back(
    convert: Callable[[pd.DataFrame], Any], kind: type, fitted: Forecaster, make_table: MakeTable
):
    found = fitted.backtest(convert(make_table()), windows=2)
    assert isinstance(found, kind)
    found = found.collect() if isinstance(found, pl.LazyFrame) else found
    expected = fitted.backtest(make_table(), windows=2)
    pd.testing.assert_frame_equal(found.to_pandas(), expected, check_dtype=False)


def test_a_refit_knows_nothing_after_the_origin(make_table: MakeTable, tmp_path: Path):
    table, options = make_table(rows=90), {**SMALL, "default_root_dir": str(tmp_path)}
    forecaster = Forecaster(6, **options).fit(table)
    before = forecaster.predict()
    runs = set(tmp_path.rglob("*"))
    found = forecaster.backtest(windows=3, step=4, gap=1, refit=2)
    pd.testing.assert_frame_equal(forecaster.predict(), before)  # itself it stays as it is
    assert set(tmp_path.rglob("*")) == runs
    assert found.groupby("unique_id")["cutoff"].nunique().tolist() == [3, 3, 3]
    for first in (0, 2):  # a model of its own for every two origins, fitted on what was before the first of them
        held_out = 7 + 4 * (2 - first)
        model = Forecaster(6, **options).fit(table.groupby("unique_id").head(-held_out))
        cutoffs = np.sort(found["cutoff"].unique())[first : first + 2]
        part = found[found["cutoff"].isin(cutoffs)].reset_index(drop=True)
        expected = expected_of(model.predict, table, 3, 4, 1)
        expected = expected[expected["cutoff"].isin(cutoffs)].reset_index(drop=True)
        pd.testing.assert_frame_equal(part[TIMES], expected[TIMES])
        np.testing.assert_allclose(part["armlp"], expected["armlp"], rtol=1e-4)


def test_a_loaded_forecaster_refits_too(fitted: Forecaster, make_table: MakeTable, tmp_path: Path):
    fitted.save(tmp_path / "model.ckpt")
    loaded = Forecaster.load(tmp_path / "model.ckpt", **{name: SMALL[name] for name in SMALL if name != "hidden_sizes"})
    found = loaded.backtest(make_table(), windows=2, refit=True)
    assert np.isfinite(found["armlp"]).all()
    assert len(found) == 3 * 2 * 6


@pytest.mark.parametrize("refit", [0, 2])
def test_the_scores_of_a_backtest_are_those_of_its_whole_table(
    refit: int, make_table: MakeTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    forecaster = Forecaster(6, **{**SMALL, "enable_progress_bar": True}, default_root_dir=str(tmp_path))
    forecaster.fit(make_table(rows=90))
    assert set(forecaster.scores) == {"armlp", "seasonal naive", "Naive2", "drift", "ridge AR"}
    capsys.readouterr()
    found = forecaster.backtest(windows=3, refit=refit)
    printed = " ".join(capsys.readouterr().out.split())
    assert ("Test, 9 x 6 steps, trained anew for every 2 origins" in printed) == bool(refit)
    assert "seasonal naive" in printed
    error = (found["y"] - found["armlp"]).abs()
    within = found["y"].between(found["armlp-lo-80"], found["armlp-hi-80"])
    assert forecaster.scores["armlp"]["mae"] == pytest.approx(error.mean(), rel=1e-5)
    assert forecaster.scores["armlp"]["coverage_80"] == pytest.approx(within.mean())
    low, high = found["armlp-lo-80"], found["armlp-hi-80"]
    width = high - low + 10 * ((low - found["y"]).clip(lower=0) + (found["y"] - high).clip(lower=0))
    assert forecaster.scores["armlp"]["interval_80"] == pytest.approx(width.mean(), rel=1e-5)
    naive = forecaster.scores["seasonal naive"]
    assert naive["skill"] == 0
    values = make_table(rows=90).sort_values(["unique_id", "ds"])["y"].to_numpy().reshape(3, 90)
    assert naive["mae"] == pytest.approx(np.abs(values[:, 72:] - values[:, 48:66]).mean(), rel=1e-5)


def test_times_that_were_trained_on_are_owned_up_to(fitted: Forecaster, make_table: MakeTable, tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fitted.backtest(windows=5, step=3, gap=2)
        fitted.backtest(make_table(), windows=2)
        fitted.backtest(make_table(first=50), windows=9)
    with pytest.warns(UserWarning, match="trained on these times in 3 of 3 series"):
        fitted.backtest(windows=5)
    fitted.save(tmp_path / "model.ckpt")
    with pytest.warns(UserWarning, match="trained on these times in 3 of 3 series"):
        Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False).backtest(make_table(), windows=5)


def test_both_doors_backtest_alike(program: Any, trained: Any):
    options = ("--data.test_windows=3", "--data.test_step=2", "--data.test_gap=1", "--forecast.paths=p.csv")
    printed = program("test", "--ckpt_path", trained.best, "--forecast.output=b.parquet", *options)
    assert "Test, 9 x 6 steps, each after a gap of 1, at the end of" in printed
    assert "Test by lead" in printed
    assert "Test by series, the worst 3 of 3 first" in printed
    found = pd.read_parquet("b.parquet")
    theirs = Forecaster.load(trained.best, enable_progress_bar=False).backtest(trained.table, 3, 2, 1)
    pd.testing.assert_frame_equal(found, theirs, check_dtype=False)
    paths = pd.read_csv("p.csv", parse_dates=["ds", "cutoff"])
    middle = paths.groupby(TIMES)["y"].median().reset_index(drop=True)
    np.testing.assert_allclose(middle, found["armlp"], rtol=1e-5)


def test_both_doors_refit_alike_with_the_options_of_the_training(program: Any, trained: Any, make_table: MakeTable):
    before = {path: path.stat().st_mtime_ns for path in trained.run.rglob("*")}
    options = ("--data.test_windows=3", "--forecast.output=b.parquet", "--refit=2")
    printed = program("test", "--ckpt_path", trained.best, *options)
    assert "x 6 steps, trained anew for every 2 origins" in printed
    assert "backtest table: b.parquet" in printed
    assert {path: path.stat().st_mtime_ns for path in trained.run.rglob("*")} == before
    assert not Path("lightning_logs").exists()
    loaded = Forecaster.load(trained.best, enable_progress_bar=False)
    theirs = loaded.backtest(trained.table, windows=3, refit=2)
    pd.testing.assert_frame_equal(pd.read_parquet("b.parquet"), theirs, check_dtype=False)
    # `trained` was given these, in the command line.
    same = {"max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "residual_blocks": 1}
    same["min_spread"] = 0.0
    fitted = Forecaster(
        6, test_windows=2, hidden_sizes=[8], dropout=0.2, enable_progress_bar=False, logger=False, **same
    )
    theirs = fitted.fit(trained.table).backtest(windows=3, refit=2)
    pd.testing.assert_frame_equal(pd.read_parquet("b.parquet"), theirs, check_dtype=False)
    # What is said now wins.
    program("test", "--ckpt_path", trained.best, *options, "--trainer.max_steps=3", "--model.learning_rate=0.1")
    other = Forecaster.load(trained.best, enable_progress_bar=False, max_steps=3).backtest(trained.table, 3, refit=2)
    assert not np.allclose(pd.read_parquet("b.parquet")["armlp"], theirs["armlp"])
    assert not np.allclose(other["armlp"], theirs["armlp"])
    assert "--refit: -1 is too small" in program.refuses("test", "--ckpt_path", trained.best, "--refit=-1")


def test_a_checkpoint_without_the_options_of_its_training_says_so(trained: Any, tmp_path: Path):
    checkpoint = torch.load(trained.best, weights_only=True)
    del checkpoint["requested"]  # as an earlier version wrote it
    torch.save(checkpoint, tmp_path / "older.ckpt")
    loaded = Forecaster.load(tmp_path / "older.ckpt", enable_progress_bar=False, max_steps=2)
    with pytest.raises(UserError, match="`refit`: the checkpoint does not hold the options of its training; fit anew"):
        loaded.backtest(trained.table, windows=2, refit=2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"windows": 0}, "`windows`: 0 is too small"),
        ({"step": 0}, "^`step`: 0 is too small"),
        ({"gap": -1}, "^`gap`: -1 is too small"),
        ({"refit": -2}, "`refit`: -2 is too small"),
        ({"gap": 500}, "No series of the table is long enough for the test windows: .* has 96 rows and needs 507"),
        ({"windows": 50, "refit": True}, "No series is long enough to train on"),
    ],
)
def test_what_cannot_be_backtested_is_refused(options: dict[str, Any], sentence: str, fitted: Forecaster):
    with pytest.raises(UserError, match=sentence):
        fitted.backtest(**options)
