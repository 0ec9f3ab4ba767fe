"""The other libraries that the benchmarks compare with: how to install them, and where their Python is."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# scripts/constraints.txt pins pandas 3. gluonts and statsforecast 2.1 need pandas 2, so they are installed without it.
INSTALL = {
    "peers": "python3 -m venv .venv-peers && "
    ".venv-peers/bin/pip install -c scripts/constraints.txt torch==2.13.0 '.[peers]'",
    "peers-pandas2": "python3 -m venv .venv-pandas2 && .venv-pandas2/bin/pip install torch==2.13.0 '.[peers-pandas2]'",
}
EXTRAS = {"neuralforecast": "peers", "gluonts": "peers-pandas2", "statsforecast": "peers-pandas2"}
OPTIONS = {"neuralforecast": "peers_python", "gluonts": "gluonts_python", "statsforecast": "statsforecast_python"}


def add_python_options(parser: argparse.ArgumentParser, *libraries: str) -> None:
    """Add an option for the Python of each library; by default that of the environment that `INSTALL` creates."""
    for library in libraries:
        python = Path(__file__).parents[1] / environment(library) / "bin" / "python"
        default = str(python) if python.exists() else sys.executable
        parser.add_argument(f"--{OPTIONS[library]}", default=default, help=f"Python that has {library} ({default})")


def python_of(library: str, options: argparse.Namespace) -> str:
    """Return the Python that has a library."""
    return str(getattr(options, OPTIONS[library]))


def environment(library: str) -> str:
    """Return the folder of the environment that `INSTALL` creates."""
    return INSTALL[EXTRAS[library]].split()[3]


def version(library: str, python: str) -> str | None:
    """Return the version of a library in the environment of a Python program, or None where it is not installed."""
    look = f"from importlib.metadata import version; print(version({library!r}))"
    run = subprocess.run([python, "-c", look], capture_output=True, text=True)
    return None if run.returncode else run.stdout.strip()


def not_installed(library: str, python: str) -> str:
    """Return a sentence that says how to install a missing library."""
    return f"{library} is not installed for {python}: run `{INSTALL[EXTRAS[library]]}`."


def versions(libraries: tuple[str, ...], options: argparse.Namespace) -> dict[str, str]:
    """Return the versions of the libraries that are installed."""
    found = {library: version(library, python_of(library, options)) for library in libraries}
    return {library: number for library, number in found.items() if number is not None}
