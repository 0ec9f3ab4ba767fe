"""The program `armlp`, or `python -m armlp`."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from armlp.version import SUMMARY, __version__

COMMANDS = {
    "fit": "train on a table, and keep the best checkpoint",
    "validate": "score a checkpoint on the validation part of a table",
    "test": "backtest a checkpoint on the end of a table, beside baselines",
    "predict": "forecast beyond the end of every series of a table",
    "score": "score every row of a table by how much it was to be expected",
    "export": "write whole forecasts as one ONNX file, for programs without torch",
}


def main() -> None:
    """Run the command line."""
    options = set(sys.argv[1:])
    if options and options <= {"-h", "--help"}:
        print(_help())
    elif options == {"--version"}:
        print(f"armlp {__version__}")
    else:
        import_cli().main()


def import_cli() -> ModuleType:
    """Return `armlp.cli`, imported with all libraries in about two thirds of the time (scripts/LOG.md).

    Only the program does this, because it changes the whole process.
    """
    # Threads that wait by spinning make small networks slow on a busy machine. Torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.modules["scipy.signal"] = stand_in = _ScipySignal("scipy.signal")
    gc.disable()  # modules are never garbage
    cli = import_module("armlp.cli")
    gc.freeze()  # so that the last collection at exit does not visit the modules
    gc.enable()
    if sys.modules.get("scipy.signal") is stand_in:
        del sys.modules["scipy.signal"]
    return cli


class _ScipySignal(ModuleType):
    """Stand in for `scipy.signal`, half a second that torchmetrics spends only to look for `hamming` in it."""

    hamming = None

    def __getattr__(self, name: str) -> Any:
        """Return anything else from the real module."""
        if name.startswith("__"):  # asked for by whatever inspects all modules
            raise AttributeError(name)
        if sys.modules.get("scipy.signal") is self:
            del sys.modules["scipy.signal"]
        return getattr(import_module("scipy.signal"), name)


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{what}" for name, what in COMMANDS.items())
    return f"""usage: armlp [-h] [--version] COMMAND ...

{SUMMARY}

options:
  -h, --help  show this and exit; armlp COMMAND --help lists the options of a command
  --version   show the version and exit

commands:
{commands}"""


if __name__ == "__main__":
    main()
