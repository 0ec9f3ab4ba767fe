"""The Lightning data module: a table in, batches out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from armlp.data import catalog
from armlp.data.panel import Panel
from armlp.data.seasonality import find_season
from armlp.data.tables import read_panel
from armlp.data.windows import OriginLoader, Split, TrainingLoader
from armlp.errors import UserError

_LEAST = {"horizon": 1, "season_length": 1, "batch_size": 1, "val_windows": 1, "test_windows": 0}


def plain(value: Any) -> Any:
    """An option as plain Python, the only kind that a checkpoint gives back without running code.

    Args:
        value: Perhaps a number of numpy, or a sequence of them.
    """
    if isinstance(value, np.generic):
        return value.item()
    return [plain(item) for item in value] if isinstance(value, (list, tuple, np.ndarray)) else value


class TrainedPart(NamedTuple):
    """What a checkpoint has seen, in training or validation.

    Attributes:
        keys: `[S]` int64 hash of each series' id, ascending.
        until: `[S]` int64 time of the last row seen, as the calendar counts time.
    """

    keys: Tensor
    until: Tensor


class SeriesDataModule(LightningDataModule):
    """Windows and splits over a table of series.

    Args:
        source: A CSV or Parquet file, a folder or glob of Parquet files, the name of a catalog data set, or (from
            Python) a pandas, polars or pyarrow table.
        id_column: Column that names the series of a long table.
        time_column: Column of times, or of integer steps.
        target_columns: Columns to forecast: `y` of a long table, every numeric column of a wide one where left out.
            Several columns of a long table make vector series.
        layout: `long` (ids in a column), `wide` (one column a series), `vector` (all columns one vector series) or
            `auto`: long where the id column is there, wide otherwise.
        freq: pandas frequency alias, or an integer step for integer times; inferred where left out.
        horizon: `H`, how many steps to forecast; from the frequency where left out.
        season_length: Steps in a season; from the frequency where left out, or from the training part itself where the
            times are bare integers. 1 means none.
        val_windows: Origins held out for validation, each of `H` steps; 1 where left out (a week of `taylor`).
        test_windows: Origins held out for `test`, each of `H` steps, at the very end. Training never sees them.
        batch_size: Training windows per batch; from the number of windows where left out.
        seed: Of the order of training windows.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Any = catalog.DEFAULT,  # not IntoFrame: jsonargparse would open the file
        id_column: str = "unique_id",
        time_column: str = "ds",
        target_columns: Sequence[str] | str | None = None,
        layout: str = "auto",
        freq: str | int | None = None,
        horizon: int | None = None,
        season_length: int | None = None,
        val_windows: int | None = None,
        test_windows: int = 0,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["source"], logger=False)
        self.hparams.update({name: plain(value) for name, value in self.hparams.items()})
        if isinstance(source, (str, os.PathLike)):
            self.save_hyperparameters({"source": os.fspath(source)}, logger=False)
        for name, least in _LEAST.items():
            value = self.hparams[name]
            if value is not None and value < least:
                raise UserError(f"--data.{name}: {value} is too small; it must be at least {least}.")
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer origins than processes
        self.source = source
        self.seed = seed
        self.context_length = 1
        self.span = 1
        self.trained = TrainedPart(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
        self._panel: Panel | None = None

    @property
    def panel(self) -> Panel:
        """The panel, read at the first look."""
        if self._panel is None:
            self.setup()
        assert self._panel is not None
        return self._panel

    @property
    def horizon(self) -> int:
        """`H`, known once the panel has been read."""
        return int(self.hparams["horizon"])

    @property
    def season_length(self) -> int:
        """Steps in a season, known once the panel has been read."""
        return int(self.hparams["season_length"])

    @property
    def split(self) -> Split:
        """What is held out of training."""
        return Split(self.horizon, self.hparams["val_windows"], self.hparams["test_windows"])

    def setup(self, stage: str | None = None) -> None:
        """Reads the source once and settles what was left to the data."""
        if self._panel is not None:
            return
        source, options = catalog.resolve(self.source)
        columns = ("id_column", "time_column", "target_columns", "layout", "freq")
        panel = read_panel(source, **{name: self.hparams[name] for name in columns} | dict(options.reader))
        known = {name: getattr(options, name) or getattr(panel.calendar, name) for name in ("horizon", "season_length")}
        if self.hparams["horizon"] is None:
            self.hparams["horizon"] = known["horizon"]
        if self.hparams["val_windows"] is None:
            self.hparams["val_windows"] = options.val_windows or 1
        if self.hparams["season_length"] is None:
            self.hparams["season_length"] = known["season_length"]
            if panel.calendar.is_integer and options.season_length is None:
                # Bare integers have no frequency: the training part itself has to tell.
                self.hparams["season_length"] = find_season(panel, self.split.train_ends(panel.lengths))
        if source is not self.source:
            panel = replace(panel, name=str(self.source))
        self._panel = panel

    def shape_windows(self, context_length: int, span: int) -> None:
        """Sets what the model needs of a window: a context of `L`, and `T` values after it to train on."""
        self.context_length, self.span = context_length, span

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def refuse_untrainable(self) -> None:
        """Refuses data on which nothing can be trained, or nothing validated.

        Raises:
            UserError: No series is long enough, and the message names the longest and the length that it needs; or
                nothing was observed in the validation windows.
        """
        self._refuse_too_short()
        if not any(bool(windows.target_observed.any()) for windows in self.val_dataloader()):
            raise UserError(
                f"{self.panel.name} has no observed value in the last {self.split.val_windows} x {self.horizon} steps "
                "before the test windows, which validation needs: leave out empty rows at the end, or raise "
                "--data.val_windows."
            )

    def _refuse_too_short(self) -> None:
        panel, needed = self.panel, self._rows_needed()
        longest = int(panel.lengths.argmax())
        if panel.lengths[longest] < needed:
            raise UserError(
                f"No series is long enough to train on: the longest, {panel.ids[longest]!r}, has "
                f"{int(panel.lengths[longest])} rows and needs {needed}, {needed - 2} of them held out; lower "
                "--data.horizon, --data.val_windows or --data.test_windows, or add rows."
            )

    def _rows_needed(self) -> int:
        """A training part of two rows, and what is held out."""
        return 2 + (self.split.val_windows + self.split.test_windows) * self.horizon

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled batches of every training window; warns of series that have none.

        Raises:
            UserError: No series is long enough.
        """
        self._refuse_too_short()
        panel, ends = self.panel, self.split.train_ends(self.panel.lengths)
        short = (ends < 2).nonzero()[:, 0]
        if len(short):
            names = ", ".join(
                f"{panel.ids[index]!r} ({int(panel.lengths[index])} rows)" for index in short[:3].tolist()
            )
            warnings.warn(
                f"{len(short)} of {len(panel)} series are too short to train on and are only forecast: {names}"
                f"{', ...' if len(short) > 3 else ''}; "
                f"a series needs {self._rows_needed()} rows, {self._rows_needed() - 2} of them held out.",
                stacklevel=2,
            )
        loader = TrainingLoader(
            panel,
            ends,
            self.context_length,
            self.span,
            self.hparams["batch_size"] or 1,
            seed=self.seed,
            **self._ranks(),
        )
        if self.hparams["batch_size"] is None:
            # Large batches run at the rate of matrix multiplication; small data need the noise of small ones.
            loader.batch_size = self.hparams["batch_size"] = min(512, max(32, loader.num_windows // 16))
        if loader.num_windows < loader.world_size:
            raise UserError(
                f"{panel.name} has {loader.num_windows} training windows for {loader.world_size} processes; "
                "lower --trainer.devices."
            )
        seen = ends + self.split.val_windows * self.horizon
        keys, order = panel.keys.sort()
        self.trained = TrainedPart(keys, torch.from_numpy(self._row_times(seen - 1))[order])
        return loader

    def _row_times(self, rows: Tensor) -> np.ndarray:
        return self.panel.calendar.shift(self.panel.starts, rows.numpy())

    def _origin_loader(self, split: Split, part: str, span: int) -> OriginLoader:
        series, origins = split.origins(self.panel.lengths, part)
        if not len(series):
            longest = int(self.panel.lengths.argmax())
            needed = 1 + self.horizon * (1 + (split.test_windows if part == "val" else 0))
            raise UserError(
                f"No series of {self.panel.name} is long enough for the {part} windows: the longest, "
                f"{self.panel.ids[longest]!r}, has {int(self.panel.lengths[longest])} rows and needs {needed}; lower "
                "--data.horizon, or add rows."
            )
        return OriginLoader(self.panel, series, origins, self.context_length, span, **self._ranks())

    def val_dataloader(self) -> OriginLoader:
        """The validation origins."""
        return self._origin_loader(self.split, "val", self.horizon)

    def test_dataloader(self) -> OriginLoader:
        """The test origins; told of no windows it takes one."""
        return self._origin_loader(self.test_split, "test", self.horizon)

    @property
    def test_split(self) -> Split:
        """The split that `test` scores: at least one window."""
        return Split(self.horizon, 0, self.hparams["test_windows"] or 1)

    def predict_dataloader(self) -> OriginLoader:
        """The end of every series."""
        return self._origin_loader(self.split, "predict", 0)

    def series_trained_on_test(self) -> int:
        """How many series have test rows that the checkpoint has seen in training or validation."""
        if not len(self.trained.keys):
            return 0
        panel = self.panel
        place = torch.searchsorted(self.trained.keys, panel.keys).clamp(max=len(self.trained.keys) - 1)
        known = self.trained.keys[place] == panel.keys
        first = self._row_times(self.test_split.train_ends(panel.lengths).clamp(min=0))
        return int((known & (torch.from_numpy(first) <= self.trained.until[place])).sum())

    def state_dict(self) -> dict[str, Tensor]:
        """What training has seen, so that a later test can tell."""
        return self.trained._asdict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what training has seen."""
        self.trained = TrainedPart(**state)
