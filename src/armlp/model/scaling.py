"""Scalers: the affine map of a window to network units and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from armlp.registry import Registry

# A spread below this share of the level is rounding noise of float32, not variation.
_ROUNDING = 1e-5
# The spread of a constant context as a share of its level, which keeps forecasts near the constant.
_CONSTANT = 1e-2
# The smallest scale: much smaller ones have no reciprocal in float32.
_MIN_SCALE = 1e-32
# The largest distance from the shift in scales: float32 holds its square.
REACH = 1e9
# Standard deviations between the quartiles of a normal distribution.
_QUARTILES = 1.349


class Scaling(NamedTuple):
    """One affine map per window and channel: `data = shift + scale * network`.

    Attributes:
        shift: `[B, 1, V]` data units; or `[B, M, V]`, one for each step of a season, from the window's first step on.
        scale: `[B, 1, V]` data units, above 0.
        magnitude: `[B, 1, V]` mean absolute value of the observed context, data units, above 0.
    """

    shift: Tensor
    scale: Tensor
    magnitude: Tensor

    def shift_at(self, step: int, count: int) -> Tensor:
        """Return the shift of `count` values from `step` on, counted from the first value of the context.

        Returns:
            `[B, 1 or count, V]`, data units.
        """
        season = self.shift.shape[1]
        if season == 1:
            return self.shift
        return self.shift[:, torch.arange(step, step + count, device=self.shift.device) % season]

    def to_network(self, values: Tensor, step: int = 0) -> Tensor:
        """Return values in network units, at most 1e9 of them.

        Args:
            values: `[B, T, V]`, data units.
            step: Step of the first value, counted from the first value of the context.
        """
        return ((values - self.shift_at(step, values.shape[1])) / self.scale).clamp(-REACH, REACH)

    def within_reach(self, values: Tensor, step: int = 0) -> Tensor:
        """Return the values in data units, limited to 1e9 network units; arguments as above."""
        shift, reach = self.shift_at(step, values.shape[1]), REACH * self.scale
        return values.clamp(shift - reach, shift + reach)

    def repeat(self, num_paths: int) -> Scaling:
        """Return every window `num_paths` times, `[B * P, 1, V]`."""
        return Scaling(*(part.repeat_interleave(num_paths, dim=0) for part in self))

    def tile(self, members: int) -> Scaling:
        """Return the whole batch `members` times, `[E * B, 1, V]`."""
        return Scaling(*(torch.cat([part] * members) for part in self))


class Observed:
    """The observed values of a context and their statistics, `[B, 1, V]` each.

    A context that is constant, all zero or not observed at all gets a scale that keeps everything finite.

    Args:
        context: `[B, L, V]`, data units.
        observed: `[B, L, V]` bool; in a context without any observation the values that it was filled with count.
    """

    def __init__(self, context: Tensor, observed: Tensor) -> None:
        weight = observed.to(context.dtype)  # a float mask multiplies several times faster than torch.where selects
        self.weight = weight + (weight.sum(1, keepdim=True) == 0)
        self.values = torch.where(self.weight > 0, context, 0.0)
        self.count = self.weight.sum(1, keepdim=True)
        magnitude = self.values.abs().sum(1, keepdim=True) / self.count
        self.magnitude = torch.where(magnitude > 0, magnitude.clamp(min=_MIN_SCALE), 1.0)

    def mean(self) -> Tensor:
        """Return the mean, data units."""
        return self.values.sum(1, keepdim=True) / self.count

    def deviation(self, around: Tensor) -> Tensor:
        """Return the root mean square distance from `around [B, 1 or L, V]`, in multiples of the magnitude.

        In these units the squares of very large and very small values stay in float32.
        """
        errors = self.weight * ((self.values - around) / self.magnitude)
        return (errors.square().sum(1, keepdim=True) / self.count).sqrt()

    def scaling(self, shift: Tensor, deviation: Tensor) -> Scaling:
        """Return the scaling of a shift and of a scale in multiples of the magnitude."""
        scale = self.magnitude * torch.where(deviation > _ROUNDING, deviation, _CONSTANT)
        return Scaling(shift, scale.clamp(min=_MIN_SCALE), self.magnitude)


class Scaler(ABC):
    """What measures the scaling of a window. The first line of a docstring describes the scaler to users.

    Forecasts are equivariant in scale with every scaler but `none` and `global`, and in level with all of these but
    `mean_abs`.

    Args:
        season_length: `M`, steps in a season.

    Attributes:
        identity: Whether values stay as they are.
        by_window: Whether the scaling depends on the window.
        needs_season: Whether the scaler is of use with a season only.
        statistics: Names of the statistics of the training data that it takes; the network holds them as buffers.
    """

    identity: ClassVar[bool] = False
    by_window: ClassVar[bool] = True
    needs_season: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ()

    def __init__(self, season_length: int = 1) -> None:
        self.season_length = season_length

    @abstractmethod
    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the scaling of a context; only observed values count.

        Args:
            context: `[B, L, V]`, data units.
            observed: `[B, L, V]` bool.
            statistics: The buffers that `statistics` names.
        """

    def num_shifts(self, context_length: int) -> int:
        """Return how many shifts a context has: 1, or one for each step of a season."""
        return 1

    def initial_statistics(self, channels: int) -> dict[str, Tensor]:
        """Return the statistics of a network that is not trained yet."""
        return {}

    def fit(self, values: Tensor, observed: Tensor) -> dict[str, Tensor]:
        """Return the statistics of training data, in the shapes of `initial_statistics` or broadcasting to them.

        Args:
            values: `[N, V]`, data units.
            observed: `[N, V]` bool.
        """
        return {}


SCALERS: Registry[Scaler] = Registry("scaler", Scaler)


@SCALERS.register("none")
class NoScaler(Scaler):
    """Leave values as they are."""

    identity = True
    by_window = False

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the identity."""
        magnitude = Observed(context, observed).magnitude
        return Scaling(torch.zeros_like(magnitude), torch.ones_like(magnitude), magnitude)


@SCALERS.register("mean_abs")
class MeanAbsScaler(Scaler):
    """Divide by the mean absolute value."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return a shift of 0 and the mean absolute value."""
        magnitude = Observed(context, observed).magnitude
        return Scaling(torch.zeros_like(magnitude), magnitude, magnitude)


@SCALERS.register("standard")
class StandardScaler(Scaler):
    """Subtract the mean and divide by the standard deviation."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the mean and the standard deviation."""
        seen = Observed(context, observed)
        mean = seen.mean()
        return seen.scaling(mean, seen.deviation(mean))


@SCALERS.register("last")
class LastScaler(Scaler):
    """Subtract the last observed value and divide by the standard deviation."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the last observed value and the standard deviation."""
        seen = Observed(context, observed)
        step = torch.arange(context.shape[1], device=context.device)[:, None]
        last = torch.where(seen.weight > 0, step, -1).argmax(1, keepdim=True)
        return seen.scaling(context.gather(1, last), seen.deviation(seen.mean()))


@SCALERS.register("robust")
class RobustScaler(Scaler):
    """Subtract the median and divide by the distance of the quartiles, as a normal distribution's deviation."""

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the median and the distance of the quartiles; the standard deviation where that is 0."""
        seen = Observed(context, observed)
        quarters = torch.linspace(0.25, 0.75, 3, dtype=context.dtype, device=context.device)
        values = torch.where(seen.weight > 0, context, torch.nan)
        low, median, high = values.nanquantile(quarters, dim=1, keepdim=True)
        distance = (high - low) / seen.magnitude / _QUARTILES
        # Half of the values or more may be equal.
        return seen.scaling(median, torch.where(distance > _ROUNDING, distance, seen.deviation(seen.mean())))


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
        seen = Observed(context, observed)
        phase = torch.arange(context.shape[1], device=context.device) % season
        empty = context.new_zeros(len(context), season, context.shape[2])
        total, count = empty.index_add(1, phase, seen.values), empty.index_add(1, phase, seen.weight)
        mean = seen.mean()  # of a step of the season that was never observed
        shift = torch.where(count > 0, total / count.clamp(min=1), mean)
        rest = seen.deviation(shift[:, phase])
        # A season may repeat itself exactly.
        return seen.scaling(shift, torch.where(rest > _ROUNDING, rest, seen.deviation(mean)))


@SCALERS.register("global")
class GlobalScaler(Scaler):
    """Subtract the mean and divide by the standard deviation of each channel in training, not of the window."""

    by_window = False
    statistics = ("level", "spread")

    def initial_statistics(self, channels: int) -> dict[str, Tensor]:
        """Return a level of 0 and a spread of 1."""
        shape = (1, 1, channels) if channels > 1 else (1, 1)  # as checkpoints have them
        return {"level": torch.zeros(shape), "spread": torch.ones(shape)}

    def fit(self, values: Tensor, observed: Tensor) -> dict[str, Tensor]:
        """Return the mean and the standard deviation of observed values; 1 where nothing varies."""
        values, weight = values.double(), observed.double()
        count = weight.sum(0).clamp(min=1)
        level = (weight * values).sum(0) / count
        spread = ((weight * (values - level)).square().sum(0) / count).sqrt()
        return {"level": level, "spread": torch.where(spread > 1e-6 * level.abs(), spread, 1.0)}

    def measure(self, context: Tensor, observed: Tensor, **statistics: Tensor) -> Scaling:
        """Return the statistics of training, the same for all windows."""
        magnitude = Observed(context, observed).magnitude
        level, spread = (statistics[name].to(magnitude).expand_as(magnitude) for name in self.statistics)
        return Scaling(level, spread, magnitude)
