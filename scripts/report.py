"""Tables of measurements as Markdown: printed, and with `--write` saved as scripts/results/NAME.md."""

from __future__ import annotations

import argparse
import datetime
import inspect
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("armlp", "torch", "lightning", "numpy", "pandas")
WIDEST = 60  # longer cells are not aligned


def add_write_option(parser: argparse.ArgumentParser) -> None:
    """Add `--write`, which all benchmarks have: a run without it changes no file of results."""
    name = f"scripts/results/{Path(sys.argv[0]).stem}.md"
    parser.add_argument("--write", action="store_true", help=f"save the tables as {name}; meant for a full run")


def write_results(
    script: str, description: str, tables: Sequence[str], write: bool, versions: Mapping[str, str] | None = None
) -> None:
    """Print tables, and save them with the date, the machine, the versions and the command where `write` is set.

    Args:
        script: `__file__` of the script, which names the file of results.
        description: Docstring of the script; its first sentence becomes the title, the rest ends the page.
        tables: Markdown.
        write: Whether to save.
        versions: Versions of other libraries, by name.
    """
    print("", *tables, sep="\n\n", flush=True)
    if not write:
        return
    first, _, rest = inspect.cleandoc(description).partition("\n")
    question, _, summary = first.partition("? ")
    name = Path(script).stem
    note = f"Written by `scripts/{name}.py --write`; do not edit."
    measured = f"## What was measured\n\n{summary}\n{rest.rstrip()}"
    page = [f"# {question}?", note, conditions(versions or {}), *tables, measured]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n\n".join(page) + "\n")
    print(f"\nSaved as scripts/results/{name}.md.", file=sys.stderr)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table under a heading; all columns but the first are aligned to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    widths = [max(3, *(len(cell) for cell in column if len(cell) <= WIDEST), 0) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([f"## {title}", "", *map(line, (cells[0], rule, *cells[1:]))])


def conditions(versions: Mapping[str, str]) -> str:
    """Return a list of what a measurement depends on: date, commit, command, machine and versions."""
    libraries = {name: version(name) for name in LIBRARIES} | dict(versions)
    arguments = (word.replace(f"{RESULTS.parents[1]}/", "") for word in sys.argv[1:])
    command = shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *arguments])
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    lines = [
        f"date: {datetime.date.today()}",
        f"commit: {commit()}",
        f"command: `{command}`",
        f"machine: {processor()}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}",
        f"load average of the last 15 minutes: {os.getloadavg()[2]:.1f}",
        f"versions: Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in libraries.items()),
    ]
    return "\n".join(f"- {line}" for line in lines)


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """Return the git commit, with a `+` where src differs from it; "unknown" outside a repository."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], capture_output=True).returncode
    return "unknown" if head.returncode else f"{head.stdout.strip()}{'+' if changed else ''}"
