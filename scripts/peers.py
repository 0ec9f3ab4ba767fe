"""Where the libraries live that the benchmarks compare with, and how to install them: as the README says."""

from __future__ import annotations

import subprocess

# scripts/constraints.txt pins pandas 3. gluonts and statsforecast 2.1 need pandas 2, so they come without it.
INSTALL = {
    "peers": "python3 -m venv .venv-peers && "
    ".venv-peers/bin/pip install -c scripts/constraints.txt torch==2.13.0 '.[peers]'",
    "peers-pandas2": "python3 -m venv .venv-pandas2 && .venv-pandas2/bin/pip install torch==2.13.0 '.[peers-pandas2]'",
}
EXTRAS = {"neuralforecast": "peers", "gluonts": "peers-pandas2", "statsforecast": "peers-pandas2"}


def version(library: str, python: str) -> str | None:
    """Return the version of a library in the environment of a Python program, or None where it is not installed."""
    look = f"from importlib.metadata import version; print(version({library!r}))"
    run = subprocess.run([python, "-c", look], capture_output=True, text=True)
    return None if run.returncode else run.stdout.strip()


def not_installed(library: str, python: str) -> str:
    """Return the sentence that says what to install where a library is missing."""
    install = INSTALL[EXTRAS[library]]
    environment = install.split()[3]
    return f"{library} is not installed for {python}: run `{install}`, then give $PWD/{environment}/bin/python."
