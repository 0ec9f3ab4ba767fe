"""What the documentation and the scripts say to install is what pyproject.toml has."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = "".join((ROOT / page).read_text() for page in ("scripts/README.md", "src/armlp/export/README.md"))
PEERS = runpy.run_path(str(ROOT / "scripts" / "peers.py"))


def extras() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_every_extra_that_the_documentation_names_exists():
    named = set(re.findall(r"(?:armlp|\.)\[([\w-]+)\]", PAGES))
    assert {"export", "peers"} <= named <= set(extras())


@pytest.mark.parametrize("library", ["neuralforecast", "gluonts", "statsforecast"])
def test_a_missing_library_names_the_command_of_the_documentation(library: str):
    (command,) = re.findall("`(.*)`", PEERS["not_installed"](library, sys.executable))
    assert f"    {command}\n" in PAGES
    (extra,) = re.findall(r"\.\[([\w-]+)\]", command)
    assert any(re.match(rf"{library}\b", requirement) for requirement in extras()[extra])
    # In no other extra: one of all cannot be resolved beside scripts/constraints.txt.
    assert sum(requirement.startswith(library) for each in extras().values() for requirement in each) == 1


def test_the_version_of_a_library_is_that_of_the_other_environment():
    assert PEERS["version"]("no-such-library", sys.executable) is None
    assert PEERS["version"]("pytest", sys.executable) == pytest.__version__
