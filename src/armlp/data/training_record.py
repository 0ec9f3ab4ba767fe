"""What a checkpoint has seen of a table, so that a later one can be told from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.panel import Panel


class TrainingRecord(NamedTuple):
    """What a checkpoint has seen, in training or validation.

    Attributes:
        keys: `[S]` int64 hash of each series' id, ascending.
        until: `[S]` int64 time of the last row seen, as the calendar counts time.
    """

    keys: Tensor
    until: Tensor

    @classmethod
    def nothing(cls) -> TrainingRecord:
        """Of a checkpoint that there is not."""
        return cls(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))

    @classmethod
    def of(cls, panel: Panel, rows: Tensor) -> TrainingRecord:
        """A panel up to the rows `[S]` that are the first not to be seen."""
        keys, order = panel.keys.sort()
        return cls(keys, panel.times(torch.arange(len(panel)), rows - 1)[order])

    def has_seen(self, panel: Panel, rows: Tensor) -> Tensor:
        """`[S]` bool, of which series of a panel the row `rows [S]` has been seen."""
        known, until = self._until(panel)
        return known & (panel.times(torch.arange(len(panel)), rows) <= until)

    def first_new(self, panel: Panel, ends: Tensor, least: Tensor) -> Tensor:
        """The first row that has not been seen.

        Args:
            panel: Perhaps of other series, or later.
            ends: `[S]` int64 row for series whose calendar does not go through what was seen: nothing of it is new.
            least: `[S]` int64 row for series of which nothing was seen.

        Returns:
            `[S]` int64.
        """
        known, until = self._until(panel)
        row = torch.from_numpy(panel.calendar.positions(panel.starts, until.numpy()).astype(np.int64)) + 1
        return torch.where(known & (until >= torch.from_numpy(panel.starts)), torch.where(row > 0, row, ends), least)

    def _until(self, panel: Panel) -> tuple[Tensor, Tensor]:
        """Which series of a panel have been seen, `[S]` bool, and until when, `[S]` int64 (of the others anything)."""
        if not len(self.keys):
            return torch.zeros(len(panel), dtype=torch.bool), torch.zeros(len(panel), dtype=torch.int64)
        place = torch.searchsorted(self.keys, panel.keys).clamp(max=len(self.keys) - 1)
        return self.keys[place] == panel.keys, self.until[place]
