"""Scores of sampled paths as functions."""

from __future__ import annotations

import torch
from torch import Tensor


def crps(paths: Tensor, truth: Tensor) -> Tensor:
    """Return the CRPS of each value, `[B, T, V]`, from independent draws `[B, P, T, V]`, unbiased for any `P`."""
    return ranked_crps((paths - truth[:, None]).sort(1).values)


def ranked_crps(errors: Tensor, even: bool = False) -> Tensor:
    """Return the CRPS from errors `[B, P, T, V]`, ascending along the paths; without the correction if `even`.

    Errors, unlike values, keep their digits where the data have a high level.
    """
    count = errors.shape[1]
    accuracy = errors.abs().mean(1)
    if count == 1:
        return accuracy
    rank = torch.arange(1 - count, count, 2, dtype=errors.dtype, device=errors.device)
    return accuracy - torch.einsum("bp...,p->b...", errors, rank / (count * (count if even else count - 1)))


def energy_score(paths: Tensor, truth: Tensor, observed: Tensor, even: bool = False) -> Tensor:
    """Return the energy score of whole paths: the CRPS of vectors, which measures their dependence too.

    From paths `[B, P, T, V]`, `P` at least 2, truth and observed `[B, T, V]`, it is `[B, T, V]`: the score of the
    window, the same for all its values, over the root of the number of observed values. `even` is as in `Paths`.

    Tilmann Gneiting, Adrian E. Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation,
    https://doi.org/10.1198/016214506000001437
    """
    count = paths.shape[1]
    errors = torch.where(observed[:, None], paths - truth[:, None], 0.0).flatten(2)
    accuracy = _norm(errors).mean(1)
    size = errors.detach().abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(errors.dtype).tiny)
    # Distances by matrix products would lose digits.
    apart = torch.cdist(errors / size, errors / size, compute_mode="donot_use_mm_for_euclid_dist")
    spread = (apart * size).sum((1, 2)) / (2 * count * (count if even else count - 1))
    score = (accuracy - spread) / observed.flatten(1).sum(1).clamp(min=1).sqrt()
    return score.view(-1, *[1] * (truth.dim() - 1)).expand_as(truth)


def variogram_score(paths: Tensor, truth: Tensor, observed: Tensor, order: float = 0.5) -> Tensor:
    """Return the variogram score of whole paths, which compares differences, to the power `order`, of pairs of values.

    From paths `[B, P, T, V]`, truth and observed `[B, T, V]`, it is `[B, T, V]`: the mean over pairs of observed
    values, the same for all values of the window; nan without a pair.

    Michael Scheuerer, Thomas M. Hamill (2015), Variogram-Based Proper Scoring Rules for Probabilistic Forecasts of
    Multivariate Quantities, https://doi.org/10.1175/MWR-D-14-00269.1
    """
    known = observed.flatten(1)
    target = torch.where(observed, truth, 0.0).flatten(1)
    expected = torch.zeros(*target.shape, target.shape[1], dtype=paths.dtype, device=paths.device)
    for path in paths.flatten(2).unbind(1):  # one at a time, to save memory
        expected = expected + (path[:, :, None] - path[:, None]).abs() ** order
    actual = (target[:, :, None] - target[:, None]).abs() ** order
    pair = (known[:, :, None] & known[:, None]).triu(1)
    wrong = torch.where(pair, (actual - expected / paths.shape[1]).square(), 0.0)
    score = wrong.sum((1, 2)) / pair.sum((1, 2))
    return score.view(-1, *[1] * (truth.dim() - 1)).expand_as(truth)


def _norm(vectors: Tensor) -> Tensor:
    """Return the Euclidean length over the last axis, with a finite gradient at 0."""
    tiny = torch.finfo(vectors.dtype).tiny
    largest = vectors.detach().abs().amax(-1, keepdim=True).clamp(min=tiny)  # its square may overflow
    return (vectors / largest).square().sum(-1).clamp(min=tiny).sqrt() * largest[..., 0]
