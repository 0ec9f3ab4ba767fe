"""Tests of the Lightning data module: what it settles, what it holds out, and what it remembers having shown."""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.data.split import TrainingRecord
from armlp.data.windows import Windowing
from armlp.errors import UserError
from armlp.training.module import ForecastModule

MakeTable = Callable[..., pd.DataFrame]


def test_the_source_is_read_once_and_late(make_table: MakeTable, tmp_path: Path):
    data = SeriesDataModule(tmp_path / "table.csv")  # which is not there yet
    make_table().to_csv(tmp_path / "table.csv", index=False)
    data.setup("fit")
    (tmp_path / "table.csv").unlink()
    panel = data.panel
    for stage in ("fit", "test", None):
        data.setup(stage)
        assert data.panel.values is panel.values


@pytest.mark.parametrize(
    ("source", "given", "horizon", "season_length"),
    [
        ("taylor", {}, 48, 336),
        ("air-passengers", {}, 12, 12),
        ("taylor", {"horizon": 5, "season_length": 48}, 5, 48),
    ],
)
def test_a_named_data_set_knows_its_horizon_and_season(
    source: str, given: dict[str, int], horizon: int, season_length: int
):
    data = SeriesDataModule(source, **given)
    data.setup()
    assert (data.horizon, data.season_length) == (horizon, season_length)
    assert data.hparams["horizon"] == horizon  # as the checkpoint saves it
    assert data.panel.name == source


def test_the_frequency_decides_where_nothing_else_does(make_table: MakeTable):
    data = SeriesDataModule(make_table())
    data.setup()
    assert (data.horizon, data.season_length) == (data.panel.calendar.horizon, 24)


def test_training_never_shows_a_value_that_is_held_out(make_table: MakeTable):
    table = make_table(rows=60)
    table["y"] = np.tile(np.arange(60.0), 3)
    data = SeriesDataModule(table, horizon=5, val_windows=2, test_windows=3, batch_size=7)
    data.windowing = Windowing(context_length=8, span=10)
    end = 60 - 5 * 5
    seen = set()
    for batch in data.train_dataloader():
        assert len(batch.series) <= 7
        assert batch.context.max() < end
        seen |= set(batch.target[batch.target_observed].tolist())
    assert max(seen) == end - 1
    starts = {part: loader for part, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader()))}
    origins = {part: torch.cat([batch.origin for batch in loader]).unique().tolist() for part, loader in starts.items()}
    assert origins == {"val": [35, 40], "test": [45, 50, 55]}
    (batch,) = data.predict_dataloader()
    assert batch.origin.tolist() == [60] * 3
    assert batch.target.shape == (3, 0, 1)


def test_a_test_told_of_no_windows_takes_one(make_table: MakeTable):
    data = SeriesDataModule(make_table(), horizon=6)
    assert data.test_split.test_windows == 1
    (batch,) = data.test_dataloader()
    assert batch.origin.tolist() == [90] * 3


def test_the_batch_size_is_chosen_within_bounds_and_kept_where_it_is_given(make_table: MakeTable):
    sizes = {}
    for rows in (60, 900):
        data = SeriesDataModule(make_table(series=10, rows=rows), horizon=6)
        data.windowing = Windowing(context_length=10, span=1)
        sizes[rows] = data.train_dataloader().batch_size
    assert sizes == {60: 32, 900: 512}
    data = SeriesDataModule(make_table(), horizon=6, batch_size=5)
    assert data.train_dataloader().batch_size == 5


@pytest.mark.parametrize(
    ("constant", "sentence"),
    [
        ([0], None),
        ([0, 2], "2 of 4 series of the table never change: 's00', 's02'; leave them out"),
        ([0, 1, 2, 3], "The target of the table never changes within a series: correct the table"),
    ],
)
def test_many_series_that_never_change_are_warned_of(constant: list[int], sentence: str | None, make_table: MakeTable):
    table = make_table(series=4)
    table.loc[table["unique_id"].isin([f"s{index:02d}" for index in constant]), "y"] = 7.0
    data = SeriesDataModule(table, horizon=6)
    with contextlib.nullcontext() if sentence is None else pytest.warns(UserWarning, match=sentence):
        data.train_dataloader()


def test_a_channel_that_never_changes_is_named(make_table: MakeTable):
    data = SeriesDataModule(make_table().assign(z=1.0), horizon=6, target_columns=["y", "z"])
    with pytest.warns(UserWarning, match="The target column 'z' of the table never changes"):
        data.train_dataloader()


def test_series_that_are_too_short_are_named_with_what_they_need(make_table: MakeTable):
    table = pd.concat([make_table(series=1, rows=40), make_table(series=2, rows=7, first=1)])
    sentence = r"2 of 3 series are too short .* 's01' \(7 rows\), 's02' \(7 rows\); a series needs 8 rows, 6 of them"
    with pytest.warns(UserWarning, match=sentence):
        SeriesDataModule(table, horizon=6).train_dataloader()


def test_the_seed_decides_the_order_of_training(make_table: MakeTable):
    def order(seed: int) -> list[int]:
        data = SeriesDataModule(make_table(), horizon=6, seed=seed)
        return torch.cat([batch.origin for batch in data.train_dataloader()]).tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert sorted(order(0)) == sorted(order(1))


@given(
    rows=st.integers(20, 60),
    held_out=st.tuples(st.integers(1, 6), st.integers(1, 2), st.integers(0, 2)),
    tested=st.tuples(st.integers(1, 8), st.integers(0, 3)),
    shift=st.integers(-10, 10),
    first=st.integers(0, 3),
)
@settings(max_examples=60)
def test_a_test_knows_which_series_were_trained_on_its_times(
    make_table: MakeTable,
    rows: int,
    held_out: tuple[int, int, int],
    tested: tuple[int, int],
    shift: int,
    first: int,
):
    horizon, val_windows, test_windows = held_out
    options = {"freq": 1, "season_length": 1}
    data = SeriesDataModule(
        make_table(rows=rows, freq=1), horizon=horizon, val_windows=val_windows, test_windows=test_windows, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data.train_dataloader()
        except UserError:
            return
    # Later: another table, some of whose series are the same, which starts and ends elsewhere.
    table = make_table(rows=rows, freq=1, first=first)
    moved = table.assign(ds=table["ds"] + shift)
    later = SeriesDataModule(moved, horizon=tested[0], test_windows=tested[1], **options)
    assert later.series_seen("test") == 0
    later.load_state_dict(data.state_dict())
    last_seen = 7 + rows - 1 - horizon * test_windows
    first_tested = 7 + shift + rows - tested[0] * max(tested[1], 1)
    known = 3 - first
    assert later.series_seen("test") == (known if first_tested <= last_seen else 0)


def test_no_series_long_enough_names_the_longest_and_what_it_needs(make_table: MakeTable):
    table = make_table(rows=30)
    table = pd.concat(
        [table[table["unique_id"] != "s01"].groupby("unique_id").head(9), table[table["unique_id"] == "s01"]]
    )
    data = SeriesDataModule(table, horizon=10, val_windows=2, test_windows=1)
    with pytest.raises(UserError, match=r"'s01', has 30 rows and needs 32, 30 of them held out; lower `horizon`"):
        data.train_dataloader()


def test_series_too_short_are_named_with_what_they_need(make_table: MakeTable):
    table = make_table(series=8, rows=40)
    short = table[table["unique_id"] > "s02"].groupby("unique_id").head(7)
    data = SeriesDataModule(pd.concat([table[table["unique_id"] <= "s02"], short]), horizon=6)
    with pytest.warns(UserWarning, match=r"5 of 8 series .* 's03' \(7 rows\), 's04' \(7 rows\), .*, \.\.\.; .* 8 rows"):
        loader = data.train_dataloader()
    assert {int(series) for batch in loader for series in batch.series} == {0, 1, 2}
    (batch,) = data.predict_dataloader()
    assert batch.series.tolist() == list(range(8))  # forecast nevertheless


@pytest.mark.parametrize("name", ["horizon", "season_length", "batch_size", "val_windows"])
def test_numbers_below_one_are_refused_by_name(name: str):
    with pytest.raises(UserError, match=f"`{name}`: 0 is too small; it must be at least 1"):
        SeriesDataModule("sine", **{name: 0})


def test_only_a_source_with_a_name_is_a_hyperparameter(make_table: MakeTable, tmp_path: Path):
    path = tmp_path / "table.csv"
    make_table().to_csv(path, index=False)
    assert "source" not in SeriesDataModule(make_table()).hparams
    assert SeriesDataModule(path).hparams["source"] == str(path)
    assert SeriesDataModule("sine").hparams["source"] == "sine"


def test_processes_share_the_windows_and_the_origins(make_table: MakeTable):
    class Shared:
        global_rank, world_size, lightning_module = 1, 2, None
        strategy = SimpleNamespace(root_device=torch.device("cpu"))

    data: Any = SeriesDataModule(make_table(), horizon=6)
    data.trainer = Shared()
    loader = data.train_dataloader()
    assert (loader.rank, loader.world_size) == (1, 2)
    (batch,) = data.predict_dataloader()
    assert batch.series.tolist() == [1]


@pytest.mark.parametrize("freq", ["h", "MS", 1])
def test_newer_origins_follow_what_training_saw_in_the_order_of_time(freq: str | int, make_table: MakeTable):
    table = make_table(series=2, rows=70, freq=freq)
    trained = SeriesDataModule(table.groupby("unique_id").head(40), horizon=4, batch_size=8)
    trained.windowing = Windowing(context_length=8, span=4)
    trained.train_dataloader()
    # The second series has lost its beginning, and the third is not known.
    table = pd.concat([table.iloc[:70], table.iloc[90:], make_table(rows=300, freq=freq, series=3).iloc[-300:]])
    data = SeriesDataModule(table, horizon=4, freq=freq, test_windows=2)
    data.windowing = Windowing(context_length=8, span=4)
    data.load_state_dict(trained.state_dict())
    ends = {"predict": 0, "test": 8}
    for part, held_out in ends.items():
        loader = data.newer_dataloader(part)
        times = data.panel.times(loader.series, loader.origins)
        assert (times.diff() >= 0).all()
        found = [loader.origins[loader.series == series].tolist() for series in range(3)]
        assert found[0] == list(range(40, 70 - held_out, 4))
        assert found[1] == list(range(20, 50 - held_out, 4))
        latest = list(range(8, 300 - held_out, 4))[-50:]
        assert found[2] == latest


def test_a_training_leaves_its_data_as_they_were_set_up(make_table: MakeTable, tmp_path: Path):
    states: list[Any] = []

    class Watch(Callback):
        """Writes down what the data module holds, but for the Trainer and what the loader has drawn from."""

        def on_fit_start(self, trainer: Trainer, *args: Any) -> None:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it by a connector
            held = {
                name: value for name, value in vars(data).items() if not isinstance(value, (Trainer, TrainingRecord))
            }
            states.append(
                ({name: id(value) for name, value in held.items()}, dict(data.hparams), dict(vars(data.settings)))
            )

        on_train_end = on_fit_start

    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(**options, max_steps=2, callbacks=[Watch()], default_root_dir=tmp_path)
    trainer.fit(ForecastModule(hidden_sizes=[4]), datamodule=SeriesDataModule(make_table(), horizon=6))
    first, last = states
    assert first == last
