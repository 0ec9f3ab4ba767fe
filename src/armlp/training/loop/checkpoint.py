"""Checkpoints: plain Lightning files, read without running code from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from armlp.errors import UserError
from armlp.evaluation.metrics.base import METRICS
from armlp.files import replacing
from armlp.model.families import HEADS
from armlp.model.scaling import SCALERS
from armlp.registry import check_class_paths

FORMAT = 5
_READ = (4, FORMAT)  # models of format 4 have no dependence inside a patch
_PARTS = ("hyper_parameters", "datamodule_hyper_parameters", "state_dict")


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a checkpoint: what Lightning saves, and `datamodule_hyper_parameters`."""
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
    if (found := checkpoint["armlp_format"]) not in _READ:
        fix = "upgrade armlp" if found > FORMAT else "fit anew, or use the version of armlp that wrote it"
        raise UserError(f"--ckpt_path: {path} has format {found}, and this armlp reads {FORMAT}; {fix}.")
    if found < FORMAT:
        checkpoint["hyper_parameters"].setdefault("min_spread", 0.0)
    check_class_paths(checkpoint["hyper_parameters"], (HEADS, SCALERS))
    for metric in checkpoint["hyper_parameters"].get("metrics") or ():
        METRICS.check_imported(metric)
    return checkpoint


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a checkpoint, whole or not at all."""
    with replacing(path) as unfinished:
        torch.save(dict(checkpoint), unfinished)
