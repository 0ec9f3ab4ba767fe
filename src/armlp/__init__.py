"""Probabilistic time-series forecasting with the autoregressive MLP, on PyTorch Lightning."""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

# Names are loaded at first use, so that `import armlp` is quick. Their one list is the stub beside this file.
_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text())
_MODULES = {name.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) for name in node.names}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'armlp' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"armlp.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
