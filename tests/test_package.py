"""Tests of the package as a whole: the public face, and how quickly it opens."""

import subprocess
import sys
from importlib import resources

import pytest

import armlp


def run(*command: str) -> str:
    """What Python says to a command line."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_is_quick_because_it_imports_none_of_the_large_libraries():
    heavy = ("torch", "lightning", "pandas", "matplotlib", "pyarrow", "numpy")
    program = f"import armlp, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run("-c", program) == "[]\n"


def test_every_public_name_is_there():
    for name in armlp.__all__:
        assert getattr(armlp, name) is not None, name
    assert set(armlp.__all__) <= set(dir(armlp))
    # What DESIGN.md promises to other people's scripts.
    promised = (
        "Forecaster", "AutoregressiveMLP", "rollout", "ForecastModule", "SeriesDataModule", "Panel", "PointHead",
        "NormalHead", "StudentTHead", "QuantileHead", "MeanAbsoluteError", "MeanAbsoluteScaledError",
        "ContinuousRankedProbabilityScore",
    )  # fmt: skip
    assert set(promised) <= set(armlp.__all__)


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Forecastor'"):
        armlp.Forecastor  # noqa: B018 (the look-up is the test)
    with pytest.raises(ImportError):
        from armlp import Forecastor  # noqa: F401 (the import is the test)


def test_a_mistake_is_a_value_error_too():
    assert issubclass(armlp.UserError, ValueError)


def test_the_module_is_the_program():
    assert run("-m", "armlp", "--version") == f"armlp {armlp.__version__}\n"


def test_presets_and_the_marker_of_types_are_part_of_the_package():
    package = resources.files("armlp")
    assert (package / "py.typed").is_file()
    assert (package / "presets" / "textbook.yaml").is_file()
