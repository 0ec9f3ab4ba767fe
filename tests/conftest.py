"""Fixtures shared by the tests of several packages."""

import contextlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from torch.utils.tensorboard import writer

from armlp import Forecaster
from armlp.cli import main
from armlp.data.datamodule import SeriesDataModule
from armlp.data.panel import Panel
from armlp.data.time.calendar import Calendar
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.module import ForecastModule
from armlp.training.settings import ModelSettings
from armlp.training.settle import settle_model

# No time limit for an example: a busy machine is no fault of the code.
settings.register_profile("armlp", deadline=None)
settings.load_profile("armlp")

Drawing = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session", autouse=True)
def drawing() -> Iterator[Drawing]:
    """Leaves out the drawing of charts for TensorBoard, which takes half of a short training.

    It yields a function whose context draws them, or calls another function for each figure.
    """
    draw = writer.figure_to_image

    @contextlib.contextmanager
    def drawn_by(function: Callable[..., np.ndarray] = draw) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer, "figure_to_image", function)
            yield

    with drawn_by(lambda figure, close=True: np.zeros((3, 1, 1), dtype=np.uint8)):
        yield drawn_by


@pytest.fixture
def drawn(drawing: Drawing) -> Iterator[None]:
    """Has a test draw the charts that it makes."""
    with drawing():
        yield


@pytest.fixture(scope="session")
def make_panel() -> Callable[..., Panel]:
    """A maker of small panels of random walks, as `read_panel` would give them."""

    def make(
        lengths: Sequence[int], channels: int = 1, missing: float = 0.0, seed: int = 0, ids: Sequence | None = None
    ) -> Panel:
        generator = np.random.default_rng(seed)
        offsets = np.cumsum([0, *lengths])
        values = 10 + generator.normal(size=(offsets[-1], channels)).cumsum(0)
        observed = generator.random(values.shape) >= missing
        observed[offsets[:-1]] = True  # a series starts with a value
        for row, channel in zip(*np.nonzero(~observed), strict=True):
            values[row, channel] = values[row - 1, channel]
        return Panel(
            values=torch.from_numpy(values).float(),
            observed=torch.from_numpy(observed),
            offsets=torch.from_numpy(offsets),
            ids=np.array([f"s{index:03d}" for index in range(len(lengths))] if ids is None else list(ids)),
            starts=np.zeros(len(lengths), dtype=np.int64),
            calendar=Calendar(1),
            channels=tuple(f"y{channel}" for channel in range(channels)),
        )

    return make


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pd.DataFrame]:
    """A maker of small long tables: noisy sines of a season of 24 steps, hourly, or stepping by 1 with `freq=1`."""

    def make(series: int = 3, rows: int = 96, freq: str | int = "h", seed: int = 0, first: int = 0) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        steps = np.arange(rows)
        times = 7 + steps if isinstance(freq, int) else pd.date_range("2024-01-01", periods=rows, freq=freq)
        levels = np.arange(10.0, 10 + series)[:, None]
        values = levels + np.sin(2 * np.pi * steps / 24) + 0.2 * generator.standard_normal((series, rows))
        table: pd.DataFrame = pd.DataFrame(
            {
                "unique_id": np.repeat([f"s{first + index:02d}" for index in range(series)], rows),
                "ds": np.tile(times, series),
                "y": values.ravel(),
            }
        )
        return table

    return make


@pytest.fixture(scope="session")
def settled() -> Callable[..., ForecastModule]:
    """A maker of modules whose options are settled on data, without a training."""

    def make(data: SeriesDataModule, **options: Any) -> ForecastModule:
        given = ModelSettings(**options)
        return ForecastModule.of(settle_model(given, data))

    return make


@pytest.fixture
def checkpoint_of(tmp_path: Path) -> Callable[[Forecaster], dict[str, Any]]:
    """A reader of what a forecaster saves."""

    def read(forecaster: Forecaster) -> dict[str, Any]:
        forecaster.save(tmp_path / "saved.ckpt")
        return read_checkpoint(tmp_path / "saved.ckpt")

    return read


# Enough training to move every weight, and two validations; paths are those of the network alone.
SMALL = (
    "--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.check_val_every_n_epoch=null",
    "--trainer.log_every_n_steps=2", "--model.hidden_sizes=[8]", "--model.residual_blocks=1", "--model.dropout=0.2",
    "--model.min_spread=0",
)  # fmt: skip


class Program:
    """The command line, in this process and in the current folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *args: object) -> str:
        """Runs a command; what it printed comes back, without line breaks."""
        self.capsys.readouterr()
        main([str(arg) for arg in args])
        return " ".join(self.capsys.readouterr().out.split())

    def fit(self, source: object, *args: object, logs: bool = False) -> Path:
        """Run a short training; return the folder of its run, which has scalars and charts only with `logs`."""
        self("fit", "--data.source", source, *SMALL, f"--trainer.logger={str(logs).lower()}", *args)
        return max(Path("lightning_logs").resolve().iterdir(), key=lambda run: run.stat().st_mtime_ns)

    def breaks_off(self, when: Callable[[ForecastModule], bool], *args: object) -> None:
        """Runs a training in which the power goes at the first step of which `when` is true."""
        step = ForecastModule.training_step

        def stumble(module: ForecastModule, *args: Any) -> Any:
            if when(module):
                raise RuntimeError("the power went")
            return step(module, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ForecastModule, "training_step", stumble)
            with pytest.raises(RuntimeError, match="the power went"):
                self(*args)

    def refuses(self, *args: object) -> str:
        """Runs a command that has to fail; the one sentence that it says comes back."""
        before = set(Path().rglob("*"))
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        assert end.value.code == 2
        assert set(Path().rglob("*")) == before, "something was half-written"
        said = self.capsys.readouterr().err
        sentence = said.removeprefix("armlp: ")
        assert said.startswith("armlp: ")
        assert sentence.count("\n") == 1
        assert sentence.endswith((".\n", "?\n"))
        return sentence.strip()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Program(capsys)


@pytest.fixture(scope="session")
def two_processes() -> Callable[..., list[str]]:
    """A way to run a script in two processes of one group, as `devices=2` starts them, but both at once.

    It takes the script, its arguments and more of the environment, and returns what each process has printed.
    """

    def run(script: str, *arguments: str, **environment: str) -> list[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        together = os.environ | {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
            "NODE_RANK": "0", "WORLD_SIZE": "2",
        } | environment  # fmt: skip
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                env=together | {"LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        printed = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], printed
        return printed

    return run


class Trained(NamedTuple):
    """What one `armlp fit` left: read it, and write nothing beside it."""

    table: pd.DataFrame
    source: Path
    run: Path
    best: Path
    printed: str


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_table: Callable[..., pd.DataFrame], drawing: Drawing
) -> Trained:
    """One short training with H=6 and a test window held out."""
    folder = tmp_path_factory.mktemp("trained")
    table = make_table()
    table.to_parquet(folder / "table.parquet")
    options = ("--data.horizon=6", "--data.test_windows=2", f"--trainer.default_root_dir={folder}")
    with contextlib.redirect_stdout(io.StringIO()) as printed, drawing():
        main(["fit", f"--data.source={folder / 'table.parquet'}", *options, *SMALL])
    run = folder / "lightning_logs" / "version_0"
    return Trained(table, folder / "table.parquet", run, run / "checkpoints" / "best.ckpt", printed.getvalue())
