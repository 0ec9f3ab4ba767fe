"""Symbols: series of letters, states or events instead of numbers, as codes and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from armlp.data.panel import Panel
from armlp.data.reading.columns import Column
from armlp.data.reading.labels import Labels
from armlp.errors import UserError


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
                    f"--data.symbols: with column '{column.name}', {column.table} holds symbols of different types "
                    f"({names}): make them one type."
                )
            if self._given is not None and symbol not in self.alphabet:
                row = symbols.to_pylist().index(symbol)
                known = ", ".join(f"'{name}'" for name in self.alphabet[:20])
                known += ", ..." if len(self.alphabet) > 20 else ""
                raise column.error(f"holds '{symbol}' ({column.row(row)})", f"symbols of --data.symbols ({known})")
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
