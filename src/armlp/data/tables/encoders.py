"""Targets and covariates as numbers, part by part, and symbols back from their codes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from armlp.data.covariates import CovariateColumn
from armlp.data.panel import Panel
from armlp.data.sources.source import as_integers
from armlp.data.tables.columns import Column, Labels, looks_like_number
from armlp.data.time.arrays import is_text
from armlp.errors import UserError, first_names


class CovariateEncoder:
    """Reads a covariate part by part: numbers unchanged, categories as codes by first occurrence.

    An empty cell, as in a column of holidays, is a category of its own unless the covariate is static.
    """

    def __init__(self, name: str, role: str) -> None:
        self.name, self.role = name, role
        self._labels = Labels()
        self._is_category: bool | None = None  # unknown until a part has a type
        self._is_text = False
        self._some_empty = False
        self._empty_code = np.nan if role == "static" else -1

    def read(self, column: Column) -> np.ndarray:
        """Return `[rows]` numbers, nan where missing, or codes of categories, -1 for the empty one."""
        if column.is_empty:
            self._some_empty = True
            return np.full(len(column.arrow), self._empty_code if self._is_category else np.nan)
        if self._is_category is None:
            self._is_category, self._is_text = column.is_categorical, is_text(column.type)
        if not self._is_category:
            return column.values()
        if not column.is_categorical:
            raise column.error("holds numbers after categories", "one kind")
        codes = self._labels.encode(column.labels())
        self._some_empty |= bool((codes < 0).any())
        return np.where(codes < 0, self._empty_code, codes)

    @property
    def column(self) -> CovariateColumn:
        """The name of the column, and its sorted categories, first the empty one."""
        if not self._is_category:
            return CovariateColumn(self.name)
        empty = [""] if self._some_empty and self.role != "static" else []
        return CovariateColumn(self.name, (*empty, *map(str, sorted(self._labels.found))))

    @property
    def may_be_numbers(self) -> bool:
        """Whether all categories are text like `1,000` or `2.5`, which may be meant as numbers; integers are codes."""
        labels = self._labels.found if self._is_text else []
        return bool(labels) and all(map(looks_like_number, labels)) and as_integers(labels) is None

    def rank(self, codes: np.ndarray) -> np.ndarray:
        """Convert what `read` returned to codes of sorted categories, once all parts have been read."""
        return self._ranks[_as_index(codes)] if self._is_category else codes

    @cached_property
    def _ranks(self) -> np.ndarray:
        """The rank of each code; the last one is that of an empty cell."""
        has_empty = self._some_empty and self.role != "static"
        return np.append(self._labels.ranks() + has_empty, 0 if has_empty else np.nan).astype(np.float32)


class NumberEncoder:
    """Reads targets that are numbers."""

    @property
    def panel_fields(self) -> Mapping[str, Any]:
        """The fields of `Panel` that describe the values."""
        return {}

    def check_names(self, targets: Sequence[str]) -> None:
        """Refuse a target with the name of a bound of another one: a forecast would have two such columns."""
        for target in targets:
            channel = re.sub(r"-(lo|hi)-[\d.]+$", "", target)
            if channel != target and channel in targets:
                raise UserError(
                    f"`target_columns`: a forecast of '{channel}' may have bounds called '{target}', which is another "
                    "target: give one of them another name in the table."
                )

    def accepts(self, column: Column) -> bool:
        """Return whether a column can be a target."""
        return column.is_numeric

    def read(self, column: Column) -> np.ndarray:
        """Return `[rows]` float64, nan where missing."""
        return column.values(", or pass `symbols` true if they are symbols")

    def rank(self, values: np.ndarray) -> np.ndarray:
        """Return the final values, once all parts have been read."""
        return values


class SymbolEncoder(NumberEncoder):
    """Reads targets that are symbols (text, integers or booleans) as codes; `alphabet` None takes those that occur."""

    def __init__(self, alphabet: Sequence[Any] | None) -> None:
        self._given = alphabet
        self._labels = Labels()
        self._kind: type | None = None

    def check_names(self, targets: Sequence[str]) -> None:
        """Refuse several targets."""
        if len(targets) > 1:
            raise UserError(
                f"`symbols` takes one target column, but {first_names(targets)} were given: name one of them with "
                "`target_columns`."
            )

    def accepts(self, column: Column) -> bool:
        """Return True: `read` refuses columns of other types."""
        return True

    def read(self, column: Column) -> np.ndarray:
        """Return the `[rows]` float64 code of each symbol by first occurrence, nan where missing."""
        symbols = _symbols(column)
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
        codes = self._labels.encode(symbols)
        return np.where(codes < 0, np.nan, codes)

    def rank(self, values: np.ndarray) -> np.ndarray:
        """Convert what `read` returned to indices into the alphabet, once all parts have been read."""
        index = {symbol: code for code, symbol in enumerate(self.alphabet)}
        return np.array([*(index[symbol] for symbol in self._labels.found), np.nan])[_as_index(values)]

    @property
    def alphabet(self) -> tuple[Any, ...]:
        """The symbols of the user in the type of the columns, or the sorted ones that occur."""
        if self._given is None:
            return tuple(sorted(self._labels.found))
        return tuple(_as_type(symbol, self._kind or object) for symbol in self._given)

    @property
    def panel_fields(self) -> Mapping[str, Any]:
        """The fields of `Panel` that describe the values."""
        return {"symbols": self.alphabet}


def target_encoder(symbols: bool | Sequence[Any] | None) -> NumberEncoder:
    """Return the encoder of targets: of numbers (False or None), of symbols (True) or of an alphabet."""
    if symbols is None or symbols is False:
        return NumberEncoder()
    return SymbolEncoder(None if symbols is True else symbols)


def encoder_like(panel: Panel) -> NumberEncoder:
    """Return the encoder of more targets of a panel."""
    return target_encoder(panel.symbols)


def spell_values(panel: Panel, codes: np.ndarray) -> np.ndarray:
    """Return the symbols of codes `[...]` as objects, None for nan; numbers stay as they are."""
    if panel.symbols is None:
        return codes
    alphabet = np.array([*panel.symbols, None], dtype=object)
    return np.asarray(alphabet[_as_index(codes)])


def _symbols(column: Column) -> pa.Array:
    """Return symbols as labels; null where missing or empty."""
    kind, needed = column.arrow.type, "text, integers, booleans or categories with `symbols`"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        # Integers become fractions in many libraries where some are missing.
        try:
            return pc.if_else(pc.is_null(column.arrow, nan_is_null=True), None, column.arrow).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise column.error("holds fractions", needed) from error
    if not (column.is_text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or column.is_empty):
        raise column.error(f"holds {column.kind}", needed)
    return column.labels()


def _as_index(codes: np.ndarray) -> np.ndarray:
    """Return codes as int64 indices, -1 for nan."""
    return np.where(np.isnan(codes), -1, codes).astype(np.int64)


def _as_type(symbol: Any, kind: type) -> Any:
    """Return a symbol in the type of a column if possible; the command line may give it as text."""
    if kind is bool:
        return {"true": True, "false": False}.get(str(symbol).lower(), symbol)
    try:
        return kind(symbol) if kind in (int, str) else symbol
    except ValueError:
        return symbol
