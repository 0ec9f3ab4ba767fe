"""Weights that have a closed form: statistics of the scaler, the best linear autoregression, edges of bins."""

from __future__ import annotations

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from armlp.data.loaders import TrainingLoader
from armlp.evaluation.baselines.ridge import ridge_path
from armlp.model.ensemble import StackedLinear
from armlp.model.families.categorical import CategoricalHead
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.objective import loss_unit

_MAX_WINDOWS = 8192
MAX_INPUTS = 4096  # the normal equations of more inputs take longer than they save in training
_PENALTIES = torch.logspace(-6, 1, 8, dtype=torch.float64)


@torch.no_grad()
def warm_start(model: AutoregressiveMLP, loader: TrainingLoader, loss_units: str, ridge: bool) -> None:
    """Set what has a closed form from a sample of training windows.

    If `ridge`, fit the linear skip by ridge regression, so that training starts at the best linear autoregression.
    """
    bins = model.head if isinstance(model.head, CategoricalHead) else None
    if not (ridge or bins or model.scaler.statistics):
        return
    windows = loader.sample(_MAX_WINDOWS, model.patch_length)
    windows = move_data_to_device(windows, next(model.parameters()).device)
    context, observed, target, target_observed = windows[:4]
    for name, statistic in model.scaler.fit(context.flatten(0, 1), observed.flatten(0, 1)).items():
        model.get_buffer(name).copy_(statistic)
    scaling = model.measure_scaling(context, observed)

    def residual() -> Tensor:
        """Return the errors of the first member's location, `[B, U, V]`, network units."""
        rows = [torch.cat([part] * model.members) for part in (context, observed)]
        covariates = None if windows.covariates is None else windows.covariates.tile(model.members)
        raw = model.raw_outputs(rows[0], rows[1], scaling.tile(model.members), covariates)
        return scaling.to_network(target, model.context_length) - raw[: len(target), ..., 0]

    if ridge:
        weight = (scaling.scale / loss_unit(scaling, loss_units)).flatten(1).mean(1) * target_observed.flatten(1).all(1)
        inputs = scaling.to_network(context).flatten(1)
        assert isinstance(model.linear_skip, (nn.Linear, StackedLinear))
        slope, intercept = ridge_regression(inputs, residual().flatten(1), weight)
        model.linear_skip.weight.copy_(slope)
        model.linear_skip.bias.copy_(intercept)
    if bins:
        bins.choose_edges(residual()[target_observed])


def ridge_regression(inputs: Tensor, outputs: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope `[m, n]` and intercept `[m]` of a ridge regression whose penalty is the best on held-out rows.

    `inputs` are `[B, n]`, `outputs` `[B, m]`; `weight` `[B]` multiplies the errors of each row.
    """
    inputs, outputs, weight = (part.double() for part in (inputs, outputs, weight))
    kept = torch.arange(len(inputs), device=inputs.device) % 4 != 0
    errors = []
    for slope, intercept in _ridge_path(inputs[kept], outputs[kept], weight[kept], _PENALTIES):
        left = outputs[~kept] - inputs[~kept] @ slope.T - intercept
        errors.append((weight[~kept, None] * left).square().sum())
    best = int(torch.stack(errors).argmin())
    slope, intercept = _ridge_path(inputs, outputs, weight, _PENALTIES[best : best + 1])[0]
    return slope, intercept


def _ridge_path(inputs: Tensor, outputs: Tensor, weight: Tensor, penalties: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the fit for each penalty; penalties are relative to the mean square of the inputs."""
    share = weight.square()[:, None] / weight.square().sum().clamp(min=1e-300)
    centre, level = (share * inputs).sum(0), (share * outputs).sum(0)
    centred = inputs - centre
    gram, moments = (centred.T @ (share * part) for part in (centred, outputs - level))
    slopes = [fit.T for fit in ridge_path(gram, moments, penalties)]
    return [(slope, level - slope @ centre) for slope in slopes]
