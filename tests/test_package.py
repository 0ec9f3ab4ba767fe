"""Tests of the package as a whole: the public names, and how quickly it opens."""

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


def test_help_and_version_import_none_of_the_large_libraries():
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


def test_the_program_imports_what_a_forecast_uses_quickly_and_whole(trained: Any, tmp_path: Any):
    program = """
import gc, os, sys
from armlp.__main__ import main
main()
print("MODULES", *sys.modules)
assert gc.isenabled() and os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
import scipy, torchmetrics
assert scipy.signal.get_window("hann", 4).shape == (4,)
assert sys.modules["scipy.signal"] is scipy.signal
"""
    printed = run("-c", program, "predict", f"--ckpt_path={trained.best}", f"--forecast.output={tmp_path / 'f.csv'}")
    modules = set(printed.rpartition("MODULES ")[2].split())
    assert {"torch", "lightning", "armlp.cli"} <= modules
    unused = ("tensorboard", "torch.utils.tensorboard", "polars", "scipy.signal", "scipy.stats")
    assert [name for name in unused if name in modules] == []


def test_every_import_of_scipy_signal_finds_the_module_behind_its_stand_in():
    stand_in = (
        "from armlp.__main__ import _ScipySignal as S; import sys; sys.modules['scipy.signal'] = S('scipy.signal')"
    )
    inside = "from scipy import signal; from scipy.signal import get_window; get_window('hann', 4); signal.windows"
    run("-c", f"{stand_in}; {inside}; import scipy.signal; scipy.signal.windows")


def test_the_import_leaves_the_process_of_the_importer_as_it_is():
    program = """
import gc, os, sys
gc.disable()
import lightning.pytorch
before = dict(os.environ), gc.isenabled(), gc.get_freeze_count(), sys.modules["scipy.signal"]
import armlp
armlp.Forecaster(), armlp.ForecastModule
assert (dict(os.environ), gc.isenabled(), gc.get_freeze_count(), sys.modules["scipy.signal"]) == before
assert "OMP_WAIT_POLICY" not in os.environ
import scipy
assert sys.modules["scipy.signal"] is scipy.signal and scipy.signal.get_window
unused = ("armlp.cli", "jsonargparse", "tensorboard", "polars")
assert [name for name in unused if name in sys.modules] == []
"""
    run("-c", program)


def test_every_public_name_is_there():
    for name in armlp.__all__:
        assert getattr(armlp, name) is not None, name
    assert set(armlp.__all__) <= set(dir(armlp))
    # What DESIGN.md promises to other people's scripts.
    promised = (
        "Forecaster", "AutoregressiveMLP", "rollout", "ForecastModule", "SeriesDataModule", "Panel", "PointHead",
        "NormalHead", "StudentTHead", "QuantileHead", "MeanAbsoluteError", "MeanAbsoluteScaledError",
        "ContinuousRankedProbabilityScore", "HEADS", "SCALERS", "METRICS", "BASELINES",
    )  # fmt: skip
    assert set(promised) <= set(armlp.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Forecastor'"):
        armlp.Forecastor  # noqa: B018 (the look-up is the test)
    with pytest.raises(ImportError):
        from armlp import Forecastor  # noqa: F401 (the import is the test)


def test_a_mistake_is_a_value_error_too():
    assert issubclass(armlp.UserError, ValueError)


def test_the_module_is_the_program():
    assert run("-m", "armlp", "--version") == f"armlp {armlp.__version__}\n"


def test_presets_the_stub_and_the_marker_of_types_are_part_of_the_package():
    package = resources.files("armlp")
    for name in ("py.typed", "__init__.pyi", "presets/textbook.yaml"):
        assert package.joinpath(name).is_file(), name
