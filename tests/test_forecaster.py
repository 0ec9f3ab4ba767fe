"""Whole-program tests of the Python interface."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from lightning.pytorch import Callback

import armlp
from armlp import Forecaster, UserError
from armlp.training.loop.checkpoint import read_checkpoint

MakeTable = Callable[..., pd.DataFrame]
SMALL: dict[str, Any] = {
    "max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "hidden_sizes": [8],
    "enable_progress_bar": False,
}  # fmt: skip
COLUMNS = ["unique_id", "ds", "armlp", "armlp-lo-80", "armlp-hi-80", "armlp-lo-95", "armlp-hi-95"]
# The same table in the hands of every library.
LIBRARIES: dict[str, tuple[Callable[[pd.DataFrame], Any], type]] = {
    "pandas": (lambda table: table, pd.DataFrame),
    "polars": (pl.from_pandas, pl.DataFrame),
    "pyarrow": (lambda table: pa.Table.from_pandas(table, preserve_index=False), pa.Table),
}


def as_pandas(table: Any) -> pd.DataFrame:
    """Any table as pandas."""
    return table if isinstance(table, pd.DataFrame) else table.to_pandas()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> Forecaster:
    """A forecaster with H=6 that has seen three series."""
    folder = tmp_path_factory.mktemp("fitted")
    return Forecaster(horizon=6, **SMALL, default_root_dir=str(folder)).fit(make_table())


def test_a_table_of_any_library_comes_back_as_one(
    fitted: Forecaster, make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    forecasts = {}
    for library, (convert, kind) in LIBRARIES.items():
        table = convert(make_table())
        forecast = fitted.predict(table)
        assert isinstance(forecast, kind)
        own = Forecaster(horizon=6, **SMALL).fit(table)
        assert isinstance(own.predict(), kind)
        for made in (forecast, own.predict()):
            assert list(as_pandas(made).columns) == COLUMNS
            if library == "polars":
                assert made.schema["ds"] == table.schema["ds"]
                assert made.schema["unique_id"] == table.schema["unique_id"]
            if library == "pandas":
                assert made.dtypes[["unique_id", "ds"]].equals(table.dtypes[["unique_id", "ds"]])
        forecasts[library] = (as_pandas(forecast), as_pandas(own.predict()))
    for library in ("polars", "pyarrow"):
        for ours, theirs in zip(forecasts["pandas"], forecasts[library], strict=True):
            pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)
    # The same table and seed make the same model, and a fit makes one run.
    pd.testing.assert_frame_equal(*forecasts["pandas"])
    assert sorted(path.name for path in Path("lightning_logs").iterdir()) == ["version_0", "version_1", "version_2"]


def test_the_forecast_has_a_row_for_every_series_and_step_in_order(fitted: Forecaster, make_table: MakeTable):
    forecast = fitted.predict(horizon=9)
    assert len(forecast) == 3 * 9
    pd.testing.assert_frame_equal(forecast, forecast.sort_values(["unique_id", "ds"], ignore_index=True))
    last = make_table()["ds"].max()
    assert forecast["ds"].tolist() == list(pd.date_range(last, periods=10, freq="h")[1:]) * 3
    shorter = fitted.predict()
    pd.testing.assert_frame_equal(
        forecast.groupby("unique_id").head(6).reset_index(drop=True), shorter, check_exact=False, rtol=1e-6
    )


def test_levels_are_columns_of_the_quantiles_of_the_paths(fitted: Forecaster):
    forecast = fitted.predict(levels=(50,), num_paths=41, seed=3)
    assert list(forecast.columns) == ["unique_id", "ds", "armlp", "armlp-lo-50", "armlp-hi-50"]
    paths = torch.from_numpy(fitted.sample(num_paths=41, seed=3))
    for column, probability in {"armlp": 0.5, "armlp-lo-50": 0.25, "armlp-hi-50": 0.75}.items():
        assert forecast[column].tolist() == pytest.approx(
            np.quantile(paths, probability, axis=1, method="hazen").flatten().tolist()
        )
    assert list(fitted.predict(levels=()).columns) == ["unique_id", "ds", "armlp"]


def test_samples_are_float32_paths_of_every_series(fitted: Forecaster):
    paths = fitted.sample(horizon=10, num_paths=7)
    assert paths.shape == (3, 7, 10)
    assert paths.dtype == np.float32
    assert np.isfinite(paths).all()
    assert len(np.unique(paths[:, :, -1])) == 3 * 7


def test_samples_of_vector_series_have_an_axis_of_channels(make_table: MakeTable, tmp_path: Path):
    table = make_table().assign(z=lambda frame: frame["y"] ** 2)
    forecaster = Forecaster(horizon=4, target_columns=["y", "z"], **SMALL, default_root_dir=str(tmp_path)).fit(table)
    assert forecaster.sample(num_paths=5, horizon=3).shape == (3, 5, 3, 2)
    assert {"armlp-y", "armlp-z", "armlp-z-hi-95"} <= set(forecaster.predict().columns)


def test_the_seed_decides_the_paths(fitted: Forecaster):
    first, again, other = (fitted.sample(num_paths=5, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert not np.allclose(first, other)
    torch.manual_seed(99)  # the global generator has no say
    assert (fitted.sample(num_paths=5, seed=1) == first).all()


def test_the_paths_of_a_series_do_not_depend_on_its_company(fitted: Forecaster, make_table: MakeTable):
    many = make_table(series=300, rows=60, seed=4)  # more than one batch
    paths = fitted.sample(many, num_paths=4)
    assert paths.shape == (300, 4, 6)
    names, some = sorted(many["unique_id"].unique()), ["s07", "s123", "s299"]
    few = fitted.sample(many[many["unique_id"].isin(some)], num_paths=4)
    alone = paths[[names.index(name) for name in sorted(some)]]
    np.testing.assert_allclose(few, alone, rtol=1e-5)


def test_what_was_saved_and_loaded_forecasts_the_same(fitted: Forecaster, make_table: MakeTable, tmp_path: Path):
    fitted.save(tmp_path / "model.ckpt")
    loaded = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False)
    table = make_table(series=2, rows=70, seed=3, first=1)
    pd.testing.assert_frame_equal(fitted.predict(table), loaded.predict(table))
    assert (fitted.sample(table, horizon=3) == loaded.sample(table, horizon=3)).all()
    loaded.save(tmp_path / "model.ckpt")  # onto the file that it came from
    pd.testing.assert_frame_equal(fitted.predict(table), Forecaster.load(tmp_path / "model.ckpt").predict(table))


def test_a_fitted_forecaster_outlives_its_run_folder(make_table: MakeTable, tmp_path: Path):
    options = {"max_steps": 2, "hidden_sizes": [np.int64(4)], "residual_blocks": 0, "learning_rate": np.float32(0.01)}
    folder = tmp_path / "runs"
    forecaster = Forecaster(np.int64(5), default_root_dir=folder, enable_progress_bar=False, **options).fit(
        make_table()
    )
    shutil.rmtree(folder)
    forecaster.save(tmp_path / "kept.ckpt")
    pd.testing.assert_frame_equal(forecaster.predict(), Forecaster.load(tmp_path / "kept.ckpt").predict(make_table()))


def test_load_refuses_what_the_checkpoint_has_settled(fitted: Forecaster, tmp_path: Path):
    fitted.save(tmp_path / "model.ckpt")
    with pytest.raises(UserError, match="horizon is settled in the checkpoint"):
        Forecaster.load(tmp_path / "model.ckpt", horizon=9)


def test_a_table_in_memory_is_not_in_the_checkpoint(fitted: Forecaster, tmp_path: Path):
    fitted.save(tmp_path / "model.ckpt")
    assert "source" not in read_checkpoint(tmp_path / "model.ckpt")["datamodule_hyper_parameters"]
    with pytest.raises(UserError, match=r"predict\(table\)"):
        Forecaster.load(tmp_path / "model.ckpt").predict()


def test_both_doors_train_the_same_model(program: Any, trained: Any):
    """`armlp fit` and `Forecaster.fit` with the same options end with the same weights."""
    options = {"residual_blocks": 1, "dropout": 0.2, "log_every_n_steps": 2, "test_windows": 2, "min_spread": 0.0}
    forecaster = Forecaster(horizon=6, **SMALL | options).fit(trained.source)
    forecaster.save("model.ckpt")
    ours, theirs = (read_checkpoint(path)["state_dict"] for path in ("model.ckpt", trained.best))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # And each opens what the other wrote.
    program("predict", "--ckpt_path=model.ckpt", "--forecast.output=f.parquet")
    loaded = Forecaster.load(trained.best, enable_progress_bar=False)
    pd.testing.assert_frame_equal(pd.read_parquet("f.parquet"), as_pandas(loaded.predict()))


def test_a_path_and_a_name_are_tables_too(fitted: Forecaster, trained: Any):
    from_path = as_pandas(fitted.predict(trained.source))
    pd.testing.assert_frame_equal(from_path, as_pandas(fitted.predict(str(trained.source))))
    with pytest.warns(UserWarning, match="trained on a step of h, but taylor steps by 30min"):
        forecast = as_pandas(fitted.predict("taylor", horizon=2))
    assert len(forecast) == 2


MISTAKES: dict[str, tuple[Callable[[Forecaster], Any], str]] = {
    "an unknown option": (lambda _: Forecaster(horizont=3), "horizont is not an option .*; did you mean horizon"),
    "an unknown option like no other": (lambda _: Forecaster(xyzzy=3), "xyzzy is not an option of Forecaster"),
    "predict before fit": (lambda _: Forecaster().predict(), "nothing fitted yet"),
    "sample before fit": (lambda _: Forecaster().sample("sine"), "nothing fitted yet"),
    "save before fit": (lambda _: Forecaster().save("model.ckpt"), "nothing fitted yet"),
    "a horizon of 0": (lambda fitted: fitted.predict(horizon=0), "`horizon`: 0 is too small"),
    "a level of 100": (lambda fitted: fitted.predict(levels=(100,)), "`levels`: 100"),
    "no paths": (lambda fitted: fitted.sample(num_paths=0), "`num_paths`: 0"),
    "no table": (lambda fitted: fitted.predict([1, 2, 3]), "list"),
    "an unknown head": (lambda _: Forecaster(head="gauss").fit("sine"), "'gauss' is not known"),
    "a folder that is none": (lambda fitted: fitted.save("/proc/no/m.ckpt"), "/proc/no/m.ckpt cannot be written"),
    "a missing checkpoint": (lambda _: Forecaster.load("missing.ckpt"), "missing.ckpt does not exist"),
    "a cut checkpoint": (lambda _: Forecaster.load("cut.ckpt"), "cut.ckpt is not a whole checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_a_user_error_that_leaves_nothing_behind(
    what: str, fitted: Forecaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    fitted.save("whole.ckpt")
    whole = Path("whole.ckpt").read_bytes()
    Path("cut.ckpt").write_bytes(whole[: len(whole) // 2])
    before = set(tmp_path.rglob("*"))
    mistake, sentence = MISTAKES[what]
    with pytest.raises(UserError, match=sentence):
        mistake(fitted)
    assert set(tmp_path.rglob("*")) == before


def test_a_second_fit_starts_anew(make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    daily = make_table(freq="D")
    daily.to_parquet("daily.parquet")
    twice = Forecaster(**SMALL).fit(make_table()).fit("daily.parquet").fit(daily)
    once = Forecaster(**SMALL).fit(daily)
    pd.testing.assert_frame_equal(twice.predict(), once.predict())  # horizon and season are those of days


def test_callbacks_of_the_user_are_called_too(make_table: MakeTable, tmp_path: Path):
    class Count(Callback):
        steps = 0

        def on_train_batch_end(self, *args: Any) -> None:
            self.steps += 1

    count = Count()
    Forecaster(horizon=6, callbacks=[count], **SMALL, default_root_dir=str(tmp_path)).fit(make_table())
    assert count.steps == 4


def test_training_without_validation_keeps_the_last_weights(make_table: MakeTable, tmp_path: Path):
    options = SMALL | {"limit_val_batches": 0, "default_root_dir": str(tmp_path)}
    assert len(Forecaster(horizon=6, **options).fit(make_table()).predict()) == 18


def test_predict_leaves_no_run(fitted: Forecaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fitted.predict()
    fitted.sample()
    assert not any(tmp_path.iterdir())


def test_the_building_blocks_work_without_the_program(make_table: MakeTable, tmp_path: Path):
    """What README shows to people who build their own."""
    from lightning.pytorch import Trainer

    data = armlp.SeriesDataModule(make_table(), horizon=6)
    module = armlp.ForecastModule(hidden_sizes=[8])
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    Trainer(max_epochs=1, enable_checkpointing=False, enable_model_summary=False, **options).fit(
        module, datamodule=data
    )
    (batch,) = data.predict_dataloader()
    paths = armlp.rollout(module.network.eval(), batch.context, horizon=5, num_paths=3, covariates=batch.covariates)
    assert paths.shape == (3, 3, 5, 1)


def test_a_table_of_another_frequency_is_forecast_with_a_warning(trained: Any, make_table: Callable[..., pd.DataFrame]):
    forecaster = Forecaster.load(trained.best, enable_progress_bar=False)
    with pytest.warns(UserWarning, match="trained on a step of h, but the table steps by 2h"):
        forecaster.predict(make_table(freq="2h"))
    forecaster.predict(make_table(freq="60min"))


def test_a_series_that_ends_in_missing_values_is_forecast_from_its_last_row_on(
    fitted: Forecaster, make_table: Callable[..., pd.DataFrame]
):
    table = make_table()
    last = table["ds"].max()
    holed = table.assign(y=table["y"].where((table["unique_id"] != "s01") | (table["ds"] < last - pd.Timedelta("30h"))))
    forecast = as_pandas(fitted.predict(holed))
    assert np.isfinite(forecast.select_dtypes("number")).all(axis=None)
    assert (forecast.groupby("unique_id")["ds"].min() == last + pd.Timedelta("1h")).all()
    whole = as_pandas(fitted.predict(table))
    others = forecast["unique_id"] != "s01"
    pd.testing.assert_frame_equal(forecast[others], whole[others])


def test_one_row_a_series_is_forecast_at_the_step_of_the_training(
    fitted: Forecaster, make_table: Callable[..., pd.DataFrame]
):
    forecast = as_pandas(fitted.predict(make_table().groupby("unique_id").tail(1)))
    pd.testing.assert_series_equal(forecast["ds"], as_pandas(fitted.predict(make_table()))["ds"])
    assert np.isfinite(forecast.select_dtypes("number")).all(axis=None)
