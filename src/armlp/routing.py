"""Split keyword options between the classes that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from armlp.errors import UserError
from armlp.model.families import head_options
from armlp.model.settings import NetworkSettings


def option_names(function: Callable[..., Any]) -> list[str]:
    """Return the names of the options of a class or function, also those that the settings of the class declare."""
    options = inspect.signature(function).parameters.values()
    named = [option.name for option in options if option.kind is not option.VAR_KEYWORD]
    settings = getattr(function, "settings_class", None)
    if settings is None:
        return named
    declared = [option.name for option in fields(settings)]
    return [*named, *declared, *(head_options() if issubclass(settings, NetworkSettings) else ())]


def pop_options(kind: type, options: dict[str, Any]) -> dict[str, Any]:
    """Remove the options of a class from `options`, and return them."""
    return {name: options.pop(name) for name in option_names(kind) if name in options}


def split_options(options: Mapping[str, Any], receiver: type, *kinds: type) -> list[dict[str, Any]]:
    """Return the options of each of `kinds`; if an option belongs to none, suggest the most similar name.

    `receiver` is the class that was called with all of them, for the message.
    """
    left = dict(options)
    parts = [pop_options(kind, left) for kind in kinds]
    if left:
        name = next(iter(left))
        close = get_close_matches(name, [one for kind in (receiver, *kinds) for one in option_names(kind)], n=1)
        raise UserError(
            f"{name} is not an option of {receiver.__name__}{f'; did you mean {close[0]}' if close else ''}."
        )
    return parts
