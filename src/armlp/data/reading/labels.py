"""Labels: the different ids, categories or symbols of a table, numbered as they come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
# With thousands apart, a fraction after point or comma, and a unit.
_NUMBER = re.compile(
    r"(?i)[-+]?[$€£¥]? ?(?=[.,]?\d)(\d{1,3}([.,' _\u00a0\u202f]\d{3})+|\d*)([.,]\d+)?(e[-+]?\d+)? ?[%$€£¥]?"
)


class Labels:
    """Different values of columns that are read part by part, numbered in the order in which they come."""

    def __init__(self, labels: Iterable[Any] = ()) -> None:
        self._places = {label: place for place, label in enumerate(labels)}

    def __len__(self) -> int:
        """How many there are so far."""
        return len(self._places)

    def number(self, column: pa.Array) -> np.ndarray:
        """`[rows]` int64 number of each row's label, new ones included; -1 where the column is null."""
        encoded = column.dictionary_encode()
        places = self._places
        numbers = [places.setdefault(label, len(places)) for label in encoded.dictionary.to_pylist()]
        return np.array([*numbers, -1])[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    @property
    def found(self) -> list[Any]:
        """The labels, by their numbers."""
        return list(self._places)

    def ranks(self) -> np.ndarray:
        """`[labels]` int64 place of each number among the labels in ascending order."""
        found = self.found
        order = sorted(range(len(found)), key=found.__getitem__)
        ranks = np.empty(len(found), dtype=np.int64)
        ranks[order] = np.arange(len(found))
        return ranks


def as_integers(labels: Sequence[str]) -> list[int] | None:
    """Text as integers, if all of it spells integers just as they are spelled (`7`, not `007`)."""
    if not all(_INTEGER.fullmatch(label) for label in labels):
        return None
    return [int(label) for label in labels]


def looks_like_number(label: str) -> bool:
    """Whether text could be a number to people, such as `1,000`, `2,5` or `5 %`."""
    return _NUMBER.fullmatch(label.strip()) is not None
