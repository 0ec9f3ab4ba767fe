"""Registries: the classes of one family by name, built in or registered by a user."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar, cast

from armlp.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, type[T]], Generic[T]):
    """Classes of one family by name, such as all heads.

        HEADS: Registry[Head] = Registry("head", Head)

        @HEADS.register("normal")
        class NormalHead(Head): ...

    A class outside the package is found by its registered name or by its class path (`package.module.Class`).

    `option` is the option that selects a class, for messages.
    """

    def __init__(self, option: str, base: type[Any]) -> None:
        self.option = option
        self.base = base
        self._classes: dict[str, type[T]] = {}

    def __getitem__(self, name: str) -> type[T]:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return a decorator that registers a class by a name."""

        def add(kind: type[T]) -> type[T]:
            self._classes[name] = kind
            return kind

        return add

    def unregister(self, name: str) -> None:
        """Forget the class of a name."""
        del self._classes[name]

    def find(self, name: str) -> type[T]:
        """Return the class with a name or a class path, or raise a UserError if it does not extend the base class."""
        if name in self._classes:
            return self._classes[name]
        module, _, attribute = name.rpartition(".")
        if not module:
            raise UserError(f"`{self.option}`: {name!r} is not known; use one of {', '.join(self)}, or a class path.")
        try:
            found = getattr(sys.modules.get(module) or import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"`{self.option}`: {name!r} cannot be imported ({error}); give another class path."
            ) from error
        if not (inspect.isclass(found) and issubclass(found, self.base)):
            raise UserError(f"`{self.option}`: {name} is no subclass of {self.base.__name__}; give one.")
        return cast("type[T]", found)

    def name_of(self, kind: type[T]) -> str:
        """Return the name of a registered class, or else its class path."""
        names = (name for name, known in self._classes.items() if known is kind)
        return next(names, f"{kind.__module__}.{kind.__qualname__}")

    def check_imported(self, name: str) -> None:
        """Refuse a class path whose module is not imported yet, so that reading a file never runs code."""
        module = name.rpartition(".")[0]
        if name not in self._classes and module and module not in sys.modules:
            raise UserError(
                f"`{self.option}`: the model uses {name}, and reading a file imports no code: import {module} first, "
                f"or give the command line `{self.option}` {name}."
            )


def check_class_paths(options: Mapping[str, Any], registries: Iterable[Registry[Any]]) -> None:
    """Refuse saved options that name a class whose module is not imported: reading a file never runs code."""
    for registry in registries:
        name = options.get(registry.option)
        if isinstance(name, str):
            registry.check_imported(name)


def import_all(package: str, path: Iterable[str]) -> None:
    """Import all modules of a package, so that its classes register themselves."""
    for module in iter_modules(path):
        import_module(f"{package}.{module.name}")


def options_of(kind: type) -> dict[str, inspect.Parameter]:
    """Return the options of a class: its arguments with a default."""
    parameters: Mapping[str, Any] = inspect.signature(kind).parameters
    return {name: value for name, value in parameters.items() if value.default is not inspect.Parameter.empty}
