"""The Lightning data module: a table in, batches out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from armlp.arguments import check_arguments
from armlp.data import catalog
from armlp.data.checks import (
    check_known_covariates,
    check_lengths,
    check_observed,
    check_origins,
    check_regular_gaps,
    check_window_count,
    warn_of_constant,
    warn_of_short,
)
from armlp.data.covariate_scaling import covariate_sizes
from armlp.data.loaders import OriginLoader, TrainingLoader
from armlp.data.panel import Panel
from armlp.data.settings import check_options, reader_options, settle_batch_size, settle_inputs, settle_split
from armlp.data.storage import parse_bytes
from armlp.data.summary import DataSummary, summarize
from armlp.data.tables.known_future import KnownFuture, read_known_future
from armlp.data.tables.read import read_panel
from armlp.data.training_record import TrainingRecord
from armlp.data.windows import Split, Windows, origins_between

# So many origins of a series tell how intervals have covered of late.
_MAX_NEW_ORIGINS = 50


class SeriesDataModule(LightningDataModule):
    """Windows and splits over a table of series.

    Args:
        source: A CSV or Parquet file, a folder (hive partitions too) or glob of Parquet files, the name of a catalog
            data set, or (from Python) a pandas, polars or pyarrow table or dataset.
        id_column: Column that names the series of a long table.
        time_column: Column of times, or of integer steps.
        target_columns: Columns to forecast: `y` of a long table, every numeric column of a wide one where left out.
            Several columns of a long table make vector series.
        known_covariates: Columns known ahead, numbers or text; a forecast needs their future values, as many as the
            horizon, in rows with empty targets or in `future`.
        past_covariates: Columns known up to the origin only.
        static_covariates: Columns that say one thing of a whole series; only of a long table.
        calendar_inputs: Tell the model the time of day, the day of the week and the like of what it forecasts: `true`
            for all that the calendar has, `false` for none, or a list of `day`, `week`, `month` (of days), `year` and
            `months` (of a year). Where left out, what has come round at least twice in a typical series of training.
        symbols: `true` where the target holds symbols (text, integers, booleans) instead of numbers, or a list of the
            symbols that there are.
        layout: `long` (ids in a column), `wide` (one column a series), `vector` (all columns one vector series) or
            `auto`: long where the id column is there, wide otherwise.
        freq: pandas frequency alias, or an integer step for integer times; inferred where left out.
        future: A table of ids, times and the known covariates after the last value of every series, as `source`.
        known_future: A table of ids, times and targets after the end of series, for `predict` only: every sampled path
            has these values, and what comes later is drawn given them. It has as many rows as are known; an empty
            target is not known.
        memory_budget: Most memory for the whole process, such as `2GB`; half of the machine's where left out. A panel
            of files that is too large for it is laid into files beside them, once, and mapped into memory.
        horizon: `H`, how many steps to forecast; from the frequency where left out.
        season_length: Steps in a season; from the frequency where left out, or from the training part itself where the
            times are bare integers. 1 means none.
        val_windows: Origins held out for validation, each of `H` steps; 1 where left out (a week of `taylor`).
        test_windows: Origins held out for `test`, each of `H` steps, at the very end. Training never sees them.
        test_step: How many steps apart those origins are; `H` where left out.
        test_gap: How many steps after an origin are not known yet and do not count; `H` steps after them do.
        batch_size: Training windows per batch; from the number of windows where left out.
        seed: Of the order of training windows.
        covariate_statistics: How covariates are scaled and coded; settled in training, so leave it out.
        trained_freq: The step of time that was trained on; settled in training, so leave it out.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Any = catalog.DEFAULT,  # not IntoFrame: jsonargparse would open the file
        id_column: str = "unique_id",
        time_column: str = "ds",
        target_columns: Sequence[str] | str | None = None,
        known_covariates: Sequence[str] | str | None = None,
        past_covariates: Sequence[str] | str | None = None,
        static_covariates: Sequence[str] | str | None = None,
        calendar_inputs: bool | Sequence[str] | str | None = None,
        symbols: bool | Sequence[str] | Sequence[int] | Sequence[bool] = False,
        layout: str = "auto",
        freq: str | int | None = None,
        future: str | os.PathLike[str] | Any = None,  # not IntoFrame: jsonargparse would open the file
        known_future: str | os.PathLike[str] | Any = None,
        memory_budget: str | int | None = None,
        horizon: int | None = None,
        season_length: int | None = None,
        val_windows: int | None = None,
        test_windows: int = 0,
        test_step: int | None = None,
        test_gap: int = 0,
        batch_size: int | None = None,
        seed: int = 0,
        covariate_statistics: dict[str, list[dict[str, Any]]] | None = None,
        trained_freq: str | int | None = None,
    ) -> None:
        super().__init__()
        # What is of this machine and this forecast alone is no part of a checkpoint.
        self.save_hyperparameters(ignore=["source", "future", "known_future", "memory_budget"], logger=False)
        self.hparams.update(check_arguments(SeriesDataModule.__init__, self.hparams))
        if isinstance(source, (str, os.PathLike)):
            self.save_hyperparameters({"source": os.fspath(source)}, logger=False)
        check_options(self.hparams)
        if memory_budget is not None:
            parse_bytes(memory_budget)
        self.chooses_cycles = calendar_inputs is None
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer origins than processes
        self.source = source
        self.future = future
        self.known_future = known_future
        self.known_values: KnownFuture | None = None  # of the last `predict_dataloader`
        self.memory_budget = memory_budget
        self.seed = seed
        self.context_length = 1
        self.span = 1
        self.patch_length = 1
        self.origins_at_once = 256  # in a batch of forecasts
        self.later_windows = 0  # test windows after those of this model, where a backtest refits
        self.tests_in_time = False  # whether test origins come in the order of time, not series by series
        self.trained = TrainingRecord.nothing()
        self._panel: Panel | None = None

    def __str__(self) -> str:
        """Return the source and the options that were given or settled, without a look at the data."""
        told = {name: value for name, value in self.hparams.items() if value is not None and name != "source"}
        told.pop("covariate_statistics", None)  # long, and not for people
        source = repr(os.fspath(self.source)) if isinstance(self.source, (str, os.PathLike)) else "a table in memory"
        return f"{type(self).__name__}({', '.join([source, *(f'{name}={value!r}' for name, value in told.items())])})"

    __repr__ = __str__

    @property
    def panel(self) -> Panel:
        """The panel, read at the first look."""
        if self._panel is None:
            self.setup()
        assert self._panel is not None
        return self._panel

    def twin(self, **options: Any) -> SeriesDataModule:
        """The same data, read once, of which a training can settle what it needs and leave no trace here.

        Args:
            **options: What is different there, as it is settled: `val_windows` 0 trains on the validation part too.
        """
        self.setup()
        twin = copy(self)
        twin._hparams = copy(self.hparams)
        twin.hparams.update(options)
        return twin

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
        return self._split(self.hparams["val_windows"], self.hparams["test_windows"])

    def _split(self, val_windows: int, test_windows: int) -> Split:
        step, gap = self.hparams["test_step"], self.hparams["test_gap"]
        return Split(self.horizon, val_windows, test_windows, step, gap, self.later_windows)

    def setup(self, stage: str | None = None) -> None:
        """Reads the source once and settles what was left to the data."""
        if self._panel is not None:
            return
        source, usual = catalog.resolve(self.source)
        options = reader_options(self.hparams, usual)
        panel = read_panel(source, **options, future=self.future, memory_budget=self.memory_budget)
        if source is not self.source:
            panel = replace(panel, name=str(self.source))
        settle_split(self.hparams, panel, usual)
        self._panel = settle_inputs(self.hparams, panel, usual, self.split)

    @property
    def num_val_windows(self) -> int:
        """Validation windows, each channel's counted."""
        panel = self.panel  # which settles the split
        return len(self.split.origins(panel.lengths, "val")[0]) * len(panel.channels)

    def leave_out_calendar(self) -> None:
        """Tells nothing of the calendar, for a model that cannot be told, unless it was asked for."""
        if self.chooses_cycles:
            self.hparams["calendar_inputs"] = []
            self._panel = replace(self.panel, calendar_cycles=())

    @property
    def has_covariates(self) -> bool:
        """Whether windows carry covariates or features of the calendar."""
        return self.panel.has_covariates

    @property
    def covariate_sizes(self) -> dict[str, list[int]]:
        """By `known`, `past` and `static`, how many codes each column has; 0 for numbers."""
        self.setup()
        return covariate_sizes(self.hparams["covariate_statistics"])

    @property
    def calendar_size(self) -> int:
        """`F`, how many features of the calendar there are: a sine and a cosine of every cycle."""
        return 2 * len(self.panel.calendar_cycles)

    def shape_windows(self, context_length: int, span: int, patch_length: int = 1) -> None:
        """Sets what the model needs of a window.

        Args:
            context_length: `L`.
            span: `T`, values after the context to train on.
            patch_length: `U`; covariates of a forecast reach to the end of its last patch.
        """
        self.context_length, self.span, self.patch_length = context_length, span, patch_length

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def check_trainable(self) -> None:
        """Refuses data on which nothing can be trained, or nothing validated.

        Raises:
            UserError: No series is long enough, and the message names the longest and the length that it needs; or
                nothing was observed in the validation windows.
        """
        if self.hparams["freq"] is None:
            check_regular_gaps(self.panel)
        check_lengths(self.panel, self.split)
        check_observed(self.panel, self.split, self.val_dataloader())

    def summary(self) -> DataSummary:
        """What the data are that are trained on, for people."""
        return summarize(self.panel, self.split, self.season_length, self._training_loader().num_windows)

    def settle_batch_size(self) -> None:
        """Settle the batch size by the number of training windows, where it was left out.

        Lightning's tools that search for one need a number to begin with.
        """
        self._training_loader()

    def _training_loader(self) -> TrainingLoader:
        """All training windows; settles what options there are of training on them."""
        self.hparams["trained_freq"] = self.panel.calendar.freq
        loader = TrainingLoader(
            self.panel,
            self.split.train_ends(self.panel.lengths),
            self.context_length,
            self.span,
            self.hparams["batch_size"] or 1,
            seed=self.seed,
            **self._ranks(),
        )
        settle_batch_size(self.hparams, loader.num_windows, -(-self.span // self.patch_length))
        loader.batch_size = self.hparams["batch_size"]
        return loader

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled batches of every training window; warns of series that have none, or nothing to learn from.

        Raises:
            UserError: No series is long enough.
        """
        panel, split = self.panel, self.split
        check_lengths(panel, split)
        warn_of_short(panel, split)
        warn_of_constant(panel)
        loader = self._training_loader()
        check_window_count(panel, loader.num_windows, loader.world_size)
        if self.trainer is not None:
            loader.panel = panel.on_device(self.trainer.strategy.root_device)
        self.trained = TrainingRecord.of(panel, loader.ends + split.val_windows * self.horizon)
        return loader

    def _origin_loader(self, split: Split, part: str, span: int) -> OriginLoader:
        series, origins = split.origins(self.panel.lengths, part)
        check_origins(self.panel, split, part, series)
        if part == "test" and self.tests_in_time:
            series, origins = self._in_time(series, origins)
        return self._loader(series, origins, span, split.test_gap if part == "test" else 0)

    def _in_time(self, series: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        order = self.panel.times(series, origins).argsort(stable=True)
        return series[order], origins[order]

    def _loader(self, series: Tensor, origins: Tensor, span: int, gap: int = 0) -> OriginLoader:
        covariate_span = -(-(span or self.horizon) // self.patch_length) * self.patch_length
        options = {"covariate_span": covariate_span, "gap": gap, **self._ranks()}
        return OriginLoader(self.panel, series, origins, self.context_length, span, self.origins_at_once, **options)

    def transfer_batch_to_device(self, batch: Windows, device: torch.device, dataloader_idx: int) -> Windows:
        """Moves what the network sees; where windows are from is looked up on the processor, which need not wait."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(series=batch.series, origin=batch.origin)

    def val_dataloader(self) -> OriginLoader:
        """The validation origins."""
        return self._origin_loader(self.split, "val", self.horizon)

    def test_dataloader(self) -> OriginLoader:
        """The test origins; told of no windows it takes one."""
        return self._origin_loader(self.test_split, "test", self.test_split.test_reach)

    @property
    def test_split(self) -> Split:
        """The split that `test` scores: at least one window."""
        return self._split(0, self.hparams["test_windows"] or 1)

    def predict_dataloader(self) -> OriginLoader:
        """The end of every series.

        Raises:
            UserError: Covariates that are known ahead are missing in the horizon, or the known future does not fit.
        """
        panel = self.panel
        if self.known_future is not None:
            options = {**self.hparams, **catalog.resolve(self.source)[1].reader}
            self.known_values = read_known_future(self.known_future, panel, options, self.horizon)
        check_known_covariates(panel, self.horizon, self.hparams["covariate_statistics"]["known"])
        return self._origin_loader(self.split, "predict", 0)

    def series_seen(self, part: str) -> int:
        """How many series have rows in a part, `val` or `test`, that the checkpoint has seen, validation included."""
        split = self.split if part == "val" else self.test_split
        first = split.train_ends(self.panel.lengths).clamp(min=0)
        return int(self.trained.has_seen(self.panel, first).sum())

    def newer_dataloader(self, part: str) -> OriginLoader:
        """Origins `H` apart in rows that the checkpoint has not seen, in the order of time, 50 of a series at most.

        Args:
            part: `test` for those before its first origin, `predict` for all.
        """
        panel, horizon = self.panel, self.horizon
        ends = self.test_split.train_ends(panel.lengths) if part == "test" else panel.lengths
        least = torch.minimum(ends // 2, torch.tensor(self.context_length)).clamp(min=1)  # with a context to speak of
        first = self.trained.first_new(panel, ends, least)
        return self._loader(*self._in_time(*origins_between(first, ends, horizon, _MAX_NEW_ORIGINS)), horizon)

    def state_dict(self) -> dict[str, Tensor]:
        """What training has seen, so that a later test can tell."""
        return self.trained._asdict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what training has seen."""
        self.trained = TrainingRecord(**state)
