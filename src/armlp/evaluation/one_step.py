"""One-step scores: the likelihood of each row of a panel under the forecast from the rows before it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from armlp.data.covariates import Covariates
from armlp.data.loaders import TrainingLoader
from armlp.data.panel import Panel
from armlp.data.tables.encoders import spell_values
from armlp.data.tables.write import write_table_like
from armlp.data.windows import Windows, gather
from armlp.errors import UserError
from armlp.model.ensemble import EnsembleMixture
from armlp.model.families.base import Predictive
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise

_CHUNK = 1 << 20  # values to gather at a time; more would not fit the cache


class OneStepScores(NamedTuple):
    """Scores of `R` rows under the one-step forecast of each; nan where a value is missing."""

    series: Tensor  # [R] int64 index into the panel
    row: Tensor  # [R] int64 row of the series
    y: Tensor  # [R, V] truth, data units
    # [R, V] float64, data units; where channels vary together, that of each is conditional on those before it
    log_likelihood: Tensor
    # [R, V] float64, uniform on (0, 1) under the true distribution; drawn at random within the steps of a discrete one
    pit: Tensor
    tail_probability: Tensor  # [R, V] float64 probability of a value at least as far out, on either side


@torch.no_grad()
def one_step_scores(
    network: AutoregressiveMLP, panel: Panel, seed: int = 0, progress: bool = False, chunk: int = _CHUNK
) -> Iterator[OneStepScores]:
    """Score every observed row of a panel in order, in parts of bounded size; the network may be on any device.

    The first `L` rows of a series are context and have no scores; in a series of less than `2 L` rows, its first half.
    A network that emits patches is called for every row, and only its first step counts. The tail probability of a
    number is twice the smaller of P(at most the truth) and P(at least the truth), and 1 at most; under the true
    distribution it is below `a` with probability `a`, for counts at most `a`. That of a code is the probability of
    all codes that are no likelier. `seed` is that of the random PIT of discrete values.
    """
    network.eval()
    length, patch = network.context_length, network.patch_length
    loader = TrainingLoader(panel, panel.lengths, length, 1, batch_size=1)
    count = max(1, chunk // ((length + patch) * panel.values.shape[1]))
    options: dict[str, Any] = {"desc": "scoring", "unit": " rows", "delay": 2, "leave": False}
    with tqdm(total=loader.num_windows, disable=not progress, **options) as bar:
        for first in range(0, loader.num_windows, count):
            series, row = loader.window(torch.arange(first, min(first + count, loader.num_windows)))
            observed = panel.gather_rows(panel.observed, panel.offsets[series] + row).any(1)
            if observed.any():
                windows = gather(panel, series[observed], row[observed], length, 1, covariate_span=patch)
                yield _scores(network, panel, windows, seed)
            bar.update(len(series))


def score_table(network: AutoregressiveMLP, panel: Panel, seed: int = 0, progress: bool = False) -> Any:
    """Return the scores as a table of the kind that the panel came from; see `one_step_scores`.

    The columns are `unique_id, ds, y, log_likelihood, pit, tail_probability`; for vectors the last four for each
    channel, as `pit-x`. It holds scored rows only, sorted by `unique_id, ds`.

    Raises:
        UserError: The model has no density, or no row can be scored.
    """
    if not network.head.has_density:
        raise UserError(
            "The point head forecasts a value without a distribution, so no row is more or less likely: train with "
            "another `head` to score rows."
        )
    parts = list(one_step_scores(network, panel, seed, progress))
    if not parts:
        raise UserError(
            f"{panel.name} has no row to score: give at least one series with two rows, because the first ones are "
            "context."
        )
    series, row, *columns = (torch.cat(part) for part in zip(*parts, strict=True))
    table = {}
    for channel, name in enumerate(panel.channels):
        for score, values in zip(OneStepScores._fields[2:], columns, strict=True):
            column = values[:, channel].numpy()
            spelled = spell_values(panel, column) if score == "y" else column
            table[score if len(panel.channels) == 1 else f"{score}-{name}"] = spelled
    return write_table_like(panel, series.numpy(), {"ds": row.numpy()}, table)


def _scores(network: AutoregressiveMLP, panel: Panel, windows: Windows, seed: int) -> OneStepScores:
    series, row, target, observed = windows.series, windows.origin, windows.target, windows.target_observed
    distribution, truth = _next_step(network, windows), target.double()
    high = distribution.cdf(truth)
    low = distribution.cdf(truth - 1) if network.head.discrete else high
    if network.non_negative:  # forecasts are cut off at 0
        zero = truth.new_zeros(()) if panel.base_values is None else -panel.base_values[series][:, None]
        low = torch.where(truth <= zero, 0.0, low)
    pit = low
    if (high > low).any():
        noise = path_noise(panel.keys[series], row, 1, 1, (network.channels,), seed)[:, 0].double()
        pit = low + noise * (high - low)
    log_likelihood = distribution.log_prob(truth)
    tail = 2 * torch.minimum(high, 1 - low)
    if not network.head.numeric:
        codes = [distribution.log_prob(torch.full_like(truth, code)) for code in range(network.inputs.num_codes)]
        tail = torch.stack([torch.where(code <= log_likelihood, code.exp(), 0.0) for code in codes]).sum(0)
    tail = tail.clamp(max=1)
    y, pit, tail = (
        torch.where(observed, part, torch.nan)[:, 0] for part in (panel.in_data_units(series, target), pit, tail)
    )
    log_likelihood = torch.where(network.head.score_mask(observed), log_likelihood, torch.nan)[:, 0]
    return OneStepScores(series, row, y, log_likelihood, pit, tail)


def one_step_nll(model: AutoregressiveMLP, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the joint negative log-likelihood of the targets, each patch given the truth before it.

    It is the sum over observed values, data units, and their number, both scalar. Windows have contexts of `L` and
    targets of `H` values, with covariates to the end of the last patch.
    """
    length, patch = model.context_length, model.patch_length
    total = count = torch.zeros((), dtype=torch.float64)
    values = torch.cat([windows.context, windows.target], 1)
    observed = torch.cat([windows.observed, windows.target_observed], 1)
    missing = -windows.target.shape[1] % patch  # values to fill up the last patch
    values, observed = (
        torch.cat([part, torch.zeros_like(part[:, :1]).expand(-1, missing, -1)], 1) for part in (values, observed)
    )
    for step in range(0, values.shape[1] - length, patch):
        known, scored = slice(step, step + length), slice(step + length, step + length + patch)
        covariates = None if windows.covariates is None else windows.covariates.moved(step)
        counted = model.head.score_mask(observed[:, scored])
        total = total - _patch_log_likelihood(
            model, values[:, known], observed[:, known], covariates, values[:, scored], counted
        )
        count = count + counted.sum()
    return total, count


def _patch_log_likelihood(
    model: AutoregressiveMLP,
    context: Tensor,
    observed: Tensor,
    covariates: Covariates | None,
    target: Tensor,
    counted: Tensor,
) -> Tensor:
    """Return the joint log-likelihood of the counted values of patches `[B, U, V]`, scalar, data units.

    It is that of single values times the density of their dependence. An ensemble is a mixture of joint distributions.
    Of discrete values the dependence has no density, and they count as independent within the patch.
    """

    def rows(part: Tensor) -> Tensor:
        return torch.cat([part] * model.members)

    scaling = model.measure_scaling(context, observed)
    target, counted = rows(scaling.within_reach(target, model.context_length)), rows(counted)
    covariates = None if covariates is None else covariates.tile(model.members)
    distribution = model.predict_patch(rows(context), rows(observed), scaling.tile(model.members), covariates)
    joint = torch.where(counted, distribution.log_prob(target), 0.0).double().flatten(1).sum(1)
    if model.dependence is not None and not (model.head.discrete or model.dependence.is_independent):
        joint = joint + model.dependence.log_density(distribution.normal_scores(target), counted)
    return (joint.unflatten(0, (model.members, -1)).logsumexp(0) - math.log(model.members)).sum()


def _next_step(network: AutoregressiveMLP, windows: Windows) -> Predictive:
    """Return the distribution of the value after each context, `[B, 1, V]`, float64 on the CPU.

    In float32 the distribution function of every value far above the forecast would be 1.
    """
    device = next(network.parameters()).device
    context, observed = (torch.cat([part.to(device)] * network.members) for part in windows[:2])
    covariates = windows.covariates
    if covariates is not None:
        covariates = type(covariates)(*(part.to(device) for part in covariates)).tile(network.members)
    scaling = network.measure_scaling(context, observed)
    raw = network.raw_outputs(context, observed, scaling, covariates)[:, :1]
    shift = scaling.shift_at(network.context_length, 1)
    distribution = network.head(*(part.cpu().double() for part in (raw, shift, scaling.scale)))
    return distribution if network.members == 1 else EnsembleMixture(distribution, network.members)
