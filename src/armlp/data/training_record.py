"""Rows that a checkpoint was trained on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.panel import Panel


class TrainingRecord(NamedTuple):
    """The rows that were used for training or validation."""

    keys: Tensor = torch.empty(0, dtype=torch.int64)  # `[S]` int64 hash of each series' id, ascending
    until: Tensor = torch.empty(0, dtype=torch.int64)  # `[S]` int64 time of the last row used

    @classmethod
    def of(cls, panel: Panel, rows: Tensor) -> TrainingRecord:
        """Record the rows before `rows [S]` of a panel."""
        keys, order = panel.keys.sort()
        return cls(keys, panel.times(torch.arange(len(panel)), rows - 1)[order])

    def has_seen(self, panel: Panel, rows: Tensor) -> Tensor:
        """Return `[S]` bool, whether the row `rows [S]` of each series of a panel was used."""
        known, until = self._until(panel)
        return known & (panel.times(torch.arange(len(panel)), rows) <= until)

    def first_new(self, panel: Panel, ends: Tensor, least: Tensor) -> Tensor:
        """Return the `[S]` int64 first row that was not used, of a panel that may have other series or later rows.

        It is `ends [S]` for series with another calendar than in training, which count as used, and `least [S]` for
        series that were not used at all.
        """
        known, until = self._until(panel)
        row = torch.from_numpy(panel.calendar.positions(panel.starts, until.numpy()).astype(np.int64)) + 1
        return torch.where(known & (until >= torch.from_numpy(panel.starts)), torch.where(row > 0, row, ends), least)

    def _until(self, panel: Panel) -> tuple[Tensor, Tensor]:
        """Return `[S]` bool, which series were used, and `[S]` int64 until when (arbitrary for the others)."""
        if not len(self.keys):
            return torch.zeros(len(panel), dtype=torch.bool), torch.zeros(len(panel), dtype=torch.int64)
        index = torch.searchsorted(self.keys, panel.keys).clamp(max=len(self.keys) - 1)
        return self.keys[index] == panel.keys, self.until[index]
