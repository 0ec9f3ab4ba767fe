"""Categories and symbols as integer codes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from armlp.data.covariates import CovariateColumn
from armlp.data.panel import Panel
from armlp.data.tables.columns import Column, Labels, as_integers, is_text, looks_like_number
from armlp.errors import UserError


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


class SymbolCoder:
    """Codes columns of symbols that are read part by part.

    Args:
        alphabet: The symbols that there are; None takes those found.
    """

    def __init__(self, alphabet: Sequence[Any] | None) -> None:
        self._given = alphabet
        self._labels = Labels()
        self._kind: type | None = None

    def read(self, column: Column) -> np.ndarray:
        """`[rows]` float64 number of each row's symbol in the order in which they come, nan where missing.

        Raises:
            UserError: Columns differ in type, or hold a symbol that is not in the alphabet.
        """
        symbols = column.symbols()
        for symbol in symbols.drop_null().unique().to_pylist():
            self._kind = self._kind or type(symbol)
            if type(symbol) is not self._kind:
                names = ", ".join(sorted([self._kind.__name__, type(symbol).__name__]))
                raise UserError(
                    f"`symbols`: with column '{column.name}', {column.table} holds symbols of different types "
                    f"({names}): make them one type."
                )
            if self._given is not None and symbol not in self.alphabet:
                row = symbols.to_pylist().index(symbol)
                known = ", ".join(f"'{name}'" for name in self.alphabet[:20])
                known += ", ..." if len(self.alphabet) > 20 else ""
                raise column.error(f"holds '{symbol}' ({column.row(row)})", f"symbols of `symbols` ({known})")
        numbers = self._labels.number(symbols)
        return np.where(numbers < 0, np.nan, numbers)

    @property
    def alphabet(self) -> tuple[Any, ...]:
        """The symbols: those given, in the type of the columns, or those found, ascending."""
        if self._given is None:
            return tuple(sorted(self._labels.found))
        return tuple(_of_kind(symbol, self._kind or object) for symbol in self._given)

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Places in the alphabet for the numbers that `read` gave."""
        place = {symbol: code for code, symbol in enumerate(self.alphabet)}
        return np.array([*(place[symbol] for symbol in self._labels.found), np.nan])[_places(numbers)]


def _places(codes: np.ndarray) -> np.ndarray:
    """Codes as indices; missing ones are the last."""
    return np.where(np.isnan(codes), -1, codes).astype(np.int64)


def _of_kind(symbol: Any, kind: type = object) -> Any:
    """A symbol in the type of a column, which may not be that of the command line; as it is where it cannot be."""
    if kind is bool:
        return {"true": True, "false": False}.get(str(symbol).lower(), symbol)
    try:
        return kind(symbol) if kind in (int, str) else symbol
    except ValueError:
        return symbol


def spell_symbols(panel: Panel, codes: np.ndarray) -> np.ndarray:
    """Symbols for codes, spelled as they came.

    Args:
        panel: Of symbols.
        codes: `[...]` places in `panel.symbols`; nan is missing.

    Returns:
        `[...]` objects, None where missing.
    """
    assert panel.symbols is not None
    alphabet = np.array([*panel.symbols, None], dtype=object)
    return np.asarray(alphabet[_places(codes)])
