"""What every baseline has, and the registry of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from armlp.data.panel import Panel
from armlp.registry import Registry


class History(NamedTuple):
    """What a baseline is fitted on, and what it has to forecast.

    Attributes:
        panel: The series; where a value is missing, `panel.values` holds the last observed one.
        ends: `[S]` int64 row at which each series' rows before the first origin end; no later row may be fitted on.
        unit: `[S, V]` error of the seasonal naive inside each series, data units; nan where there is none.
        context_length: `L`, the values that the model sees.
        horizon: `H`.
        season_length: Steps in a season.
    """

    panel: Panel
    ends: Tensor
    unit: Tensor
    context_length: int
    horizon: int
    season_length: int


class Baseline(ABC):
    """A forecaster without sampled paths, scored beside the model.

        @BASELINES.register("last value")
        class LastValue(Baseline): ...

    Attributes:
        default: Whether it is in every scoreboard; otherwise only where it is asked for.
        order: Baselines are shown in ascending order.
        symbols: Whether it can forecast symbols; all can forecast numbers.
    """

    default: ClassVar[bool] = True
    order: ClassVar[float] = 100
    symbols: ClassVar[bool] = False

    @classmethod
    def suits(cls, symbols: bool) -> bool:
        """Return whether it can forecast values of this kind: symbols, or numbers."""
        return cls.symbols or not symbols

    @classmethod
    @abstractmethod
    def fit(cls, history: History) -> Baseline:
        """Return the baseline, fitted on the rows before the first origin."""

    @abstractmethod
    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Return forecasts `[B, H, V]`, data units, from the values before each origin.

        Args:
            series: `[B]` int64.
            origin: `[B]` int64 row of the first value to forecast, at least 1.
            horizon: `H`.
        """


BASELINES: Registry[Baseline] = Registry("baselines", Baseline)
