"""Whole-program tests of the command line: tables in, tables out, and mistakes refused."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from matplotlib import image
from torch import nn

from armlp import presets
from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windowing
from armlp.forecaster import Forecaster
from armlp.model.families import HEADS
from armlp.model.rollout import path_noise, rollout
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.module import ForecastModule

MakeTable = Callable[..., pd.DataFrame]
INTERVALS = ["armlp-lo-80", "armlp-hi-80", "armlp-lo-95", "armlp-hi-95"]
COLUMNS = ["unique_id", "ds", "armlp", *INTERVALS]


def write(table: pd.DataFrame, path: Path) -> Path:
    """Writes a table as its suffix says."""
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    return path


def read(path: Path) -> pa.Table:
    """Reads a table as its suffix says."""
    return arrow_csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A column per series."""
    return table.pivot(index="ds", columns="unique_id", values="y").reset_index()


def with_integer_ids(table: pd.DataFrame) -> pd.DataFrame:
    """The same series, named 10, 11, 12."""
    return table.assign(unique_id=table["unique_id"].str[1:].astype("int64") + 10)


def in_berlin(table: pd.DataFrame) -> pd.DataFrame:
    """The same values at hours of Berlin, which a clock change is among."""
    hours = pd.date_range("2024-03-29", periods=96, freq="h", tz="Europe/Berlin")
    return table.assign(ds=np.tile(hours, 3))


CASES: dict[str, tuple[str, Callable[[MakeTable], pd.DataFrame], int | str]] = {
    "long CSV of datetimes": ("table.csv", lambda make: make(), "h"),
    "long Parquet of datetimes": ("table.parquet", lambda make: make(freq="D"), "D"),
    "long Parquet of integers, integer ids": ("table.parquet", lambda make: with_integer_ids(make(freq=1)), 1),
    "long Parquet of hours in a time zone": ("table.parquet", lambda make: in_berlin(make()), "h"),
    "wide CSV of integers": ("table.csv", lambda make: wide(make(freq=1)), 1),
    "wide Parquet of datetimes": ("table.parquet", lambda make: wide(make(freq="MS")), "MS"),
}
SEEN_IN_OTHERS = ("long Parquet of datetimes", "wide CSV of integers")  # each half of them, that is


@pytest.mark.parametrize(
    "case",
    [case if case not in SEEN_IN_OTHERS else pytest.param(case, marks=pytest.mark.exhaustive) for case in CASES],
)
def test_a_table_of_any_layout_goes_through_fit_test_and_predict(case: str, program: Any, make_table: MakeTable):
    file, make, freq = CASES[case]
    table = make(make_table)
    source = write(table, Path(file))
    run = program.fit(source, "--data.horizon=5", "--data.test_windows=2")
    best = run / "checkpoints" / "best.ckpt"
    suffix = source.suffix  # the forecast in the form of the table
    program("predict", "--ckpt_path", best, "--forecast.output", f"forecast{suffix}")
    program("test", "--ckpt_path", best, "--forecast.output", f"backtest{suffix}")

    came = read(source)
    forecast, backtest = read(Path(f"forecast{suffix}")), read(Path(f"backtest{suffix}"))
    assert forecast.column_names == COLUMNS
    assert sorted(backtest.column_names) == sorted([*COLUMNS, "cutoff", "y"])
    for made in (forecast, backtest):
        assert made.schema.field("ds").type == came.schema.field("ds").type
        came_as_integers = "unique_id" in came.column_names and pa.types.is_integer(came.schema.field("unique_id").type)
        assert made.schema.field("unique_id").type == (pa.int64() if came_as_integers else pa.string())

    long = came.to_pandas()
    if "unique_id" not in came.column_names:
        long = long.melt("ds", var_name="unique_id", value_name="y")
    forecast, backtest = forecast.to_pandas(), backtest.to_pandas()
    # S * H rows, sorted, and times go on where the series end.
    assert len(forecast) == 3 * 5
    pd.testing.assert_frame_equal(forecast, forecast.sort_values(["unique_id", "ds"], ignore_index=True))
    assert forecast["unique_id"].unique().tolist() == sorted(long["unique_id"].unique().tolist())
    last = long["ds"].max()
    times = range(last + 1, last + 6) if isinstance(freq, int) else pd.date_range(last, periods=6, freq=freq)[1:]
    assert all(list(part["ds"]) == list(times) for _, part in forecast.groupby("unique_id"))
    # Numbers that can be: finite, the median inside its intervals, and those nested.
    assert np.isfinite(forecast[COLUMNS[2:]].to_numpy()).all()
    ordered = forecast[["armlp-lo-95", "armlp-lo-80", "armlp", "armlp-hi-80", "armlp-hi-95"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()

    # The backtest holds the last two times five steps, the truth beside them.
    assert len(backtest) == 3 * 2 * 5
    pd.testing.assert_frame_equal(backtest, backtest.sort_values(["unique_id", "cutoff", "ds"], ignore_index=True))
    truth = backtest[["unique_id", "ds"]].merge(long, how="left", on=["unique_id", "ds"])["y"]
    np.testing.assert_allclose(backtest["y"], truth, rtol=1e-6)
    times = sorted(long["ds"].unique())
    for _, part in backtest.groupby("unique_id"):
        assert list(part["ds"]) == times[-10:]
        assert list(part["cutoff"]) == [times[-11]] * 5 + [times[-6]] * 5


def test_a_vector_series_is_forecast_with_columns_for_each_channel(program: Any, make_table: MakeTable, drawing: Any):
    table = make_table(series=1).rename(columns={"y": "x"}).assign(z=lambda frame: frame["x"] * 2)
    for layout, frame in {"long": table, "vector": table.drop(columns="unique_id")}.items():
        source = write(frame, Path(f"{layout}.parquet"))
        with drawing() if layout == "long" else contextlib.nullcontext():
            run = program.fit(
                source, "--data.layout", layout, "--data.target_columns=[x,z]", "--data.horizon=4", logs=True
            )
        best = run / "checkpoints" / "best.ckpt"
        picture = ("--forecast.plot=f.png",) if layout == "long" else ()
        program(
            "predict", "--ckpt_path", best, "--forecast.output=f.parquet", "--forecast.paths=p.parquet",
            "--forecast.num_paths=7", *picture,
        )  # fmt: skip
        columns = [name.replace("armlp", f"armlp-{channel}") for channel in "xz" for name in COLUMNS[2:]]
        assert pd.read_parquet("f.parquet").columns.tolist() == ["unique_id", "ds", *columns]
        paths = pd.read_parquet("p.parquet")
        assert paths.columns.tolist() == ["unique_id", "ds", "path", "y-x", "y-z"]
        assert len(paths) == 4 * 7
        program("test", "--ckpt_path", best, "--forecast.output=b.parquet")
        backtest = pd.read_parquet("b.parquet")
        assert sorted(backtest.columns) == sorted(["unique_id", "ds", "cutoff", "y-x", "y-z", *columns])
        np.testing.assert_allclose(backtest["y-z"], table["z"].iloc[-4:], rtol=1e-6)


def test_levels_paths_and_the_picture_are_what_was_asked_for(program: Any, trained: Any):
    files = ("--forecast.output=out/f.csv", "--forecast.paths=p.parquet", "--forecast.plot=fans.png")
    printed = program(
        "predict", "--ckpt_path", trained.best, *files, "--forecast.levels=[50,99.5]", "--forecast.num_paths=21"
    )
    assert all(name in printed for name in ("out/f.csv", "p.parquet", "fans.png"))
    forecast = pd.read_csv("out/f.csv")
    sides = {"armlp": 0.5, "armlp-lo-50": 0.25, "armlp-hi-50": 0.75, "armlp-lo-99.5": 0.0025, "armlp-hi-99.5": 0.9975}
    assert forecast.columns.tolist() == ["unique_id", "ds", *sides]
    paths = pd.read_parquet("p.parquet")
    assert paths.columns.tolist() == ["unique_id", "ds", "path", "y"]
    assert paths["path"].tolist() == list(range(21)) * (3 * 6)
    pd.testing.assert_frame_equal(paths, paths.sort_values(["unique_id", "ds", "path"], ignore_index=True))
    # The table holds the quantiles of these very paths.
    drawn = torch.tensor(paths["y"].to_numpy()).view(3 * 6, 21)
    for column, probability in sides.items():
        np.testing.assert_allclose(forecast[column], np.quantile(drawn, probability, axis=1, method="hazen"), rtol=1e-6)
    assert drawn.std(dim=1).min() > 0
    height, width = image.imread("fans.png").shape[:2]
    assert min(height, width) > 300


def test_the_seed_of_the_forecast_decides_the_paths(program: Any, trained: Any):
    tables = []
    for index, seed in enumerate((0, 0, 1)):
        program("predict", "--ckpt_path", trained.best, f"--forecast.output={index}.parquet", "--forecast.seed", seed)
        tables.append(pd.read_parquet(f"{index}.parquet"))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not np.allclose(tables[0][INTERVALS], tables[2][INTERVALS], rtol=1e-5)


def test_a_bare_predict_gives_the_forecast_of_the_same_objects_in_this_process(program: Any, trained: Any):
    program("predict", "--ckpt_path", trained.best, "--forecast.output=f.parquet")
    forecast = pd.read_parquet("f.parquet")

    from_python = Forecaster.load(trained.best, enable_progress_bar=False).predict()
    pd.testing.assert_frame_equal(forecast, from_python.to_pandas())

    checkpoint = read_checkpoint(trained.best)
    module = ForecastModule(**checkpoint["hyper_parameters"])
    module.load_state_dict(checkpoint["state_dict"])
    data = SeriesDataModule(**checkpoint["datamodule_hyper_parameters"])
    data.windowing = Windowing(module.settings.context_length, patch_length=module.settings.patch_length)
    (batch,) = data.predict_dataloader()
    noise = path_noise(data.panel.keys, data.panel.lengths, 200, 6, (1, module.network.head.noise), seed=0)
    paths = rollout(module.network.eval(), batch.context, 6, 200, batch.observed, noise, batch.covariates)
    assert forecast["armlp"].tolist() == np.quantile(paths, 0.5, axis=1, method="hazen").flatten().tolist()


@pytest.mark.parametrize("horizon", [9, 12])
def test_new_series_and_a_longer_horizon_need_nothing_but_the_checkpoint(
    horizon: int, program: Any, trained: Any, make_table: MakeTable
):
    other = make_table(series=4, rows=60, seed=5, first=2)  # one name is known, with other values
    write(other, Path("other.parquet"))
    tables = {}
    for steps in (6, horizon):
        options = ("--data.source=other.parquet", "--data.horizon", steps, f"--forecast.output={steps}.parquet")
        program("predict", "--ckpt_path", trained.best, *options)
        tables[steps] = pd.read_parquet(f"{steps}.parquet")
    assert len(tables[horizon]) == 4 * horizon
    assert tables[horizon]["unique_id"].unique().tolist() == ["s02", "s03", "s04", "s05"]
    assert tables[horizon]["ds"].min() == other["ds"].max() + pd.Timedelta(hours=1)
    # A longer forecast is the shorter one, gone on with.
    first = tables[horizon].groupby("unique_id").head(6).reset_index(drop=True)
    pd.testing.assert_frame_equal(first, tables[6], rtol=1e-6)


def test_options_of_the_command_line_override_those_of_the_checkpoint(
    program: Any, trained: Any, make_table: MakeTable
):
    table = make_table(series=1, rows=70, seed=2).rename(columns={"y": "load", "ds": "hour", "unique_id": "name"})
    write(table, Path("other.csv"))
    columns = ("--data.id_column=name", "--data.time_column=hour", "--data.target_columns=[load]")
    options = ("--data.source=other.csv", *columns, "--data.horizon=3", "--data.test_windows=4")
    program("test", "--ckpt_path", trained.best, *options, "--forecast.output=b.parquet")
    backtest = pd.read_parquet("b.parquet")
    assert backtest["cutoff"].nunique() == 4
    np.testing.assert_allclose(backtest["y"], table["load"].iloc[-12:], rtol=1e-6)


def test_a_test_without_test_windows_takes_one_and_warns_of_times_that_were_trained_on(
    program: Any, trained: Any, make_table: MakeTable
):
    leakage_warning = "trained on these times"

    def tested(checkpoint: Path, *options: object) -> tuple[int, str]:
        printed = program("test", "--ckpt_path", checkpoint, "--forecast.output=b.parquet", *options)
        return pd.read_parquet("b.parquet")["cutoff"].nunique(), printed

    # Trained with two windows of six steps held out, which a bare test scores.
    windows, printed = tested(trained.best)
    assert windows == 2
    assert leakage_warning not in printed
    assert leakage_warning not in tested(trained.best, "--data.test_windows=1")[1]
    assert leakage_warning in tested(trained.best, "--data.test_windows=3")[1]
    assert leakage_warning in tested(trained.best, "--data.test_windows=1", "--data.horizon=13")[1]
    # Other series, later times of the same, and a rerun in which nothing was held out.
    write(make_table(first=50), Path("others.parquet"))
    assert leakage_warning not in tested(trained.best, "--data.source=others.parquet")[1]
    write(make_table(first=2), Path("one.parquet"))
    assert "in 1 of 3 series" in tested(trained.best, "--data.source=one.parquet", "--data.test_windows=3")[1]
    run = program.fit(trained.source, "--data.horizon=6")
    windows, printed = tested(run / "checkpoints" / "best.ckpt")
    assert windows == 1
    assert "trained on these times in 3 of 3 series" in printed


def test_a_table_of_another_frequency_is_forecast_with_a_warning(program: Any, trained: Any, make_table: MakeTable):
    write(make_table(freq="2h"), Path("slow.parquet"))
    write(make_table(freq=1), Path("counted.parquet"))
    for command in ("predict", "test", "validate"):
        options = (command, "--ckpt_path", trained.best)
        options += () if command == "validate" else (f"--forecast.output={command}.parquet",)
        with pytest.warns(UserWarning, match="trained on a step of h, but slow.parquet steps by 2h"):
            program(*options, "--data.source=slow.parquet")
        assert "uses the time of day, but the times of counted.parquet are integers" in program.refuses(
            *options, "--data.source=counted.parquet"
        )
    # A checkpoint that does not say what it was trained on has nothing to compare with.
    old = torch.load(trained.best, weights_only=True)
    del old["datamodule_hyper_parameters"]["trained_freq"]
    torch.save(old, "old.ckpt")
    program("predict", "--ckpt_path=old.ckpt", "--data.source=slow.parquet", "--forecast.output=old.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet("old.parquet"), pd.read_parquet("predict.parquet"))


def test_only_fit_makes_a_run(program: Any, trained: Any):
    run = program.fit(trained.source, "--data.horizon=6", logs=True)
    best = run / "checkpoints" / "best.ckpt"
    files = {path.name for path in run.iterdir()}
    printed = program("validate", "--ckpt_path", best)
    assert "skill" in printed
    program("test", "--ckpt_path", best)
    program("predict", "--ckpt_path", best)
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]
    # Without a given path, test and predict write into the run.
    (events,) = run.glob("events.out.tfevents.*.test")
    assert {path.name for path in run.iterdir()} == files | {"backtest.parquet", "forecast.parquet", events.name}
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert {path.name for path in Path().iterdir()} == {"lightning_logs"}


def test_the_textbook_preset_trains_as_a_hand_written_loop_does(program: Any, make_table: MakeTable):
    source = write(make_table(), Path("table.parquet"))
    steps = 12
    program(
        "fit", "--config", "textbook", "--data.source", source, "--data.horizon=6", "--data.batch_size=64",
        "--model.context_length=20", f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}",
        "--trainer.check_val_every_n_epoch=null",
    )  # fmt: skip
    checkpoint = torch.load("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == steps

    data = SeriesDataModule(source, horizon=6, batch_size=64)
    data.windowing = Windowing(20)
    loader = data.train_dataloader()
    assert len(loader) < steps  # more than one epoch
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    batches = (batch for _ in range(steps) for batch in loader)
    for _, batch in zip(range(steps), batches, strict=False):
        loss = nn.functional.mse_loss(network(batch.context[..., 0]), batch.target[..., 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = list(checkpoint["state_dict"].values())
    assert len(trained) == 4
    for ours, by_hand in zip(trained, network.parameters(), strict=True):
        torch.testing.assert_close(ours, by_hand.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("preset", sorted(path.stem for path in Path(presets.__file__).parent.glob("*.yaml")))
def test_every_preset_passes_a_short_fit_and_forecasts(preset: str, program: Any, trained: Any, drawing: Any):
    source = "markov" if preset == "symbols" else trained.source
    # Those have charts of their own: of symbols, and of a point head.
    with drawing() if preset in ("symbols", "textbook") else contextlib.nullcontext():
        run = program.fit(source, "--config", preset, "--data.horizon=6", "--data.val_windows=1", logs=True)
    program("predict", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--forecast.output=f.parquet")
    forecast = pd.read_parquet("f.parquet")["armlp"]
    assert set(forecast) <= set("abcdef") if preset == "symbols" else np.isfinite(forecast).all()


# Of heads: a density, a joint one, one that is fitted to the data before training, and counts.
ALL_KINDS = ("normal", "multivariate_normal", "categorical", "negative_binomial")


def test_a_point_head_has_no_intervals(program: Any, trained: Any):
    run = program.fit(trained.source, "--model.head=point", "--model.point_loss=mae", "--data.horizon=6")
    program("predict", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--forecast.output=f.parquet")
    assert pd.read_parquet("f.parquet").columns.tolist() == ["unique_id", "ds", "armlp"]


@pytest.mark.parametrize(
    "head",
    [
        head if head in ALL_KINDS else pytest.param(head, marks=pytest.mark.exhaustive)
        for head in HEADS
        if head not in ("point", "symbols")
    ],
)
def test_every_head_trains_unrolled_over_missing_values(head: str, program: Any, make_table: MakeTable):
    table = make_table()
    table["y"] = table["y"].round()  # so that they could be counts
    table.loc[[3, 40, 41, 42, 110, 250, 287], "y"] = np.nan
    source = write(table, Path("table.csv"))
    options = ("--model.head", head, "--model.unroll=3", "--model.patch_length=2", "--model.scaler=mean_abs")
    run = program.fit(source, *options, "--data.horizon=6")
    program("predict", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--forecast.output=f.parquet")
    forecast = pd.read_parquet("f.parquet")
    assert len(forecast) == 18
    assert np.isfinite(forecast[COLUMNS[2:]].to_numpy()).all()


def test_a_callback_with_an_enum_among_its_options_is_written_to_the_configuration(program: Any, trained: Any):
    run = program.fit(trained.source, "--trainer.callbacks+=Timer", "--data.horizon=6")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (timer,) = config["trainer"]["callbacks"]
    assert timer["init_args"]["interval"] == "step"


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
def test_a_barebones_trainer_trains_and_leaves_nothing(program: Any, trained: Any):
    options = ("--data.horizon=6", "--trainer.max_steps=1", "--model.hidden_sizes=[8]")
    program("fit", "--data.source", trained.source, "--trainer.barebones=true", *options)
    assert not any(Path().iterdir())


def test_help_and_version_end_well(program: Any):
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit) as end:
            program(option)
        assert not end.value.code
