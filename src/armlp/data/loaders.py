"""Batches of windows: shuffled for training, in order for forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import isqrt
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.data.windows import Windows, gather

# Beyond this many steps from the guess below, a binary search is faster.
_MAX_BEYOND = 3
# Up to this count the whole order is drawn, which is faster but takes 8 bytes a number.
_MAX_DRAWN = 1 << 22
_ROUNDS = 6
_HALF = np.uint64(32)
_MIXING = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


@dataclass(eq=False, repr=False)
class TrainingLoader:
    """Shuffled batches of all training windows, epoch after epoch, gathered on the device of the panel.

    Origins begin after a full context, or in the middle of a series that is too short for one, whose contexts are
    padded. In a series shorter than two spans, targets reach past its end, masked. The order follows from
    `(seed, epoch)`, so that the number of batches drawn is the whole state and a resumed loader goes on mid-epoch.
    """

    panel: Panel
    ends: Tensor  # `[S]` int64 row at which the training part of each series ends
    context_length: int  # `L`
    span: int  # `T`, training targets after the context
    batch_size: int  # most windows in a batch; the batches of an epoch differ by at most one window
    seed: int = 0
    rank: int = 0  # index of this process, which takes its stride of the common order
    world_size: int = 1
    batches_drawn: int = field(default=0, init=False)
    values_at_once: ClassVar[int] = 1 << 20  # about so many are gathered for several batches; more do not fit the cache
    max_drawn: ClassVar[int] = _MAX_DRAWN  # the order of more windows than this is computed instead of drawn

    def __post_init__(self) -> None:
        ends = self.ends
        last = torch.maximum(ends - self.span, ends // 2)
        self.first_origins = ((last + 1) // 2).clamp(min=1, max=self.context_length)
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
        end, batches, windows = self.batches_drawn + len(self), len(self), self.num_windows // self.world_size
        at_once = max(
            1, self.values_at_once // (self.batch_size * (self.context_length + self.span) * self.panel.values.shape[1])
        )
        while self.batches_drawn < end:
            epoch, drawn = divmod(self.batches_drawn, batches)
            order = shuffled(self.num_windows, self.seed * 1_000_003 + epoch, self.max_drawn)
            until = min(batches, end - epoch * batches)
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


@dataclass(eq=False, repr=False)
class OriginLoader:
    """Windows at given origins, in order, for validation, test and forecasts."""

    panel: Panel
    series: Tensor  # `[W]` int64; of this process after construction, as the origins
    origins: Tensor  # `[W]` int64
    context_length: int  # `L`
    span: int  # `T`, targets after the origin; 0 for none
    batch_size: int = 256
    rank: int = 0  # index of this process, which takes its stride of the origins
    world_size: int = 1
    covariate_span: int | None = None  # steps after the origin that covariates cover; `T` where None
    gap: int = 0  # targets after the origin that are marked as missing

    def __post_init__(self) -> None:
        self.num_batches = -(-len(self.series[:: self.world_size]) // self.batch_size)
        self.series = self.series[self.rank :: self.world_size]
        self.origins = self.origins[self.rank :: self.world_size]

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


def shuffled(count: int, seed: int, max_drawn: int = _MAX_DRAWN) -> Tensor | FeistelOrder:
    """Return the numbers below `count` in an order that the seed determines.

    Up to `max_drawn` numbers are drawn at once; a longer order is computed where it is indexed.
    """
    if count <= max_drawn:
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return FeistelOrder(count, seed)


class FeistelOrder:
    """A pseudorandom permutation of the numbers below `count` that takes no memory.

    An index is a cell `(left, right)` of a nearly square grid with at least `count` cells. Each round adds a hash of
    one half to the other, which permutes the cells. A cell from `count` on is permuted again (cycle walking).

    John Black, Phillip Rogaway (2002), Ciphers with Arbitrary Finite Domains,
    https://doi.org/10.1007/3-540-45760-7_9

    Args:
        count: At least 1 and below 2 to the 62.
        seed: Selects the permutation.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        width = isqrt(count - 1) + 1
        self._sides = np.uint64(width), np.uint64(-(-count // width))
        self._keys = np.random.SeedSequence(seed % 2**64).generate_state(_ROUNDS, np.uint64)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the `[B]` int64 numbers at `[B]` int64 indices below `count`."""
        number = self._permuted(index.numpy().astype(np.uint64))
        while (beyond := number >= self.count).any():
            number[beyond] = self._permuted(number[beyond])
        return torch.from_numpy(number.view(np.int64))

    def _permuted(self, cell: np.ndarray) -> np.ndarray:
        """Return cells after all rounds."""
        width, height = self._sides
        left, right = cell % width, cell // width
        for key in self._keys:
            left += _scrambled(right ^ key, width)
            left -= width * (left >= width)
            left, right, width, height = right, left, height, width
        return left + right * width


def _scrambled(number: np.ndarray, below: np.uint64) -> np.ndarray:
    """Return a hash below a bound: the finaliser of SplitMix64, its upper half scaled."""
    for shift, factor in _MIXING:
        number = (number ^ (number >> shift)) * factor
    return ((number >> _HALF) * below) >> _HALF
