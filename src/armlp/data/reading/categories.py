"""Categories: covariates of a table as numbers, or as codes of their categories."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from armlp.data.covariates import CovariateColumn
from armlp.data.reading.columns import Column, is_text
from armlp.data.reading.labels import Labels, as_integers, looks_like_number


class CovariateCoder:
    """Reads a covariate part by part: a number as it is, a category as its number among those found.

    An empty cell of a category that varies in time is a category too, as where a column of holidays names none.
    """

    def __init__(self, name: str, role: str) -> None:
        self.name, self.role = name, role
        self._labels = Labels()
        self._is_category: bool | None = None  # not known before the first part that has a type
        self._is_text = False
        self._some_empty = False

    def read(self, column: Column) -> np.ndarray:
        """`[rows]` numbers, or numbers of categories, -1 for the empty one; nan where missing."""
        if column.is_empty:
            self._some_empty = True
            return np.full(len(column.arrow), self._empty if self._is_category else np.nan)
        if self._is_category is None:
            self._is_category, self._is_text = column.is_categorical, is_text(column.type)
        if not self._is_category:
            return column.values()
        if not column.is_categorical:
            raise column.error("holds numbers after categories", "one kind")
        numbers = self._labels.number(column.labels())
        self._some_empty |= bool((numbers < 0).any())
        return np.where(numbers < 0, self._empty, numbers)

    @property
    def _empty(self) -> float:
        """The number of an empty cell of a category: one that is there, if it counts as a category."""
        return np.nan if self.role == "static" else -1

    @property
    def _empty_is_one(self) -> bool:
        return self._some_empty and self.role != "static"

    @property
    def column(self) -> CovariateColumn:
        """What the column is."""
        if not self._is_category:
            return CovariateColumn(self.name, None)
        empty = ("",) if self._empty_is_one else ()
        return CovariateColumn(self.name, (*empty, *(str(label) for label in sorted(self._labels.found))))

    @property
    def may_be_numbers(self) -> bool:
        """Whether the categories are text like `1,000` or `2.5`, which may be meant as numbers; integers are codes."""
        labels = self._labels.found if self._is_text else []
        return bool(labels) and all(map(looks_like_number, labels)) and as_integers(labels) is None

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Places in the categories for the numbers that `read` gave; numbers that are no categories as they are."""
        if not self._is_category:
            return numbers
        return self._places[np.where(np.isnan(numbers), -1, numbers).astype(np.int64)]

    @cached_property
    def _places(self) -> np.ndarray:
        """Of each number, and last of what is missing; known once all has been read."""
        first = int(self._empty_is_one)
        return np.append(self._labels.ranks() + first, 0 if first else np.nan).astype(np.float32)
