"""Options: frozen dataclasses that declare each option once, with its type, default, range and meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

from armlp.arguments import check_argument
from armlp.errors import LARGEST, UserError, check_bounds


def option(
    default: Any = None,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | Mapping[str, Any] = (),
) -> Any:
    """Return a field of an `Options` class, with its smallest and largest value, or with the values that it may have.

    The default None means that the value is chosen from the data. The string below the field documents it.
    """
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "choices": choices})


@dataclass(frozen=True)
class Options:
    """Options that check their types, ranges and choices when they are made, and raise a UserError."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            value = check_argument(one.name, getattr(self, one.name), hints[one.name])
            minimum, maximum, choices = (one.metadata.get(what) for what in ("minimum", "maximum", "choices"))
            if choices and value is not None and value not in choices:
                raise UserError(f"`{one.name}`: {value!r} is not known; use one of {', '.join(choices)}.")
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                lowest, highest = (-LARGEST if minimum is None else minimum), (LARGEST if maximum is None else maximum)
                check_bounds(one.name, value, lowest, highest)
            object.__setattr__(self, one.name, value)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the default of every option."""
        return {one.name: one.default for one in fields(cls) if one.default is not MISSING}

    def non_defaults(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {name: value for name, value in vars(self).items() if value != self.defaults()[name]}


def pop_undeclared(options: dict[str, Any], declared: type[Options]) -> dict[str, Any]:
    """Remove the options that a class does not declare from `options`, and return them."""
    names = {one.name for one in fields(declared)}
    return {name: options.pop(name) for name in list(options) if name not in names}
