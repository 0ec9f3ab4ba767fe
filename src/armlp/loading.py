"""Loading torch and Lightning in less time than they take by themselves."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_SIGNAL = "scipy.signal"


class _Signal(ModuleType):
    """Stands for `scipy.signal` until anything else than `hamming` is asked of it."""

    hamming = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # those that look at all modules ask for no more than this
            raise AttributeError(name)
        if sys.modules.get(_SIGNAL) is self:
            del sys.modules[_SIGNAL]
        return getattr(import_module(_SIGNAL), name)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Lets large libraries be imported in about two thirds of the time, and leaves them as they are.

    Modules make no garbage, and looking for it takes long, so nobody looks (scripts/LOG.md). So does the import of
    `scipy.signal`, which torchmetrics wants only to give it a function `hamming` that it no longer has.
    """
    collecting, stand_in = gc.isenabled(), _Signal(_SIGNAL)
    gc.disable()
    sys.modules.setdefault(_SIGNAL, stand_in)
    try:
        yield
    finally:
        if sys.modules.get(_SIGNAL) is stand_in:
            del sys.modules[_SIGNAL]
        if collecting:
            gc.enable()
