"""Whole-program tests of recalibrated forecasts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from armlp import Forecaster, UserError
from armlp.data.datamodule import SeriesDataModule
from armlp.evaluation.conformal import recalibrate
from armlp.training.transforms import Recalibration

MakeTable = Callable[..., pd.DataFrame]
SMALL: dict[str, Any] = {
    "max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "hidden_sizes": [8],
    "enable_progress_bar": False, "test_windows": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> dict[str, Forecaster]:
    """The same training with and without recalibration."""
    table, folder = make_table(series=35, rows=60), str(tmp_path_factory.mktemp("both"))
    return {
        kind: Forecaster(6, **SMALL, conformal=kind, default_root_dir=folder).fit(table) for kind in ("off", "split")
    }


def test_paths_are_those_of_the_network_moved_by_what_the_checkpoint_holds(both: dict[str, Forecaster], tmp_path: Path):
    both["split"].save(tmp_path / "model.ckpt")
    factors = torch.load(tmp_path / "model.ckpt", weights_only=True)["conformal"]["factors"]
    assert factors.shape[0] == 6
    plain = torch.from_numpy(both["off"].sample(num_paths=50, horizon=9))
    found = both["split"].sample(num_paths=50, horizon=9)
    assert not np.allclose(found, plain)
    np.testing.assert_array_equal(found, recalibrate(plain[..., None], factors)[..., 0].clamp(min=0))
    # Tables are of the same paths, and so are sums.
    table = both["split"].predict(levels=(80,), num_paths=50, horizon=9)
    np.testing.assert_allclose(table["armlp-hi-80"], np.quantile(found, 0.9, axis=1, method="hazen").ravel(), rtol=1e-5)
    np.testing.assert_allclose(table["armlp"], both["off"].predict(num_paths=50, horizon=9)["armlp"], rtol=1e-5)


def test_a_file_is_enough_for_both_interfaces(
    both: dict[str, Forecaster], program: Any, make_table: MakeTable, tmp_path: Path
):
    both["split"].save("model.ckpt")
    make_table(series=35, rows=60).to_parquet("table.parquet")
    command = ("predict", "--ckpt_path=model.ckpt", "--data.source=table.parquet", "--forecast.output=f.parquet")
    for kind, options in {"split": (), "off": ("--model.conformal=off",)}.items():
        program(*command, *options)
        found = pd.read_parquet("f.parquet")
        pd.testing.assert_frame_equal(found, both[kind].predict(), check_dtype=False, rtol=1e-6)
    loaded = Forecaster.load("model.ckpt", enable_progress_bar=False)
    table = make_table(series=35, rows=60)
    pd.testing.assert_frame_equal(loaded.predict(table), both["split"].predict())
    pd.testing.assert_frame_equal(loaded.backtest(table), both["split"].backtest())


def test_a_backtest_is_recalibrated_and_keeps_its_median(both: dict[str, Forecaster]):
    tables = {kind: forecaster.backtest() for kind, forecaster in both.items()}
    pd.testing.assert_series_equal(tables["off"]["armlp"], tables["split"]["armlp"])
    assert not np.allclose(tables["off"]["armlp-hi-80"], tables["split"]["armlp-hi-80"])


def test_every_kind_of_panel_can_be_recalibrated(make_table: MakeTable, tmp_path: Path):
    table = make_table(series=32, rows=48)
    table = table.assign(y=table["y"] + 1e9, z=-table["y"])
    options = {**SMALL, "target_columns": ["y", "z"], "conformal": "split", "default_root_dir": str(tmp_path)}
    forecaster = Forecaster(4, **options).fit(table)
    paths = forecaster.sample(num_paths=20)
    assert paths.shape == (32, 20, 4, 2)
    assert np.isfinite(paths).all()
    assert (paths[..., 0] > 9e8).all()
    assert (paths[..., 1] < 0).all()


def test_too_few_validation_windows_are_told_of_and_leave_forecasts_alone(make_table: MakeTable, tmp_path: Path):
    options = SMALL | {"default_root_dir": str(tmp_path)}
    with pytest.warns(UserWarning, match="`conformal`: the table has 3 validation windows, too few"):
        forecaster = Forecaster(6, **options, conformal="split").fit(make_table())
    pd.testing.assert_frame_equal(forecaster.predict(), Forecaster(6, **options).fit(make_table()).predict())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"conformal": "split", "head": "point"}, "`conformal`: split needs .* the head 'point' does not"),
        ({"conformal": "split", "head": "poisson"}, "`conformal`: split needs .* the head 'poisson' does not"),
        ({"conformal": "online"}, "`conformal`: 'online' is not known; use one of off, split, adaptive"),
    ],
)
def test_what_cannot_be_recalibrated_is_refused(options: dict[str, Any], sentence: str, make_table: MakeTable):
    table = make_table()
    table["y"] = table["y"].round()
    with pytest.raises(UserError, match=sentence):
        Forecaster(6, **options, enable_progress_bar=False).fit(table)


STREAM: dict[str, Any] = {**SMALL, "test_windows": 3, "conformal": "adaptive"}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> tuple[pd.DataFrame, Forecaster]:
    """A training that follows streams, and its table, of which it has not seen the last three windows."""
    table = make_table(series=35, rows=72)
    return table, Forecaster(6, **STREAM, default_root_dir=str(tmp_path_factory.mktemp("stream"))).fit(table)


def columns(table: pd.DataFrame) -> np.ndarray:
    return table.filter(like="armlp").to_numpy()


def test_an_adaptive_forecast_is_that_of_a_backtest_and_knows_nothing_later(
    stream: tuple[pd.DataFrame, Forecaster], tmp_path: Path
):
    table, forecaster = stream
    found = forecaster.backtest(windows=3)
    assert found.equals(forecaster.backtest(windows=3)), "a test leaves nothing behind"
    for window, (cutoff, part) in enumerate(found.groupby("cutoff")):
        # What comes after the cutoff is not there at all, is something else, and is in a file of the model alone.
        until = table[table["ds"] <= cutoff]
        np.testing.assert_allclose(columns(forecaster.predict(until)), columns(part), rtol=1e-5)
        changed = table.assign(y=table["y"].where(table["ds"] <= cutoff, 1e3))
        again = forecaster.backtest(changed, windows=3)
        np.testing.assert_array_equal(
            columns(again[again["cutoff"] <= cutoff]), columns(found[found["cutoff"] <= cutoff])
        )
        if window < 2:
            assert not np.allclose(columns(again[again["cutoff"] > cutoff]), columns(found[found["cutoff"] > cutoff]))
    forecaster.save(tmp_path / "model.ckpt")
    assert torch.load(tmp_path / "model.ckpt", weights_only=True)["conformal"]["factors"].shape[0] == 6
    loaded = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False)
    pd.testing.assert_frame_equal(loaded.backtest(table, windows=3), found)


def test_adaptive_starts_as_split_and_then_leaves_it(
    stream: tuple[pd.DataFrame, Forecaster], program: Any, tmp_path: Path
):
    table, forecaster = stream
    forecaster.save("model.ckpt")
    table.to_parquet("table.parquet")
    command = ("test", "--ckpt_path=model.ckpt", "--data.source=table.parquet", "--forecast.output=b.parquet")
    tables = {}
    for kind in ("split", "adaptive"):
        program(*command, f"--model.conformal={kind}")
        tables[kind] = pd.read_parquet("b.parquet")
    pd.testing.assert_frame_equal(tables["adaptive"], forecaster.backtest(windows=3), check_dtype=False, rtol=1e-5)
    first = tables["split"]["cutoff"] == tables["split"]["cutoff"].min()
    np.testing.assert_allclose(columns(tables["split"][first]), columns(tables["adaptive"][first]), rtol=1e-5)
    assert not np.allclose(columns(tables["split"][~first]), columns(tables["adaptive"][~first]))
    np.testing.assert_allclose(tables["split"]["armlp"], tables["adaptive"]["armlp"], rtol=1e-5)


def test_adaptive_factors_follow_new_series_that_end_at_different_times(
    stream: tuple[pd.DataFrame, Forecaster], make_table: MakeTable, checkpoint_of: Any
):
    _, forecaster = stream
    table = make_table(series=4, rows=400, first=90)
    table = table[(table["unique_id"] != "s91") | (table["ds"] < "2024-01-10")]
    start = checkpoint_of(forecaster)["conformal"]["factors"]
    wide = forecaster.predict(table.assign(y=table["y"] + 20 * (table["ds"].dt.hour % 2)))
    assert len(wide) == 24
    assert np.isfinite(columns(wide)).all()
    assert len(forecaster.sample(table, num_paths=7, horizon=9)) == 4
    assert torch.equal(checkpoint_of(forecaster)["conformal"]["factors"], start)
    backtest = forecaster.backtest(table, windows=4, step=2, gap=1)
    assert len(backtest) == 4 * 4 * 6


def test_adaptive_begins_with_the_network_s_own_intervals_where_validation_is_too_small(
    make_table: MakeTable, tmp_path: Path
):
    table, options = make_table(rows=90), SMALL | {"default_root_dir": str(tmp_path)}
    with pytest.warns(UserWarning, match="too few to recalibrate by, so intervals start as they are"):
        forecaster = Forecaster(6, **options, conformal="adaptive").fit(table)
    plain = Forecaster(6, **options).fit(table)
    pd.testing.assert_frame_equal(forecaster.backtest(), plain.backtest())
    assert not np.allclose(columns(forecaster.predict()), columns(plain.predict())), "the test window came after"


def test_adaptive_refuses_several_processes(make_table: MakeTable):
    data = SeriesDataModule(make_table(), horizon=6)
    with pytest.raises(UserError, match=r"`conformal`: adaptive takes .* 2 processes cannot share"):
        Recalibration("adaptive").catch_up(data, "test", lambda windows: windows.target, world_size=2)
