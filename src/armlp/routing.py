"""Routing: whose an option is that is given by its name alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from armlp.errors import UserError


def names(kind: type) -> list[str]:
    """Return the names of the options of a class, those of its settings too."""
    options = inspect.signature(kind).parameters.values()
    declared = getattr(kind, "settings_class", None)
    named = [option.name for option in options if option.kind is not option.VAR_KEYWORD]
    return [*named, *(one.name for one in fields(declared))] if declared else named


def taken(kind: type, options: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of a class out of `options`."""
    return {name: options.pop(name) for name in names(kind) if name in options}


def routed(options: Mapping[str, Any], to: type, *kinds: type) -> list[dict[str, Any]]:
    """The options of each class, which are given to one that has some of its own too.

    Raises:
        UserError: An option is of none; the message names it, and what it may be misspelled for.
    """
    left = dict(options)
    parts = [taken(kind, left) for kind in kinds]
    if left:
        name = next(iter(left))
        close = get_close_matches(name, [one for kind in (to, *kinds) for one in names(kind)], n=1)
        raise UserError(f"{name} is not an option of {to.__name__}{f'; did you mean {close[0]}' if close else ''}.")
    return parts
