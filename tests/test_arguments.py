"""Arguments of public calls: each wrong one is a UserError that names it, and none is taken for something else."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import armlp
from armlp import Forecaster, UserError
from armlp.arguments import check_argument

MakeTable = Callable[..., pd.DataFrame]
SMALL: dict[str, Any] = {"max_steps": 2, "hidden_sizes": [4], "enable_progress_bar": False, "logger": False}


class Odd:
    """Something that no argument is."""

    def __repr__(self) -> str:
        return "\n" * 100


WHOLE = [2.5, 4.0, "7", True, [], [3], {}, Odd(), math.nan, math.inf, np.float64(2.5), np.array([1, 2]), 2**70, 1j]
NUMBER = ["0.5", True, [], {}, Odd(), math.nan, math.inf, -math.inf, np.float64("nan"), 1j, b"1"]
FLAG = ["yes", 0, 1, 1.0, [], Odd()]
TEXT = [5, 2.5, True, [], {}, Odd(), b"h"]
SEED = [*WHOLE, -1, 2**32, None]
LEVELS = [
    None, ("80",), "80", (math.nan,), (0,), (100,), (-5, 5), (80, 80), (80, 80.0), (80, 80.0000001), True, (True,),
    {80: 1}, {80, 95}, [[80]], (None,), 101, 0, Odd(),
]  # fmt: skip
MEMORY = ["much", "0", 0, -1, [], None, True, 1.5e9, Odd(), "1XB"]
TABLE = [5, 2.5, [1, 2], {}, Odd(), b"x"]
PATHS = [0, -1, *WHOLE, None]
LENGTH = [0, -1, *WHOLE]
SHARE = [*NUMBER, -0.1, 1.5]
FORECAST: dict[str, list[Any]] = {
    "horizon": LENGTH, "num_paths": PATHS, "seed": SEED, "temperature": [0, -1, None, *NUMBER],
    "top_k": LENGTH, "precision": [32, "foo", None, [], True, Odd()], "memory": MEMORY, "table": TABLE,
    "future": [5, [1, 2], Odd()], "known_future": [5, [1, 2], Odd()],
}  # fmt: skip
METHODS: dict[str, dict[str, list[Any]]] = {
    "predict": FORECAST | {"levels": LEVELS},
    "sample": FORECAST,
    "score": {"seed": SEED, "table": TABLE},
    "backtest": {name: FORECAST[name] for name in ("horizon", "num_paths", "seed", "precision", "memory", "table")}
    | {
        "windows": [*PATHS, 1.5], "step": LENGTH, "gap": [-1, None, *WHOLE], "levels": LEVELS,
        "refit": ["yes", -1, 1.5, None, [], Odd(), 2**70],
    },
    "save": {"path": [5, None, [], Odd(), "model", "/proc/no/model.ckpt"]},
    "export": {"path": [5, None, "model.txt", Odd()], "horizon": LENGTH, "num_paths": PATHS, "levels": LEVELS},
    "load": {"path": [5, None, [], Odd(), "missing.ckpt"]},
    "fit": {"table": [*TABLE, None]},
}  # fmt: skip
# Beside the table, and the path.
OPTIONS: dict[str, list[Any]] = {
    "horizon": LENGTH, "seed": SEED, "preset": [5, "unknown", [], Odd(), True],
    "season_length": LENGTH, "val_windows": [*LENGTH, "3"], "test_windows": [-1, *WHOLE], "test_step": LENGTH,
    "test_gap": [-1, *WHOLE], "batch_size": LENGTH, "id_column": [*TEXT, None], "time_column": [*TEXT, None],
    "target_columns": [5, [5], True, Odd()], "known_covariates": [5, [5], {}], "freq": [2.5, True, [], {}, Odd()],
    "calendar_inputs": [5, 2.5, [5], Odd()], "symbols": [5, "ab", None, {}], "layout": [5, None, []],
    "memory_budget": [value for value in MEMORY if value is not None],
    "context_length": [*LENGTH, 10.5], "patch_length": LENGTH, "unroll": LENGTH,
    "hidden_sizes": [64, [2.5], ["64"], [0], [-1], [True], "64", {}, Odd(), [2**70], np.array([2.5])],
    "residual_blocks": [-1, *WHOLE], "block_size": LENGTH, "activation": [*TEXT, "foo", None],
    "dropout": [*NUMBER, "a", -0.1, 1, 1.0], "head": [*TEXT, "gauss"], "point_loss": [*TEXT, None],
    "quantile_loss": [*TEXT, None], "components": PATHS, "bins": [2, *PATHS], "scaler": [*TEXT, "foo"],
    "level_input": [*FLAG, None], "mask_input": FLAG, "linear_skip": [*FLAG, None], "ridge_init": [*FLAG, None],
    "seasonal_skip": [*FLAG, None], "channels": LENGTH, "non_negative": FLAG, "members": LENGTH,
    "covariate_sizes": [5, [1], {"known": 5}, {"known": ["a"]}], "objective": [*TEXT, "foo", None],
    "loss_units": [*TEXT, "foo"], "feed": [*TEXT, "foo"], "gradient": [0, -1, 1.5, "foo", None, [], True],
    "lead_weighting": [*TEXT, "foo", None], "optimizer": [*TEXT, "foo"], "learning_rate": [-1, *NUMBER],
    "weight_decay": [-1, *NUMBER], "schedule": [*TEXT, "foo", None], "warmup": [None, *SHARE],
    "input_noise": [-1, *NUMBER], "averaging": [None, *SHARE], "val_paths": PATHS,
    "conformal": [*TEXT, "foo", None], "trials": [-1, *WHOLE], "refit": FLAG, "theta_share": SHARE,
    "effort": PATHS, "unroll_growth": [None, *SHARE],
    "max_steps": [2.5, "7", True, None], "max_epochs": [2.5, "7"], "enable_progress_bar": ["no", 1],
    "gradient_clip_val": ["x", [], math.nan], "log_every_n_steps": [2.5, "7"], "callbacks": [5, "x", [5]],
    "devices": [1.5, {}], "accelerator": [5, []], "default_root_dir": [5, []],
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> Forecaster:
    """A forecaster with H=6."""
    return Forecaster(6, **SMALL, default_root_dir=str(tmp_path_factory.mktemp("runs"))).fit(make_table())


def refused(call: Callable[[], Any], name: str, value: Any) -> None:
    """Asserts that a call ends in one sentence that names an argument."""
    try:
        found = call()
    except UserError as error:
        sentence = str(error)
    else:
        pytest.fail(f"{name}={value!r} was taken: {found!r}")
    if not isinstance(value, str) or "/" not in value:
        assert name in sentence or "the table" in sentence or "cannot be written" in sentence, sentence
    assert len(sentence) < 700
    assert "\n" not in sentence


@pytest.mark.parametrize(("method", "name"), [(method, name) for method in METHODS for name in METHODS[method]])
def test_a_wrong_argument_of_a_method_is_refused(
    method: str, name: str, fitted: Forecaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    others = {"path": "model.onnx"} if method == "export" and name != "path" else {}
    for value in METHODS[method][name]:
        arguments = others | {name: value}
        refused(partial(getattr(fitted, method), **arguments), name, value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_option_is_refused(name: str):
    for value in OPTIONS[name]:
        refused(partial(Forecaster, **{name: value}), name, value)


def test_numbers_of_numpy_are_numbers(fitted: Forecaster):
    plain = fitted.predict(horizon=3, levels=[80], num_paths=7, seed=2)
    numpy = fitted.predict(horizon=np.int64(3), levels=np.array([80]), num_paths=np.uint8(7), seed=np.int32(2))
    pd.testing.assert_frame_equal(plain, numpy)
    pd.testing.assert_frame_equal(plain, fitted.predict(horizon=3, levels=80, num_paths=7, seed=2))
    options = {"hidden_sizes": np.array([3, 2]), "dropout": np.float32(0.25), "ridge_init": np.bool_(True)}
    assert armlp.ForecastModule(**options).settings.non_defaults() == {
        "hidden_sizes": [3, 2],
        "dropout": 0.25,
        "ridge_init": True,
    }
    assert type(armlp.SeriesDataModule("sine", horizon=np.int8(3)).given.horizon) is int


CALLS: dict[str, tuple[Callable[..., Any], dict[str, list[Any]]]] = {
    "rollout": (
        lambda **options: armlp.rollout(
            armlp.AutoregressiveMLP(4, hidden_sizes=[2]), **{"context": torch.zeros(1, 4), "horizon": 2} | options
        ),
        {
            "horizon": [None, *LENGTH], "num_paths": PATHS, "temperature": [0, -1, *NUMBER], "top_k": LENGTH,
            "context": [5, [1, 2], np.zeros((1, 4)), None], "noise": [5, "x"], "given": [5], "zero": [0],
            "observed": [True],
        },
    ),
    "AutoregressiveMLP": (
        lambda **options: armlp.AutoregressiveMLP(**{"context_length": 4} | options),
        {
            name: [value for value in OPTIONS[name] if value is not None]
            for name in ("context_length", "patch_length", "hidden_sizes", "dropout", "head", "scaler", "members")
        },
    ),
    "ForecastModule": (armlp.ForecastModule, {name: OPTIONS[name] for name in ("context_length", "dropout", "effort")}),
    "SeriesDataModule": (armlp.SeriesDataModule, {name: OPTIONS[name] for name in ("horizon", "val_windows", "freq")}),
    "Coverage": (
        lambda **options: armlp.Coverage(**{"horizon": 2, "level": 80} | options),
        {"horizon": PATHS, "level": [0, 100, math.nan, "80", None, True]},
    ),
    "MeanAbsoluteError": (armlp.MeanAbsoluteError, {"horizon": PATHS}),
    "PinballLoss": (
        lambda **options: armlp.PinballLoss(**{"horizon": 2} | options),
        {"probabilities": [0.5, [0], [1.5], ["0.5"], None], "horizon": PATHS},
    ),
    "PITHistogram": (
        lambda **options: armlp.PITHistogram(**{"horizon": 2} | options),
        {"bins": PATHS, "horizon": PATHS},
    ),
    "summarize_backtest": (
        lambda **options: armlp.summarize_backtest(**{"table": pd.DataFrame()} | options),
        {"by": [5, [], None, "row"], "table": [5, None, [1]]},
    ),
}  # fmt: skip


def test_a_sequence_of_any_kind_is_a_list(make_table: MakeTable, tmp_path: Path):
    options = {"max_steps": 1, "enable_progress_bar": False, "logger": False}
    forecaster = Forecaster(6, hidden_sizes=range(3, 5), **options).fit(make_table())
    forecaster.save(tmp_path / "model.ckpt")
    expected = forecaster.predict(levels=[80, 90])
    for levels in (range(80, 100, 10), deque([80, 90]), (80, 90), np.array([80, 90])):
        pd.testing.assert_frame_equal(forecaster.predict(levels=levels), expected)
    loaded = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False)
    pd.testing.assert_frame_equal(loaded.predict(make_table(), levels=[80, 90]), expected)


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_argument_of_another_public_call_is_refused(call: str):
    function, wrong = CALLS[call]
    for name, values in wrong.items():
        for value in values:
            refused(partial(function, **{name: value}), name, value)


def test_options_of_a_checkpoint_are_refused_by_load(fitted: Forecaster, tmp_path: Path):
    fitted.save(tmp_path / "model.ckpt")
    for options in ({"devices": 1.5}, {"enable_progress_bar": "no"}, {"horizon": 3}):
        with pytest.raises(UserError, match=next(iter(options))):
            Forecaster.load(tmp_path / "model.ckpt", **options)


@given(value=st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none(), st.lists(st.integers())))
@settings(deadline=None)
def test_an_argument_is_kept_or_refused_but_never_changed(value: Any):
    accepted = {
        int: type(value) is int,
        float: type(value) is int or (type(value) is float and math.isfinite(value)),
        bool: type(value) is bool,
        str: type(value) is str,
        int | None: type(value) is int or value is None,
        float | Sequence[int]: isinstance(value, list)
        or type(value) is int
        or (type(value) is float and math.isfinite(value)),
    }
    for hint, fits in accepted.items():
        if fits:
            assert check_argument("x", value, hint) is value or check_argument("x", value, hint) == value
        else:
            with pytest.raises(UserError, match=r"^`x`: "):
                check_argument("x", value, hint)


def test_no_limit_of_steps_is_minus_one_as_in_lightning():
    with pytest.raises(armlp.UserError, match="`max_steps`: None is not a whole number; give -1 for no limit"):
        armlp.Forecaster(max_steps=None)
