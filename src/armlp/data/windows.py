"""Window arithmetic: which windows a panel has, splits by time, and the loaders that gather them.

A window is two integers, its series and its origin: the row, counted from the series' start, of the first
value after the context. Nothing is stored per window; a batch is one gather from the panel's flat store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import Covariates
from armlp.data.panel import Panel
from armlp.data.shuffling import shuffled
from armlp.data.time_features import time_features

# About so many values are gathered at a time, in as many batches as that is: more would fall out of the cache.
_AT_ONCE = 1 << 20
# Where series differ much in length, a search in them all is faster than to go on from the first that it can be.
_MOST_BEYOND = 3


class Windows(NamedTuple):
    """A batch of windows, data units. The axis `V` is there only where a series has several channels.

    Attributes:
        context: `[B, L(, V)]` values before the origin; before the start of the series, its first value.
        observed: `[B, L(, V)]` bool, False where the context is padding or was missing.
        target: `[B, T(, V)]` values from the origin on.
        target_observed: `[B, T(, V)]` bool, False where the target is beyond its part or was missing.
        series: `[B]` int64 index into the panel.
        origin: `[B]` int64 row of the first target.
        covariates: What is known besides; None where there is nothing.
    """

    context: Tensor
    observed: Tensor
    target: Tensor
    target_observed: Tensor
    series: Tensor
    origin: Tensor
    covariates: Covariates | None = None

    def shortened(self, span: int) -> Windows:
        """The same windows with at most `span` values after the context."""
        return self._replace(target=self.target[:, :span], target_observed=self.target_observed[:, :span])

    def split(self, sizes: Sequence[int]) -> Iterator[Windows]:
        """The same windows in batches of so many each."""
        covariates = [None] * len(sizes) if self.covariates is None else self.covariates.split(sizes)
        return map(Windows, *(torch.split_with_sizes(part, sizes) for part in self[:6]), covariates)


def gather(
    panel: Panel,
    series: Tensor,
    origin: Tensor,
    context_length: int,
    span: int,
    end: Tensor | None = None,
    covariate_span: int | None = None,
) -> Windows:
    """Gathers windows from the panel.

    Args:
        panel: The flat store.
        series: `[B]` int64 index into the panel.
        origin: `[B]` int64 row of the first target, at least 1 and at most the length of the series.
        context_length: `L`.
        span: `T`, how many values after the context.
        end: `[B]` int64 row at which the series' part ends; targets from there on are marked as not
            observed. Left out, the part is the whole series.
        covariate_span: How many steps after the context covariates reach; as many as values where left out.
    """
    covariates = None
    if panel.has_covariates:
        covariate_span = span if covariate_span is None else covariate_span
        covariates = _gather_covariates(panel, series, origin, context_length, covariate_span, end)
    end = panel.lengths[series] if end is None else end
    length = context_length + span
    if len(panel.values) < length:
        values, observed = _padded(panel, series, origin, context_length, span, end)
    else:
        first = panel.offsets[series] + origin - context_length
        values, observed = _stretches(panel, first.clamp(0, len(panel.values) - length), length)
        beyond = ((origin < context_length) | (origin + span > end)).nonzero()[:, 0]
        if len(beyond):
            place = series[beyond], origin[beyond]
            values[beyond], observed[beyond] = _padded(panel, *place, context_length, span, end[beyond])
    context, target = values.squeeze(2).tensor_split((context_length,), dim=1)
    context_observed, target_observed = observed.squeeze(2).tensor_split((context_length,), dim=1)
    return Windows(context, context_observed, target, target_observed, series, origin, covariates)


def _stretches(panel: Panel, first: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The values `[B, length, V]` from the rows `first [B]` of the store on, and which of them were observed."""

    def read(store: Tensor) -> Tensor:
        return panel.read(store.unfold(0, length, 1).transpose(1, 2), first)

    values = read(panel.values)
    return values, torch.ones_like(values, dtype=torch.bool) if panel.fully_observed else read(panel.observed)


def _padded(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor
) -> tuple[Tensor, Tensor]:
    """The values `[B, L + T, V]` of windows that may reach out of their part, and which of them were observed."""
    row = origin[:, None] + torch.arange(-context_length, span, device=origin.device)
    inside = (row >= 0) & (row < end[:, None])
    row = panel.offsets[series, None] + row.clamp(min=0).minimum(end[:, None].clamp(min=1) - 1)
    return panel.read(panel.values, row), panel.read(panel.observed, row) & inside[..., None]


def _gather_covariates(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor | None
) -> Covariates:
    """The covariates of windows; before the first row of a series they repeat it, and after the last row that one."""

    def rows(columns: Tensor, lengths: Tensor) -> Tensor:
        if not columns.shape[1]:
            return columns.new_empty(len(origin), context_length + span, 0)
        row = origin[:, None] + torch.arange(-context_length, span, device=origin.device)
        last = (lengths[series] if end is None else end).clamp(min=1) - 1
        return panel.read(columns, panel.offsets[series, None] + row.clamp(min=0).minimum(last[:, None]))

    calendar = panel.values.new_empty(len(origin), span, 0)
    if panel.calendar_cycles:
        ahead = origin.cpu().numpy()[:, None] + np.arange(span)
        times = panel.calendar.shift(panel.starts[series.cpu().numpy(), None], ahead)
        features = time_features(panel.calendar, panel.calendar_cycles, times)
        calendar = torch.from_numpy(features).to(origin.device)
    known, past = rows(panel.known, panel.stored_lengths), rows(panel.past, panel.lengths)
    # Filling goes forward within a window, so no row takes anything from a later one.
    covariates = Covariates(known, past, calendar, panel.static[series])
    return covariates if panel.covariate_scaling is None else panel.covariate_scaling(covariates)


@dataclass(frozen=True)
class Split:
    """Splits every series by time, from its end: `... train | val_windows x H | test part`.

    Test windows may overlap or leave rows out between them; the test part goes from the first origin to the end.

    Attributes:
        horizon: `H`.
        val_windows: Origins of validation, `H` apart.
        test_windows: Origins of the test.
        test_step: How far they are apart; `H` where None.
        test_gap: Rows between an origin and the first of its `H` rows that count.
        later_windows: Origins after those of the test, which another model is tested on.
    """

    horizon: int
    val_windows: int = 1
    test_windows: int = 0
    test_step: int | None = None
    test_gap: int = 0
    later_windows: int = 0

    @property
    def test_reach(self) -> int:
        """Rows from an origin of the test to the end of its window."""
        return self.test_gap + self.horizon

    @property
    def test_length(self) -> int:
        """Rows of the test part; 0 where there is none."""
        windows = self.test_windows + self.later_windows
        return self.test_reach + (windows - 1) * (self.test_step or self.horizon) if windows else 0

    @property
    def held_out(self) -> int:
        """Rows at the end of every series that training does not see."""
        return self.val_windows * self.horizon + self.test_length

    def train_ends(self, lengths: Tensor) -> Tensor:
        """`[S]` int64 row at which training ends; below 2 where a series is too short to train on."""
        return lengths - self.held_out

    def typical_length(self, lengths: Tensor) -> int:
        """The training rows of a typical series among those that can be trained on; at least 1."""
        ends = self.train_ends(lengths)
        return max(1, int((ends[ends >= 2] if (ends >= 2).any() else ends).float().median()))

    def origins(self, lengths: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """The origins of one held-out part, series by series.

        Args:
            lengths: `[S]` int64.
            part: `val`, `test`, or `predict` (the end of every series).

        Returns:
            `[W]` series and `[W]` origins, both int64. Origins without a value before them are left out.
        """
        step = self.test_step or self.horizon
        count, last, apart = {
            "val": (self.val_windows, self.test_length + self.horizon, self.horizon),
            "test": (self.test_windows, self.test_reach + self.later_windows * step, step),
            "predict": (1, 0, 1),
        }[part]
        steps_back = last + apart * torch.arange(count - 1, -1, -1)
        origins = lengths[:, None] - steps_back
        series = torch.arange(len(lengths))[:, None].expand_as(origins)
        usable = origins >= 1
        return series[usable], origins[usable]


class TrainingLoader:
    """Shuffled batches of all training windows, epoch after epoch, on the device where the panel lies.

    A window's origin lies where a full context fits, or in the later half of a series that is too short for that, and
    its context is padded. Where a series is shorter than two spans, targets reach past its end, masked. The order
    follows from `(seed, epoch)`, so the number of batches drawn is the whole state: a resumed loader goes on with the
    very next batch.

    Args:
        panel: The flat store.
        ends: `[S]` int64 row at which each series' training part ends.
        context_length: `L`.
        span: `T`, values after the context that training scores.
        batch_size: Most windows in a batch; batches of an epoch differ by one window at most.
        seed: Of the order.
        rank: Which of `world_size` processes this is; each takes its stride of the same order.
        world_size: How many processes share an epoch.
    """

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
        self.panel = panel
        self.context_length = context_length
        self.span = span
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.batches_drawn = 0
        self.ends = ends
        last = torch.maximum(ends - span, ends // 2)
        self.first_origins = ((last + 1) // 2).clamp(min=1, max=context_length)
        counts = torch.where(ends >= 2, last - self.first_origins + 1, 0)
        self.window_offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # By the leading digits of a window's number, the first series that it can be of: most are of that or the next.
        self._digits = max(0, (self.num_windows // (2 * len(counts))).bit_length() - 1)
        leading = torch.arange((self.num_windows >> self._digits) + 2, device=counts.device)
        self._guide = self._search(leading << self._digits).clamp(max=len(counts) - 1)
        self._most_beyond = int(self._guide.diff().max())

    @property
    def num_windows(self) -> int:
        """Windows in an epoch, over all processes."""
        return int(self.window_offsets[-1])

    def __len__(self) -> int:
        """Batches in an epoch of this process."""
        return -(-(self.num_windows // self.world_size) // self.batch_size)

    def window(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The series and the origin of windows by their number, each `[B]` int64."""
        if self._most_beyond > _MOST_BEYOND:
            series = self._search(index)
        else:
            series = self._guide[index >> self._digits]
            for _ in range(self._most_beyond):
                series = series + (self.window_offsets[series + 1] <= index)
        return series, self.first_origins[series] + index - self.window_offsets[series]

    def _search(self, index: Tensor) -> Tensor:
        """The series of windows by their number."""
        return torch.searchsorted(self.window_offsets, index, right=True) - 1

    def sample(self, count: int, span: int) -> Windows:
        """At most `count` windows from anywhere in training, the same in every process.

        Args:
            count: Most windows.
            span: `T`, values after the context.
        """
        series, origin = self.drawn(count)
        return gather(self.panel, series, origin, self.context_length, span, self.ends[series])

    def drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """The series and the origins of those windows, each `[B]` int64."""
        order = shuffled(self.num_windows, self.seed)[torch.arange(min(count, self.num_windows))]
        return self.window(order.to(self.window_offsets.device))

    def __iter__(self) -> Iterator[Windows]:
        """Goes on from `batches_drawn` to the end of that epoch."""
        batches, windows = len(self), self.num_windows // self.world_size
        epoch, drawn = divmod(self.batches_drawn, batches)
        order = shuffled(self.num_windows, self.seed * 1_000_003 + epoch)
        values = self.batch_size * (self.context_length + self.span) * self.panel.values.shape[1]
        at_once = max(1, _AT_ONCE // values)
        for batch in range(drawn, batches, at_once):
            numbers = range(batch, min(batch + at_once, batches) + 1)
            edges = [number * (windows // batches) + min(number, windows % batches) for number in numbers]
            place = self.rank + self.world_size * torch.arange(edges[0], edges[-1])
            series, origin = self.window(order[place].to(self.window_offsets.device))
            found = gather(self.panel, series, origin, self.context_length, self.span, self.ends[series])
            for part in found.split([last - first for first, last in pairwise(edges)]):
                self.batches_drawn += 1  # before the yield: Lightning stops a sized loader at its last batch
                yield part

    def state_dict(self) -> dict[str, Any]:
        """The whole state: one integer."""
        return {"batches_drawn": self.batches_drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after the batches that the saved loader had drawn."""
        self.batches_drawn = state["batches_drawn"]


class OriginLoader:
    """Windows at given origins, in order: what validation, test and predict roll out from.

    Args:
        panel: The flat store.
        series: `[W]` int64.
        origins: `[W]` int64.
        context_length: `L`.
        span: `T`, values after the origin to compare with; 0 where there are none.
        batch_size: Windows in a batch.
        rank: Which of `world_size` processes this is.
        world_size: How many processes share the origins.
        covariate_span: How many steps after the origin covariates reach; `T` where left out.
        gap: How many of the first values after the origin are left out, as if they had not been observed.
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
        self.gap = gap
        self.series = series[rank::world_size]
        self.origins = origins[rank::world_size]
        self.context_length = context_length
        self.span = span
        self.batch_size = batch_size
        self.covariate_span = covariate_span
        self.num_batches = -(-len(series[::world_size]) // batch_size)

    def __len__(self) -> int:
        """The number of batches, the same on all processes: one with fewer origins ends with an empty batch."""
        return self.num_batches

    def __iter__(self) -> Iterator[Windows]:
        """From the first origin to the last."""
        for batch in range(len(self)):
            part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            place = self.series[part], self.origins[part]
            windows = gather(self.panel, *place, self.context_length, self.span, covariate_span=self.covariate_span)
            windows.target_observed[:, : self.gap] = False
            yield windows
