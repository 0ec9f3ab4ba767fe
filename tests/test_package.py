"""Tests of the package as a whole: the public face, and how quickly it opens."""

import subprocess
import sys
from importlib import resources
from typing import Any

import pytest

import armlp
from armlp.__main__ import COMMANDS
from armlp.cli import ArmlpCLI


def run(*command: str) -> str:
    """What Python says to a command line."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_is_quick_because_it_imports_none_of_the_large_libraries():
    heavy = ("torch", "lightning", "pandas", "matplotlib", "pyarrow", "numpy")
    program = f"import armlp, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run("-c", program) == "[]\n"


def imported(program: str, *arguments: object) -> set[str]:
    """The modules that a program has imported when it ends."""
    program = f"import atexit, sys; atexit.register(lambda: print('MODULES', *sys.modules)); {program}"
    return set(run("-c", program, *map(str, arguments)).rpartition("MODULES ")[2].split())


def test_what_the_program_says_of_itself_takes_none_of_the_large_libraries():
    for option in ("--help", "-h", "--version"):
        modules = imported("from armlp.__main__ import main; main()", option)
        assert not {"torch", "lightning", "numpy", "pandas", "jsonargparse", "armlp.cli"} & modules
        assert len([name for name in modules if name.startswith("armlp")]) <= 3


def test_the_help_lists_every_command():
    printed = run("-m", "armlp", "--help")
    assert set(COMMANDS) == set(ArmlpCLI.subcommands())
    for name, what in COMMANDS.items():
        assert f"  {name} " in printed
        assert f" {what}\n" in printed


def test_a_forecast_imports_what_it_uses(trained: Any, tmp_path: Any):
    command = ("predict", "--ckpt_path", trained.best, "--forecast.output", tmp_path / "forecast.csv")
    modules = imported("from armlp.__main__ import main; main()", *command)
    assert {"torch", "lightning", "armlp.cli"} <= modules
    unused = ("tensorboard", "torch.utils.tensorboard", "polars", "scipy.signal", "scipy.stats")
    assert [name for name in unused if name in modules] == []


def test_python_imports_what_it_uses_and_a_library_that_was_put_off_is_whole_when_it_is_wanted():
    unused = ("armlp.cli", "jsonargparse", "tensorboard", "polars", "scipy.signal", "scipy.stats")
    program = f"""
import armlp, gc, sys
assert gc.isenabled()
armlp.Forecaster()
assert gc.isenabled()
assert [name for name in {unused} if name in sys.modules] == []
import scipy, torchmetrics
assert scipy.signal.get_window("hann", 4).shape == (4,)
assert sys.modules["scipy.signal"] is scipy.signal
gc.disable()
armlp.Panel
assert not gc.isenabled()
"""
    run("-c", program)
    inside = "from scipy import signal; from scipy.signal import get_window; get_window('hann', 4); signal.windows"
    run("-c", f"from armlp.loading import quick_imports\nwith quick_imports():\n    {inside}; import scipy.signal")


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
