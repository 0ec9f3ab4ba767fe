"""Recalibration: paths moved until intervals cover, by what validation has shown, or what a stream shows since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.evaluation.conformal import conformal_factors, conformal_scores, recalibrate
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.agreement import warn_of_few_windows
from armlp.training.sampling import from_all_ranks
from armlp.training.stream import Stream

if TYPE_CHECKING:
    from armlp.training.module import ForecastModule

# Of about so many series validation tells by how much forecasts are recalibrated; more would not fit.
_CALIBRATED = 1 << 14


class Recalibration:
    """How the forecasts of a model are recalibrated.

    Args:
        kind: `off`, `split` or `adaptive`.

    Attributes:
        factors: `[H, K]` of the last validation; None where there was none, or too little of it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.factors: Tensor | None = None
        self._scores: list[Tensor] = []
        self._stream: Stream | None = None  # of the test or the forecast that goes on
        self._learns = False  # whether the stream takes in the windows that are forecast, as those of a test

    def prepare(self, data: SeriesDataModule, stage: str) -> None:
        """Forgets the stream before, and has tests go by time where there will be another."""
        self._stream = None
        data.tests_in_time = self.kind == "adaptive"
        if stage == "fit" and self.kind != "off":
            warn_of_few_windows(data, self.kind)

    def observe(self, data: SeriesDataModule, paths: Tensor, windows: Windows) -> None:
        """Takes in how well forecasts of a validation, `[B, P, H(, V)]` as the network gives them, have covered."""
        if self.kind != "off":
            truth = data.panel.in_data_units(windows.series, windows.target).to(paths)
            scores = conformal_scores(paths, truth, windows.target_observed.to(paths.device))
            self._scores.append(scores[:: 1 + len(data.panel) // _CALIBRATED].float().cpu())

    def settle(self, data: SeriesDataModule, world_size: int) -> None:
        """Settles the factors by what all processes have observed, if anything."""
        if self._scores:
            parts = from_all_ranks(self._scores, world_size)
            found = torch.cat([part for rank in parts for part in rank])
            self.factors = conformal_factors(found, data.split.val_windows)
            self._scores = []

    def follow(self, module: ForecastModule, part: str) -> None:
        """Brings a stream, where there is to be one, to where a `test` or a forecast (`predict`) begins."""
        if self.kind == "adaptive":
            self._stream, self._learns = Stream(module, part), part == "test"

    def rest(self) -> None:
        """Leaves the stream where the test has ended."""
        self._learns = False

    def __call__(self, network: AutoregressiveMLP, paths: Tensor, windows: Windows) -> Tensor:
        """Recalibrates paths, by the factors as they are now, or along the stream of a test.

        Args:
            network: That made the paths; what it has no values below 0 of still has none.
            paths: `[B, P, H(, V)]`, data units.
            windows: Which they go on from; of a test in the order of time, and their truth is taken in when it is due.

        Returns:
            `[B, P, H(, V)]`; the same where nothing is to be recalibrated.
        """
        factors = self.factors if self._stream is None else self._stream.factors
        if self.kind == "off" or factors is None:
            return paths
        if self._stream is not None and self._learns:
            paths = self._stream.recalibrate(windows, paths)
        else:
            paths = recalibrate(paths, factors)
        return paths.clamp(min=0) if network.non_negative else paths
