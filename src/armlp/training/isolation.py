"""Isolation: a training that leaves the random generators of the program as they were."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

# What `seed_everything` writes for processes that begin later.
_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
_TRAINING = threading.RLock()


@contextmanager
def restored_generators(include_cuda: bool = True) -> Iterator[None]:
    """Restore the global generators of numpy, random and torch, also after an exception."""
    restoring = ExitStack()
    restoring.enter_context(isolate_rng(include_cuda))  # which by itself does not restore after an exception
    try:
        yield
    finally:
        restoring.close()


@contextmanager
def isolated_training() -> Iterator[None]:
    """Restore the global generators and the environment after a training, also after one that fails.

    Dropout draws from the global generator of torch, so trainings in several threads take turns.
    """
    with _TRAINING, restored_generators():
        before = {name: os.environ.get(name) for name in _VARIABLES}
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class RestoredGenerators(Callback):
    """Restores the global generators after a training that somebody else starts, however it ends."""

    def __init__(self) -> None:
        self._at_the_end = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the generators."""
        self._at_the_end.enter_context(restored_generators())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore them."""
        self._at_the_end.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore them."""
        self._at_the_end.close()
