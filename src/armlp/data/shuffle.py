"""Shuffling: a random order of numbers, of which any part can be had without the rest."""

from __future__ import annotations

from math import isqrt
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# Up to here the whole order is drawn, which is the faster way; it takes 8 bytes a number.
_MAX_DRAWN = 1 << 22
_ROUNDS = 6


class Order(Protocol):
    """An order of numbers, indexed by place; a tensor is one too."""

    def __getitem__(self, place: Tensor, /) -> Tensor:
        """The numbers at some places."""


def shuffled(count: int, seed: int) -> Order:
    """The numbers below `count` in random order, the same for the same seed.

    Args:
        count: How many numbers.
        seed: Of the order.
    """
    if count <= _MAX_DRAWN:
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return FeistelOrder(count, seed)


class FeistelOrder:
    """A pseudorandom permutation that is computed place by place, and so takes no memory.

    A place is a pair `(left, right)` of a grid that is as square as can be and has at least `count` cells. A round adds
    a hash of one half to the other, which can be undone, so that every round permutes the cells; a cell beyond the
    numbers is sent on its way again until it arrives at one of them (cycle walking).

    John Black, Phillip Rogaway (2002), Ciphers with Arbitrary Finite Domains,
    https://doi.org/10.1007/3-540-45760-7_9

    Args:
        count: How many numbers, at least 1 and below 2 to the 62.
        seed: Of the order.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        width = isqrt(count - 1) + 1
        self._sides = np.uint64(width), np.uint64(-(-count // width))
        self._keys = np.random.SeedSequence(seed % 2**64).generate_state(_ROUNDS, np.uint64)

    def __getitem__(self, place: Tensor) -> Tensor:
        """The numbers at some places.

        Args:
            place: `[B]` int64, below `count`.

        Returns:
            `[B]` int64.
        """
        number = self._permuted(place.numpy().astype(np.uint64))
        while (beyond := number >= self.count).any():
            number[beyond] = self._permuted(number[beyond])
        return torch.from_numpy(number.view(np.int64))

    def _permuted(self, cell: np.ndarray) -> np.ndarray:
        """One pass through all rounds, which permutes the cells of the grid."""
        width, height = self._sides
        left, right = cell % width, cell // width
        for key in self._keys:
            left += _scrambled(right ^ key, width)
            left -= width * (left >= width)
            left, right, width, height = right, left, height, width
        return left + right * width


def _scrambled(number: np.ndarray, below: np.uint64) -> np.ndarray:
    """A number below another for every number: the finaliser of SplitMix64, and its upper half scaled."""
    for shift, factor in _MIXING:
        number = (number ^ (number >> shift)) * factor
    return ((number >> _HALF) * below) >> _HALF


_HALF = np.uint64(32)
_MIXING = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
