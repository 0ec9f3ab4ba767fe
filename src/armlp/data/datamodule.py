"""The Lightning data module: a table in, batches out."""

from __future__ import annotations

import os
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from armlp.arguments import to_builtin
from armlp.data import catalog, checks
from armlp.data.covariate_scaling import covariate_sizes
from armlp.data.loaders import OriginLoader, TrainingLoader
from armlp.data.panel import Panel
from armlp.data.settings import DataSettings, settle, split_of, with_inputs
from armlp.data.split import Split, TrainingRecord, origins_between
from armlp.data.storage import parse_bytes
from armlp.data.summary import DataSummary, summarize
from armlp.data.tables.known_future import KnownFuture, read_known_future
from armlp.data.tables.read import read_panel
from armlp.data.windows import Windowing, Windows

# Enough origins of a series to measure recent coverage.
_MAX_NEW_ORIGINS = 50


class SeriesDataModule(LightningDataModule):
    """Windows and splits over a table of series.

    `setup` reads the table and chooses what was left out; nothing changes after it. The attribute `windowing` of the
    model that the Trainer trains sets the size of windows.

    Args:
        source: A CSV or Parquet file, a folder (hive partitions too) or glob of Parquet files, the name of a catalog
            data set, or (from Python) a pandas, polars or pyarrow table or dataset.
        future: A table of ids, times and the known covariates after the last value of every series, as `source`.
        known_future: A table of ids, times and targets after the end of series, for `predict` only: every sampled path
            has these values, and later values are drawn given them. It has as many rows as are known; an empty target
            is not known.
        memory_budget: Most memory for the whole process, such as `2GB`; half of the machine's where left out. A panel
            of files that is too large for it is written to files beside them, once, and mapped into memory.
        **options: The options of `DataSettings`.

    Attributes:
        given: The options of the user.
        settings: The options, with everything chosen after `setup`.
        windowing: The size of windows without a Trainer.
    """

    settings_class = DataSettings

    def __init__(
        self,
        source: str | os.PathLike[str] | Any = catalog.DEFAULT,  # not IntoFrame: jsonargparse would open the file
        future: str | os.PathLike[str] | Any = None,
        known_future: str | os.PathLike[str] | Any = None,
        memory_budget: str | int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.settings = self.given = DataSettings(**options)
        # Tables and memory belong to this machine and this forecast, not to a checkpoint.
        self.save_hyperparameters(ignore=["source", "future", "known_future", "memory_budget"], logger=False)
        self.hparams.update(vars(self.settings))
        if isinstance(source, (str, os.PathLike)):
            self.hparams["source"] = os.fspath(source)
        self.source, self.future, self.known_future = source, future, known_future
        self.memory_budget = to_builtin(memory_budget)
        if self.memory_budget is not None:
            parse_bytes(self.memory_budget)
        self.windowing = Windowing()
        self.later_windows = 0  # test windows after those of this model, in a backtest that refits
        self.chooses_cycles = self.settings.calendar_inputs is None  # from the data
        self._holds_out_validation = True
        self._record = TrainingRecord()
        self._panel: Panel | None = None

    def __str__(self) -> str:
        """Return the source and the options that were given or chosen, without reading the data."""
        source = repr(os.fspath(self.source)) if isinstance(self.source, (str, os.PathLike)) else "a table in memory"
        options = vars(self.settings) | {"covariate_statistics": None}  # too long to show
        shown = [f"{name}={value!r}" for name, value in options.items() if value is not None]
        return f"{type(self).__name__}({', '.join([source, *shown])})"

    __repr__ = __str__

    @property
    def panel(self) -> Panel:
        """The panel, read at its first use."""
        self.setup()
        assert self._panel is not None
        return self._panel

    @property
    def horizon(self) -> int:
        """`H`, known once the panel has been read."""
        assert self.settings.horizon is not None
        return self.settings.horizon

    @property
    def season_length(self) -> int:
        """Steps in a season, known once the panel has been read."""
        assert self.settings.season_length is not None
        return self.settings.season_length

    @property
    def split(self) -> Split:
        """The rows held out of training; reads the panel."""
        self.setup()
        split = split_of(self.settings, self.later_windows)
        return split if self._holds_out_validation else replace(split, val_windows=0)

    @property
    def test_split(self) -> Split:
        """The split of a test: at least one window, and no validation."""
        return replace(self.split, val_windows=0, test_windows=self.settings.test_windows or 1)

    @property
    def num_val_windows(self) -> int:
        """The number of validation windows times that of channels."""
        return len(self.split.origins(self.panel.lengths, "val")[0]) * len(self.panel.channels)

    @property
    def covariate_sizes(self) -> dict[str, list[int]]:
        """By `known`, `past` and `static`, the number of codes of each column; 0 for numbers."""
        self.setup()
        return covariate_sizes(self.settings.covariate_statistics or {})

    @property
    def calendar_size(self) -> int:
        """`F`, the number of calendar features: a sine and a cosine of every cycle."""
        return 2 * len(self.panel.calendar_cycles)

    def setup(self, stage: str | None = None) -> None:
        """Read the source once and choose what was left out; for `fit`, also what depends on the model."""
        if self._panel is None:
            source, defaults = catalog.resolve(self.source)
            options = self.settings.reader(defaults)
            panel = read_panel(source, **options, future=self.future, memory_budget=self.memory_budget)
            if source is not self.source:
                panel = replace(panel, name=str(self.source))
            self._use(settle(self.settings, panel, defaults), panel)
        if stage == "fit":
            settings = replace(self.settings, trained_freq=self.panel.calendar.freq)
            if not self._windowing().calendar and self.chooses_cycles:
                settings = replace(settings, calendar_inputs=[])
            if settings.batch_size is None:
                settings = replace(settings, batch_size=self._usual_batch_size())
            self._use(settings, self.panel)

    def _use(self, settings: DataSettings, panel: Panel) -> None:
        self.settings, self._panel = settings, with_inputs(panel, settings)
        self.hparams.update(vars(settings))

    def _usual_batch_size(self) -> int:
        # Large batches run at the speed of matrix multiplication, but small data need the noise of small ones.
        windows, windowing = self._training_loader(1).num_windows, self._windowing()
        patches = -(-windowing.span // windowing.patch_length)
        return min(max(32, 512 // min(6, patches)), max(32, windows // 16))

    def copy(self, hold_out_validation: bool = True) -> SeriesDataModule:
        """Return a data module of the same panel for another Trainer, which may train on the validation rows too."""
        self.setup()
        copied = copy(self)
        copied.trainer = None
        copied._hparams = copy(self.hparams)  # Lightning has no public way to copy hyperparameters
        copied._holds_out_validation = hold_out_validation
        return copied

    def _windowing(self) -> Windowing:
        module = None if self.trainer is None else self.trainer.lightning_module
        return getattr(module, "windowing", self.windowing)

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def check_trainable(self) -> None:
        """Raise a `UserError` about data that cannot be trained on or validated."""
        if self.settings.freq is None:
            checks.check_regular_gaps(self.panel)
        checks.check_lengths(self.panel, self.split)
        checks.check_observed(self.panel, self.split, self.val_dataloader())

    def summary(self) -> DataSummary:
        """Return a summary of the training data."""
        return summarize(self.panel, self.split, self.season_length, self._training_loader(1).num_windows)

    def _training_loader(self, batch_size: int) -> TrainingLoader:
        ends, windowing = self.split.train_ends(self.panel.lengths), self._windowing()
        sizes = windowing.context_length, windowing.span, batch_size
        return TrainingLoader(self.panel, ends, *sizes, seed=self.settings.seed, **self._ranks())

    def train_dataloader(self) -> TrainingLoader:
        """Return shuffled batches of all training windows; warn about short or constant series."""
        panel, split = self.panel, self.split
        checks.check_lengths(panel, split)
        checks.warn_of_short(panel, split)
        checks.warn_of_constant(panel)
        # Lightning's tools that search for a batch size write it to `hparams`.
        loader = self._training_loader(self.hparams["batch_size"] or self._usual_batch_size())
        checks.check_window_count(panel, loader.num_windows, loader.world_size)
        if self.trainer is not None:
            loader.panel = panel.on_device(self.trainer.strategy.root_device)
        self._record = TrainingRecord.of(panel, loader.ends + split.val_windows * self.horizon)
        return loader

    def _origin_loader(self, split: Split, part: str, span: int) -> OriginLoader:
        series, origins = split.origins(self.panel.lengths, part)
        checks.check_origins(self.panel, split, part, series)
        by_time = part == "test" and self._windowing().tests_by_time
        return self._loader(series, origins, span, split.test_gap if part == "test" else 0, by_time)

    def _loader(self, series: Tensor, origins: Tensor, span: int, gap: int, by_time: bool) -> OriginLoader:
        windowing = self._windowing()
        if by_time:
            order = self.panel.times(series, origins).argsort(stable=True)
            series, origins = series[order], origins[order]
        covariate_span = -(-(span or self.horizon) // windowing.patch_length) * windowing.patch_length
        sizes = windowing.context_length, span, windowing.series_at_once
        options = {"covariate_span": covariate_span, "gap": gap, **self._ranks()}
        return OriginLoader(self.panel, series, origins, *sizes, **options)

    def transfer_batch_to_device(self, batch: Windows, device: torch.device, dataloader_idx: int) -> Windows:
        """Move what the network reads; series and origins stay on the CPU, to index the panel without waiting."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(series=batch.series, origin=batch.origin)

    def val_dataloader(self) -> OriginLoader:
        """Return the validation origins."""
        return self._origin_loader(self.split, "val", self.horizon)

    def test_dataloader(self) -> OriginLoader:
        """Return the test origins; one per series where `test_windows` is 0."""
        return self._origin_loader(self.test_split, "test", self.test_split.test_span)

    def predict_dataloader(self) -> OriginLoader:
        """Return the end of every series; raise a `UserError` if known covariates or `known_future` do not fit."""
        panel = self.panel
        _ = self.known_values  # so that mistakes in it show first
        checks.check_known_covariates(panel, self.horizon, (self.settings.covariate_statistics or {})["known"])
        return self._origin_loader(self.split, "predict", 0)

    @cached_property
    def known_values(self) -> KnownFuture | None:
        """The values of `known_future`, for the paths of a forecast."""
        if self.known_future is None:
            return None
        options = {**self.hparams, **catalog.resolve(self.source)[1].reader}
        return read_known_future(self.known_future, self.panel, options, self.horizon)

    def series_seen(self, part: str) -> int:
        """Return how many series have rows of a part (`val`, `test`) that training or validation used."""
        split = self.split if part == "val" else self.test_split
        first = split.train_ends(self.panel.lengths).clamp(min=0)
        return int(self._record.has_seen(self.panel, first).sum())

    def newer_dataloader(self, part: str) -> OriginLoader:
        """Return origins `H` apart in rows after the training, ordered by time, at most 50 of a series.

        Part `test` has those before the first test origin, `predict` all.
        """
        panel, horizon = self.panel, self.horizon
        ends = self.test_split.train_ends(panel.lengths) if part == "test" else panel.lengths
        least = (ends // 2).clamp(1, self._windowing().context_length)
        first = self._record.first_new(panel, ends, least)
        return self._loader(*origins_between(first, ends, horizon, _MAX_NEW_ORIGINS), horizon, 0, by_time=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the rows that were trained on, for later tests."""
        return self._record._asdict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the rows that were trained on."""
        self._record = TrainingRecord(**state)
