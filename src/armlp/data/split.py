"""Splits of series by time, and the rows that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.panel import Panel


@dataclass(frozen=True)
class Split:
    """A split of every series by time, from its end: `... train | val_windows x H | test part`.

    Test windows may overlap or leave out rows between them; the test part goes from the first test origin to the end.
    """

    horizon: int  # `H`
    val_windows: int = 1  # validation origins, `H` apart
    test_windows: int = 0  # test origins
    test_step: int | None = None  # steps from one test origin to the next; `H` where None
    test_gap: int = 0  # rows after a test origin that do not count; the next `H` do
    later_windows: int = 0  # origins after the test origins, left for another model

    @property
    def test_span(self) -> int:
        """Rows from a test origin to the end of its window."""
        return self.test_gap + self.horizon

    @property
    def test_length(self) -> int:
        """Rows of the test part; 0 without one."""
        windows = self.test_windows + self.later_windows
        return self.test_span + (windows - 1) * (self.test_step or self.horizon) if windows else 0

    @property
    def held_out(self) -> int:
        """Rows at the end of every series that are not trained on."""
        return self.val_windows * self.horizon + self.test_length

    @property
    def rows_needed(self) -> int:
        """Rows that training needs of a series: two, and those held out."""
        return 2 + self.held_out

    def train_ends(self, lengths: Tensor) -> Tensor:
        """Return the `[S]` int64 row at which training ends; below 2 where a series is too short to train on."""
        return lengths - self.held_out

    def typical_length(self, lengths: Tensor) -> int:
        """Return the median number of training rows over the trainable series; at least 1."""
        ends = self.train_ends(lengths)
        return max(1, int((ends[ends >= 2] if (ends >= 2).any() else ends).float().median()))

    def origins(self, lengths: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """Return the `[W]` series and `[W]` origins, int64, of a part, which have a value before them.

        The part is `val`, `test`, or `predict` (the end of every series of `lengths [S]`).
        """
        step = self.test_step or self.horizon
        count, last, spacing = {
            "val": (self.val_windows, self.test_length + self.horizon, self.horizon),
            "test": (self.test_windows, self.test_span + self.later_windows * step, step),
            "predict": (1, 0, 1),
        }[part]
        longest = int(lengths.max())
        count = max(0, min(count, 1 + (longest - 1 - last) // spacing))
        steps_back = last + spacing * torch.arange(count - 1, -1, -1)
        origins = lengths[:, None] - steps_back
        series = torch.arange(len(lengths))[:, None].expand_as(origins)
        usable = origins >= 1
        return series[usable], origins[usable]


def origins_between(first: Tensor, ends: Tensor, spacing: int, max_count: int) -> tuple[Tensor, Tensor]:
    """Return the `[W]` series and `[W]` rows, int64, of the last `max_count` origins of each series.

    They are `spacing` steps apart, from the row `first [S]` on, and all before the row `ends [S]`.
    """
    counts = torch.div(ends - first + spacing - 1, spacing, rounding_mode="floor").clamp(min=0)
    first = first + (counts - max_count).clamp(min=0) * spacing
    counts = counts.clamp(max=max_count)
    series = torch.arange(len(first)).repeat_interleave(counts)
    number = torch.arange(len(series)) - (counts.cumsum(0) - counts)[series]
    return series, first[series] + spacing * number


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

    def first_new(self, panel: Panel, ends: Tensor, if_unused: Tensor) -> Tensor:
        """Return the `[S]` int64 first row that was not used, of a panel that may have other series or later rows.

        It is `ends [S]` for series with another calendar than in training, which count as used, and `if_unused [S]` for
        series that were not used at all.
        """
        known, until = self._until(panel)
        row = torch.from_numpy(panel.calendar.positions(panel.starts, until.numpy()).astype(np.int64)) + 1
        return torch.where(
            known & (until >= torch.from_numpy(panel.starts)), torch.where(row > 0, row, ends), if_unused
        )

    def _until(self, panel: Panel) -> tuple[Tensor, Tensor]:
        """Return `[S]` bool, which series were used, and `[S]` int64 until when (arbitrary for the others)."""
        if not len(self.keys):
            return torch.zeros(len(panel), dtype=torch.bool), torch.zeros(len(panel), dtype=torch.int64)
        index = torch.searchsorted(self.keys, panel.keys).clamp(max=len(self.keys) - 1)
        return self.keys[index] == panel.keys, self.until[index]
