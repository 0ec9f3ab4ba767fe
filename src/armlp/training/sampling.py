"""Draw the paths of windows, each series independently of its batch."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout

Part = TypeVar("Part")

# The precision of matrix products in the network; None is that of its weights.
PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16}
# Memory per value of a path until its quantiles are computed, at most.
_BYTES, _BYTES_OF_NOISE = 32, 12
_MAX_SERIES = 256


class Sampling(NamedTuple):
    """How forecasts are drawn."""

    num_paths: int = 200  # P
    seed: int = 0
    temperature: float = 1.0  # for categorical heads, as top_k
    top_k: int | None = None
    precision: str = "32-true"  # a key of PRECISIONS
    memory: int = 10**9  # bytes for paths, their noise and results, without the network and the panel

    def series_at_once(self, network: AutoregressiveMLP, steps: int) -> int:
        """Return how many series fit into the memory at a time; raise a UserError if not even one does."""
        each = self.num_paths * steps * network.channels * (_BYTES + _BYTES_OF_NOISE * network.head.noise)
        if each > self.memory:
            raise UserError(
                f"`memory`: {self.memory / 10**6:g} MB is too small for the {self.num_paths} paths of "
                f"{steps} steps of one series; {-(-each // 10**6)}MB is the smallest that works, or draw fewer paths "
                "(`num_paths`)."
            )
        return min(_MAX_SERIES, self.memory // each)

    def paths(
        self,
        network: AutoregressiveMLP,
        panel: Panel,
        windows: Windows,
        horizon: int,
        given: Tensor | None = None,
    ) -> Tensor:
        """Return sampled futures `[B, P, H, V]`, data units; the paths of a series do not depend on its batch.

        They are float32; float64 if the panel has base values. `given` is as in `rollout`, on the scale of the store.
        """
        noise = path_noise(
            panel.keys[windows.series.cpu()],
            windows.origin.cpu(),
            self.num_paths,
            horizon,
            (network.channels, network.head.noise),
            self.seed,
            network.members,
        )
        return self._rolled_out(network, panel, windows, noise, given)

    def centre(self, network: AutoregressiveMLP, panel: Panel, windows: Windows, horizon: int) -> Tensor:
        """Return the path along which every value is a median, averaged over the members, `[B, H, V]`, data units."""
        shape = len(windows.context), network.members, horizon, network.channels, network.head.noise
        return self._rolled_out(network, panel, windows, torch.full(shape, 0.5), median=True).mean(1)

    def _rolled_out(
        self,
        network: AutoregressiveMLP,
        panel: Panel,
        windows: Windows,
        noise: Tensor,
        given: Tensor | None = None,
        median: bool = False,
    ) -> Tensor:
        context, base = windows.context, panel.base_values
        paths = rollout(
            network,
            context,
            noise.shape[2],
            noise.shape[1],
            windows.observed,
            noise.to(context.device),
            windows.covariates,
            self.temperature,
            self.top_k,
            None if base is None else -base[windows.series.cpu()][:, None].to(context),
            given,
            PRECISIONS[self.precision],
            median=median,
        )
        return panel.in_data_units(windows.series, paths)


def from_all_ranks(parts: list[Part], world_size: int) -> list[list[Part]]:
    """Return the lists that all processes collected, by rank."""
    if world_size == 1:
        return [parts]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, parts)
    return gathered


def in_order(ranks: list[list[Tensor]]) -> Tensor:
    """Join the result of `from_all_ranks` in the order of the rows, of which each rank had every `world_size`-th."""
    parts = [torch.cat(rank) for rank in ranks]
    whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
