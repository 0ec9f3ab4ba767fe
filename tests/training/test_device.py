"""Runs the tests of computing on a device in a process of their own.

Torch makes what a backward pass needs of devices at the first one, so this one must be there before.
"""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_everything_is_computed_on_the_device_and_nothing_waits_for_it():
    tests = Path(__file__).with_name("on_a_device.py")
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", str(tests)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
