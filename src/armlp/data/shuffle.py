"""Random permutations that can be computed index by index."""

from __future__ import annotations

from math import isqrt

import numpy as np
import torch
from torch import Tensor

# Up to this count the whole order is drawn, which is faster but takes 8 bytes a number.
MAX_DRAWN = 1 << 22
_ROUNDS = 6
_HALF = np.uint64(32)
_MIXING = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


def shuffled(count: int, seed: int, max_drawn: int = MAX_DRAWN) -> Tensor | FeistelOrder:
    """Return the numbers below `count` in an order that the seed determines.

    Up to `max_drawn` numbers are drawn at once; a longer order is computed where it is indexed.
    """
    if count <= max_drawn:
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return FeistelOrder(count, seed)


class FeistelOrder:
    """A pseudorandom permutation of the numbers below `count` that takes no memory.

    An index is a cell `(left, right)` of a nearly square grid with at least `count` cells. Each round adds a hash of
    one half to the other, which permutes the cells. A cell from `count` on is permuted again (cycle walking).

    John Black, Phillip Rogaway (2002), Ciphers with Arbitrary Finite Domains,
    https://doi.org/10.1007/3-540-45760-7_9

    Args:
        count: At least 1 and below 2 to the 62.
        seed: Selects the permutation.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        width = isqrt(count - 1) + 1
        self._sides = np.uint64(width), np.uint64(-(-count // width))
        self._keys = np.random.SeedSequence(seed % 2**64).generate_state(_ROUNDS, np.uint64)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the `[B]` int64 numbers at `[B]` int64 indices below `count`."""
        number = self._permuted(index.numpy().astype(np.uint64))
        while (beyond := number >= self.count).any():
            number[beyond] = self._permuted(number[beyond])
        return torch.from_numpy(number.view(np.int64))

    def _permuted(self, cell: np.ndarray) -> np.ndarray:
        """Return cells after all rounds."""
        width, height = self._sides
        left, right = cell % width, cell // width
        for key in self._keys:
            left += _scrambled(right ^ key, width)
            left -= width * (left >= width)
            left, right, width, height = right, left, height, width
        return left + right * width


def _scrambled(number: np.ndarray, below: np.uint64) -> np.ndarray:
    """Return a hash below a bound: the finaliser of SplitMix64, its upper half scaled."""
    for shift, factor in _MIXING:
        number = (number ^ (number >> shift)) * factor
    return ((number >> _HALF) * below) >> _HALF
