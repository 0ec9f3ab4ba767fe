"""What-if: values of the future that are known, from the rollout to the command line and Python."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from armlp import Forecaster
from armlp.data.tables.known_future import read_known_future
from armlp.data.tables.read import read_panel
from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout

MakeTable = Callable[..., pd.DataFrame]
TINY: dict[str, Any] = {"horizon": 4, "context_length": 12, "hidden_sizes": [4], "residual_blocks": 0, "max_steps": 2}
QUIET: dict[str, Any] = {"enable_progress_bar": False, "limit_val_batches": 0, "enable_checkpointing": False}
WANTED = {"id_column": "unique_id", "time_column": "ds", "layout": "auto"}


# The rollout


def ar2(first: float, second: float, scale: float) -> AutoregressiveMLP:
    """`x_t = first x_(t-1) + second x_(t-2) + scale e_t` with standard normal errors."""
    model = AutoregressiveMLP(2, hidden_sizes=[], head="normal", scaler="none", seasonal_skip=False).eval()
    with torch.no_grad():
        model.linear_skip.weight.copy_(torch.tensor([[second, first]]))
        model.linear_skip.bias.zero_()
        model.bias.copy_(torch.tensor([0.0, np.log(np.expm1(scale))]))
    return model


def test_later_steps_of_a_linear_gaussian_model_have_the_conditional_distribution():
    """The closed form: errors before the known value and after it are free, and the recursion starts anew there."""
    first, second, scale, start = 0.5, 0.3, 0.7, torch.tensor([[1.0, 2.0]])
    given = torch.full((1, 6), torch.nan)
    given[0, 2], given[0, 4] = 5.0, -3.0
    noise = path_noise(torch.tensor([7]), torch.tensor([2]), 40_000, 6, (1,), 0)
    paths = rollout(ar2(first, second, scale), start, 6, 40_000, noise=noise, given=given)[0].double()
    # The affine map of six errors, one row each, and what there is without errors.
    mean, errors = [1.0, 2.0], [np.zeros(6), np.zeros(6)]
    for step in range(6):
        if given[0, step].isnan():
            mean.append(first * mean[-1] + second * mean[-2])
            errors.append(first * errors[-1] + second * errors[-2] + scale * np.eye(6)[step])
        else:
            mean.append(float(given[0, step]))
            errors.append(np.zeros(6))
    covariance = np.array(errors[2:]) @ np.array(errors[2:]).T
    assert (paths[:, [2, 4]] == torch.tensor([5.0, -3.0])).all()
    np.testing.assert_allclose(paths.mean(0), mean[2:], atol=0.02)
    np.testing.assert_allclose(np.cov(paths.T.numpy()), covariance, atol=0.02)
    # What comes earlier is not smoothed: the very same values as without.
    free = rollout(ar2(first, second, scale), start, 6, 40_000, noise=noise)[0].double()
    assert torch.equal(free[:, :2], paths[:, :2])
    assert not torch.isclose(free[:, 3], paths[:, 3]).any()


def test_members_patches_and_channels_take_each_what_is_given():
    torch.manual_seed(0)
    model = AutoregressiveMLP(5, patch_length=3, hidden_sizes=[4], head="normal", channels=2, members=2).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    context = torch.randn(4, 5, 2)
    noise = torch.rand(4, 6, 8, 2, 1)
    given = torch.randn(4, 8, 2)
    given[torch.rand(given.shape) < 0.6] = torch.nan
    paths = rollout(model, context, 8, 6, noise=noise, given=given)
    known = ~given.isnan()[:, None].expand_as(paths)
    assert torch.equal(paths[known], given[:, None].expand_as(paths)[known])
    # The oracle: series by series, a call of the network sees all that is known before its first step.
    observed = torch.ones_like(context, dtype=torch.bool)
    uniform = torch.cat([noise, torch.full_like(noise[:, :, :2], 0.5)], 2)
    for series in range(4):
        scaling = model.measure_scaling(context[series : series + 1], observed[:1]).tile(2)
        known = (~given[series].isnan()).tolist()
        for path in range(6):
            whole = context[series].tolist()
            patch: list[Any] = []
            for step in range(8):
                if not patch or (any(known[step - 1]) and not all(known[step])):
                    window = torch.tensor(whole[-5:])[None].repeat(2, 1, 1)
                    with torch.no_grad():
                        law = model.predict_patch(window, observed[:2], scaling, None, step)
                        patch = law.draw(uniform[series : series + 1, path, step : step + 3].repeat(2, 1, 1, 1))[
                            path % 2
                        ].tolist()
                drawn = patch.pop(0)
                values = given[series, step].tolist()
                whole.append([values[v] if known[step][v] else drawn[v] for v in range(2)])
            torch.testing.assert_close(paths[series, path], torch.tensor(whole[5:]))


# Tables


def after(table: pd.DataFrame, steps: int = 4) -> pd.DataFrame:
    """The rows to come, without targets."""
    ends = table.groupby("unique_id", sort=True)["ds"].max()
    return pd.concat(
        [
            pd.DataFrame({"unique_id": name, "ds": pd.date_range(end, periods=steps + 1, freq="h")[1:], "y": np.nan})
            for name, end in ends.items()
        ],
        ignore_index=True,
    )


@pytest.fixture(scope="module")
def fitted(make_table: MakeTable, tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    return Forecaster(**TINY, **QUIET, default_root_dir=str(tmp_path_factory.mktemp("runs"))).fit(make_table())


def test_every_path_has_what_is_known_and_goes_on_from_there(fitted: Forecaster, make_table: MakeTable):
    known = after(make_table())
    known.loc[known.index[5], "y"] = 20.0  # the second step of the second series
    free, paths = fitted.sample(num_paths=9), fitted.sample(num_paths=9, known_future=known)
    assert (paths[1, :, 1] == 20).all()
    np.testing.assert_array_equal(paths[[0, 2]], free[[0, 2]])
    np.testing.assert_array_equal(paths[1, :, 0], free[1, :, 0])
    assert (paths[1, :, 2:] != free[1, :, 2:]).all()
    forecast = fitted.predict(known_future=pl.from_pandas(known.dropna()), num_paths=9)
    assert (forecast.loc[5, ["armlp", "armlp-lo-80", "armlp-hi-95"]] == 20).all()
    np.testing.assert_allclose(forecast["armlp"], np.median(paths, axis=1).ravel(), rtol=1e-6)


def test_targets_beside_future_covariates_are_not_used_as_known(make_table: MakeTable, tmp_path: Path):
    table = make_table().assign(x=1.0)
    forecaster = Forecaster(**TINY, **QUIET, known_covariates=["x"], default_root_dir=str(tmp_path)).fit(table)
    future = after(table).assign(x=1.0)
    blind, leaky = (forecaster.sample(future=rows, num_paths=3) for rows in (future, future.assign(y=99.0)))
    np.testing.assert_array_equal(blind, leaky)
    paths = forecaster.sample(future=future, known_future=future.assign(y=99.0), num_paths=3)
    assert (paths == 99).all()


def test_channels_are_known_one_by_one(make_table: MakeTable, tmp_path: Path):
    table = make_table().assign(z=lambda table: -table["y"])
    options = TINY | QUIET | {"target_columns": ["y", "z"], "default_root_dir": str(tmp_path)}
    forecaster = Forecaster(**options).fit(table)
    known = after(table).drop(columns="y").assign(z=3.0)[:1]
    free, paths = forecaster.sample(num_paths=5), forecaster.sample(num_paths=5, known_future=known)
    assert (paths[0, :, 0, 1] == 3).all()
    np.testing.assert_array_equal(paths[0, :, 0, 0], free[0, :, 0, 0])
    assert (paths[0, :, 1:] != free[0, :, 1:]).all()


def test_symbols_and_levels_are_known_as_they_are_spelled(make_table: MakeTable, tmp_path: Path):
    letters = np.random.default_rng(0).choice(list("aab"), 100)
    text = pd.DataFrame({"unique_id": "text", "ds": range(100), "y": letters})
    options = TINY | QUIET | {"default_root_dir": str(tmp_path)}
    forecaster = Forecaster(**options, symbols=True).fit(text)
    known = pd.DataFrame({"unique_id": "text", "ds": [101], "y": ["b"]})
    assert (forecaster.sample(num_paths=20, known_future=known)[0, :, 1] == "b").all()
    table = make_table().assign(y=lambda table: table["y"] + 1e9)
    known = after(table).assign(y=1e9 + 15.25)[1:2]
    paths = Forecaster(**options).fit(table).sample(num_paths=5, known_future=known)
    assert (paths[0, :, 1] == 1e9 + 15.25).all()


def test_a_wide_table_tells_the_series_that_it_has(make_table: MakeTable, tmp_path: Path):
    table = make_table()
    wide = table.pivot(index="ds", columns="unique_id", values="y").reset_index()
    known = after(table).pivot(index="ds", columns="unique_id", values="y").reset_index()[["ds", "s02"]]
    known.loc[2, "s02"] = 7.0
    panel = read_panel(wide)
    found = read_known_future(known, panel, WANTED, 4)
    given = found.of(torch.tensor([2, 0]), 4)
    assert given[0, :, 0].nan_to_num(-1).tolist() == [-1, -1, 7, -1]
    assert given[1].isnan().all()
    assert found.of(torch.tensor([2]), 2).isnan().all()
    assert found.of(torch.tensor([], dtype=torch.int64), 2).shape == (0, 2, 1)


def test_both_doors_know_the_same(trained: Any, program: Any):
    known = after(trained.table)[1:2].assign(y=30.0)
    known.to_csv("known.csv", index=False)
    options = ("--ckpt_path", trained.best, "--data.source", trained.source, "--forecast.output", "f.parquet")
    program("predict", *options, "--data.known_future", "known.csv")
    forecast = Forecaster.load(trained.best, enable_progress_bar=False).predict(trained.table, known_future=known)
    written = pd.read_parquet("f.parquet")
    assert written.loc[1, "armlp"] == 30
    pd.testing.assert_frame_equal(written, forecast, check_dtype=False)


MISTAKES: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "in the past": (
        lambda known: known.assign(ds=known["ds"] - pd.Timedelta("4h")),
        r"the table of `known_future`: series 's00' has 2024-01-04 20:00:00, but the table goes on to "
        r"2024-01-04 23:00:00 \(12 such rows in all\)",
    ),
    "beside the calendar": (
        lambda known: known.assign(ds=known["ds"] + pd.Timedelta("5min")),
        r"series 's00' has 2024-01-05 00:05:00, which does not lie on the step of the table, h",
    ),
    "beyond": (
        lambda known: known.assign(ds=known["ds"] + pd.Timedelta("9h")),
        r"no value of a series within the 4 steps \(`horizon`\)",
    ),
    "twice": (lambda known: pd.concat([known, known]), "2024-01-05 00:00:00 appears more than once"),
    "with integer times": (lambda known: known.assign(ds=range(12)), "has integers, but the table has times without"),
    "without targets": (lambda known: known.drop(columns="y"), "the table of `known_future` has no column 'y'"),
    "empty": (lambda known: known[:0], "has columns but no rows"),
    "all empty": (lambda known: known.assign(y=np.nan), "no value of a series within the 4 steps"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_known_future_that_does_not_fit_is_refused(what: str, make_table: MakeTable):
    spoil, sentence = MISTAKES[what]
    table = make_table()
    with pytest.raises(UserError, match=sentence):
        read_known_future(spoil(after(table).assign(y=1.0)), read_panel(table), WANTED, 4)


def test_other_series_are_told_of_and_left_out(make_table: MakeTable):
    table = make_table()
    panel = read_panel(table)
    known = after(table).assign(y=np.arange(12.0))
    with pytest.warns(UserWarning, match="has other series, which are left out: 'zz'"):
        found = read_known_future(pd.concat([known.assign(unique_id="zz"), known]), panel, WANTED, 4)
    expected = read_known_future(known[::-1], panel, WANTED, 4)
    every = torch.tensor([2, 0, 1])
    assert torch.equal(found.of(every, 4), expected.of(every, 4))
    assert found.of(every, 4)[:, 0, 0].tolist() == [8, 0, 4]


def test_the_store_of_a_series_with_a_level_is_told_less_the_level(make_table: MakeTable):
    table = make_table()
    panel = read_panel(table)
    raised = replace(panel, base_values=torch.full((3, 1), 5.0, dtype=torch.float64))
    known = after(table).assign(y=12.0)
    assert (read_known_future(known, raised, WANTED, 4).values == 7).all()


def test_what_is_left_of_a_patch_needs_no_covariates_beyond_the_horizon(make_table: MakeTable, tmp_path: Path):
    table = make_table().assign(x=lambda table: np.arange(len(table)) % 5)
    options = TINY | QUIET | {"known_covariates": ["x"], "patch_length": 4, "default_root_dir": str(tmp_path)}
    forecaster = Forecaster(**options).fit(table)
    future = after(table).assign(x=1)
    free = forecaster.sample(future=future, num_paths=3)
    paths = forecaster.sample(future=future, known_future=future[1:2].assign(y=20.0), num_paths=3)
    np.testing.assert_array_equal(paths[:, :, 0], free[:, :, 0])
    np.testing.assert_array_equal(paths[1:], free[1:])
    assert (paths[0, :, 2:] != free[0, :, 2:]).all()
