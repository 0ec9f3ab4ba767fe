"""Tests of whether a series is taken for the solution of an equation."""

import numpy as np
import pandas as pd
import pytest
import torch

from armlp.data.catalog import generated
from armlp.data.detect import is_deterministic, is_full_state
from armlp.data.tables.read import read_panel


def panel_of(values: np.ndarray, **columns: object):
    table = pd.DataFrame(np.atleast_2d(values.T).T).add_prefix("x").assign(ds=np.arange(len(values)), **columns)
    return read_panel(table, layout="vector" if not columns else "auto")


def detected(values: np.ndarray, end: int | None = None) -> bool:
    return is_deterministic(panel_of(values), torch.tensor([len(values) if end is None else end]))


SOLUTIONS = {
    "lorenz": generated.lorenz().drop(columns="ds").to_numpy(),
    "one coordinate of lorenz": generated.lorenz()[["x"]].to_numpy(),
    "mackey-glass": generated.mackey_glass()[["y"]].to_numpy(),
    "in other units": 1e-5 * generated.lorenz().drop(columns="ds").to_numpy() + 3,
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solutions_of_equations_are_deterministic_until_noise_is_added(name):
    values = SOLUTIONS[name]
    assert detected(values)
    noise = 0.05 * np.diff(values, axis=0).std(0) * np.random.default_rng(0).standard_normal(values.shape)
    assert not detected(values + noise)


@pytest.mark.parametrize("kind", ["white noise", "random walk", "noisy season", "constant"])
def test_what_has_noise_or_nothing_else_is_not(kind):
    noise, steps = np.random.default_rng(1).standard_normal(3000), np.arange(3000)
    values = {
        "white noise": noise,
        "random walk": noise.cumsum(),
        "noisy season": np.sin(steps / 4) + 0.1 * noise,
        "constant": np.ones(3000),
    }[kind]
    assert not detected(values[:, None])


def test_only_the_training_part_is_looked_at():
    values = SOLUTIONS["lorenz"].copy()
    values[4000:] += np.random.default_rng(0).standard_normal(values[4000:].shape)
    assert detected(values, end=4000)
    assert not detected(values, end=5000)


def test_several_series_or_missing_values_are_not():
    table = pd.concat([generated.mackey_glass().assign(unique_id=name) for name in "ab"])
    assert not is_deterministic(read_panel(table), torch.tensor([5000, 5000]))
    values = SOLUTIONS["mackey-glass"].copy()
    values[100] = np.nan
    assert not detected(values)


@pytest.mark.parametrize("channels", [[0, 1, 2], [0, 1], [0, 2], [1, 2], [0]])
def test_the_next_step_follows_from_the_whole_state_only(channels):
    values = SOLUTIONS["lorenz"][:, channels]
    assert is_full_state(panel_of(values), torch.tensor([4000])) == (len(channels) == 3)


def test_the_test_part_has_no_say_in_what_the_state_is():
    values = SOLUTIONS["lorenz"].copy()
    values[4000:] = np.random.default_rng(0).standard_normal(values[4000:].shape)
    assert is_full_state(panel_of(values), torch.tensor([4000]))
