"""Baselines: simple forecasters to compare a model with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from armlp.data.panel import Panel
from armlp.registry import Registry, import_all


class History(NamedTuple):
    """The data that a baseline is fitted on, and the size of its task."""

    panel: Panel  # `values` holds the last observed value where one is missing
    ends: Tensor  # [S] int64 row at which the rows before the first origin end; no later row may be fitted on
    unit: Tensor  # [S, V] error of the seasonal naive inside each series, data units; nan where it is not defined
    context_length: int  # `L`, the values that the model uses
    horizon: int
    season_length: int  # steps in a season


class Baseline(ABC):
    """A point forecaster that is scored beside the model.

        @BASELINES.register("last value")
        class LastValue(Baseline): ...

    Attributes:
        default: Whether every scoreboard includes it; otherwise it must be asked for.
        order: Position in tables, ascending.
        numeric: Whether it forecasts numbers; False for codes, None for either.
    """

    default: ClassVar[bool] = True
    order: ClassVar[float] = 100
    numeric: ClassVar[bool | None] = True

    def __init__(self, history: History) -> None:
        self.panel, self.season_length = history.panel, history.season_length

    @classmethod
    def fit(cls, history: History) -> Baseline:
        """Fit a baseline on the rows before the first origin."""
        return cls(history)

    @abstractmethod
    def forecast(self, series: Tensor, origin: Tensor, horizon: int) -> Tensor:
        """Return forecasts `[B, H, V]`, data units, from the values before each origin.

        Args:
            series: `[B]` int64 index of the series.
            origin: `[B]` int64 row of the first value to forecast, at least 1.
            horizon: `H`.
        """


BASELINES: Registry[Baseline] = Registry("baselines", Baseline)

import_all(__name__, __path__)
