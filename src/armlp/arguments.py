"""Check arguments against the types that a function declares."""

from __future__ import annotations

import math
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from armlp.errors import UserError

# Names of types in messages, singular and plural.
_NAMES: dict[Any, tuple[str, str]] = {
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    bool: ("truth value (True or False)", "truth values (True or False)"),
    str: ("string", "strings"),
    os.PathLike: ("path", "paths"),
}
_LONGEST = 60  # characters of a value in a message


def to_builtin(value: Any) -> Any:
    """Return a value of Python, numpy, pandas or torch as plain Python, which checkpoints can hold without code."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, dict):
        return {key: to_builtin(item) for key, item in value.items()}
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return [to_builtin(item) for item in value] if is_list else value


def check_argument(option: str, value: Any, hint: Any) -> Any:
    """Return a value as plain Python if it has the type `hint`, or raise a UserError that names the argument `option`.

    Nothing is rounded or read from strings: 2.5 and "7" are not whole numbers, and True is not a number. A whole number
    is also a number; nan and infinity are not.
    """
    found = to_builtin(value)
    if _fits(found, hint):
        return found
    kinds = [kind for kind in _members(hint) if kind is not types.NoneType]
    needed = " or ".join(dict.fromkeys(_name(kind) for kind in kinds))
    left_out = ", or leave it out" if len(kinds) < len(_members(hint)) else ""
    raise UserError(f"`{option}`: {_shown(value)} is not {needed}; give another value{left_out}.")


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a function declares as plain Python, checked against its annotations; ignore others."""
    hints = _hints(function)
    return {name: check_argument(name, value, hints[name]) for name, value in arguments.items() if name in hints}


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function)


def _members(hint: Any) -> list[Any]:
    """Return the types of a union, or the type itself."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def _fits(value: Any, hint: Any) -> bool:
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Any:
        return True
    if kind in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if kind in (int, float):
        number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        return number and (isinstance(value, int) or math.isfinite(value))
    if isinstance(value, str) and kind in (Sequence, Iterable):
        return False
    if not isinstance(value, kind):
        return False
    if parts and isinstance(value, Mapping):
        return all(_fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items())
    return not (parts and isinstance(value, (list, tuple))) or all(_fits(item, parts[0]) for item in value)


def _name(hint: Any) -> str:
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return " or ".join(map(repr, parts))
    if parts and issubclass(kind, Iterable) and not issubclass(kind, Mapping):
        return f"a list of {_NAMES[parts[0]][1]}" if parts[0] in _NAMES else "a list"
    return f"a {_NAMES[kind][0] if kind in _NAMES else kind.__name__}"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST and "\n" not in shown else f"this {type(value).__name__}"
