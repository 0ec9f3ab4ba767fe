"""What does a panel cost? Memory of a fit, time of reading, and windows a second.

    python scripts/what_does_a_panel_cost.py [memory] [growth] [reading] [loader] [mapped] [--repeats 3] [--write]

The parts:

    memory   peak memory of a whole `Forecaster.fit` on a Parquet file of 20,000 series of 1,000 points, less that of a
             fit on ten series, in units of the size of the panel. A panel has 5 bytes a value: 4 for the value, 1 for
             whether it was observed. Validation is of all series.
    growth   the same by the number of series, up to 1,000,000 of 100 points (--most), and by context length, with the
             slope in bytes a value; with --write also the picture scripts/pictures/memory.png. Validation takes ten
             batches, because memory does not depend on their number.
    reading  seconds from 20 million rows of Parquet to a panel, beside `pyarrow.parquet.read_table` and one sort by id
             and time; rows are ordered by series, by time, or shuffled
    loader   windows a second of the training loader alone, beside `values.unfold(0, L+T, 1)[rows]` on the same values,
             with rows that were shuffled and split into batches before; one thread
    mapped   `armlp fit` on a folder of Parquet files whose panel is larger than `--data.memory_budget`: the first fit
             writes the panel to disk, the second reads it from there

Every fit and every reading runs in a new process, whose peak is VmHWM of Linux: resident memory, shared libraries
included. Readings and passes of the loader take turns with what they are compared with, and the tables hold medians.
The tables of `memory`, `reading` and `loader` are 20,000 x 1,000, hourly, with text for ids. 1 MB is 10^6 bytes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report import add_write_option, table, write_results

MB = 1e6
BYTES_A_VALUE = 5
SERIES, POINTS = 20_000, 1_000
CONTEXT, HORIZON, BATCH = 168, 24, 512
ROW_GROUP = 1 << 20
COUNTS = (1_000, 10_000, 100_000, 300_000, 1_000_000)
CONTEXTS = (24, 96)
PICTURE = Path(__file__).parent / "pictures" / "memory.png"


def main() -> None:
    """Measure the parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, default=3, help="of every timing")
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="series in `growth`")
    parser.add_argument("--budget", default="1GB", help="of memory in `mapped`")
    parser.add_argument("--mapped_series", type=int, default=300_000, help="of 1,000 points in `mapped`")
    add_write_option(parser)
    options = parser.parse_args()
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"{name} is not one of {', '.join(PARTS)}")
    tables = []
    for name in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            tables.append(PARTS[name](Path(folder), options))
    write_results(__file__, __doc__, tables, options.write)


def memory(folder: Path, options: argparse.Namespace) -> str:
    """Compare the peak of a fit with the size of its panel."""
    whole, few = write(folder / "whole.parquet", SERIES), write(folder / "few.parquet", 10)
    large, small = fit_peaks(whole, CONTEXT), fit_peaks(few, CONTEXT)
    panel = SERIES * POINTS * BYTES_A_VALUE
    rows = []
    for stage, much, little in zip(("until training starts", "from then on", "whole fit"), large, small, strict=True):
        megabytes = [f"{size / MB:,.0f}" for size in (much, little, much - little, panel)]
        rows.append((stage, *megabytes, f"{(much - little) / panel:.2f}"))
    return table(
        f"Peak memory of a fit, {SERIES:,} series x {POINTS:,}, L={CONTEXT}",
        (
            "stage",
            f"{SERIES:,} series, MB",
            "10 series, MB",
            "difference",
            "panel, MB",
            "difference / panel (target 3)",
        ),
        rows,
    )


def growth(folder: Path, options: argparse.Namespace) -> str:
    """Measure peak memory by the number of series."""
    points, horizon = 100, 12
    counts = [10, *(count for count in COUNTS if count <= options.most)]
    peaks: dict[int, list[float]] = {length: [] for length in CONTEXTS}
    for count in counts:
        path = write(folder / "table.parquet", count, points)
        for length in CONTEXTS:
            peaks[length].append(fit_peaks(path, length, horizon, 10)[-1])
            print("growth", count, f"L={length}", f"{peaks[length][-1] / MB:.0f} MB", flush=True)
    values = np.multiply(counts, points)
    slopes = {length: float(np.polyfit(values, peaks[length], 1)[0]) for length in CONTEXTS}
    measured = zip(counts, *peaks.values(), strict=True)
    rows = [(f"{count:,}", *(f"{size / MB:,.0f}" for size in sizes)) for count, *sizes in measured]
    rows.append(("slope, bytes a value", *(f"{slopes[length]:.1f}" for length in CONTEXTS)))
    if options.write:
        draw(values, peaks, slopes)
    return table(
        f"Peak memory of a fit by series of {points} points (a panel has {BYTES_A_VALUE} bytes a value)",
        ("series", *(f"L={length}, MB" for length in CONTEXTS)),
        rows,
    )


def draw(values: np.ndarray, peaks: dict[int, list[float]], slopes: dict[int, float]) -> None:
    """Draw peak memory by the number of values, beside three times the size of the panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from armlp.evaluation.charts import BLUE, INK, ORANGE

    figure = Figure(figsize=(9, 4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    millions = values / 1e6
    bound = min(sizes[0] for sizes in peaks.values()) + 3 * BYTES_A_VALUE * values
    axis.plot(millions, bound / MB, color=INK, linewidth=1, linestyle=":", label="ten series + 3 x panel")
    # The second line is wider and below the first, so that both are visible where they agree.
    styles = zip(CONTEXTS, (BLUE, ORANGE), (1.8, 5.0), ("o", "s"), (2, 1), strict=True)
    for length, color, width, marker, order in styles:
        label = f"fit, L={length}: {slopes[length]:.1f} bytes a value"
        style = {"color": color, "linewidth": width, "marker": marker, "markersize": width + 3, "zorder": order}
        axis.plot(millions, np.divide(peaks[length], MB), alpha=1 if order == 2 else 0.45, label=label, **style)
    axis.set_title("Peak memory of a fit by the size of the panel", loc="left", fontsize=10)
    axis.set_xlabel("values in the panel, millions", fontsize=9)
    axis.set_ylabel("MB", fontsize=9)
    axis.set_ylim(0, 1.1 * max(max(sizes) for sizes in peaks.values()) / MB)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(loc="upper left", frameon=False, fontsize=9)
    figure.savefig(PICTURE)


def reading(folder: Path, options: argparse.Namespace) -> str:
    """Compare reading a panel with reading a table and sorting it."""
    rows = []
    for order in ("by series", "by time", "shuffled"):
        path = write(folder / "table.parquet", SERIES, order=order)
        path.read_bytes()  # into the cache of the system, for both readers
        runs: dict[Callable[[Path], float], list[tuple[float, float]]] = {read_panel: [], read_and_sort: []}
        for _ in range(options.repeats):
            for function, measured in runs.items():
                measured.append(in_new_process(function, path))
                print("reading", order, function.__name__, *(f"{number:.3g}" for number in measured[-1]), flush=True)
        (ours, ours_peak), (theirs, theirs_peak) = (np.median(measured, axis=0) for measured in runs.values())
        seconds = f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"
        rows.append((order, *seconds, f"{ours_peak / MB:,.0f}", f"{theirs_peak / MB:,.0f}"))
    return table(
        f"Reading {SERIES * POINTS:,} rows of Parquet, {pa.cpu_count()} threads of pyarrow",
        ("order of rows", "panel, s", "table + sort, s", "ratio (target 2)", "panel, peak MB", "table + sort, peak MB"),
        rows,
    )


def read_panel(path: Path) -> float:
    """Return the seconds of reading a panel, without imports."""
    import narwhals  # noqa: F401 (read_panel imports it at its first call, which is not measured)
    import pandas  # noqa: F401 (same reason)
    import torch  # noqa: F401 (same reason)

    from armlp.data.tables import read as tables

    begin = time.perf_counter()
    panel = tables.read_panel(path)
    seconds = time.perf_counter() - begin
    assert (len(panel), len(panel.values)) == (SERIES, SERIES * POINTS)
    return seconds


def read_and_sort(path: Path) -> float:
    """Return the seconds of reading a table and sorting it."""
    begin = time.perf_counter()
    rows = pq.read_table(path).sort_by([("unique_id", "ascending"), ("ds", "ascending")])
    seconds = time.perf_counter() - begin
    assert len(rows) == SERIES * POINTS
    return seconds


def loader(folder: Path, options: argparse.Namespace) -> str:
    """Compare the loader with gathering the same rows by indexing."""
    return table(
        f"Batches of {BATCH} windows, L={CONTEXT}, T={HORIZON}, from {SERIES * POINTS:,} values, one thread",
        ("source", "windows / s", "loader / this (target 0.9)"),
        in_new_process(loader_rows, write(folder / "table.parquet", SERIES), 5 * options.repeats)[0],
    )


def loader_rows(path: Path, repeats: int) -> list[tuple[str, ...]]:
    """Return rows of the table, from passes of 200 batches each.

    An epoch begins with computing its order. One row adds the share of a pass in that time.
    """
    import torch

    from armlp import SeriesDataModule

    torch.set_num_threads(1)
    batches, span = 200, CONTEXT + HORIZON
    # Without calendar inputs, which the bare gather does not have.
    data = SeriesDataModule(str(path), horizon=HORIZON, batch_size=BATCH, calendar_inputs=False)
    data.setup()
    data.shape_windows(CONTEXT, HORIZON)
    windows = data.train_dataloader()
    begin = time.perf_counter()
    epoch = iter(windows)
    next(epoch)
    share = (time.perf_counter() - begin) * batches / len(windows)

    series, origin = windows.window(torch.randperm(windows.num_windows)[: 2 * batches * repeats * BATCH])
    order = iter((data.panel.offsets[series] + origin - CONTEXT).split(BATCH))
    values, observed = (store[:, 0].unfold(0, span, 1) for store in (data.panel.values, data.panel.observed))

    def from_loader() -> None:
        for _ in range(batches):
            next(epoch)

    def bare(*stores: torch.Tensor) -> None:
        for _ in range(batches):
            rows = next(order)
            for store in stores:
                store[rows].split([CONTEXT, HORIZON], dim=1)

    passes: dict[str, Callable[[], None]] = {
        "loader": from_loader,
        "values.unfold[rows]": lambda: bare(values),
        "the same, and observed.unfold[rows]": lambda: bare(values, observed),
    }
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(repeats):
        for name, run in passes.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    median["loader, with the order of the epoch"] = median["loader"] + share
    rates = {name: batches * BATCH / each for name, each in median.items()}
    return [(name, f"{rate:,.0f}", f"{rates['loader'] / rate:.2f}") for name, rate in rates.items()]


def mapped(folder: Path, options: argparse.Namespace) -> str:
    """Measure time and peak memory of two fits whose panel is larger than their memory budget."""
    from armlp.cli import main as armlp

    files = 20
    source = folder / "tables"
    source.mkdir()
    for number in range(files):
        share = options.mapped_series // files
        write(source / f"part-{number:02d}.parquet", share, first=number * share)
    command = ["fit", "--data.source", str(source), "--data.memory_budget", options.budget]
    command += ["--data.horizon", str(HORIZON), "--data.batch_size", str(BATCH), "--model.context_length", str(CONTEXT)]
    command += ["--model.hidden_sizes", "[32]", "--trainer.max_steps", "20", "--trainer.limit_val_batches", "10"]
    command += ["--trainer.default_root_dir", str(folder), "--trainer.enable_progress_bar", "false"]
    rows = []
    for run in ("first", "second"):
        begin = time.perf_counter()
        _, peak = in_new_process(armlp, command)
        rows.append((run, f"{time.perf_counter() - begin:.0f}", f"{peak / MB:,.0f}"))
        print("mapped", *rows[-1], flush=True)
    panel = options.mapped_series * POINTS * BYTES_A_VALUE
    return table(
        f"armlp fit, {options.mapped_series:,} series x {POINTS:,} in {files} files, a panel of {panel / MB:,.0f} MB, "
        f"--data.memory_budget {options.budget}",
        ("fit", "seconds", "peak MB"),
        rows,
    )


def fit_peaks(path: Path, *arguments: Any) -> tuple[float, float, float]:
    """Return the peaks of memory until training starts, from then on, and of both, in bytes."""
    before, after = in_new_process(fit, path, *arguments)
    return before, after, max(before, after)


def fit(path: Path, context_length: int, horizon: int = HORIZON, val_batches: float = 1.0) -> float:
    """Fit a small network, and return the peak of memory until training starts, where the count is reset."""
    from lightning.pytorch import Callback

    from armlp import Forecaster

    class Start(Callback):
        def setup(self, *_: Any, **__: Any) -> None:
            peaks.append(peak())
            Path("/proc/self/clear_refs").write_text("5")

    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        options = {"context_length": context_length, "hidden_sizes": [32], "residual_blocks": 0, "batch_size": BATCH}
        options |= {"max_steps": 20, "limit_val_batches": val_batches, "callbacks": Start()}
        Forecaster(horizon, **options, enable_progress_bar=False, default_root_dir=folder).fit(str(path))
    return peaks[0]


def write(path: Path, series: int, points: int = POINTS, order: str = "by series", first: int = 0) -> Path:
    """Write hourly series with a daily season to a Parquet file, in parts, so that this process stays small."""
    rng = np.random.default_rng(first)
    ids = pa.array([f"series-{first + number:07d}" for number in range(series)])
    shuffled = rng.permutation(series * points) if order == "shuffled" else None
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for begin in range(0, series * points, ROW_GROUP):
            row = np.arange(begin, min(begin + ROW_GROUP, series * points))
            if order == "by time":
                step, one = np.divmod(row, series)
            else:
                one, step = np.divmod(row if shuffled is None else shuffled[row], points)
            y = 10 + one % 7 + np.sin(2 * np.pi * step / 24) + 0.3 * rng.standard_normal(len(row))
            ds = np.datetime64("2024-01-01", "us") + step * np.timedelta64(1, "h")
            writer.write_table(pa.table([ids.take(pa.array(one)), ds, y], schema=SCHEMA), ROW_GROUP)
    return path


def in_new_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Call a function in a new process, and return its result and the peak of memory in bytes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(with_peak, function, *arguments).result()


def with_peak(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return the result of a function and the peak of memory of this process."""
    return function(*arguments), peak()


def peak() -> float:
    """Return the peak of memory in bytes; `ru_maxrss` would include that of the parent."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024.0 * int(found[1])


SCHEMA = pa.schema({"unique_id": pa.string(), "ds": pa.timestamp("us"), "y": pa.float64()})
PARTS: dict[str, Callable[[Path, argparse.Namespace], str]] = {
    "memory": memory,
    "growth": growth,
    "reading": reading,
    "loader": loader,
    "mapped": mapped,
}


if __name__ == "__main__":
    main()
