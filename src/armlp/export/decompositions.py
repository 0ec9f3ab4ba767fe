"""Functions that ONNX lacks, written with functions that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_DOUBLINGS = 20  # of the reach of a running maximum: enough for 2^20 values
# Michael J. Wichura (1988), Algorithm AS 241: The percentage points of the normal distribution,
# https://doi.org/10.2307/2347330: coefficients of numerator and denominator from the highest power down.
_MIDDLE = (
    (2.5090809287301226727e3, 5.2264952788528545610e3),
    (3.3430575583588128105e4, 2.8729085735721942674e4),
    (6.7265770927008700853e4, 3.9307895800092710610e4),
    (4.5921953931549871457e4, 2.1213794301586595867e4),
    (1.3731693765509461125e4, 5.3941960214247511077e3),
    (1.9715909503065514427e3, 6.8718700749205790830e2),
    (1.3314166789178437745e2, 4.2313330701600911252e1),
    (3.3871328727963666080e0, 1.0),
)
_TAIL = (
    (7.74545014278341407640e-4, 1.05075007164441684324e-9),
    (2.27238449892691845833e-2, 5.47593808499534494600e-4),
    (2.41780725177450611770e-1, 1.51986665636164571966e-2),
    (1.27045825245236838258e0, 1.48103976427480074590e-1),
    (3.64784832476320460504e0, 6.89767334985100004550e-1),
    (5.76949722146069140550e0, 1.67638483018380384940e0),
    (4.63033784615654529590e0, 2.05319162663775882187e0),
    (1.42343711074968357734e0, 1.0),
)


def ndtri(share: Tensor) -> Tensor:
    """Return quantiles of the standard normal distribution for probabilities from 1e-11 to 1 - 1e-11."""
    centred = share - 0.5
    middle = centred * _ratio(_MIDDLE, 0.180625 - centred * centred)
    lighter = torch.minimum(share, 1 - share)
    tail = _ratio(_TAIL, (-lighter.log()).sqrt() - 1.6)
    return torch.where(centred.abs() <= 0.425, middle, torch.where(centred < 0, -tail, tail))


def erfinv(value: Tensor) -> Tensor:
    """Return the inverse of the error function from the lower tail, whose probability keeps all digits."""
    return value.sign() * ndtri((1 - value.abs()) / 2) * -(0.5**0.5)


def lgamma(value: Tensor) -> Tensor:
    """Return the logarithm of the gamma function of positive values, by Stirling's series at `value + 8`."""
    product, last = value, value + 8
    for step in range(1, 8):
        product = product * (value + step)
    square = 1 / (last * last)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / last
    return (last - 0.5) * last.log() - last + 0.5 * math.log(2 * math.pi) + series - product.log()


def log1p(value: Tensor) -> Tensor:
    """Return `log(1 + x)` by a quotient whose rounding errors cancel (William Kahan)."""
    total = 1 + value
    change = total - 1
    return torch.where(change == 0, value, total.log() * (value / torch.where(change == 0, 1.0, change)))


def expm1(value: Tensor) -> Tensor:
    """Return `exp(x) - 1` by a quotient like that of `log1p`."""
    power = value.exp()
    change = power - 1
    near = value.abs() < 0.5
    log = torch.where(near & (change != 0), power, 2.0).log()
    return torch.where(near, torch.where(change == 0, value, change * (value / log)), change)


def count_below(edges: Tensor, value: Tensor) -> Tensor:
    """Return how many of the ascending `edges [..., Q]` lie below each `value [..., N]`."""
    return (edges[..., None, :] < value[..., None]).sum(-1)


def running_maximum(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the running maximum along `dim`, and zeros in place of its indices, which nothing uses."""
    index = torch.arange(values.shape[dim])
    reach = 1
    for _ in range(_DOUBLINGS):
        values = torch.maximum(values, values.index_select(dim, (index - reach).clamp(min=0)))
        reach *= 2
    return values, torch.zeros_like(values, dtype=torch.int64)


def running_minimum(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the running minimum along `dim`, and zeros in place of its indices, which nothing uses."""
    values, index = running_maximum(-values, dim)
    return -values, index


def _ratio(coefficients: Sequence[tuple[float, float]], value: Tensor) -> Tensor:
    """Return the quotient of two polynomials."""
    numerator, denominator = (torch.full_like(value, first) for first in coefficients[0])
    for above, below in coefficients[1:]:
        numerator, denominator = numerator * value + above, denominator * value + below
    return numerator / denominator


def _repeat_interleave(values: Tensor, repeats: Any, dim: int | None = None, **options: Any) -> Tensor:
    values, dim = (values.flatten(), 0) if dim is None else (values, dim % values.dim())
    size = [*values.shape[: dim + 1], repeats, *values.shape[dim + 1 :]]
    return values.unsqueeze(dim + 1).expand(size).flatten(dim, dim + 1)


_ATEN = torch.ops.aten
DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    _ATEN.special_ndtri.default: ndtri,
    _ATEN.erfinv.default: erfinv,
    _ATEN.lgamma.default: lgamma,
    _ATEN.log1p.default: log1p,
    _ATEN.expm1.default: expm1,
    _ATEN.special_expm1.default: expm1,
    _ATEN.bucketize.Tensor: lambda value, edges, **options: count_below(edges, value[..., None])[..., 0],
    _ATEN.searchsorted.Tensor: lambda edges, value, **options: count_below(edges, value),
    _ATEN.cummax.default: running_maximum,
    _ATEN.cummin.default: running_minimum,
    _ATEN.repeat_interleave.self_int: _repeat_interleave,
}
