"""Forecasters through pickle, copies and other processes."""

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, Timer

from armlp import Forecaster, UserError

MakeTable = Callable[..., pd.DataFrame]
SMALL: dict[str, Any] = {"max_steps": 3, "hidden_sizes": [8], "enable_progress_bar": False}


def through_torch(forecaster: Forecaster) -> Any:
    """What `torch.save` wrote, read again."""
    file = io.BytesIO()
    torch.save(forecaster, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: dict[str, Callable[[Forecaster], Forecaster]] = {
    "pickle": lambda forecaster: pickle.loads(pickle.dumps(forecaster)),
    "twice": lambda forecaster: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(forecaster)))),
    "torch": through_torch,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> Forecaster:
    """A forecaster with H=6 that has seen three series."""
    options = SMALL | {"default_root_dir": str(tmp_path_factory.mktemp("runs"))}
    return Forecaster(6, callbacks=[Timer()], **options).fit(make_table())


@pytest.mark.filterwarnings("ignore:.*Caution")
@pytest.mark.parametrize(
    "way",
    # What is pickled twice was pickled once, and torch pickles too.
    ["twice", "copy", "deepcopy", *(pytest.param(way, marks=pytest.mark.exhaustive) for way in ("pickle", "torch"))],
)
def test_a_fitted_forecaster_answers_the_same_afterwards(
    way: str, fitted: Forecaster, make_table: MakeTable, tmp_path: Path
):
    again, table = WAYS[way](fitted), make_table(series=2, seed=3)
    pd.testing.assert_frame_equal(again.predict(table), fitted.predict(table))
    assert (again.sample(table, num_paths=3) == fitted.sample(table, num_paths=3)).all()
    pd.testing.assert_frame_equal(again.score(table), fitted.score(table))
    assert again.scores == fitted.scores
    for refit in (False, True):
        mine, theirs = (one.backtest(table, windows=2, refit=refit) for one in (copy.copy(fitted), again))
        pd.testing.assert_frame_equal(mine, theirs)
    again.save(tmp_path / "again.ckpt")
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "again.ckpt").predict(table), fitted.predict(table))
    # It can be fitted again, with its options, and the first one does not change.
    before = fitted.predict()
    assert len(again.fit(table).predict()) == 2 * 6
    pd.testing.assert_frame_equal(fitted.predict(), before)


def test_a_pickle_is_as_small_as_that_of_a_loaded_forecaster(make_table: MakeTable, tmp_path: Path):
    table = make_table(rows=20_000)
    forecaster = Forecaster(6, context_length=12, default_root_dir=str(tmp_path), **SMALL).fit(table)
    forecaster.save(tmp_path / "m.ckpt")
    size = len(pickle.dumps(forecaster))
    assert size < len(pickle.dumps(Forecaster.load(tmp_path / "m.ckpt"))) + 5_000
    assert size < table["y"].memory_usage() / 4


def test_a_table_in_memory_is_not_in_the_pickle_but_in_a_copy(fitted: Forecaster):
    with pytest.raises(UserError, match=r"call predict\(table\).* neither save nor pickle keeps a table"):
        pickle.loads(pickle.dumps(fitted)).predict()
    for copied in (copy.copy(fitted), copy.deepcopy(fitted)):
        pd.testing.assert_frame_equal(copied.predict(), fitted.predict())


def test_the_path_of_a_table_is_in_the_pickle(trained: Any, tmp_path: Path):
    forecaster = Forecaster(6, default_root_dir=str(tmp_path), **SMALL).fit(trained.source)
    assert pickle.loads(pickle.dumps(forecaster)).predict().equals(forecaster.predict())


def test_an_unfitted_forecaster_keeps_its_options(make_table: MakeTable, tmp_path: Path):
    forecaster = Forecaster(5, seed=3, default_root_dir=str(tmp_path), **SMALL)
    again = pickle.loads(pickle.dumps(forecaster))
    pd.testing.assert_frame_equal(again.fit(make_table()).predict(), forecaster.fit(make_table()).predict())


def test_an_option_that_cannot_be_pickled_is_named():
    forecaster = Forecaster(callbacks=[Timer(), LambdaCallback(on_train_start=lambda *_: None)])
    with pytest.raises(UserError, match="callbacks: LambdaCallback cannot be pickled"):
        pickle.dumps(forecaster)


@pytest.mark.slow
def test_other_processes_forecast_with_it(fitted: Forecaster, make_table: MakeTable):
    tables = [make_table(series=1, seed=seed) for seed in range(2)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.map(fitted.predict, tables)
    for one, other in zip(theirs, map(fitted.predict, tables), strict=True):
        pd.testing.assert_frame_equal(one, other)
