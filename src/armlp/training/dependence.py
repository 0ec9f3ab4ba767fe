"""The dependence inside a patch, estimated from training windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from armlp.data.loaders import TrainingLoader
from armlp.data.windows import Windows
from armlp.model.mlp import AutoregressiveMLP

_MAX_WINDOWS = 8192
_MAX_VALUES = 1 << 20  # scores in memory


@torch.no_grad()
def estimate_dependence(network: AutoregressiveMLP, loader: Iterable[Any] | None) -> None:
    """Estimate how the values of a patch depend on each other, from how training windows miss their forecasts.

    The estimate is that of the present weights: it is made again at every validation and at the end of a training. Of a
    loader that is not a `TrainingLoader` it takes one batch, if its batches are `Windows`.
    """
    if network.dependence is None or loader is None:
        return
    patch = network.patch_length * network.channels
    if isinstance(loader, TrainingLoader):
        windows = loader.sample(max(256, min(_MAX_WINDOWS, _MAX_VALUES // patch)), network.patch_length)
        apart = float((loader.ends // network.patch_length).clamp(min=1).sum())
    else:
        batch = next(iter(loader), None)
        if not isinstance(batch, Windows):
            return
        windows, apart = batch, float(len(batch.context))
    windows = move_data_to_device(windows, next(network.parameters()).device)
    training, generator = network.training, torch.Generator().manual_seed(0)
    network.eval()
    scores, observed = patch_scores(network, windows, generator)
    network.train(training)
    network.dependence.fit(scores.cpu(), observed.cpu(), min(apart, len(windows.context)))


def patch_scores(network: AutoregressiveMLP, windows: Windows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the normal scores of the first patch after each context and their mask, `[E * B, U, V]`."""

    def rows(part: Tensor) -> Tensor:
        return torch.cat([part] * network.members)

    context, observed, target, target_observed = (rows(part) for part in windows[:4])
    covariates = None if windows.covariates is None else windows.covariates.tile(network.members)
    scaling = network.measure_scaling(context, observed)
    distribution = network.predict_patch(context, observed, scaling, covariates)
    target = scaling.within_reach(target[:, : network.patch_length], network.context_length)
    mask = network.head.score_mask(target_observed[:, : network.patch_length])
    within = torch.rand(target.shape, generator=generator).to(target) if network.head.discrete else None
    return distribution.normal_scores(target, within), mask
