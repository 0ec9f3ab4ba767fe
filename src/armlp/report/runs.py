"""Run folders: the checkpoints, configuration and events of a training."""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from armlp.errors import UserError

_NEWEST = ("last", "best")
_KEYWORDS = (*_NEWEST, "hpc", "registry")  # of Lightning's Trainer, in place of a path


def runs_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the full path of `lightning_logs` below `root`, or below the current folder."""
    return Path(root or ".").resolve() / "lightning_logs"


def run_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of the run that a checkpoint belongs to."""
    folder = Path(path).resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def resumed_run(path: str | os.PathLike[str] | None) -> Path | None:
    """Return the run folder of the checkpoint that a training resumes from; None if it lies in none."""
    if path is None or Path(path).resolve().parent.name != "checkpoints":
        return None
    return run_folder(path)


def make_run_folder(runs: str | os.PathLike[str]) -> Path:
    """Make the next folder `version_N` below `runs`; no other program gets the same one."""
    runs = Path(runs)
    runs.mkdir(parents=True, exist_ok=True)
    number = 1 + max((number for number, _ in _numbered_runs(runs)), default=-1)
    while True:
        folder = runs / f"version_{number}"
        try:
            folder.mkdir()  # fails where another program has just made it
        except FileExistsError:
            number += 1
        else:
            return folder


def find_checkpoint(path: str, root: str | os.PathLike[str] | None = None) -> str:
    """Return the file of `--ckpt_path`: a path, or `last` or `best` of the newest run below `root` that has one."""
    word = path.partition(":")[0]
    if word not in _KEYWORDS:
        return path
    if os.path.exists(path):
        return os.path.abspath(path)  # as a bare word, Lightning would take it for a keyword
    logs = Path(root or ".") / "lightning_logs"
    if word not in _NEWEST:
        raise UserError(
            f"--ckpt_path: {path} is not supported; give a .ckpt file that `armlp fit` wrote, or 'last' or 'best' of "
            f"the newest run in {logs}."
        )
    name = f"{word}.ckpt"
    files = (run / "checkpoints" / name for _, run in sorted(_numbered_runs(logs)))
    found = [file for file in files if file.exists()]
    if not found:
        raise UserError(f"--ckpt_path: no run in {logs} has a {name}; give the .ckpt file that `armlp fit` wrote.")
    return str(found[-1])


def _numbered_runs(runs: Path) -> list[tuple[int, Path]]:
    """Return the number and the path of every run `version_N`."""
    found = ((path.name.removeprefix("version_"), path) for path in runs.glob("version_*"))
    return [(int(number), path) for number, path in found if number.isdecimal()]


class RunLogger(TensorBoardLogger):
    """Log to TensorBoard in a run folder that no other training uses.

    Lightning's logger picks the next free number but makes the folder later, so trainings that start together share
    one.

    `root` is the folder that holds `lightning_logs`; `resumed` a checkpoint of a run whose folder is used again.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, resumed: str | None = None) -> None:
        self._run = resumed_run(resumed)
        runs = runs_folder(root) if self._run is None else self._run.parent
        super().__init__(runs.parent, runs.name, default_hp_metric=False)

    @property
    def version(self) -> int | str:
        """The name of the run folder, which is made at the first access."""
        if self._run is None:
            self._run = rank_zero_only(make_run_folder)(self.root_dir)
        # On other processes it is None, and Lightning broadcasts the folder of the first.
        return super().version if self._run is None else self._run.name


def claim_log_folder(logger: Logger) -> None:
    """Make the numbered folder of a logger; raise a UserError if another training has just made it."""
    if not isinstance(logger, (CSVLogger, TensorBoardLogger)):
        return  # other loggers do not number their folders
    try:
        Path(logger.log_dir).mkdir(parents=True)
    except FileExistsError:
        raise UserError(
            f"`logger`: another training has just made {logger.log_dir} too; start this one again, or "
            "give it a folder of its own with `logger`.version."
        ) from None
