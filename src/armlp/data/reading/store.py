"""The store: the flat arrays of a panel, in memory, or in files that are mapped into it."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from armlp.errors import UserError, one_line

# What the folders of stores are called, so that nobody takes them for data.
SUFFIX = ".armlp"
_DESCRIPTION = "store.json"
# Raised whenever the files of a store change their meaning.
_FORMAT = 1


class Store:
    """Arrays by name, of rows.

    Args:
        arrays: The arrays.
        folder: Where their files lie; None where they are in memory.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], folder: Path | None = None) -> None:
        self.arrays, self.folder = dict(arrays), folder

    def __getitem__(self, name: str) -> np.ndarray:
        """One of the arrays."""
        return self.arrays[name]

    @property
    def maps(self) -> list[mmap.mmap]:
        """The files that are mapped."""
        bases: list[Any] = [array.base for array in self.arrays.values()]
        return [base for base in bases if isinstance(base, mmap.mmap)]

    def release(self) -> None:
        """Lets go of the resident pages of files; they are read again where they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for pages in self.maps:
                pages.madvise(mmap.MADV_DONTNEED)

    def flush(self) -> None:
        """Writes what has changed to the files."""
        for array in self.arrays.values():
            if isinstance(array, np.memmap):
                array.flush()


def num_bytes(shapes: Mapping[str, tuple[tuple[int, ...], type]]) -> int:
    """Bytes of arrays of given shapes and types."""
    return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values())


def in_memory(shapes: Mapping[str, tuple[tuple[int, ...], type]]) -> Store:
    """A store of zeros in memory.

    Args:
        shapes: Shape and type of each array.
    """
    return Store({name: np.zeros(shape, kind) for name, (shape, kind) in shapes.items()})


def build(
    folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], type]], fill: Callable[[Store], Mapping[str, Any]]
) -> None:
    """Makes a store in files, whole or not at all.

    Args:
        folder: Of the store; an old one is replaced.
        shapes: Shape and type of each array.
        fill: Lays the rows, and returns what is to be known of the store, as plain Python.

    Raises:
        UserError: It cannot be written.
    """
    # Beside the folder, because a folder can only be renamed within its file system.
    unfinished = folder.with_name(f".{uuid.uuid4().hex}{SUFFIX}")
    try:
        unfinished.mkdir(parents=True)
        arrays = {
            name: np.lib.format.open_memmap(unfinished / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
            for name, (shape, kind) in shapes.items()
            if np.prod(shape)
        }
        store = Store(arrays, unfinished)
        description = fill(store)
        store.flush()
        (unfinished / _DESCRIPTION).write_text(json.dumps({"format": _FORMAT, **description}))
        if folder.exists():
            old = folder.with_name(f".{uuid.uuid4().hex}{SUFFIX}")
            os.rename(folder, old)
            shutil.rmtree(old, ignore_errors=True)
        os.rename(unfinished, folder)
    except OSError as error:
        raise UserError(
            f"{folder}, which is to hold what is larger than --data.memory_budget, cannot be written "
            f"({error.strerror or one_line(error)}): make room there, or raise the budget."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def description(folder: Path) -> dict[str, Any] | None:
    """What is known of the store in a folder; None if there is none of today's format."""
    try:
        found = json.loads((folder / _DESCRIPTION).read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("format") == _FORMAT else None


def load(folder: Path, mapped: bool) -> Store:
    """The store in a folder.

    Args:
        folder: Where it is.
        mapped: Whether its arrays stay in their files.
    """
    arrays = {
        path.stem: np.load(path, mmap_mode="c" if mapped else None, allow_pickle=False) for path in folder.glob("*.npy")
    }
    return Store(arrays, folder if mapped else None)
