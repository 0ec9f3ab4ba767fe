"""Synthetic series of known distribution, the same at every call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd


def sine() -> pd.DataFrame:
    """Return ten noisy sines of different phases and heights with a period of 24 steps: `unique_id, ds, y`."""
    rng = np.random.default_rng(0)
    steps, series = np.arange(1, 961), np.arange(10)
    phases, heights = rng.uniform(0, 24, (10, 1)), rng.uniform(1, 10, (10, 1))
    values = heights * (np.sin(2 * np.pi * (steps + phases) / 24) + 0.1 * rng.standard_normal((10, 960)))
    ids = np.repeat([f"sine-{index}" for index in series], len(steps))
    return pd.DataFrame({"unique_id": ids, "ds": np.tile(steps, len(series)), "y": values.ravel()})


def mackey_glass(length: int = 5000) -> pd.DataFrame:
    """Return the chaotic Mackey-Glass equation with a delay of 17, sampled at every unit of time: `ds, y`."""
    substeps, delay, transient = 10, 170, 1000
    state = np.full(delay + 1 + (transient + length) * substeps, 1.2)

    def slope(value: float, delayed: float) -> float:
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * value

    step = 1 / substeps
    for now in range(delay, len(state) - 1):
        # The delayed value after half a step is interpolated.
        value, first, last = state[now], state[now - delay], state[now - delay + 1]
        middle = (first + last) / 2
        slope1 = slope(value, first)
        slope2 = slope(value + step / 2 * slope1, middle)
        slope3 = slope(value + step / 2 * slope2, middle)
        slope4 = slope(value + step * slope3, last)
        state[now + 1] = value + step / 6 * (slope1 + 2 * slope2 + 2 * slope3 + slope4)
    values = state[-length * substeps :: substeps]
    return pd.DataFrame({"ds": np.arange(1, length + 1), "y": values})


def lorenz() -> pd.DataFrame:
    """Return the chaotic Lorenz system (sigma 10, rho 28, beta 8/3) every 0.02 units of time: `ds, x, y, z`."""

    def slope(state: np.ndarray) -> np.ndarray:
        x, y, z = state
        return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    length, transient = 5000, 1000
    states = _runge_kutta(slope, np.ones(3), 0.02, transient + length)[transient:]
    return pd.DataFrame({"ds": np.arange(1, length + 1), **dict(zip("xyz", states.T, strict=True))})


def markov() -> pd.DataFrame:
    """Return a Markov chain of order two over six letters: `ds, y`."""
    rng = np.random.default_rng(1)
    letters, length = np.array(list("abcdef")), 20_000
    limits = _transitions().cumsum(-1)
    codes, draws = [0, 1], rng.random(length)
    for draw in draws:
        codes.append(min(int(np.searchsorted(limits[codes[-2], codes[-1]], draw)), len(letters) - 1))
    return pd.DataFrame({"ds": np.arange(1, length + 1), "y": letters[codes[2:]]})


def markov_entropy() -> float:
    """Return the entropy rate of `markov` in nats, the lower bound of every mean negative log-likelihood.

    It is the mean entropy of the next letter over the stationary distribution of pairs of letters.
    """
    transitions = _transitions()
    pairs = np.einsum("abc,bd->abdc", transitions, np.eye(6)).reshape(36, 36)  # from (a, b) to (b, c)
    # The chain leaves the stationary distribution unchanged, and it sums to one.
    system = np.vstack([pairs.T - np.eye(36), np.ones(36)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(36), 1.0), rcond=None)[0]
    return float(-(stationary[:, None] * (transitions * np.log(transitions)).reshape(36, 6)).sum())


def _transitions() -> np.ndarray:
    """Return the `[6, 6, 6]` probabilities of the next letter after each pair."""
    return np.random.default_rng(0).dirichlet(np.full(6, 0.5), size=(6, 6))


def _runge_kutta(slope: Callable[[np.ndarray], np.ndarray], state: np.ndarray, step: float, length: int) -> np.ndarray:
    """Return `[length, V]` states of an ordinary differential equation, by the classic fourth-order method."""
    states = np.empty((length, len(state)))
    for row in states:
        slope1 = slope(state)
        slope2 = slope(state + step / 2 * slope1)
        slope3 = slope(state + step / 2 * slope2)
        slope4 = slope(state + step * slope3)
        state = state + step / 6 * (slope1 + 2 * slope2 + 2 * slope3 + slope4)
        row[:] = state
    return states
