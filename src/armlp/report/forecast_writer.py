"""The forecast writer, which makes tables and pictures of sampled paths."""

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
from armlp.data.panel import Panel
from armlp.data.storage import parse_bytes
from armlp.data.tables.encoders import spell_symbols
from armlp.data.tables.write import write_table_like
from armlp.data.windows import Windows
from armlp.errors import LARGEST_SEED, UserError, check_bounds
from armlp.evaluation.fan_charts import Fan, fan_charts, save_chart, series_fan
from armlp.evaluation.quantiles import SYMBOL, check_levels, forecast_columns, symbol_columns
from armlp.files import prepare_output, write_table
from armlp.training.module import ForecastModule
from armlp.training.sampling import PRECISIONS, Sampling, from_all_ranks

_MAX_CHARTS = 6


class _Forecasts(NamedTuple):
    """The forecasts of a batch: `[B]` series and origins, columns `[B, H]`, and paths `[B, P, H, V]` where wanted.

    Paths begin at the origin, columns after the gap.
    """

    series: Tensor
    origin: Tensor
    columns: dict[str, Tensor]
    paths: Tensor | None


class ForecastWriter(Callback):
    """Collects the paths of `predict` and `test`, and makes one table of them.

    Args:
        output: Table to write, `.parquet` or `.csv`.
        levels: Central coverages of the intervals, in percent.
        num_paths: `P`, sampled futures per series.
        seed: Of the paths; the same seed and series give the same paths.
        temperature: Of symbols and bins: below 1 the likely ones become likelier, above 1 less so.
        top_k: Of symbols and bins: only the so many likeliest are drawn.
        precision: Of the products inside the network: `32-true`, or `bf16-mixed`, which is faster where they are large,
            and coarser.
        memory: What paths may take, such as `1GB`; series are forecast so many at a time.
        paths: Also write every path here, `.parquet` or `.csv`, as `unique_id, ds, path, y`; in a test with `cutoff`.
        plot: Also draw fan charts of the first series here, `.png`.
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
        given = check_arguments(ForecastWriter.__init__, locals())
        for name in ("num_paths", "top_k"):
            check_bounds(name, given[name], 1)
        check_bounds("seed", given["seed"], 0, LARGEST_SEED)
        if given["temperature"] <= 0:
            raise UserError(f"`temperature`: {temperature} is not above 0.")
        if precision not in PRECISIONS:
            raise UserError(f"`forecast.precision`: {precision} is none of {', '.join(PRECISIONS)}.")
        self.output = output
        self.levels = check_levels(levels)
        room = parse_bytes(memory, "memory")
        self.sampling = Sampling(**{name: given[name] for name in Sampling._fields} | {"memory": room})
        self.paths = paths
        self.plot = plot
        self.table: Any = None
        self.gathers = False  # whether a run adds to the table of the runs before it
        self._gap = 0
        self._parts: list[_Forecasts] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses an output that could not be written, before the work is done."""
        if stage not in ("predict", "test"):
            return
        assert isinstance(pl_module, ForecastModule)
        taken = (
            [Path(pl_module.datamodule.source)] if isinstance(pl_module.datamodule.source, (str, os.PathLike)) else []
        )
        tables = (".parquet", ".csv")
        for option, suffixes in {"output": tables, "paths": tables, "plot": (".png",)}.items():
            path = getattr(self, option)
            if path is None:
                continue
            if any(Path(path).resolve() == other.resolve() for other in taken):
                raise UserError(f"`{option}`: {path} is the data itself or another output; give it a name of its own.")
            taken.append(Path(path))
            prepare_output(path, suffixes)
        if self.plot is not None and pl_module.datamodule.panel.symbols:
            raise UserError("`plot`: symbols have no scale to draw a chart on; leave it out.")
        pl_module.sampling = self.sampling
        self._gap = pl_module.datamodule.test_split.test_gap if stage == "test" else 0
        if not self.gathers:
            self._parts = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Windows, *args: Any
    ) -> None:
        """Keeps the forecasts of a batch."""
        self._collect(pl_module, batch, outputs, {})

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Windows, *args: Any
    ) -> None:
        """Keeps the forecasts of a batch, and the truth beside them."""
        assert isinstance(pl_module, ForecastModule)
        truth = pl_module.datamodule.panel.in_data_units(batch.series, batch.target)
        truth = torch.where(batch.target_observed.to(truth.device), truth, torch.nan)
        self._collect(pl_module, batch, outputs, {"y": truth})

    def _collect(self, pl_module: LightningModule, batch: Windows, paths: Tensor, others: dict[str, Tensor]) -> None:
        assert isinstance(pl_module, ForecastModule)
        if not len(batch.series):
            return
        panel, head = pl_module.datamodule.panel, pl_module.network.head
        levels = self.levels if pl_module.has_distribution else []
        columns: dict[str, Tensor] = {}
        for channel, suffix in enumerate(_suffixes(panel.channels)):
            # A vector series has columns of its own for each channel.
            columns |= {name + suffix: values[..., channel] for name, values in others.items()}
            if panel.symbols:
                columns |= symbol_columns(paths[..., channel])
            else:
                columns |= forecast_columns(paths[..., channel], levels, "armlp" + suffix, whole=head.discrete)
        keep = self.paths is not None or not self._parts  # the first batch is enough to draw
        self._parts.append(
            _Forecasts(
                batch.series.cpu(),
                batch.origin.cpu(),
                {name: values[:, self._gap :].cpu() for name, values in columns.items()},
                paths.cpu() if keep else None,
            )
        )

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the forecast table."""
        self._write(trainer, pl_module, with_cutoff=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the backtest table, which has the columns `cutoff` and `y` besides."""
        self._write(trainer, pl_module, with_cutoff=True)

    def _write(self, trainer: Trainer, pl_module: LightningModule, with_cutoff: bool) -> None:
        assert isinstance(pl_module, ForecastModule)
        parts = [part for rank in from_all_ranks(self._parts, trainer.world_size) for part in rank]
        if not parts:
            return
        panel = pl_module.datamodule.panel
        columns = {
            name: _spelled(panel, name, torch.cat([part.columns[name] for part in parts]).flatten().numpy())
            for name in parts[0].columns
        }
        series, times = _rows(parts, self._gap)
        if with_cutoff:
            # The evaluation of Nixtla cannot put metrics of one column together where some of them are float32.
            columns = {name: part.astype(float) if part.dtype.kind == "f" else part for name, part in columns.items()}
        else:
            del times["cutoff"]
        self.table = write_table_like(panel, series, times, columns)
        if trainer.is_global_zero:  # every process has the table, and one writes it
            if self.output is not None:
                write_table(self.table, self.output)
            if self.paths is not None:
                write_table(_path_table(panel, parts, self._gap, with_cutoff), self.paths)
            if self.plot is not None:
                save_chart(fan_charts(_fans(pl_module, parts[0]), self.levels), self.plot)
        if not self.gathers:
            self._parts = []


def _suffixes(channels: Sequence[str]) -> list[str]:
    return [""] if len(channels) == 1 else [f"-{channel}" for channel in channels]


def _spelled(panel: Panel, name: str, values: np.ndarray) -> np.ndarray:
    """A column as the table of the panel has it: symbols for codes."""
    return spell_symbols(panel, values) if panel.symbols and name in ("y", SYMBOL) else values


def _rows(parts: Sequence[_Forecasts], gap: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The series, the position and the cutoff of every row, `[B * H]` each."""
    horizon = next(iter(parts[0].columns.values())).shape[1]
    series = torch.cat([part.series for part in parts]).repeat_interleave(horizon)
    origin = torch.cat([part.origin for part in parts])
    position = (origin[:, None] + gap + torch.arange(horizon)).flatten()
    cutoff = (origin - 1).repeat_interleave(horizon)
    return series.numpy(), {"ds": position.numpy(), "cutoff": cutoff.numpy()}


def _path_table(panel: Panel, parts: Sequence[_Forecasts], gap: int, with_cutoff: bool) -> Any:
    """Every path as rows `unique_id, ds(, cutoff), path, y`; a column per channel for vector series."""
    kept = [part.paths for part in parts if part.paths is not None]
    paths = torch.cat(kept)[:, :, gap:].transpose(1, 2)  # [B, H, P, V]
    num_paths = paths.shape[2]
    series, times = _rows(parts, gap)
    values = paths.reshape(len(series) * num_paths, -1).numpy()
    columns = {"path": np.tile(np.arange(num_paths), len(series))}
    for channel, suffix in enumerate(_suffixes(panel.channels)):
        columns["y" + suffix] = _spelled(panel, "y", values[:, channel])
    names = ("ds", "cutoff") if with_cutoff else ("ds",)
    return write_table_like(
        panel, series.repeat(num_paths), {name: times[name].repeat(num_paths) for name in names}, columns
    )


def _fans(module: ForecastModule, part: _Forecasts) -> list[Fan]:
    """What to draw of the first series of a batch."""
    assert part.paths is not None
    data = module.datamodule
    return [
        series_fan(data.panel, int(series), int(origin), paths, data.season_length, 3 * data.horizon)
        for series, origin, paths in zip(
            part.series[:_MAX_CHARTS], part.origin[:_MAX_CHARTS], part.paths[:_MAX_CHARTS], strict=True
        )
    ]
