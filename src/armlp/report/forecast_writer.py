"""Tables and pictures of sampled paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from armlp.arguments import check_arguments
from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.storage import parse_bytes
from armlp.data.tables.encoders import spell_values
from armlp.data.tables.write import write_table_like
from armlp.data.windows import Windows
from armlp.errors import LARGEST_SEED, UserError, check_bounds
from armlp.evaluation.charts import Fan, fan_charts, save_chart, series_fan
from armlp.evaluation.quantiles import MODEL, check_levels, forecast_columns, mode_columns
from armlp.files import prepare_output, write_table
from armlp.training.module import ForecastModule
from armlp.training.sampling import PRECISIONS, Sampling, from_all_ranks

_MAX_CHARTS = 6
_SUFFIXES = {"output": (".parquet", ".csv"), "paths": (".parquet", ".csv"), "plot": (".png",)}


class BatchForecasts(NamedTuple):
    """The forecasts of a batch, on the CPU."""

    series: Tensor  # [B] index of the series
    origin: Tensor  # [B] row of the first value after the origin
    columns: dict[str, Tensor]  # [B, H] columns of the table, after the gap
    paths: Tensor | None  # [B, P, gap + H, V], data units; None where they are not needed


class ForecastWriter(Callback):
    """Collect the paths of `predict` and `test` in one table.

    Args:
        output: Table to write, `.parquet` or `.csv`.
        levels: Central coverages of the intervals, in percent.
        num_paths: `P`, sampled futures per series.
        seed: Seed of the paths; the same seed and series give the same paths.
        temperature: For categorical heads: below 1 makes likely ones likelier, above 1 less so.
        top_k: For categorical heads: number of the likeliest that may be drawn.
        precision: Precision of matrix products: `32-true`, or `bf16-mixed`, coarser but faster for large networks.
        memory: Memory for paths, such as `1GB`; it limits how many series are forecast at a time.
        paths: Also write every path here, `.parquet` or `.csv`, as `unique_id, ds, path, y`; in a test with `cutoff`.
        plot: Also draw fan charts of the first series here, `.png`.

    Attributes:
        table: The table of the last run; None before it.
        gathers: Whether a run adds to the table of earlier runs.
    """

    def __init__(
        self,
        output: str | None = None,
        levels: Sequence[float] | float = (80, 95),
        num_paths: int = 200,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        precision: str = "32-true",
        memory: str | int = "1GB",
        paths: str | None = None,
        plot: str | None = None,
    ) -> None:
        options = check_arguments(ForecastWriter.__init__, locals())
        for name in ("num_paths", "top_k"):
            check_bounds(name, options[name], 1)
        check_bounds("seed", options["seed"], 0, LARGEST_SEED)
        if options["temperature"] <= 0:
            raise UserError(f"`temperature`: {temperature} is not above 0.")
        if precision not in PRECISIONS:
            raise UserError(f"`forecast.precision`: {precision} is none of {', '.join(PRECISIONS)}.")
        self.levels = check_levels(levels)
        options["memory"] = parse_bytes(memory, "memory")
        self.sampling = Sampling(**{name: options[name] for name in Sampling._fields})
        self.output, self.paths, self.plot = output, paths, plot
        self.table: Any = None
        self.gathers = False
        self._gap = 0
        self._batches: list[BatchForecasts] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the outputs can be written, before the work starts; a UserError names the option."""
        if stage not in ("predict", "test"):
            return
        assert isinstance(pl_module, ForecastModule)
        data = pl_module.datamodule
        in_use = {Path(data.source).resolve()} if isinstance(data.source, (str, os.PathLike)) else set()
        for option, suffixes in _SUFFIXES.items():
            path = getattr(self, option)
            if path is None:
                continue
            if Path(path).resolve() in in_use:
                raise UserError(f"`{option}`: {path} is the data itself or another output; give it a name of its own.")
            in_use.add(Path(path).resolve())
            prepare_output(path, suffixes)
        if self.plot is not None and not data.panel.is_numeric:
            raise UserError("`plot`: the values are no numbers, so there is no scale to draw a chart on; leave it out.")
        pl_module.sampling = self.sampling
        self._gap = data.test_split.test_gap if stage == "test" else 0
        if not self.gathers:
            self._batches = []

    def _collect(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Windows,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the forecasts of a batch, and in a test the truth."""
        assert isinstance(pl_module, ForecastModule)
        if not len(batch.series):
            return
        panel = pl_module.datamodule.panel
        truth, paths = None, outputs
        if trainer.testing:
            truth = panel.in_data_units(batch.series, batch.target)
            truth = torch.where(batch.target_observed.to(truth.device), truth, torch.nan)
        levels = self.levels if pl_module.has_distribution else []
        columns: dict[str, Tensor] = {}
        for channel, suffix in enumerate(_suffixes(panel)):
            if truth is not None:
                columns["y" + suffix] = truth[..., channel]
            if not panel.is_numeric:
                columns |= mode_columns(paths[..., channel])
            else:
                whole = pl_module.network.head.discrete
                columns |= forecast_columns(paths[..., channel], levels, MODEL + suffix, whole=whole)
        columns = {name: values[:, self._gap :].cpu() for name, values in columns.items()}
        is_kept = self.paths is not None or not self._batches  # the first batch is enough to draw
        kept = paths.cpu() if is_kept else None
        self._batches.append(BatchForecasts(batch.series.cpu(), batch.origin.cpu(), columns, kept))

    on_predict_batch_end = on_test_batch_end = _collect

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the forecast table, or the backtest table, which adds `cutoff` and `y`."""
        assert isinstance(pl_module, ForecastModule)
        batches = [batch for rank in from_all_ranks(self._batches, trainer.world_size) for batch in rank]
        if not batches:
            return
        data, with_cutoff = pl_module.datamodule, trainer.testing
        series, times = _row_index(batches, self._gap, with_cutoff)
        columns = {}
        for name in batches[0].columns:
            values = torch.cat([batch.columns[name] for batch in batches]).flatten().numpy()
            # Nixtla's evaluation cannot join metrics of one column if some of them are float32.
            is_widened = with_cutoff and values.dtype.kind == "f"
            columns[name] = _with_symbols(data.panel, name, values.astype(float) if is_widened else values)
        self.table = write_table_like(data.panel, series, times, columns)
        if trainer.is_global_zero:  # every process has the table, and one writes it
            if self.output is not None:
                write_table(self.table, self.output)
            if self.paths is not None:
                write_table(_path_table(data.panel, batches, self._gap, with_cutoff), self.paths)
            if self.plot is not None:
                save_chart(fan_charts(_fans(data, batches[0]), self.levels), self.plot)
        if not self.gathers:
            self._batches = []

    on_predict_epoch_end = on_test_epoch_end = _write


def _fans(data: SeriesDataModule, batch: BatchForecasts) -> list[Fan]:
    """Return charts of the first series of a batch."""
    assert batch.paths is not None
    first = zip(*(part[:_MAX_CHARTS] for part in (batch.series, batch.origin, batch.paths)), strict=True)
    length = 3 * data.horizon
    return [series_fan(data.panel, int(one), int(row), paths, data.season_length, length) for one, row, paths in first]


def _suffixes(panel: Panel) -> list[str]:
    """Return the suffix of the columns of each channel."""
    return [""] if len(panel.channels) == 1 else [f"-{name}" for name in panel.channels]


def _with_symbols(panel: Panel, name: str, values: np.ndarray) -> np.ndarray:
    """Replace the codes in a column by what they stand for."""
    return spell_values(panel, values) if name in ("y", MODEL) else values


def _row_index(
    batches: Sequence[BatchForecasts], gap: int, with_cutoff: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the series and the times of every table row, `[B * H]` each."""
    horizon = next(iter(batches[0].columns.values())).shape[1]
    series = torch.cat([batch.series for batch in batches]).repeat_interleave(horizon)
    origin = torch.cat([batch.origin for batch in batches])
    times = {"ds": (origin[:, None] + gap + torch.arange(horizon)).flatten().numpy()}
    if with_cutoff:
        times["cutoff"] = (origin - 1).repeat_interleave(horizon).numpy()
    return series.numpy(), times


def _path_table(panel: Panel, batches: Sequence[BatchForecasts], gap: int, with_cutoff: bool) -> Any:
    """Return every path as rows `unique_id, ds(, cutoff), path, y`, with a column per channel."""
    paths = torch.cat([batch.paths for batch in batches if batch.paths is not None])
    paths = paths[:, :, gap:].transpose(1, 2)  # [B, H, P, V]
    num_paths = paths.shape[2]
    series, times = _row_index(batches, gap, with_cutoff)
    columns = {"path": np.tile(np.arange(num_paths), len(series))}
    for channel, suffix in enumerate(_suffixes(panel)):
        columns["y" + suffix] = _with_symbols(panel, "y", paths[..., channel].flatten().numpy())
    times = {name: rows.repeat(num_paths) for name, rows in times.items()}
    return write_table_like(panel, series.repeat(num_paths), times, columns)
