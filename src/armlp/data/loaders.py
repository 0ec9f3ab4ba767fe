"""Batches of windows: shuffled for training, in order for forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.data.shuffle import MAX_DRAWN, shuffled
from armlp.data.windows import Windows, gather

# Beyond this many steps from the guess below, a binary search is faster.
_MAX_BEYOND = 3


class TrainingLoader:
    """Shuffled batches of all training windows, epoch after epoch, gathered on the device of the panel.

    Origins begin after a full context, or in the middle of a series that is too short for one, whose contexts are
    padded. In a series shorter than two spans, targets reach past its end, masked. The order follows from
    `(seed, epoch)`, so that the number of batches drawn is the whole state and a resumed loader goes on mid-epoch.

    Args:
        ends: `[S]` int64 row at which the training part of each series ends.
        context_length: `L`.
        span: `T`, training targets after the context.
        batch_size: Most windows in a batch; the batches of an epoch differ by at most one window.
        rank: Index of this process, which takes its stride of the common order.
        world_size: Number of processes.
    """

    # About this many values are gathered at a time, for several batches; more would not fit the cache.
    values_at_once = 1 << 20
    # The order of more windows than this is computed instead of drawn.
    max_drawn = MAX_DRAWN

    def __init__(
        self,
        panel: Panel,
        ends: Tensor,
        context_length: int,
        span: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.panel, self.ends = panel, ends
        self.context_length, self.span, self.batch_size = context_length, span, batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.batches_drawn = 0
        last = torch.maximum(ends - span, ends // 2)
        self.first_origins = ((last + 1) // 2).clamp(min=1, max=context_length)
        counts = torch.where(ends >= 2, last - self.first_origins + 1, 0)
        self.window_offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # The leading bits of a window's index give the first series it can belong to, mostly that one or the next.
        self._digits = max(0, (self.num_windows // (2 * len(counts))).bit_length() - 1)
        leading = torch.arange((self.num_windows >> self._digits) + 2, device=counts.device)
        self._guide = self._search(leading << self._digits).clamp(max=len(counts) - 1)
        self._most_beyond = int(self._guide.diff().max())

    @property
    def num_windows(self) -> int:
        """Windows in an epoch, over all processes."""
        return int(self.window_offsets[-1])

    def __len__(self) -> int:
        """Return the number of batches of this process in an epoch."""
        return -(-(self.num_windows // self.world_size) // self.batch_size)

    def window(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the `[B]` series and `[B]` origins of windows, int64, by their index in the unshuffled order."""
        if self._most_beyond > _MAX_BEYOND:
            series = self._search(index)
        else:
            series = self._guide[index >> self._digits]
            for _ in range(self._most_beyond):
                series = series + (self.window_offsets[series + 1] <= index)
        return series, self.first_origins[series] + index - self.window_offsets[series]

    def _search(self, index: Tensor) -> Tensor:
        """Return the series of windows by binary search."""
        return torch.searchsorted(self.window_offsets, index, right=True) - 1

    def sample(self, count: int, span: int) -> Windows:
        """Return at most `count` random training windows, the same in every process."""
        series, origin = self.drawn(count)
        return gather(self.panel, series, origin, self.context_length, span, self.ends[series])

    def drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the series and origins of at most `count` random training windows."""
        order = shuffled(self.num_windows, self.seed, self.max_drawn)[torch.arange(min(count, self.num_windows))]
        return self.window(order)

    def __iter__(self) -> Iterator[Windows]:
        """Yield as many batches as an epoch has, from `batches_drawn` on.

        They may go on into the next order: `limit_train_batches` ends Lightning's epochs early, but skips no batch.
        """
        end = self.batches_drawn + len(self)
        while self.batches_drawn < end:
            yield from self._of_one_order(end)

    def _of_one_order(self, end: int) -> Iterator[Windows]:
        """Yield the batches from `batches_drawn` to the end of their order, or to the batch `end`."""
        windows = self.num_windows // self.world_size
        epoch, drawn = divmod(self.batches_drawn, len(self))
        batches, until = len(self), min(len(self), end - epoch * len(self))
        order = shuffled(self.num_windows, self.seed * 1_000_003 + epoch, self.max_drawn)
        values = self.batch_size * (self.context_length + self.span) * self.panel.values.shape[1]
        at_once = max(1, self.values_at_once // values)
        for batch in range(drawn, until, at_once):
            numbers = range(batch, min(batch + at_once, until) + 1)
            edges = [number * (windows // batches) + min(number, windows % batches) for number in numbers]
            index = self.rank + self.world_size * torch.arange(edges[0], edges[-1])
            series, origin = self.window(order[index])
            found = gather(self.panel, series, origin, self.context_length, self.span, self.ends[series])
            for part in found.split([last - first for first, last in pairwise(edges)]):
                self.batches_drawn += 1  # before the yield: Lightning stops a sized loader at its last batch
                yield part

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, one integer."""
        return {"batches_drawn": self.batches_drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches that the saved loader had drawn."""
        self.batches_drawn = state["batches_drawn"]


class OriginLoader:
    """Windows at given origins, in order, for validation, test and forecasts.

    Args:
        series: `[W]` int64.
        origins: `[W]` int64.
        context_length: `L`.
        span: `T`, targets after the origin; 0 for none.
        rank: Index of this process, which takes its stride of the origins.
        world_size: Number of processes.
        covariate_span: Steps after the origin that covariates cover; `T` where None.
        gap: Targets after the origin that are marked as missing.
    """

    def __init__(
        self,
        panel: Panel,
        series: Tensor,
        origins: Tensor,
        context_length: int,
        span: int,
        batch_size: int = 256,
        rank: int = 0,
        world_size: int = 1,
        covariate_span: int | None = None,
        gap: int = 0,
    ) -> None:
        self.panel = panel
        self.series, self.origins = series[rank::world_size], origins[rank::world_size]
        self.context_length, self.span, self.batch_size = context_length, span, batch_size
        self.covariate_span, self.gap = covariate_span, gap
        self.num_batches = -(-len(series[::world_size]) // batch_size)

    def __len__(self) -> int:
        """Return the number of batches, the same in all processes: with fewer origins, the last one is empty."""
        return self.num_batches

    def __iter__(self) -> Iterator[Windows]:
        for batch in range(len(self)):
            part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            series, origin = self.series[part], self.origins[part]
            windows = gather(
                self.panel, series, origin, self.context_length, self.span, covariate_span=self.covariate_span
            )
            windows.target_observed[:, : self.gap] = False
            yield windows
