"""Scalers: the affine map of a window to network units and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from armlp.registry import Registry

# A spread below this share of the values is rounding noise of float32, not variation.
_ROUNDING = 1e-5
# The spread of a constant context as a share of its size, which keeps forecasts near the constant.
_CONSTANT = 1e-2
# The smallest scale: much smaller ones have no reciprocal in float32.
_MIN_SCALE = 1e-32
# The largest value in network units: float32 holds its square.
REACH = 1e9
# Standard deviations between the quartiles of a normal distribution.
_QUARTILES = 1.349


class Scaling(NamedTuple):
    """One affine map per window and channel, in data units: `data = shift + scale * network`."""

    shift: Tensor  # `[B, 1, V]`, or `[B, M, V]` for each step of a season from the window's first step on
    scale: Tensor  # `[B, 1, V]`, above 0
    magnitude: Tensor  # `[B, 1, V]`, above 0: mean absolute value of the observed context

    def shift_at(self, step: int, count: int) -> Tensor:
        """Return the shift `[B, 1 or count, V]` of `count` values from `step` on; a context begins at step 0."""
        season = self.shift.shape[1]
        if season == 1:
            return self.shift
        return self.shift[:, torch.arange(step, step + count, device=self.shift.device) % season]

    def to_network(self, values: Tensor, step: int = 0) -> Tensor:
        """Map values `[B, T, V]` from `step` on to network units, limited to 1e9; a context begins at step 0."""
        return ((values - self.shift_at(step, values.shape[1])) / self.scale).clamp(-REACH, REACH)

    def within_reach(self, values: Tensor, step: int = 0) -> Tensor:
        """Limit values `[B, T, V]` in data units to 1e9 network units."""
        shift, reach = self.shift_at(step, values.shape[1]), REACH * self.scale
        return values.clamp(shift - reach, shift + reach)

    def repeat(self, num_paths: int) -> Scaling:
        """Return every window `num_paths` times, `[B * P, 1, V]`."""
        return Scaling(*(part.repeat_interleave(num_paths, dim=0) for part in self))

    def tile(self, members: int) -> Scaling:
        """Return the whole batch `members` times, `[E * B, 1, V]`."""
        return Scaling(*(torch.cat([part] * members) for part in self))


class Observed:
    """The observed values of `context [B, L, V]` and their statistics, `[B, 1, V]` each, data units.

    All values count as observed where none is. A constant context gets a scale that keeps everything finite.
    """

    def __init__(self, context: Tensor, observed: Tensor) -> None:
        weight = observed.to(context.dtype)  # multiplying is several times faster than torch.where
        self.weight = weight + (weight.sum(1, keepdim=True) == 0)
        self.values = torch.where(self.weight > 0, context, 0.0)
        self.count = self.weight.sum(1, keepdim=True)
        magnitude = self.values.abs().sum(1, keepdim=True) / self.count
        self.magnitude = torch.where(magnitude > 0, magnitude.clamp(min=_MIN_SCALE), 1.0)

    def mean(self) -> Tensor:
        """Return the mean, data units."""
        return self.values.sum(1, keepdim=True) / self.count

    def deviation(self, around: Tensor) -> Tensor:
        """Return the root mean square distance from `around [B, 1 or L, V]`, in multiples of the magnitude."""
        errors = self.weight * ((self.values - around) / self.magnitude)  # float32 holds the squares in these units
        return (errors.square().sum(1, keepdim=True) / self.count).sqrt()

    def scaling(self, shift: Tensor, deviation: Tensor) -> Scaling:
        """Return the scaling with a shift in data units and a scale in multiples of the magnitude."""
        scale = self.magnitude * torch.where(deviation > _ROUNDING, deviation, _CONSTANT)
        return Scaling(shift, scale.clamp(min=_MIN_SCALE), self.magnitude)


class Scaler(ABC):
    """Base class of scalers, which measure the scaling of a window.

    Forecasts are equivariant in scale with all scalers except `none` and `global`, and under shifts with all
    except these and `mean_abs`.

    Args:
        season_length: `M`, steps in a season.

    Attributes:
        identity: Whether values stay unchanged.
        by_window: Whether the scaling depends on the window.
        needs_season: Whether the scaler is useful only for data with a season.
        statistics: Names of the training statistics that `measure` takes; the network holds them as buffers.
    """

    identity: ClassVar[bool] = False
    by_window: ClassVar[bool] = True
    needs_season: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ()

    def __init__(self, season_length: int = 1) -> None:
        self.season_length = season_length

    @abstractmethod
    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the scaling of a context `[B, L, V]`, data units; only observed values count.

        `statistics` are those of the training data, as `fit` returned them.
        """

    def num_shifts(self, context_length: int) -> int:
        """Return how many shifts a context has: 1, or one for each step of a season."""
        return 1

    def initial_statistics(self, channels: int) -> dict[str, Tensor]:
        """Return the statistics of a network that is not trained yet."""
        return {}

    def fit(self, values: Tensor, observed: Tensor) -> dict[str, Tensor]:
        """Return the statistics of training data `[N, V]`, data units; they broadcast to `initial_statistics`."""
        return {}


SCALERS: Registry[Scaler] = Registry("scaler", Scaler)


@SCALERS.register("none")
class NoScaler(Scaler):
    """Leave values unchanged."""

    identity = True
    by_window = False

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        magnitude = Observed(context, observed).magnitude
        return Scaling(torch.zeros_like(magnitude), torch.ones_like(magnitude), magnitude)


@SCALERS.register("mean_abs")
class MeanAbsScaler(Scaler):
    """Divide by the mean absolute value."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        magnitude = Observed(context, observed).magnitude
        return Scaling(torch.zeros_like(magnitude), magnitude, magnitude)


@SCALERS.register("standard")
class StandardScaler(Scaler):
    """Subtract the mean and divide by the standard deviation."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        window = Observed(context, observed)
        mean = window.mean()
        return window.scaling(mean, window.deviation(mean))


@SCALERS.register("last")
class LastScaler(Scaler):
    """Subtract the last observed value and divide by the standard deviation."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        window = Observed(context, observed)
        step = torch.arange(context.shape[1], device=context.device)[:, None]
        last = torch.where(window.weight > 0, step, -1).argmax(1, keepdim=True)
        return window.scaling(context.gather(1, last), window.deviation(window.mean()))


@SCALERS.register("robust")
class RobustScaler(Scaler):
    """Subtract the median and divide by the interquartile range, scaled to be a normal distribution's deviation."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the median and the interquartile range; the standard deviation where the range is 0."""
        window = Observed(context, observed)
        quarters = torch.linspace(0.25, 0.75, 3, dtype=context.dtype, device=context.device)
        values = torch.where(window.weight > 0, context, torch.nan)
        low, median, high = values.nanquantile(quarters, dim=1, keepdim=True)
        distance = (high - low) / window.magnitude / _QUARTILES
        # The range is 0 where half of the values are equal.
        return window.scaling(median, torch.where(distance > _ROUNDING, distance, window.deviation(window.mean())))


@SCALERS.register("seasonal")
class SeasonalScaler(StandardScaler):
    """Subtract the mean of each step of the season and divide by the standard deviation of the rest.

    A season longer than half the context counts as none.
    """

    needs_season = True

    def num_shifts(self, context_length: int) -> int:
        """Return the season length if the context holds two seasons, otherwise 1."""
        return self.season_length if self.season_length <= context_length // 2 else 1

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the means by step of the season, and the standard deviation around them."""
        season = self.num_shifts(context.shape[1])
        if season == 1:
            return super().measure(context, observed)
        window = Observed(context, observed)
        phase = torch.arange(context.shape[1], device=context.device) % season
        empty = context.new_zeros(context.shape[0], season, context.shape[2])  # `len` would fix the size in an export
        total, count = empty.index_add(1, phase, window.values), empty.index_add(1, phase, window.weight)
        mean = window.mean()  # the shift of a step of the season that was never observed
        shift = torch.where(count > 0, total / count.clamp(min=1), mean)
        rest = window.deviation(shift[:, phase])
        # The rest is 0 where the season repeats exactly.
        return window.scaling(shift, torch.where(rest > _ROUNDING, rest, window.deviation(mean)))


@SCALERS.register("global")
class GlobalScaler(Scaler):
    """Subtract the mean and divide by the standard deviation of each channel in the training data."""

    by_window = False
    statistics = ("level", "spread")

    def initial_statistics(self, channels: int) -> dict[str, Tensor]:
        shape = (1, 1, channels) if channels > 1 else (1, 1)  # the shapes in checkpoints
        return {"level": torch.zeros(shape), "spread": torch.ones(shape)}

    def fit(self, values: Tensor, observed: Tensor) -> dict[str, Tensor]:
        """Return the mean and the standard deviation of observed values; 1 where nothing varies."""
        values, weight = values.double(), observed.double()
        count = weight.sum(0).clamp(min=1)
        mean = (weight * values).sum(0) / count
        spread = ((weight * (values - mean)).square().sum(0) / count).sqrt()
        return {"level": mean, "spread": torch.where(spread > 1e-6 * mean.abs(), spread, 1.0)}

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the training statistics, the same for all windows."""
        magnitude = Observed(context, observed).magnitude
        mean, spread = (statistics[name].to(magnitude).expand_as(magnitude) for name in self.statistics)
        return Scaling(mean, spread, magnitude)
