"""Window arithmetic: which windows a panel has, splits by time, and the loaders that gather them.

A window is two integers, its series and its origin: the row, counted from the series' start, of the first
value after the context. Nothing is stored per window; a batch is one gather from the panel's flat store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import Covariates
from armlp.data.panel import Panel
from armlp.data.time_features import time_features


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
    first = panel.offsets[series, None]
    covariates = None
    if panel.has_covariates:
        covariate_span = span if covariate_span is None else covariate_span
        covariates = _gather_covariates(panel, series, origin, context_length, covariate_span, end)
    end = (panel.lengths[series] if end is None else end)[:, None]
    row = origin[:, None] + torch.arange(-context_length, span, device=origin.device)
    inside = (row >= 0) & (row < end)
    row = first + row.clamp(min=0).minimum(end.clamp(min=1) - 1)
    values, observed = panel.values[row], panel.observed[row] & inside[..., None]
    if panel.values.shape[1] == 1:
        values, observed = values[..., 0], observed[..., 0]
    context, target = values.split([context_length, span], dim=1)
    context_observed, target_observed = observed.split([context_length, span], dim=1)
    return Windows(context, context_observed, target, target_observed, series, origin, covariates)


def _gather_covariates(
    panel: Panel, series: Tensor, origin: Tensor, context_length: int, span: int, end: Tensor | None
) -> Covariates:
    """The covariates of windows; before the first row of a series they repeat it, and after the last row that one."""

    def rows(columns: Tensor, lengths: Tensor) -> Tensor:
        if not columns.shape[1]:
            return columns.new_empty(len(origin), context_length + span, 0)
        row = origin[:, None] + torch.arange(-context_length, span, device=origin.device)
        last = (lengths[series] if end is None else end).clamp(min=1) - 1
        return columns[panel.offsets[series, None] + row.clamp(min=0).minimum(last[:, None])]

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
    """Splits every series by time, from its end: `... train | val_windows x H | test_windows x H`."""

    horizon: int
    val_windows: int = 1
    test_windows: int = 0

    def train_ends(self, lengths: Tensor) -> Tensor:
        """`[S]` int64 row at which training ends; below 2 where a series is too short to train on."""
        return lengths - (self.val_windows + self.test_windows) * self.horizon

    def typical_length(self, lengths: Tensor) -> int:
        """The training rows of a typical series among those that can be trained on; at least 1."""
        ends = self.train_ends(lengths)
        return max(1, int((ends[ends >= 2] if (ends >= 2).any() else ends).float().median()))

    def origins(self, lengths: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """The origins of one held-out part, `H` apart, series by series.

        Args:
            lengths: `[S]` int64.
            part: `val`, `test`, or `predict` (the end of every series).

        Returns:
            `[W]` series and `[W]` origins, both int64. Origins without a value before them are left out.
        """
        count, after = {
            "val": (self.val_windows, self.test_windows),
            "test": (self.test_windows, 0),
            "predict": (1, -1),
        }[part]
        steps_back = self.horizon * (after + torch.arange(count, 0, -1))
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

    @property
    def num_windows(self) -> int:
        """Windows in an epoch, over all processes."""
        return int(self.window_offsets[-1])

    def __len__(self) -> int:
        """Batches in an epoch of this process."""
        return -(-(self.num_windows // self.world_size) // self.batch_size)

    def window(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The series and the origin of windows by their number, each `[B]` int64."""
        series = torch.searchsorted(self.window_offsets, index, right=True) - 1
        return series, self.first_origins[series] + index - self.window_offsets[series]

    def sample(self, count: int, span: int) -> Windows:
        """At most `count` windows from anywhere in training, the same in every process.

        Args:
            count: Most windows.
            span: `T`, values after the context.
        """
        order = torch.randperm(self.num_windows, generator=torch.Generator().manual_seed(self.seed))
        series, origin = self.window(order[:count].to(self.window_offsets.device))
        return gather(self.panel, series, origin, self.context_length, span, self.ends[series])

    def __iter__(self) -> Iterator[Windows]:
        """Goes on from `batches_drawn` to the end of that epoch."""
        epoch, drawn = divmod(self.batches_drawn, len(self))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.num_windows, generator=generator)
        mine = order[self.rank :: self.world_size][: self.num_windows // self.world_size].contiguous()
        for index in mine.tensor_split(len(self))[drawn:]:
            self.batches_drawn += 1  # before the yield: Lightning stops a sized loader at its last batch
            series, origin = self.window(index.to(self.window_offsets.device))
            yield gather(self.panel, series, origin, self.context_length, self.span, self.ends[series])

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
    ) -> None:
        self.panel = panel
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
            yield gather(self.panel, *place, self.context_length, self.span, covariate_span=self.covariate_span)
