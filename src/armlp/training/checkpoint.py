"""Checkpoints: plain Lightning files, read without running code from them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from armlp.errors import UserError

FORMAT = 4  # 4 knows a share of Theta, and 3 recalibration, which those before do without
_NEWEST = ("last", "best")
_KEYWORDS = (*_NEWEST, "hpc", "registry")  # of Lightning's Trainer
_PARTS = ("hyper_parameters", "datamodule_hyper_parameters", "state_dict")


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint that `armlp` wrote.

    Args:
        path: A `.ckpt` file.

    Returns:
        What Lightning saved, with `hyper_parameters` of the module and `datamodule_hyper_parameters`.

    Raises:
        UserError: The file is missing, cut short, or of another program; the message says which.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"--ckpt_path: {path} is a folder; give a .ckpt file in it that `armlp fit` wrote.")
    if not path.is_file():
        raise UserError(f"--ckpt_path: {path} does not exist; give the .ckpt file that `armlp fit` wrote.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of bytes that are no checkpoint, torch raises KeyError, IndexError and many more.
        raise UserError(
            f"--ckpt_path: {path} is not a whole checkpoint (it may have been cut short, or be no checkpoint at all); "
            "give another one, such as last.ckpt beside it."
        ) from error
    is_ours = (
        isinstance(checkpoint, dict)
        and isinstance(checkpoint.get("armlp_format"), int)
        and all(isinstance(checkpoint.get(part), dict) and checkpoint[part] for part in _PARTS)
    )
    if not is_ours:
        raise UserError(f"--ckpt_path: {path} was not written by armlp; give a .ckpt file that `armlp fit` wrote.")
    if checkpoint["armlp_format"] > FORMAT:
        raise UserError(
            f"--ckpt_path: {path} has format {checkpoint['armlp_format']}, and this armlp reads up to {FORMAT}; "
            "upgrade armlp."
        )
    if checkpoint["armlp_format"] == 1:
        _upgrade(checkpoint)
    if checkpoint["armlp_format"] < 4:
        checkpoint["hyper_parameters"] = {"theta_share": 0.0} | checkpoint["hyper_parameters"]
    return checkpoint


def find_checkpoint(path: str, root: str | os.PathLike[str] | None = None) -> str:
    """Return the file that `--ckpt_path` means: `last` and `best` are files of the newest run that has one.

    Args:
        path: What was given.
        root: The folder that holds `lightning_logs`; the current one where left out.

    Raises:
        UserError: There is no run with such a file, or it is one of Lightning's words that armlp has no use for.
    """
    word = path.partition(":")[0]
    if word not in _KEYWORDS:
        return path
    if os.path.exists(path):
        return os.path.abspath(path)  # which is none of Lightning's words
    logs = Path(root or ".") / "lightning_logs"
    if word not in _NEWEST:
        raise UserError(
            f"--ckpt_path: {path} is not supported; give a .ckpt file that `armlp fit` wrote, or 'last' or 'best' of "
            f"the newest run in {logs}."
        )
    name = f"{word}.ckpt"
    found = {
        int(file.parent.parent.name.removeprefix("version_")): file
        for file in logs.glob(f"version_*/checkpoints/{name}")
        if file.parent.parent.name.removeprefix("version_").isdecimal()
    }
    if not found:
        raise UserError(f"--ckpt_path: no run in {logs} has a {name}; give the .ckpt file that `armlp fit` wrote.")
    return str(found[max(found)])


def _upgrade(checkpoint: dict[str, Any]) -> None:
    """Format 1 knew neither symbols, nor covariates, nor members."""
    checkpoint["hyper_parameters"] = {
        "symbols": 0,
        "non_negative": False,
        "covariate_sizes": {},
    } | checkpoint["hyper_parameters"]
    data = checkpoint["datamodule_hyper_parameters"]
    checkpoint["datamodule_hyper_parameters"] = {"calendar_inputs": False} | data


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        checkpoint: What `read_checkpoint` gave, and perhaps more.
        path: The file; an old one is replaced.

    Raises:
        UserError: The file cannot be written.
    """
    path = Path(path)
    # In the same folder, because a file can only be renamed in one step within its file system.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        torch.save(dict(checkpoint), unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give a path that can be.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def run_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    folder = Path(path).resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder
