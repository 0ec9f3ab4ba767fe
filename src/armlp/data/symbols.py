"""Symbols: series of letters, states or events instead of numbers, as codes and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from armlp.data.columns import Column
from armlp.data.panel import Panel
from armlp.errors import UserError


def code_symbols(columns: Sequence[Column], alphabet: Sequence[Any] | None) -> tuple[list[np.ndarray], tuple[Any, ...]]:
    """Code columns of symbols by their place in one alphabet.

    Args:
        columns: Text, integers, booleans or categories.
        alphabet: The symbols that there are; None takes those found, ascending.

    Returns:
        codes: A column each, `[rows]` float32, nan where missing.
        alphabet: In the type of the columns.

    Raises:
        UserError: Columns differ in type, or hold a symbol that is not in the alphabet.
    """
    coded = [column.symbols() for column in columns]
    kinds = {type(symbol) for _, found in coded for symbol in found}
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(f"--data.symbols: the columns hold symbols of different types ({names}): make them one type.")
    if alphabet is None:
        alphabet = sorted({symbol for _, found in coded for symbol in found})
    else:
        alphabet = [_of_kind(symbol, *kinds) for symbol in alphabet]
    place = {symbol: code for code, symbol in enumerate(alphabet)}
    codes = []
    for column, (local, found) in zip(columns, coded, strict=True):
        unknown = [symbol for symbol in found if symbol not in place]
        if unknown:
            row = int(np.argmax(local == found.index(unknown[0])))
            known = ", ".join(f"'{symbol}'" for symbol in alphabet[:20]) + (", ..." if len(alphabet) > 20 else "")
            raise column.error(f"holds '{unknown[0]}' ({column.row(row)})", f"symbols of --data.symbols ({known})")
        codes.append(np.array([*(place[symbol] for symbol in found), np.nan], dtype=np.float32)[_places(local)])
    return codes, tuple(alphabet)


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
