"""Determinism: whether what comes next follows from what was before, as in the numerical solution of an equation."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel

_MEMORY = 8
_MOST_ROWS = 20_000
# Measured on Lorenz's and Mackey and Glass' equations: 0.6% and less; on real data, the smoothest: 24%.
_LEAST_NOISE = 0.02


def is_deterministic(panel: Panel, ends: Tensor) -> bool:
    """Whether one series moves so smoothly that a linear map of eight steps foretells all but 2% of each step.

    Args:
        panel: The data; of several series it says no.
        ends: `[S]` int64 row at which each series' training part ends; nothing after it is looked at.
    """
    if len(panel) != 1 or panel.symbols or not panel.fully_observed:
        return False
    values = panel.values[: int(ends[0])][-_MOST_ROWS:].double()  # [N, V]
    windows = len(values) - _MEMORY
    if windows < 10 * _MEMORY * values.shape[1]:
        return False
    spread = values.std(0)
    if not bool((spread > 0).all()):
        return False
    values = (values - values.mean(0)) / spread
    steps = values.diff(dim=0).std(0, correction=0)
    context = values.unfold(0, _MEMORY, 1)[:windows].flatten(1)  # [N, V * 8]
    following = values[_MEMORY:]
    # A pseudo-inverse, because smooth series leave hardly anything to tell their steps apart by.
    slope = torch.linalg.lstsq(context, following, rcond=1e-10, driver="gelsd").solution
    left = (following - context @ slope).std(0, correction=0)
    return bool((left <= _LEAST_NOISE * steps).all())
