"""Residency: how much of a memory-mapped store lies in memory, and how it is let go of."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

# One byte that is read may bring in as much as this around it, whatever is asked of the system: a page of the cache
# that is large is mapped as a whole.
_MOST_AROUND = 2 << 20
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
        for part in place.split(max(1, self.budget // (2 * _MOST_AROUND))):
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
