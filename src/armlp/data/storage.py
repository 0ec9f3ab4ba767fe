"""Where the values of a panel lie: in memory, or in files that are mapped into memory."""

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
    fix = "make room there, or raise the budget"
    with replacing(folder, ", which is to hold what is larger than `memory_budget`,", fix) as unfinished:
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


# One byte that is read may bring in as much as this around it, whatever is asked of the system: a page of the cache
# that is large is mapped as a whole.
_MAX_AROUND = 2 << 20
_STATM = Path("/proc/self/statm")


class Residency:
    """Keeps the resident pages of memory maps within a budget.

    Pages stay resident until somebody lets go of them. They are then still in the cache of the operating system while
    it has room, so to read them again is cheap.

    Args:
        maps: Of the store's files, opened for reading (`access=mmap.ACCESS_READ` or `ACCESS_COPY`).
        budget: Bytes that may be resident; more than 4 MiB.
    """

    def __init__(self, maps: Sequence[mmap.mmap], budget: int) -> None:
        self.maps = maps
        self.budget = budget
        self._others = _resident_of_files()

    def parts(self, place: Tensor) -> Iterator[Tensor]:
        """Places of the store, so many at a time as may be read within the budget.

        Args:
            place: `[B, ...]`; those of one of the `B` are near each other.
        """
        for part in place.split(max(1, self.budget // (2 * _MAX_AROUND))):
            yield part
            self.settle()

    def settle(self) -> None:
        """Lets go of all pages when half of the budget is resident, or nobody knows."""
        resident = _resident_of_files()
        if resident is None or self._others is None or resident - self._others >= self.budget // 2:
            self.release()

    def release(self) -> None:
        """Lets go of all pages."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self.maps:
                mapped.madvise(mmap.MADV_DONTNEED)
        self._others = _resident_of_files()


def _resident_of_files() -> int | None:
    """Bytes of all files that this process has resident, programs included; None where the system does not say."""
    try:
        return int(_STATM.read_text().split()[2]) * mmap.PAGESIZE
    except OSError:
        return None


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# A panel in memory takes up to so many times its bytes while it is trained on.
_TIMES = 3
# What training takes besides the panel.
_TRAINING = 256 << 20


def parse_bytes(text: str | int, option: str = "memory_budget") -> int:
    """A number of bytes, such as `2GB`, `500 MiB` or 4000000000.

    Raises:
        UserError: It is none.
    """
    text = check_argument(option, text, str | int)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise UserError(f"`{option}`: {text!r} is no amount of memory; give one such as 2GB or 500MB.")
    return int(float(match[1]) * _UNITS[match[2]])


def resident() -> int:
    """Bytes of memory that this process takes now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        if sys.platform == "win32":
            return 0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def of_machine() -> int:
    """Bytes of memory that the machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8 << 30


def room_for_panel(budget: int | None) -> int:
    """Bytes that a panel in memory may have, so that the whole process stays within its budget.

    Args:
        budget: Bytes of the process; None is half of the machine's memory.

    Raises:
        UserError: The budget is too small for any training.
    """
    taken = resident()
    if budget is None:
        budget = max(of_machine() // 2, taken + 2 * _TRAINING)
    elif budget < taken + _TRAINING:
        raise UserError(
            f"`memory_budget`: {budget // 10**6} MB is too small; the program itself takes {taken // 10**6} MB, "
            f"and {(taken + _TRAINING) // 10**6 + 1}MB is the smallest that works."
        )
    return (budget - taken - _TRAINING) // _TIMES
