"""Whole-program tests of covariates from the command line, from Python and from the checkpoint alone."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from armlp.cli import main
from armlp.forecaster import Forecaster
from armlp.training.loop.checkpoint import read_checkpoint

HORIZON, ROWS = 4, 60
COLUMNS = {
    "known_covariates": ["price", "holiday"],
    "past_covariates": ["visits"],
    "static_covariates": ["area", "kind"],
    "calendar_inputs": True,
}
OPTIONS = tuple(
    f"--data.{name}={str(value).lower() if value is True else '[' + ','.join(value) + ']'}"
    for name, value in COLUMNS.items()
)
SMALL = ("--trainer.max_steps=4", "--model.hidden_sizes=[8]", "--model.residual_blocks=0")
NUMBERS = ["armlp", "armlp-lo-80", "armlp-hi-80"]


def make(series: int = 3, future: int = HORIZON, freq: str = "D") -> pd.DataFrame:
    """A long table whose values hang on numbers and categories, known `future` steps ahead."""
    rng = np.random.default_rng(0)
    parts = []
    for index in range(series):
        rows = ROWS + future
        price, holiday = rng.normal(size=rows), rng.choice(["", "easter", "may"], rows)
        values = 10 + 2 * price + 3 * (holiday != "") + rng.normal(size=rows)
        values[ROWS:] = np.nan
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": f"s{index}",
                    "ds": pd.date_range("2024-01-01", periods=rows, freq=freq),
                    "y": values,
                    "price": price,
                    "holiday": holiday,
                    "visits": np.where(np.arange(rows) < ROWS, values, np.nan),
                    "area": float(index),
                    "kind": ["small", "large"][index % 2],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a short training with covariates of every kind; write nothing beside it."""
    folder = tmp_path_factory.mktemp("fitted")
    make(future=0).to_parquet(folder / "train.parquet")
    source = ("--data.source", str(folder / "train.parquet"), f"--trainer.default_root_dir={folder}")
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", *source, f"--data.horizon={HORIZON}", "--model.patch_length=3", *SMALL, *OPTIONS])
    return folder / "lightning_logs" / "version_0" / "checkpoints" / "best.ckpt"


def predicted(program: Any, best: Path, table: pd.DataFrame, name: str = "now") -> pd.DataFrame:
    table.to_parquet(f"{name}.parquet")
    program(
        "predict", "--ckpt_path", best, f"--data.source={name}.parquet", "--forecast.output=f.csv",
        "--forecast.levels=80",
    )  # fmt: skip
    return pd.read_csv("f.csv")


def test_a_checkpoint_alone_validates_tests_and_forecasts_with_covariates(program: Any, fitted: Path):
    program("validate", "--ckpt_path", fitted)
    program("test", "--ckpt_path", fitted, "--forecast.output=b.csv")
    assert len(pd.read_csv("b.csv")) == 3 * HORIZON
    forecast = predicted(program, fitted, make())
    assert len(forecast) == 3 * HORIZON
    assert np.isfinite(forecast[NUMBERS].to_numpy()).all()
    said = program.refuses("predict", "--ckpt_path", fitted)
    assert "lacks the --data.known_covariates of series 's0'" in said


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_both_doors_give_the_same_forecast_with_covariates(library: str, program: Any, fitted: Path):
    forecast = predicted(program, fitted, make())
    forecaster = Forecaster.load(fitted, enable_progress_bar=False)
    table = make()
    given = {"pandas": table, "polars": pl.from_pandas(table), "pyarrow": pl.from_pandas(table).to_arrow()}[library]
    answer = forecaster.predict(given, levels=[80])
    assert type(answer) is type(given)
    for name in NUMBERS:
        np.testing.assert_allclose(np.asarray(answer[name]), forecast[name], rtol=1e-4)


def test_a_forecaster_with_covariates_comes_back_from_a_file_as_it_was(tmp_path: Path):
    forecaster = Forecaster(
        HORIZON, default_root_dir=tmp_path, max_steps=4, patch_length=3, enable_progress_bar=False, **COLUMNS
    ).fit(make(future=0))
    forecaster.save(tmp_path / "model.ckpt")
    loaded = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False)
    np.testing.assert_array_equal(forecaster.sample(make(), num_paths=5), loaded.sample(make(), num_paths=5))


def test_what_is_known_only_afterwards_has_no_part_in_a_forecast(program: Any, fitted: Path):
    table = make()
    before = predicted(program, fitted, table)
    later = table["y"].isna()
    after = predicted(program, fitted, table.assign(visits=table["visits"].mask(later, 1e6)))
    pd.testing.assert_frame_equal(before, after)
    # What is known ahead has a part in it, and one series' covariates have none in another's forecast.
    other = table.assign(price=table["price"].mask(later & (table["unique_id"] == "s1"), 5.0))
    changed = (predicted(program, fitted, other)["armlp"] - before["armlp"]).abs() > 1e-4
    assert before["unique_id"][changed].unique().tolist() == ["s1"]


def test_validation_rows_have_no_part_in_how_covariates_are_scaled(program: Any, fitted: Path):
    held_out = make(future=0).groupby("unique_id").cumcount() >= ROWS - HORIZON
    table = make(future=0)
    table["price"] = table["price"].mask(held_out, 1e3)
    table["holiday"] = table["holiday"].mask(held_out, "never seen")
    table.to_parquet("train.parquet")
    statistics = [
        read_checkpoint(best)["datamodule_hyper_parameters"]["covariate_statistics"]
        for best in (
            fitted,
            program.fit("train.parquet", f"--data.horizon={HORIZON}", *OPTIONS) / "checkpoints/best.ckpt",
        )
    ]
    assert statistics[0] == statistics[1]


def test_a_category_never_seen_counts_as_none(program: Any, fitted: Path):
    table = make()
    nothing = predicted(program, fitted, table.assign(kind=None))
    assert np.isfinite(nothing[NUMBERS].to_numpy()).all()
    pd.testing.assert_frame_equal(predicted(program, fitted, table.assign(kind="huge")), nothing)


@pytest.mark.parametrize("empty", [None, "", np.nan])
def test_a_column_of_holidays_may_name_none(empty: Any, program: Any, fitted: Path):
    none = predicted(program, fitted, make().assign(holiday=empty), "none")
    some = make().assign(holiday="")
    some.loc[0, "holiday"] = "may"  # far before the context
    pd.testing.assert_frame_equal(none, predicted(program, fitted, some))


MISTAKES = {
    "no column": (lambda table: table.drop(columns="price"), "has no column 'price'"),
    "text for numbers": (lambda table: table.assign(price="low"), "'price' holds categories, but the model"),
    "numbers for text": (lambda table: table.assign(holiday=1.5), "'holiday' holds numbers, but the model"),
    "nothing for numbers": (lambda table: table.assign(price=np.nan), "'price' is empty; fill it"),
    "a static column that changes": (
        lambda table: table.assign(area=np.arange(len(table))),
        "column 'area' of series 's0' is both 0 and",
    ),
    "no future of one series": (
        lambda table: table[(table["unique_id"] != "s1") | table["y"].notna()],
        "--data.known_covariates of series 's1' from 2024-03-01 00:00:00 on (1 of 3 series lack some)",
    ),
    "another calendar": (
        lambda table: make(freq="h"),
        "uses the day of the week, the day of the month and the day of the year, but the times of wrong.parquet step "
        "by h, for which the calendar has only the time of day and the day of the week",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_table_with_other_covariates_is_refused_in_one_sentence(mistake: str, program: Any, fitted: Path):
    change, sentence = MISTAKES[mistake]
    change(make()).to_parquet("wrong.parquet")
    assert sentence in program.refuses("predict", "--ckpt_path", fitted, "--data.source=wrong.parquet")


def test_calendar_inputs_cannot_be_switched_off_after_training(program: Any, fitted: Path):
    make().to_parquet("now.parquet")
    said = program.refuses(
        "predict", "--ckpt_path", fitted, "--data.source=now.parquet", "--data.calendar_inputs=false"
    )
    assert "--data.calendar_inputs: the model uses 6 features of the calendar" in said
    assert "but now.parquet, which steps by D, has nothing; leave the option out" in said


def test_a_checkpoint_that_knows_the_day_says_so_of_other_times(program: Any):
    days = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=ROWS), "y": np.arange(ROWS) % 7 + 0.5})
    days.to_csv("days.csv", index=False)
    said = program("fit", "--data.source=days.csv", f"--data.horizon={HORIZON}", *SMALL)  # on by default
    assert "calendar_inputs" in said
    assert "['week']" in said
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt").resolve()
    program("predict", "--ckpt_path", best, "--forecast.output=f.csv")
    months = pd.date_range("2000-01-01", periods=ROWS, freq="MS")
    for times, sentence in (
        (np.arange(ROWS), "are integers, for which the calendar has nothing"),
        (months, "step by MS, for which the calendar has only the month of"),
    ):
        days.assign(ds=times).to_csv("other.csv", index=False)
        said = program.refuses("predict", "--ckpt_path", best, "--data.source=other.csv")
        assert f"the model uses the day of the week, but the times of other.csv {sentence}" in said


@pytest.mark.parametrize("calendar", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_a_checkpoint_from_before_the_flags_still_loads(calendar: bool, program: Any):
    make(future=0).to_parquet("table.parquet")
    options = [option for option in OPTIONS if "calendar" not in option]
    option = f"--data.calendar_inputs={str(calendar).lower()}"
    best = program.fit("table.parquet", f"--data.horizon={HORIZON}", option, *options) / "checkpoints" / "best.ckpt"
    program("test", "--ckpt_path", best, "--forecast.output=new.csv")
    checkpoint = torch.load(best, weights_only=True)
    data = checkpoint["datamodule_hyper_parameters"]
    assert data["calendar_inputs"] == (["week", "month", "year"] if calendar else [])
    data["calendar_inputs"] = calendar
    for columns in data["covariate_statistics"].values():
        for column in columns:
            assert column.pop("missing", False) is False
    torch.save(checkpoint, best)
    program("test", "--ckpt_path", best, "--forecast.output=old.csv")
    assert Path("old.csv").read_text() == Path("new.csv").read_text()


def test_a_number_that_is_missing_is_told_to_the_network(program: Any):
    table = make(future=0)
    table["price"] = table["price"].mask(np.arange(len(table)) % 5 == 0)
    table.to_parquet("gaps.parquet")
    run = program.fit("gaps.parquet", f"--data.horizon={HORIZON}", "--data.known_covariates=price")
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["covariate_sizes"]["known"] == [0, 0]
    program("test", "--ckpt_path", run / "checkpoints" / "best.ckpt")


def test_a_wide_table_shares_its_covariates(program: Any):
    table = make()
    wide = table.pivot(index="ds", columns="unique_id", values="y").reset_index()
    wide["price"] = table["price"][: len(wide)].to_numpy()
    wide.to_csv("wide.csv", index=False)
    run = program.fit("wide.csv", f"--data.horizon={HORIZON}", "--data.known_covariates=price")
    program("predict", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--forecast.output=f.csv")
    assert pd.read_csv("f.csv").groupby("unique_id").size().to_dict() == {f"s{index}": HORIZON for index in range(3)}


def test_a_series_shorter_than_the_context_is_forecast_with_covariates(program: Any, fitted: Path):
    short = make().groupby("unique_id").tail(HORIZON + 2)
    assert np.isfinite(predicted(program, fitted, short)[NUMBERS].to_numpy()).all()


def test_a_future_in_a_table_of_its_own_gives_the_forecast_of_rows_without_targets(program: Any, fitted: Path):
    table = make()
    expected = predicted(program, fitted, table)
    later = table["y"].isna()
    table[~later].to_parquet("history.parquet")
    table[later][["unique_id", "ds", "price", "holiday"]].to_csv("future.csv", index=False)
    program(
        "predict", "--ckpt_path", fitted, "--data.source=history.parquet", "--data.future=future.csv",
        "--forecast.output=f.csv", "--forecast.levels=80",
    )  # fmt: skip
    pd.testing.assert_frame_equal(pd.read_csv("f.csv"), expected)
    forecaster = Forecaster.load(fitted, enable_progress_bar=False)
    answer = forecaster.predict(table[~later], levels=[80], future=table[later])
    np.testing.assert_allclose(answer["armlp"], expected["armlp"], rtol=1e-4)


def test_a_hole_in_the_future_is_named_by_column_series_and_time(program: Any, fitted: Path):
    table = make()
    row = table.index[(table["unique_id"] == "s1") & table["y"].isna()][1]
    table.loc[row, "price"] = np.nan
    table.to_parquet("now.parquet")
    said = program.refuses("predict", "--ckpt_path", fitted, "--data.source=now.parquet")
    assert "now.parquet lacks 'price' of --data.known_covariates for series 's1' at " in said
    assert str(table.loc[row, "ds"]) in said
