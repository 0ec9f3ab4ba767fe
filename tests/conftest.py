"""Fixtures shared by the tests of several rooms."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from armlp.data.calendar import Calendar
from armlp.data.panel import Panel


@pytest.fixture(scope="session")
def make_panel() -> Callable[..., Panel]:
    """A maker of small panels of random walks, as `read_panel` would give them."""

    def make(
        lengths: Sequence[int], channels: int = 1, missing: float = 0.0, seed: int = 0, ids: Sequence | None = None
    ) -> Panel:
        generator = np.random.default_rng(seed)
        offsets = np.cumsum([0, *lengths])
        values = 10 + generator.normal(size=(offsets[-1], channels)).cumsum(0)
        observed = generator.random(values.shape) >= missing
        observed[offsets[:-1]] = True  # a series starts with a value
        for row, channel in zip(*np.nonzero(~observed), strict=True):
            values[row, channel] = values[row - 1, channel]
        return Panel(
            values=torch.from_numpy(values).float(),
            observed=torch.from_numpy(observed),
            offsets=torch.from_numpy(offsets),
            ids=np.array([f"s{index:03d}" for index in range(len(lengths))] if ids is None else list(ids)),
            starts=np.zeros(len(lengths), dtype=np.int64),
            calendar=Calendar(1),
            channels=tuple(f"y{channel}" for channel in range(channels)),
        )

    return make
