"""Fixtures of the tests of training."""

from typing import Any

import pytest
from lightning.pytorch import Callback


class Counter(Callback):
    """Counts optimizer steps and trainings."""

    def __init__(self) -> None:
        self.steps = self.trainings = 0

    def on_train_start(self, *args: Any) -> None:
        self.trainings += 1

    def on_before_zero_grad(self, *args: Any) -> None:
        self.steps += 1


@pytest.fixture
def counter() -> Counter:
    """A callback that counts optimizer steps and trainings."""
    return Counter()
