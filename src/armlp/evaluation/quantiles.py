"""Quantiles of sampled paths, and levels of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from armlp.arguments import check_argument, to_builtin
from armlp.errors import UserError

MODEL = "armlp"  # name of the model in tables


def interval(level: float) -> tuple[float, float]:
    """Return the probabilities of the two ends of a central interval with a level in percent."""
    return 0.5 - level / 200, 0.5 + level / 200


def between_ranks(ranked: Tensor, position: Tensor) -> Tensor:
    """Interpolate sorted paths `[B, P, H, V]` at positions `[Q]` from 0 to `P - 1`; return `[B, Q, H, V]`."""
    below = position.floor()
    share = (position - below).to(ranked).view(-1, *[1] * (ranked.dim() - 2))
    low, high = (ranked[:, index.long()] for index in (below, position.ceil()))
    return torch.where(low == high, low, low + share * (high - low))  # inf - inf is nan


def path_probabilities(count: int) -> Tensor:
    """Return the probabilities `[P]` of which sorted paths are the quantiles: `(k - 1/2) / P` for path `k` of 1 to `P`.

    The paths of a rollout divide the distribution into `P` equal parts, and each lies in the middle of its part on
    average. It is method 5 of Rob J. Hyndman and Yanan Fan (1996), Sample Quantiles in Statistical Packages,
    https://doi.org/10.1080/00031305.1996.10473566, and `hazen` in numpy.
    """
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def path_quantiles(ranked: Tensor, probabilities: Sequence[float], whole: bool = False) -> Tensor:
    """Return quantiles `[B, Q, H, V]` of sorted paths `[B, P, H, V]` by `path_probabilities`; a nan path gives nan.

    If `whole`, values are counts, and a quantile is the least path with at least that share of the paths up to it.
    """
    count = ranked.shape[1]
    position = torch.tensor(probabilities, dtype=torch.float64, device=ranked.device) * count
    position = (position - 1e-9).ceil() - 1 if whole else position - 0.5
    values = between_ranks(ranked, position.clamp(0, count - 1))
    return torch.where(ranked[:, -1:].isnan(), torch.nan, values)


def finite_quantiles(paths: Tensor, probabilities: Sequence[float]) -> Tensor:
    """Return quantiles `[Q, H]` of the finite values among paths `[P, H]`, float64; nan where there are none."""
    quantiles = []
    for column in paths.double().unbind(1):
        finite = column[column.isfinite()].sort().values
        quantiles.append(path_quantiles(finite[None, :, None], probabilities)[0, :, 0] if len(finite) else None)
    none = torch.full((len(probabilities),), torch.nan, dtype=torch.float64)
    return torch.stack([none if found is None else found for found in quantiles], 1)


def interval_quantiles(paths: Tensor, levels: Sequence[float], whole: bool = False) -> Tensor:
    """Return the median of unsorted paths and the two ends of each interval, `[B, 1 + 2 levels, H, V]`."""
    ends = [probability for level in levels for probability in interval(level)]
    return path_quantiles(paths.sort(1).values, [0.5, *ends], whole)


def forecast_columns(
    paths: Tensor, levels: Sequence[float], name: str = MODEL, whole: bool = False
) -> dict[str, Tensor]:
    """Return the columns `name`, `name-lo-80`, `name-hi-80`, ... `[B, H]` of a forecast table of paths `[B, P, H]`."""
    check_levels(levels)
    names = [name, *(f"{name}-{side}-{level:g}" for level in levels for side in ("lo", "hi"))]
    return dict(zip(names, interval_quantiles(paths, levels, whole).unbind(1), strict=True))


def mode_columns(paths: Tensor) -> dict[str, Tensor]:
    """Return the most frequent value of the paths `[B, P, H]`, and the share of paths that have it, `[B, H]` each."""
    mode = paths.mode(1).values
    return {MODEL: mode, f"{MODEL}-share": (paths == mode[:, None]).to(paths.dtype).mean(1)}


def check_levels(levels: Sequence[float] | float, option: str = "levels") -> list[float]:
    """Return levels as a list; raise a UserError that names `option` if they are not distinct percentages."""
    plain = to_builtin(levels)
    found: list[Any] = plain if isinstance(plain, list) else [plain]
    for level in found:
        if isinstance(level, int | float) and not 0 < level < 100:
            raise UserError(f"`{option}`: {level} is not a coverage in percent; give numbers like 80 or 95.")
    check_argument(option, levels, float | Sequence[float])
    if len({f"{level:g}" for level in found}) < len(found):  # as columns spell them
        raise UserError(f"`{option}`: {found} names a level twice.")
    return found
