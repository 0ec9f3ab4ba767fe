"""Memory and files in which the values of a panel are stored, and how much of them may be resident."""

from __future__ import annotations

import json
import mmap
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from armlp.arguments import check_argument
from armlp.errors import UserError
from armlp.files import replacing

# The suffix of folders of stores, which are hidden, so that they are not taken for data.
SUFFIX = ".armlp"
_DESCRIPTION = "store.json"
# Raised whenever the files of a store change their meaning.
_FORMAT = 1
# Shape and type of arrays by name.
Shapes = dict[str, tuple[tuple[int, ...], type]]


class Store:
    """Arrays by name.

    Args:
        arrays: The arrays.
        folder: The folder of their files; None where they are in memory.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], folder: Path | None = None) -> None:
        self.arrays, self.folder = dict(arrays), folder

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def maps(self) -> list[mmap.mmap]:
        """The files that are memory-mapped."""
        bases: list[Any] = [array.base for array in self.arrays.values()]
        return [base for base in bases if isinstance(base, mmap.mmap)]

    def release(self) -> None:
        """Drop the resident pages of files; they are read again where they are needed."""
        _drop_pages(self.maps)


def num_bytes(shapes: Shapes) -> int:
    """Return the bytes that arrays take."""
    return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values())


def in_memory(shapes: Shapes) -> Store:
    """Return a store of zeros in memory."""
    return Store({name: np.zeros(shape, kind) for name, (shape, kind) in shapes.items()})


def build(folder: Path, shapes: Shapes, fill: Callable[[Store], Mapping[str, Any]]) -> None:
    """Write a store in files, whole or not at all; an old one in its place is replaced.

    Args:
        folder: The folder of the store.
        shapes: Shape and type of each array.
        fill: Fills the store, and returns its description as plain Python.

    Raises:
        UserError: The files cannot be written.
    """
    fix = "make room there, or raise the budget"
    with replacing(folder, ", which is to hold what is larger than `memory_budget`,", fix) as unfinished:
        unfinished.mkdir(parents=True)
        arrays = {
            name: np.lib.format.open_memmap(unfinished / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
            for name, (shape, kind) in shapes.items()
            if np.prod(shape)
        }
        description = fill(Store(arrays, unfinished))
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


def load(folder: Path, mapped: bool) -> Store:
    """Return the store in a folder, its arrays memory-mapped or read into memory."""
    arrays = {
        path.stem: np.load(path, mmap_mode="c" if mapped else None, allow_pickle=False) for path in folder.glob("*.npy")
    }
    return Store(arrays, folder if mapped else None)


# To read one byte may make this much around it resident: a large page of the cache is mapped as a whole.
_MAX_AROUND = 2 << 20


class Residency:
    """Keeps the resident pages of memory maps within a budget.

    Pages stay resident until they are dropped. They may then still be in the cache of the operating system, so that
    reading them again is cheap.

    Args:
        maps: The files, opened for reading (`access=mmap.ACCESS_READ` or `ACCESS_COPY`).
        budget: Bytes that may be resident; more than 4 MiB.
    """

    def __init__(self, maps: Sequence[mmap.mmap], budget: int) -> None:
        self.maps = maps
        self.budget = budget
        self._others = _resident()

    def parts(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield rows `[B, ...]` in parts that can be read within the budget; rows of one item are near each other."""
        for part in rows.split(max(1, self.budget // (2 * _MAX_AROUND))):
            yield part
            self.settle()

    def settle(self) -> None:
        """Drop all pages when half of the budget is resident, or when the system does not tell."""
        resident = _resident()
        if resident is None or self._others is None or resident[1] - self._others[1] >= self.budget // 2:
            self.release()

    def release(self) -> None:
        """Drop all pages."""
        _drop_pages(self.maps)
        self._others = _resident()


def _drop_pages(maps: Sequence[mmap.mmap]) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        for mapped in maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def _resident() -> tuple[int, int] | None:
    """Return the resident bytes of this process, and those of files among them; None where there is no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return None
    return int(pages[1]) * mmap.PAGESIZE, int(pages[2]) * mmap.PAGESIZE


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# A panel in memory takes up to this many times its bytes while it is trained on.
_COPIES = 3
# Bytes that training takes besides the panel.
_TRAINING = 256 << 20


def parse_bytes(text: str | int, option: str = "memory_budget") -> int:
    """Return a number of bytes, such as `2GB`, `500 MiB` or 4000000000.

    Raises:
        UserError: The text is not a number of bytes.
    """
    text = check_argument(option, text, str | int)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise UserError(f"`{option}`: {text!r} is no amount of memory; give one such as 2GB or 500MB.")
    return int(float(match[1]) * _UNITS[match[2]])


def room_for_panel(budget: str | int | None) -> int:
    """Return the bytes that a panel in memory may take so that the process stays within its budget.

    Args:
        budget: Memory of the process; None is half of the machine's.

    Raises:
        UserError: The budget is too small for any training.
    """
    taken = (_resident() or (_peak(), 0))[0]
    if budget is None:
        most = max(_machine() // 2, taken + 2 * _TRAINING)
    else:
        most = parse_bytes(budget)
        if most < taken + _TRAINING:
            raise UserError(
                f"`memory_budget`: {most // 10**6} MB is too small; the program itself takes {taken // 10**6} MB, "
                f"and {(taken + _TRAINING) // 10**6 + 1}MB is the smallest that works."
            )
    return (most - taken - _TRAINING) // _COPIES


def _peak() -> int:
    """Return the most bytes of memory that this process has taken; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _machine() -> int:
    """Return the bytes of memory of the machine; 8 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8 << 30
