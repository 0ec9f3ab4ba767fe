"""Arrays of a panel in memory or in files, and a limit on their resident memory."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from armlp.arguments import check_argument
from armlp.errors import UserError
from armlp.files import replacing

# Suffix of the folders of stores, whose names begin with a dot, so that they are not read as data.
SUFFIX = ".armlp"
_DESCRIPTION = "store.json"
_FORMAT = 2  # of the files and their description
# Reading one byte may make a large page of this many bytes resident.
_LARGE_PAGE = 2 << 20
# Shape and type of each array.
Shapes = dict[str, tuple[tuple[int, ...], type]]


class Residency:
    """Keeps the resident pages of memory maps within a budget in bytes, more than 4 MiB, or drops all (0).

    Dropped pages may still be in the cache of the operating system, which makes it cheap to read them again.
    """

    def __init__(self, maps: Sequence[mmap.mmap], budget: int = 0) -> None:
        self.maps = maps
        self.budget = budget
        self._others = _resident()

    def parts(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield rows `[B, ...]` in parts that fit the budget, if the rows of each item are near each other."""
        for part in rows.split(max(1, self.budget // (2 * _LARGE_PAGE))):
            yield part
            self.limit()

    def limit(self) -> None:
        """Drop all pages when half of the budget is resident, or when that is unknown."""
        resident = _resident()
        if resident is None or self._others is None or resident[1] - self._others[1] >= self.budget // 2:
            self.release()

    def release(self) -> None:
        """Drop all pages; they are read again on demand."""
        for mapped in self.maps:
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
                mapped.madvise(mmap.MADV_DONTNEED)
        self._others = _resident()


def _resident() -> tuple[int, int] | None:
    """Return the resident bytes of this process, and the file-backed ones among them; None without /proc."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return None
    return int(pages[1]) * mmap.PAGESIZE, int(pages[2]) * mmap.PAGESIZE


class Store:
    """Arrays by name, in memory or memory-mapped from files."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)
        bases: list[Any] = [array.base for array in arrays.values()]
        self.pages = Residency([base for base in bases if isinstance(base, mmap.mmap)])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


def num_bytes(shapes: Shapes) -> int:
    """Return the total size of arrays in bytes."""
    return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values())


def in_memory(shapes: Shapes) -> Store:
    """Return a store of zeros in memory."""
    return Store({name: np.zeros(shape, kind) for name, (shape, kind) in shapes.items()})


def build(folder: Path, shapes: Shapes, fill: Callable[[Store, Path], Mapping[str, Any]]) -> None:
    """Write a store to files, whole or not at all; replace an old one.

    `fill` writes the arrays of a store, may add files to its folder, and returns a description for JSON.
    """
    fix = "make room there, or raise the budget"
    with replacing(folder, ", which is to hold what is larger than `memory_budget`,", fix) as unfinished:
        unfinished.mkdir(parents=True)
        arrays = {
            name: np.lib.format.open_memmap(unfinished / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
            for name, (shape, kind) in shapes.items()
            if np.prod(shape)
        }
        description = fill(Store(arrays), unfinished)
        for array in arrays.values():
            array.flush()
        (unfinished / _DESCRIPTION).write_text(json.dumps({"format": _FORMAT, **description}))


def description(folder: Path) -> dict[str, Any] | None:
    """Return the description of the store in a folder; None if there is none of the current format."""
    try:
        found = json.loads((folder / _DESCRIPTION).read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("format") == _FORMAT else None


def load(folder: Path, max_bytes: int) -> Store:
    """Return the store in a folder, memory-mapped if it has more than `max_bytes`."""
    files = list(folder.glob("*.npy"))
    is_large = sum(file.stat().st_size for file in files) > max_bytes
    return Store({file.stem: np.load(file, mmap_mode="c" if is_large else None, allow_pickle=False) for file in files})


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_PROGRAM = 512 << 20  # bytes of the process where the system does not say; about what its libraries take
# Training takes up to this many times the bytes of a panel in memory,
_COPIES = 3
# and this many bytes besides.
_TRAINING = 256 << 20


def parse_bytes(text: str | int, option: str = "memory_budget") -> int:
    """Return a number of bytes from text such as `2GB` or `500 MiB`; raise a `UserError` for other text."""
    text = check_argument(option, text, str | int)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise UserError(f"`{option}`: {text!r} is not an amount of memory; give one such as 2GB or 500MB.")
    return int(float(match[1]) * _UNITS[match[2]])


def max_panel_bytes(budget: str | int | None) -> int:
    """Return how many bytes a panel in memory may take so that the process stays within its budget.

    Without a budget, that is half of the machine's memory.
    """
    taken = (_resident() or (_PROGRAM, 0))[0]
    if budget is not None:
        most = parse_bytes(budget)
        if most < taken + _TRAINING:
            raise UserError(
                f"`memory_budget`: {most // 10**6} MB is too small; the program itself takes {taken // 10**6} MB, "
                f"and {(taken + _TRAINING) // 10**6 + 1}MB is the smallest that works."
            )
    else:
        try:
            machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # Windows
            machine = 8 << 30
        most = max(machine // 2, taken + 2 * _TRAINING)
    return (most - taken - _TRAINING) // _COPIES
