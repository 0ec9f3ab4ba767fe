"""The dependence of the values of one patch: a Gaussian copula over the noise that they are drawn from."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from armlp.model.families.base import open_interval

_MAX_JOINT = 512  # values of a patch with a matrix of their own; longer ones have one for steps and one for channels
_MIN_EIGENVALUE = 1e-3  # of a correlation matrix
_FEW_PATHS = 32  # with fewer, the place of a draw inside its stratum depends on the others too


class Dependence(nn.Module):
    """Makes the values of one patch depend on each other, and leaves the distribution of each value as it is.

    Uniform noise is mapped to normal scores, these get the correlation of the patch, and come back as uniform noise:
    a Gaussian copula. Draws stay stratified over the paths: a path's stratum at a lead is the rank of its correlated
    score among the paths.

    R. L. Iman and W. J. Conover (1982), A distribution-free approach to inducing rank correlation among input
    variables, https://doi.org/10.1080/03610918208812265

    Args:
        patch_length: `U`.
        channels: `V`.

    Attributes:
        step_factor: Lower triangular Cholesky factor of the correlation of the values of a patch, step by step,
            `[U V, U V]`; in a large patch of its steps, `[U, U]`.
        channel_factor: In a large patch, factor of the correlation of the channels of a step, `[V, V]`; else `[0, 0]`.
        is_independent: Whether the values of a patch are independent of each other.
    """

    step_factor: Tensor
    channel_factor: Tensor

    def __init__(self, patch_length: int, channels: int) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.is_independent = True  # kept beside the factors, because reading these would wait for the device
        self.is_joint = patch_length * channels <= _MAX_JOINT
        self.register_buffer("step_factor", torch.eye(patch_length * (channels if self.is_joint else 1)))
        self.register_buffer("channel_factor", torch.eye(0 if self.is_joint else channels))
        self.register_load_state_dict_pre_hook(_before_load)  # type: ignore[no-untyped-call]  # has no types

    def correlate(self, scores: Tensor) -> Tensor:
        """Return correlated normal scores `[..., u, V]` of independent ones, for the first `u` steps of a patch."""
        shape = scores.shape
        if self.is_joint:
            size = shape[-2] * shape[-1]
            return (scores.flatten(-2) @ self.step_factor[:size, :size].mT.to(scores)).view(shape)
        rows = self.step_factor[: shape[-2], : shape[-2]].to(scores)
        return rows @ scores @ self.channel_factor.mT.to(scores)

    def forward(self, noise: Tensor, steps: list[int], members: int = 1) -> Tensor:
        """Return dependent uniform noise, of the shape of `noise`.

        Args:
            noise: `[B, P, T, V, n]` independent uniform noise; path `p` is of member `p % E`.
            steps: Steps at which patches begin, ascending from 0.
            members: `E`; paths of a member are stratified among each other.
        """
        if self.is_independent:
            return noise
        result = torch.empty_like(noise)
        lengths = torch.tensor([*steps[1:], noise.shape[2]]) - torch.tensor(steps)
        for length in lengths.unique().tolist():
            starts = torch.tensor(steps)[lengths == length]
            rows = (starts[:, None] + torch.arange(length)).flatten().to(noise.device)
            patches = noise[:, :, rows].unflatten(2, (-1, length)).unflatten(1, (-1, members))
            result[:, :, rows] = self.of_patches(patches).flatten(1, 2).flatten(2, 3)
        return result

    def of_patches(self, noise: Tensor) -> Tensor:
        """Return dependent noise for the independent noise `[B, P / E, E, K, u, V, n]` of `K` patches."""
        count, is_traced = noise.shape[1], torch.compiler.is_compiling()
        noise = noise.movedim((1, -1), (-1, 1))  # [B, n, E, K, u, V, P / E]
        position = noise.double() * count
        stratum = position.floor().clamp(max=count - 1)
        within = position - stratum
        strata = torch.arange(count, dtype=torch.float64, device=noise.device)
        # The scores of a stratum's middle do not depend on where in it the draw lies.
        scores = self._over_paths(torch.special.ndtri((strata + 0.5) / count)[stratum.long()])
        scores = scores + 1e-9 * strata  # so that the order of equal scores is the same everywhere
        if is_traced:
            rank = scores.argsort(-1).argsort(-1).double()
        else:
            order = torch.from_numpy(scores.numpy().argsort(-1)) if scores.device.type == "cpu" else scores.argsort(-1)
            rank = torch.empty_like(scores).scatter_(-1, order, strata.expand_as(scores))
        if is_traced or count < _FEW_PATHS:
            scores = self._over_paths(torch.special.ndtri(within.clamp(1e-12, 1 - 1e-12)))
            dependent = torch.special.ndtr(scores.float())  # ONNX runtimes have no float64 version
            within = torch.where(torch.tensor(count) < _FEW_PATHS, dependent, within) if is_traced else dependent
        drawn = open_interval(((rank + within) / count).to(noise.dtype))
        return drawn.movedim((-1, 1), (1, -1))

    def _over_paths(self, scores: Tensor) -> Tensor:
        """Correlate scores `[..., u, V, P']`."""
        return self.correlate(scores.movedim(-1, -3)).movedim(-3, -1)

    def log_density(self, scores: Tensor, observed: Tensor) -> Tensor:
        """Return the log-density `[B]` float64 of the copula at normal scores `[B, u, V]`, of the observed values."""
        matrix = self.matrix(scores.shape[1])
        scores, observed = scores.double().flatten(1), observed.flatten(1)
        density = scores.new_zeros(len(scores))
        for mask in observed.unique(dim=0):
            rows = (observed == mask).all(1)
            root = torch.linalg.cholesky(matrix[mask][:, mask])
            known = scores[rows][:, mask]
            whitened = torch.linalg.solve_triangular(root, known.mT, upper=False)
            density[rows] = (known.square().sum(1) - whitened.square().sum(0)) / 2 - root.diagonal().log().sum()
        return density

    def matrix(self, steps: int) -> Tensor:
        """Return the correlation matrix of the first `steps` of a patch, `[u V, u V]` float64."""
        rows, columns = (part.double() @ part.double().mT for part in (self.step_factor, self.channel_factor))
        if self.is_joint:
            size = len(rows) // self.patch_length * steps
            return rows[:size, :size]
        return torch.kron(rows[:steps, :steps].contiguous(), columns)

    @torch.no_grad()
    def fit(self, scores: Tensor, observed: Tensor, independent: float) -> None:
        """Set the correlation from normal scores `[N, U, V]` of observed values.

        Args:
            scores: Normal scores of the values under their distributions.
            observed: Bool of the same shape.
            independent: Number of windows that would hold as much if they did not overlap; the fewer there are, the
                more the correlation is that of all pairs of steps as far apart.
        """
        filled, mask = torch.where(observed, scores.double(), 0.0), observed.double()
        if not filled.isfinite().all():
            return  # the network has diverged
        self.is_independent = len(self.step_factor) * max(1, len(self.channel_factor)) == 1
        if self.is_joint:
            self.step_factor.copy_(_factor(filled.flatten(1), mask.flatten(1), independent, self.patch_length))
            return
        self.channel_factor.copy_(_factor(filled.flatten(0, 1), mask.flatten(0, 1), independent * self.patch_length, 1))
        filled, mask = (part.transpose(1, 2).flatten(0, 1) for part in (filled, mask))
        self.step_factor.copy_(_factor(filled, mask, independent, self.patch_length))


def _before_load(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """See whether loaded factors are those of independence, which weights of an older version get."""
    assert isinstance(module, Dependence)
    if f"{prefix}step_factor" in state:
        factors = (state[prefix + name].cpu() for name in ("step_factor", "channel_factor"))
        module.is_independent = all(torch.equal(factor, torch.eye(len(factor)).to(factor)) for factor in factors)
        return
    module.is_independent = True
    for name, factor in module.state_dict().items():
        state[prefix + name] = torch.eye(len(factor))
    if module.patch_length > 1:
        warnings.warn(
            f"The checkpoint was written by an older armlp: its paths are independent inside a patch of "
            f"{module.patch_length} steps, so intervals of sums are too narrow; fit anew to mend that.",
            stacklevel=2,
        )


def _factor(scores: Tensor, mask: Tensor, independent: float, steps: int) -> Tensor:
    """Return the Cholesky factor of the shrunk correlation of scores `[N, D]`, 0 where the mask is."""
    moments, pairs = scores.mT @ scores, mask.mT @ mask
    second = moments / pairs.clamp(min=1)
    deviation = second.diagonal().clamp(min=1e-6).sqrt()
    raw = (second / deviation / deviation[:, None]).clamp(-1, 1)
    smooth = _by_lag(raw, steps)
    away = (raw - smooth).square().fill_diagonal_(0).sum()
    noise = ((1 - raw.square()).square() / independent).fill_diagonal_(0).sum()
    share = float((noise / away.clamp(min=1e-12)).clamp(0, 1))
    mixed = share * smooth + (1 - share) * raw
    values, vectors = torch.linalg.eigh(mixed)
    fixed = (vectors * values.clamp(min=_MIN_EIGENVALUE)) @ vectors.mT
    scale = fixed.diagonal().sqrt()
    return torch.linalg.cholesky(fixed / scale / scale[:, None])


def _by_lag(matrix: Tensor, steps: int) -> Tensor:
    """Average a matrix over pairs of values with the same channels and the same number of steps between them."""
    blocks = matrix.unflatten(0, (steps, -1)).unflatten(2, (steps, -1)).permute(0, 2, 1, 3)  # [U, U, V, V]
    lags = torch.arange(steps) - torch.arange(steps)[:, None] + steps - 1
    shape = 2 * steps - 1, *blocks.shape[2:]
    total = blocks.new_zeros(shape).index_add_(0, lags.flatten(), blocks.flatten(0, 1))
    mean = total / lags.flatten().bincount().to(total)[:, None, None]
    return mean[lags].permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
