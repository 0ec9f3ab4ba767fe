"""Sampling: how the paths of windows are drawn, each series by itself."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.data.windows import Windows
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout

Part = TypeVar("Part")


class Sampling(NamedTuple):
    """How forecasts are drawn.

    Attributes:
        num_paths: `P`.
        seed: Of the paths.
        temperature: Of symbols and bins.
        top_k: Of symbols and bins.
    """

    num_paths: int = 200
    seed: int = 0
    temperature: float = 1.0
    top_k: int | None = None

    def paths(
        self,
        network: AutoregressiveMLP,
        panel: Panel,
        windows: Windows,
        horizon: int,
        given: Tensor | None = None,
    ) -> Tensor:
        """Sampled futures, `[B, P, H(, V)]`, data units; a series' paths do not depend on its batch.

        They are float32, or float64 where the panel has levels. `given` is as in `rollout`, on the scale of the store.
        """
        context, levels = windows.context, panel.levels
        noise = path_noise(
            panel.keys[windows.series.cpu()],
            windows.origin.cpu(),
            self.num_paths,
            horizon,
            (*context.shape[2:], network.head.noise),
            self.seed,
        )
        paths = rollout(
            network,
            context,
            horizon,
            self.num_paths,
            windows.observed,
            noise.to(context.device),
            windows.covariates,
            self.temperature,
            self.top_k,
            None if levels is None else -levels[windows.series.cpu()].view(-1, 1, *context.shape[2:]).to(context),
            given,
        )
        return panel.in_data_units(windows.series, paths)


def from_all_ranks(parts: list[Part], world_size: int) -> list[list[Part]]:
    """What every process has collected of its windows, rank by rank."""
    if world_size == 1:
        return [parts]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, parts)
    return gathered
