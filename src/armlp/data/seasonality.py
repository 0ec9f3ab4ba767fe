"""Seasonality: how long a season is, where times are bare integers and no frequency tells."""

from __future__ import annotations

import torch
from torch import Tensor

from armlp.data.panel import Panel

_MOST_SERIES = 300
_MOST_ROWS = 2048
# Below this the repetition is too weak to build on.
_LEAST_CORRELATION = 0.3
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
    chosen = torch.linspace(0, len(panel) - 1, min(len(panel), _MOST_SERIES)).round().long().unique().tolist()
    parts = [panel.series(index)[: int(ends[index])][-_MOST_ROWS:] for index in chosen if int(ends[index]) >= 8]
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
    peaks = peaks[(peaks >= 3) & (mean[peaks] >= _LEAST_CORRELATION)]
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
