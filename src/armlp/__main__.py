"""The program `armlp`, or ``python -m armlp``: it says at once what it is, and leaves the rest to `armlp.cli`."""

from __future__ import annotations

import gc
import sys

import armlp
from armlp.loading import quick_imports

COMMANDS = {
    "fit": "train on a table, and keep the best checkpoint",
    "validate": "score a checkpoint on the validation part of a table",
    "test": "backtest a checkpoint on the end of a table, beside baselines",
    "predict": "forecast beyond the end of every series of a table",
    "score": "score every row of a table by how much it was to be expected",
    "export": "write whole forecasts as one ONNX file, for programs without torch",
}


def main() -> None:
    """Runs the command line."""
    options = set(sys.argv[1:])
    if options and options <= {"-h", "--help"}:
        print(_help())
    elif options == {"--version"}:
        print(f"armlp {armlp.__version__}")
    else:
        with quick_imports():
            from armlp import cli
        gc.freeze()  # modules stay, so nobody need ever look at them, which takes longest when a program ends
        cli.main()


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{what}" for name, what in COMMANDS.items())
    return f"""usage: armlp [-h] [--version] COMMAND ...

{armlp.__doc__}

options:
  -h, --help  show this and exit; armlp COMMAND --help lists the options of a command
  --version   show the version and exit

commands:
{commands}"""


if __name__ == "__main__":
    main()
