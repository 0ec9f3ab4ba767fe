"""The examples of the README, run as they stand there, with less training."""

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import armlp

README = Path(__file__).parents[1] / "README.md"
SMALL = {"max_steps": 4, "hidden_sizes": [8], "enable_progress_bar": False}


def test_the_python_examples_run(make_table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Quick(armlp.Forecaster):
        __init__ = functools.partialmethod(armlp.Forecaster.__init__, **SMALL)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(armlp, "Forecaster", Quick)
    table, other = make_table(rows=200), make_table(rows=160, first=7, seed=1)
    ahead = table.groupby("unique_id").tail(3).assign(y=50.0)
    ahead["ds"] += pd.Timedelta(hours=3)
    names: dict[str, Any] = {"table": table, "other_table": other, "orders": ahead}
    example, *_ = re.findall("```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(example, names)  # the README's own words
    paths = names["paths"]
    assert names["totals"].shape == (3, 3)
    assert (names["first"] == np.inf).all()  # the values are about 10
    assert paths.shape == (3, 500, 56)
    assert (names["what_if"].groupby("unique_id").head(3)["armlp"] == 50).all()
    assert names["backtest"].groupby("unique_id")["cutoff"].nunique().tolist() == [5, 5, 5]
    assert set(names["worst"]["unique_id"]) == set(other["unique_id"])
    assert np.isfinite(names["skill"])
    assert len(names["oddest"]) == 20


def test_the_first_time_above_a_threshold_is_the_first():
    (line,) = re.findall(r"^first = .*$", README.read_text(), re.MULTILINE)
    paths = np.array([[[1, 200, 300], [101, 0, 0], [0, 0, 100]]], dtype=np.float32)
    names: dict[str, Any] = {"np": np, "above": paths > 100}
    exec(line, names)
    assert names["first"].tolist() == [[2, 1, np.inf]]
