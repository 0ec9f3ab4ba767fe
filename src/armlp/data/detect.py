"""Detection of a season, and of series without noise."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel

_MAX_SERIES = 300
_MAX_ROWS = 2048
# The weakest autocorrelation that counts as a season.
_MIN_CORRELATION = 0.3
# Of several peaks nearly as strong (a day and a week), the shortest is the season.
_NEARLY = 0.8


def find_season(panel: Panel, ends: Tensor) -> int:
    """Return the lag with the highest autocorrelation of changes over all series and channels; 1 without a season.

    Rows from `ends [S]` on are not used. Of nearly equal peaks, the shortest lag wins.
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
    # Noise lowers the correlation at lag 1, which makes lag 2 a peak.
    peaks = peaks[(peaks >= 3) & (mean[peaks] >= _MIN_CORRELATION)]
    if not len(peaks):
        return 1
    strong = mean[peaks] >= _NEARLY * mean[peaks].max()
    return int(peaks[strong][0])


def _autocorrelations(changes: Tensor, longest: int) -> Tensor:
    """Return autocorrelations `[rows, longest + 1]` of `changes [rows, n]`, without constant rows."""
    changes = changes / changes.abs().amax(1, keepdim=True).clamp(min=torch.finfo(changes.dtype).tiny)
    centred = changes - changes.mean(1, keepdim=True)
    power = torch.fft.rfft(centred, n=2 * centred.shape[1]).abs().square()
    products = torch.fft.irfft(power)[:, : longest + 1]
    varying = products[:, 0] > 1e-12
    return products[varying] / products[varying, :1]


_MEMORY = 8
_MAX_STATES = 20_000
# Measured: at most 0.6% on the equations of Lorenz and of Mackey and Glass, 24% on the smoothest real data.
_MIN_NOISE = 0.02
# Neighbours grow apart by more in a step if a channel is missing: measured 13 times and more, otherwise at most 1.9.
_MAX_GROWTH = 3.0
_MAX_NEIGHBOURS = 1000
# Rows closer in time than this are neighbours in any system.
_MIN_STEPS_APART = 50


def is_deterministic(panel: Panel, ends: Tensor) -> bool:
    """Return whether a linear map of eight steps predicts all but 2% of each step of a single series.

    Several series never count as deterministic. Rows from `ends [S]` on are not used.
    """
    if len(panel) != 1 or not panel.is_numeric or not panel.fully_observed:
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
    # A pseudo-inverse, because the steps of a smooth series are nearly collinear.
    slope = torch.linalg.lstsq(context, following, rcond=1e-10, driver="gelsd").solution
    left = (following - context @ slope).std(0, correction=0)
    return bool((left <= _MIN_NOISE * steps).all())


def is_full_state(panel: Panel, ends: Tensor) -> bool:
    """Return whether the channels of a series that `is_deterministic` determine its next step.

    If they do, neighbours stay close for a step. Otherwise some are neighbours in the observed channels only (false
    nearest neighbours), and grow apart. Rows from `ends [1]` on are not used.

    Matthew B. Kennel et al. (1992), Determining embedding dimension for phase-space reconstruction using a geometrical
    construction, https://doi.org/10.1103/PhysRevA.45.3403
    """
    values = _training_values(panel, ends)
    values = (values - values.mean(0)) / values.std(0)
    before, after = values[:-1], values[1:]
    rows = torch.linspace(0, len(before) - 1, min(_MAX_NEIGHBOURS, len(before))).long()
    distance = torch.cdist(before[rows], before)
    distance[(rows[:, None] - torch.arange(len(before))).abs() <= _MIN_STEPS_APART] = torch.inf
    nearest, neighbour = distance.min(1)
    growth = (after[rows] - after[neighbour]).norm(dim=1) / nearest.clamp(min=torch.finfo(values.dtype).tiny)
    return bool(growth.quantile(0.99) <= _MAX_GROWTH)


def _training_values(panel: Panel, ends: Tensor) -> Tensor:
    """Return the last `[N, V]` rows of the training part."""
    return panel.values[: int(ends[0])][-_MAX_STATES:].double()
