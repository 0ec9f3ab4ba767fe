"""Tests of run folders: no training ever writes to, or reads from, the folder of another."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from armlp import Forecaster, UserError
from armlp.report.runs import RunLogger, claim_log_folder, make_run_folder
from armlp.training.loop.checkpoint import read_checkpoint

MakeTable = Callable[..., pd.DataFrame]
QUICK: dict[str, Any] = {
    "horizon": 6, "max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "hidden_sizes": [4],
    "residual_blocks": 0, "enable_progress_bar": False,
}  # fmt: skip


def weights(checkpoint: dict[str, Any]) -> list[list[float]]:
    return [value.flatten().tolist() for value in checkpoint["state_dict"].values()]


def test_run_folders_that_are_made_at_the_same_time_are_different(tmp_path: Path):
    (tmp_path / "version_3").mkdir()
    (tmp_path / "version_old").mkdir()
    (tmp_path / "version_5").write_text("a file is in the way of a folder too")
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: make_run_folder(tmp_path), range(100)))
    assert sorted(int(folder.name.removeprefix("version_")) for folder in folders) == list(range(6, 106))


def test_loggers_that_start_together_have_a_folder_each(tmp_path: Path):
    loggers = [RunLogger(tmp_path) for _ in range(3)]
    assert not list(tmp_path.iterdir())  # a mistake that shows before training leaves nothing behind
    assert len({logger.log_dir for logger in loggers}) == 3
    again = RunLogger("elsewhere", str(tmp_path / "lightning_logs" / "version_1" / "checkpoints" / "last.ckpt"))
    assert Path(again.log_dir) == tmp_path / "lightning_logs" / "version_1"


def test_another_logger_that_took_the_number_of_another_training_is_refused(tmp_path: Path):
    first, second = CSVLogger(tmp_path), CSVLogger(tmp_path)
    assert first.log_dir == second.log_dir
    claim_log_folder(first)
    with pytest.raises(UserError, match=r"another training has just made .*version_0.*`logger`\.version"):
        claim_log_folder(second)


class FitsAnother(Callback):
    """Fits another forecaster in the same folder while a training ends."""

    def __init__(self, fit: Callable[[], object]) -> None:
        self.fit = fit

    def on_train_end(self, *args: Any) -> None:
        self.fit()


def test_a_program_that_trains_during_another_training_has_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_table: MakeTable
):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        make_table(first=ord(name)).to_csv(f"{name}.csv", index=False)
    options = ("--config=fast", "--data.horizon=6", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false")
    command = [sys.executable, "-m", "armlp", "fit", "--data.source=b.csv", *options]
    other = FitsAnother(lambda: subprocess.run(command, check=True, capture_output=True))
    Forecaster(**QUICK, callbacks=[other]).fit("a.csv")
    runs = [Path("lightning_logs", name) for name in ("version_0", "version_1")]
    assert sorted(Path("lightning_logs").iterdir()) == runs
    sources = [read_checkpoint(run / "checkpoints/best.ckpt")["datamodule_hyper_parameters"]["source"] for run in runs]
    assert sources == ["a.csv", "b.csv"]
    assert yaml.safe_load((runs[1] / "config.yaml").read_text())["data"]["source"] == "b.csv"


@pytest.mark.parametrize("logger", [False, "csv", None])
def test_a_fit_never_returns_the_weights_of_another_one(
    logger: bool | str | None, make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    table, other = make_table(), make_table(first=50, seed=1)

    def fit(table: pd.DataFrame, *callbacks: Callback) -> dict[str, Any]:
        place = {"logger": CSVLogger("logs", version="same") if logger == "csv" else logger}
        return Forecaster(**QUICK, **place, callbacks=list(callbacks)).fit(table)._fitted()

    alone = fit(table)
    together = fit(table, FitsAnother(lambda: fit(other)))
    assert weights(together) == weights(alone)
    assert together["global_step"] == alone["global_step"]
    if logger is False:
        assert not list(tmp_path.iterdir())


def test_a_training_without_a_logger_has_a_run_folder_in_the_shell_too(program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    fit = ("fit", "--data.source=table.parquet", "--data.horizon=6", "--config=fast", "--trainer.logger=false")
    quick = ("--trainer.max_steps=2", "--trainer.val_check_interval=1", "--trainer.check_val_every_n_epoch=null")
    for _ in range(2):
        program(*fit, *quick)
    assert sorted(path.name for path in Path().iterdir()) == ["lightning_logs", "table.parquet"]
    for run in ("version_0", "version_1"):
        folder = Path("lightning_logs") / run
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
        assert found == ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml"]
    config = "lightning_logs/version_0/config.yaml"
    assert yaml.safe_load(Path(config).read_text())["trainer"]["check_val_every_n_epoch"] is None
    program("fit", "--config", config)  # a run can be repeated from its configuration
    first, again = (read_checkpoint(f"lightning_logs/version_{run}/checkpoints/best.ckpt") for run in (0, 2))
    assert weights(first) == weights(again)
    # A resumed training goes on where its checkpoint lies.
    program(
        "fit", "--config", config, "--trainer.max_steps=3", "--ckpt_path=lightning_logs/version_2/checkpoints/last.ckpt"
    )
    assert len(list(Path("lightning_logs").iterdir())) == 3
    assert read_checkpoint("lightning_logs/version_2/checkpoints/last.ckpt")["global_step"] == 3


@pytest.mark.parametrize("monitor", [pytest.param("step", marks=pytest.mark.exhaustive), "val/monitor"])
def test_a_checkpoint_callback_of_the_user_changes_nothing(monitor: str, program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    fit = (
        "fit", "--data.source=table.parquet", "--data.horizon=6", "--config=fast", "--model.refit=true",
        "--trainer.max_steps=3", "--trainer.val_check_interval=1", "--trainer.check_val_every_n_epoch=null",
    )  # fmt: skip
    program(*fit)
    callback = ("--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.monitor={monitor}")
    printed = program(*fit, *callback, "--trainer.callbacks.mode=max", "--trainer.callbacks.filename=latest")
    assert "best checkpoint: lightning_logs/version_1/checkpoints/best.ckpt" in printed
    assert "best.ckpt was then trained anew" in printed
    best, other, latest = (
        read_checkpoint(f"lightning_logs/version_{run}/checkpoints/{name}.ckpt")
        for run, name in ((0, "best"), (1, "best"), (1, "latest"))
    )
    assert weights(best) == weights(other)
    assert "refit" in other
    assert "refit" not in latest
    assert latest["global_step"] == 3 or monitor != "step"
    callbacks = [ModelCheckpoint(monitor=monitor, mode="max", filename="latest")]
    trainer = {"max_steps": 3, "val_check_interval": 1, "check_val_every_n_epoch": None, "enable_progress_bar": False}
    python = Forecaster(horizon=6, preset="fast", refit=True, callbacks=callbacks, **trainer).fit("table.parquet")
    assert weights(python._fitted()) == weights(best)
