"""What a panel shows by itself: a season, or the absence of noise."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel

_MAX_SERIES = 300
_MAX_ROWS = 2048
# Below this the repetition is too weak to build on.
_MIN_CORRELATION = 0.3
# Of several repetitions nearly as strong (a day and its week), the shortest is the season.
_NEARLY = 0.8


def find_season(panel: Panel, ends: Tensor) -> int:
    """The lag at which the changes of the series repeat themselves most, over all series together.

    Args:
        panel: The data; of vector series the channels count as series.
        ends: `[S]` int64 row at which each series' training part ends; nothing after it is looked at.

    Returns:
        Steps in a season; 1 where nothing repeats.
    """
    chosen = torch.linspace(0, len(panel) - 1, min(len(panel), _MAX_SERIES)).round().long().unique().tolist()
    parts = [panel.series(index)[: int(ends[index])][-_MAX_ROWS:] for index in chosen if int(ends[index]) >= 8]
    if not parts:
        return 1
    longest = int(torch.tensor([len(part) for part in parts]).median()) // 3
    total = torch.zeros(longest + 1, dtype=torch.float64)
    counted = 0
    for part in parts:
        if len(part) // 3 >= longest:
            correlations = _autocorrelations(part.double().diff(dim=0).T, longest)
            total += correlations.sum(0)
            counted += len(correlations)
    mean = total / max(counted, 1)
    peaks = 1 + (mean[1:-1] > torch.maximum(mean[:-2], mean[2:])).nonzero()[:, 0]
    # Noise pulls lag 1 below its neighbours, which makes a peak of lag 2 that is no season.
    peaks = peaks[(peaks >= 3) & (mean[peaks] >= _MIN_CORRELATION)]
    if not len(peaks):
        return 1
    strong = mean[peaks] >= _NEARLY * mean[peaks].max()
    return int(peaks[strong][0])


def _autocorrelations(changes: Tensor, longest: int) -> Tensor:
    """Autocorrelations `[rows, longest + 1]` of `changes [rows, n]`; rows that never change are left out."""
    changes = changes / changes.abs().amax(1, keepdim=True).clamp(min=torch.finfo(changes.dtype).tiny)
    centred = changes - changes.mean(1, keepdim=True)
    power = torch.fft.rfft(centred, n=2 * centred.shape[1]).abs().square()
    products = torch.fft.irfft(power)[:, : longest + 1]
    varying = products[:, 0] > 1e-12
    return products[varying] / products[varying, :1]


_MEMORY = 8
_MAX_STATES = 20_000
# Measured on Lorenz's and Mackey and Glass' equations: 0.6% and less; on real data, the smoothest: 24%.
_MIN_NOISE = 0.02
# Neighbours part this much faster where a channel is missing: measured 13 times and more, otherwise 1.9 and less.
_FALSE = 3.0
_LOOKED_AT = 1000
# Rows so close in time are neighbours whatever else there is.
_CLOSE = 50


def is_deterministic(panel: Panel, ends: Tensor) -> bool:
    """Whether one series moves so smoothly that a linear map of eight steps foretells all but 2% of each step.

    Args:
        panel: The data; of several series it says no.
        ends: `[S]` int64 row at which each series' training part ends; nothing after it is looked at.
    """
    if len(panel) != 1 or panel.symbols or not panel.fully_observed:
        return False
    values = _training_values(panel, ends)
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
    return bool((left <= _MIN_NOISE * steps).all())


def is_full_state(panel: Panel, ends: Tensor) -> bool:
    """Whether the channels of one series that `is_deterministic` are all that its next step follows from.

    Then what is near each other stays so for a step. Otherwise it was near in the channels at hand only, and parts.

    Matthew B. Kennel et al. (1992), Determining embedding dimension for phase-space reconstruction using a geometrical
    construction, https://doi.org/10.1103/PhysRevA.45.3403

    Args:
        panel: The data.
        ends: `[1]` int64 row at which the training part ends; nothing after it is looked at.
    """
    values = _training_values(panel, ends)
    values = (values - values.mean(0)) / values.std(0)
    before, after = values[:-1], values[1:]
    rows = torch.linspace(0, len(before) - 1, min(_LOOKED_AT, len(before))).long()
    distance = torch.cdist(before[rows], before)
    distance[(rows[:, None] - torch.arange(len(before))).abs() <= _CLOSE] = torch.inf
    nearest, neighbour = distance.min(1)
    growth = (after[rows] - after[neighbour]).norm(dim=1) / nearest.clamp(min=torch.finfo(values.dtype).tiny)
    return bool(growth.quantile(0.99) <= _FALSE)


def _training_values(panel: Panel, ends: Tensor) -> Tensor:
    """The last rows of the training part, `[N, V]`."""
    return panel.values[: int(ends[0])][-_MAX_STATES:].double()
