"""Families of distributions with their heads, one file per family, and the options of all heads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

from armlp.arguments import check_argument
from armlp.errors import UserError
from armlp.model.families.base import HEADS, Head, Predictive
from armlp.registry import import_all, options_of

__all__ = ["HEADS", "Head", "HeadOption", "Predictive", "check_head_options", "head_options"]

import_all(__name__, __path__)


class HeadOption(NamedTuple):
    """An option of one or more heads."""

    name: str
    hint: Any
    default: Any
    doc: str  # from the docstring of the first head that takes it
    heads: tuple[str, ...]  # names of the heads that take it


def head_options(*names: str) -> dict[str, HeadOption]:
    """Return the options, by name, of all registered heads and of further heads by name or class path."""
    found: dict[str, HeadOption] = {}
    for name in dict.fromkeys((*HEADS, *names)):
        kind = HEADS.find(name)
        hints = get_type_hints(kind.__init__)
        for option, parameter in options_of(kind).items():
            if option in kind.supplied:
                continue
            new = HeadOption(option, hints[option], parameter.default, _argument_doc(kind, option), ())
            first = found.get(option, new)
            found[option] = first._replace(heads=(*first.heads, name))
    return found


def check_head_options(options: Mapping[str, Any], head: str | None) -> dict[str, Any]:
    """Return head options as plain Python; raise a UserError if no head takes one, or its value is not valid."""
    known = head_options(*([] if head is None else [head]))
    checked = {}
    for name, value in options.items():
        if name not in known:
            raise UserError(f"`{name}`: neither the network nor a head has this option; heads take {', '.join(known)}.")
        option = known[name]
        checked[name] = check_argument(name, value, option.hint)
        if checked[name] != option.default:
            for one in option.heads:
                HEADS.find(one)(**{name: checked[name]})  # its constructor checks the range
    return checked


def _argument_doc(kind: type, name: str) -> str:
    """Return the text of an argument in the `Args` section of a class docstring."""
    doc = inspect.getdoc(kind) or ""
    found = re.search(rf"^ {{4}}{name}: (.*(?:\n {{8}}.*)*)", doc, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
