"""Whole-program tests of what a user can get wrong: one sentence, exit code 2, nothing half-written."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from armlp.cli import main
from armlp.forecaster import Forecaster

MakeTable = Callable[..., pd.DataFrame]


def spoil(table: pd.DataFrame, column: str, row: int, value: Any) -> pd.DataFrame:
    """The table with one cell changed."""
    spoilt = table.astype({column: object})
    spoilt.loc[row, column] = value
    return spoilt


# What is wrong with the table, and what the sentence has to name.
TABLES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], list[str]]] = {
    "a target of another name": (lambda table: table.rename(columns={"y": "load"}), ["'y'", "'load'"]),
    "times of another name": (lambda table: table.rename(columns={"ds": "date"}), ["'ds'", "--data.time_column date"]),
    "no numeric target": (lambda table: table.assign(y="high"), ["'y'", "text", "'high'"]),
    "one text among numbers": (lambda table: spoil(table, "y", 5, "high"), ["'y'", "'high'", "'s00'"]),
    "a row twice": (lambda table: pd.concat([table, table.iloc[[7]]]), ["'s00'", "2024-01-01 07:00", "more than once"]),
    "a time that is none": (lambda table: spoil(table, "ds", 100, "soon"), ["'ds'", "'soon'", "row 101"]),
    "an infinite value": (lambda table: spoil(table, "y", 100, np.inf), ["'y'", "inf", "'s01'"]),
    "no value at all": (lambda table: table.assign(y=np.nan), ["no series has an observed value"]),
    "nothing to validate on": (
        lambda table: table.assign(y=table["y"].where(table.groupby("unique_id").cumcount() < 90)),
        ["no observed value in the last 1 x 6 steps", "--data.val_windows"],
    ),
    "no rows": (lambda table: table.head(0), ["no rows"]),
    "every series too short": (lambda table: table.groupby("unique_id").head(7), ["'s00'", "has 7 rows", "needs 8"]),
    "a time off the calendar": (
        lambda table: spoil(table, "ds", 100, "2024-01-01 04:30:00"), ["no common step of time", "'s01'", "--data.freq"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_cannot_be_used_is_refused_by_what_is_wrong(what: str, program: Any, make_table: MakeTable):
    spoil_table, names = TABLES[what]
    spoil_table(make_table()).to_csv("table.csv", index=False)
    sentence = program.refuses("fit", "--data.source=table.csv", "--data.horizon=6")
    assert all(name in sentence for name in names), sentence


FILES: dict[str, tuple[str, bytes | None, list[str]]] = {
    "missing": ("missing.csv", None, ["missing.csv does not exist"]),
    "empty": ("empty.csv", b"", ["empty.csv is empty"]),
    "no Parquet": ("picture.parquet", b"\x89PNG" * 20, ["picture.parquet", "Parquet"]),
    "no text": ("picture.csv", b"\x89PNG\r\n\0\0\xff" * 20, ["picture.csv", "CSV"]),
    "another kind": ("table.xlsx", b"PK", ["table.xlsx", ".csv or .parquet"]),
    "a folder of nothing": ("folder/", None, ["folder", "Parquet"]),
}


@pytest.mark.parametrize(("command", "what"), [*(("fit", what) for what in FILES), ("predict", "missing")])
def test_a_file_that_is_no_table_is_refused(command: str, what: str, program: Any, trained: Any):
    name, content, names = FILES[what]
    if name.endswith("/"):
        Path(name).mkdir()
    elif content is not None:
        Path(name).write_bytes(content)
    checkpoint = ("--ckpt_path", trained.best) if command == "predict" else ()
    sentence = program.refuses(command, *checkpoint, "--data.source", name)
    assert all(word in sentence for word in names), sentence


# Options, and what the sentence has to name besides the option.
OPTIONS: dict[str, list[str]] = {
    "--data.source=tailor": ["'tailor'", "taylor", "m4-hourly", "etth1"],
    "--data.horizon=0": ["0", "at least 1"],
    "--data.horizon=-3": ["-3", "at least 1"],
    "--data.season_length=0": ["at least 1"],
    "--data.batch_size=0": ["at least 1"],
    "--data.val_windows=0": ["at least 1"],
    "--data.test_windows=-1": ["at least 0"],
    "--data.layout=tall": ["tall", "long, wide, vector"],
    "--data.freq=fortnight": ["fortnight"],
    "--data.target_columns=[y,z]": ["'z'", "'y'"],
    "--data.id_column=name": ["'name'", "'unique_id'"],
    "--data.known_covariates=price": ["'price'", "'unique_id', 'ds', 'y'"],
    "--data.past_covariates=[y]": ["'y'", "one role"],
    "--data.static_covariates=ds": ["'ds'", "one role"],
    "--data.symbols=true": ["'y'", "fractions"],
    "--model.head=gauss": ["'gauss'", "normal"],
    "--model.scaler=minmax": ["'minmax'", "mean_abs"],
    "--model.activation=elu": ["'elu'", "relu"],
    "--model.point_loss=mape": ["'mape'", "huber"],
    "--model.loss_units=metres": ["'metres'", "relative"],
    "--model.feed=lies": ["'lies'", "mean"],
    "--model.optimizer=sgd": ["'sgd'", "adamw"],
    "--model.schedule=step": ["'step'", "cosine"],
    "--model.unroll=0": ["at least 1"],
    "--model.val_paths=0": ["at least 1"],
    "--model.learning_rate=-0.1": ["-0.1", "at least 0"],
    "--model.weight_decay=-1": ["-1", "at least 0"],
    "--model.input_noise=-1": ["-1", "at least 0"],
    "--model.context_length=0": ["at least 1"],
    "--model.patch_length=0": ["at least 1"],
    "--model.hidden_sizes=[16,0]": ["[16, 0]"],
    "--model.dropout=1.5": ["1.5"],
    "--trainer.limit_train_batches=0": ["0", "nothing to train on"],
    "--config=notebook": ["notebook", "textbook"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_out_of_its_range_is_refused_by_its_name(option: str, program: Any, trained: Any):
    sentence = program.refuses("fit", "--data.source", trained.source, option)
    name = option.partition("=")[0]
    assert all(word in sentence for word in (name, *OPTIONS[option])), sentence


FORECASTS: dict[str, list[str]] = {
    "--data.horizon=0": ["--data.horizon", "at least 1"],
    "--forecast.levels=[80,100]": ["--forecast.levels", "100"],
    "--forecast.levels=[0]": ["--forecast.levels", "0"],
    "--forecast.levels=[80,80]": ["--forecast.levels", "twice"],
    "--forecast.num_paths=0": ["--forecast.num_paths", "at least 1"],
    "--forecast.output=forecast.xlsx": ["forecast.xlsx", ".parquet or .csv"],
    "--forecast.output=file/forecast.csv": ["file/forecast.csv", "cannot be written"],
    "--forecast.paths=paths.json": ["paths.json", ".parquet or .csv"],
    "--forecast.plot=fans.pdf": ["fans.pdf", ".png"],
    "--forecast.plot=file/fans.png": ["file/fans.png", "cannot be written"],
    "--model.hidden_sizes=[9]": ["--model.hidden_sizes", "[9]", "[8]", "trained"],
    "--model.patch_length=3": ["--model.patch_length", "3", "6", "trained"],
    "--model.head=normal": ["--model.head", "normal", "quantile"],
    "--config=textbook": ["--model.", "trained"],
}


@pytest.mark.parametrize(
    ("command", "option"), [*(("predict", option) for option in FORECASTS), ("test", "--forecast.output=forecast.xlsx")]
)
def test_a_forecast_that_cannot_be_made_or_written_is_refused_before_the_work(
    command: str, option: str, program: Any, trained: Any
):
    Path("file").write_text("a file, and no folder")
    sentence = program.refuses(command, "--ckpt_path", trained.best, option)
    assert all(word in sentence for word in FORECASTS[option]), sentence


def test_a_folder_without_permission_is_refused(program: Any, trained: Any, monkeypatch: pytest.MonkeyPatch):
    Path("locked", "lightning_logs").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, whom tests may run as, may write anywhere
    assert "permission" in program.refuses("predict", "--ckpt_path", trained.best, "--forecast.output=locked/f.csv")
    fit = ("fit", "--data.source", trained.source, "--trainer.default_root_dir=locked")
    assert "cannot be written" in program.refuses(*fit)


def test_a_run_that_cannot_be_written_is_refused_before_the_work(program: Any, trained: Any):
    Path("file").write_text("a file, and no folder")
    fit = ("fit", "--data.source", trained.source, "--trainer.default_root_dir=file")
    assert "cannot be written" in program.refuses(*fit)


def test_a_checkpoint_that_cannot_be_read_is_refused(program: Any, trained: Any):
    whole = trained.best.read_bytes()
    Path("cut.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("head.ckpt").write_bytes(whole[:100])
    Path("empty.ckpt").touch()
    Path("text.ckpt").write_text("no checkpoint")
    torch.save({"state_dict": {}, "epoch": 3}, "other.ckpt")
    torch.save([1, 2], "list.ckpt")
    torch.save(torch.load(trained.best, weights_only=True) | {"armlp_format": 99}, "new.ckpt")
    Path("folder.ckpt").mkdir()
    for command, (name, what) in zip(
        cycle(("fit", "validate", "test", "predict")),
        {
            "missing.ckpt": "does not exist",
            "folder.ckpt": "is a folder",
            "cut.ckpt": "not a whole checkpoint",
            "head.ckpt": "not a whole checkpoint",
            "empty.ckpt": "not a whole checkpoint",
            "text.ckpt": "not a whole checkpoint",
            "other.ckpt": "not written by armlp",
            "list.ckpt": "not written by armlp",
            "new.ckpt": "upgrade armlp",
        }.items(),
        strict=False,
    ):
        sentence = program.refuses(command, "--ckpt_path", name)
        assert all(word in sentence for word in ("--ckpt_path", name, what)), sentence
    assert "missing.ckpt" in program.refuses("predict", "--ckpt_path=missing.ckpt")


def test_a_checkpoint_never_runs_code(program: Any):
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("sprung"),)

    torch.save({"armlp_format": 1, "state_dict": Trap()}, "trap.ckpt")
    assert "trap.ckpt" in program.refuses("predict", "--ckpt_path=trap.ckpt")
    assert not Path("sprung").exists()


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_command_that_needs_a_checkpoint_says_so(command: str, program: Any, trained: Any):
    sentence = program.refuses(command, "--data.source", trained.source)
    assert "--ckpt_path is needed" in sentence
    assert command in sentence


@pytest.mark.parametrize(("command", "needed"), [("validate", 19), ("test", 7)])
def test_series_too_short_to_score_are_refused_with_the_length_they_need(
    command: str, needed: int, program: Any, trained: Any, make_table: MakeTable
):
    make_table(rows=6).to_parquet("short.parquet")
    sentence = program.refuses(command, "--ckpt_path", trained.best, "--data.source=short.parquet")
    assert all(word in sentence for word in ("'s00'", "6 rows", f"needs {needed}")), sentence
    # And the shortest that will do.
    make_table(rows=needed).to_parquet("enough.parquet")
    options = ("--forecast.output=b.csv",) if command == "test" else ()
    assert "skill" in program(command, "--ckpt_path", trained.best, "--data.source=enough.parquet", *options)


@pytest.mark.parametrize(
    ("rows", "options", "names"),
    [
        (1, (), ["one row per series", "--data.freq"]),
        (1, ("--data.freq=h",), ["'s00'", "has 1 rows", "needs 8", "--data.horizon"]),
        (2, (), ["'s00'", "has 2 rows", "needs 8"]),
        (7, (), ["'s00'", "has 7 rows", "needs 8"]),
    ],
)
def test_a_single_series_of_few_rows_says_what_it_needs(
    rows: int, options: tuple[str, ...], names: list[str], program: Any, make_table: MakeTable
):
    make_table(series=1, rows=rows).to_csv("table.csv", index=False)
    sentence = program.refuses("fit", "--data.source=table.csv", "--data.horizon=6", *options)
    assert all(name in sentence for name in names), sentence


def test_a_model_forecasts_a_single_series_of_a_single_row(program: Any, trained: Any, make_table: MakeTable):
    make_table(series=1, rows=1).to_csv("table.csv", index=False)
    predict = ("predict", "--ckpt_path", trained.best, "--data.source=table.csv", "--forecast.output=f.csv")
    program(*predict)
    forecast = pd.read_csv("f.csv")
    assert len(forecast) == 6
    assert np.isfinite(forecast["armlp"]).all()


def test_the_shortest_single_series_that_can_be_fitted_is_forecast(program: Any, make_table: MakeTable):
    make_table(series=1, rows=8).to_csv("table.csv", index=False)
    run = program.fit("table.csv", "--data.horizon=6")
    program("predict", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--forecast.output=f.csv")
    assert np.isfinite(pd.read_csv("f.csv")["armlp"]).all()


def test_a_model_of_a_table_in_memory_asks_for_a_source(program: Any, make_table: MakeTable):
    options: dict[str, Any] = {"max_steps": 1, "hidden_sizes": [4], "enable_progress_bar": False}
    Forecaster(horizon=6, **options).fit(make_table()).save("model.ckpt")
    assert "--data.source is needed" in program.refuses("predict", "--ckpt_path=model.ckpt")


def test_a_vector_model_is_not_put_on_single_series(program: Any, trained: Any, make_table: MakeTable):
    make_table().assign(z=1.0).to_parquet("two.parquet")
    options = ("--data.source=two.parquet", "--data.target_columns=[y,z]")
    sentence = program.refuses("predict", "--ckpt_path", trained.best, *options)
    assert "--data.target_columns" in sentence


@pytest.mark.parametrize("option", ["--data.horizon=abc", "--data.horizont=3", "--model.widths=[3]"])
def test_options_that_do_not_parse_end_with_2_too(option: str, program: Any, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        program("fit", option)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert option.partition("=")[0].removeprefix("--").split(".")[-1] in said
    assert "Traceback" not in said
    assert not Path("lightning_logs").exists()


def test_a_command_that_is_none_ends_with_2(program: Any):
    for args in ((), ("train",)):
        with pytest.raises(SystemExit) as end:
            program(*args)
        assert end.value.code == 2


def test_a_series_too_short_to_train_on_is_named_and_the_rest_goes_on(program: Any, make_table: MakeTable):
    table = make_table()
    short = table[table["unique_id"] == "s01"].head(7)
    pd.concat([table[table["unique_id"] != "s01"], short]).to_parquet("table.parquet")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = program.fit("table.parquet", "--data.horizon=6")
    said = " ".join(str(warning.message) for warning in caught)
    assert "'s01' (7 rows)" in said
    assert "needs 8 rows" in said
    program("predict", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--forecast.output=f.parquet")
    assert pd.read_parquet("f.parquet")["unique_id"].value_counts().to_dict() == {"s00": 6, "s01": 6, "s02": 6}


def test_a_process_ends_with_2_one_sentence_and_no_traceback(tmp_path: Path):
    command = [sys.executable, "-m", "armlp", "fit", "--data.source=missing.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("armlp: missing.csv does not exist")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fit", "--model.nonsense=3"], "nonsense"),
        (["fit", "--data.horizon=abc"], "horizon"),
        (["fit", "--trainer.accelerator=gpu"], "Trainer"),
        (["fit", "--trainer.max_steps=-5"], "Trainer"),
        (["nonsense"], "nonsense"),
        ([], "subcommand"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU its accelerator is no mistake")
def test_what_lightning_and_the_parser_refuse_is_one_sentence(capsys: Any, arguments: list[str], part: str):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("armlp: ")
    assert said.count("\n") == 1
    assert part in said


def test_no_output_overwrites_the_data_or_another_output(program: Any, trained: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    trained.table.to_parquet("mine.parquet")
    before = Path("mine.parquet").read_bytes()
    same = ("predict", f"--ckpt_path={trained.best}", "--data.source=mine.parquet")
    assert "--forecast.output" in program.refuses(*same, "--forecast.output=./mine.parquet")
    assert "--forecast.paths" in program.refuses(*same, "--forecast.output=a.csv", "--forecast.paths=a.csv")
    assert Path("mine.parquet").read_bytes() == before


def test_a_checkpoint_in_a_configuration_file_is_refused(program: Any, trained: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(f"ckpt_path: {trained.best}\n")
    assert "--ckpt_path" in program.refuses("fit", "--config=run.yaml")
