"""What the benchmarks of rollouts share: taking turns, and the loop that one writes without a library."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from rich.console import Console
from torch import Tensor

from armlp.model.mlp import AutoregressiveMLP

# Of the processor. What has taken them in all takes no further turn.
ENOUGH = 8


def seconds(name: str, ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of every way; they take turns, so that what disturbs the machine disturbs all.

    Seconds are those of the processor in this process, which other programs of the machine change less.
    """
    found: dict[str, list[float]] = {way: [] for way in ways}
    with Console(stderr=True).status(name) as status:
        for repeat in range(repeats):
            for way, run in ways.items():
                if sum(found[way]) > ENOUGH:
                    continue
                status.update(f"{name}: {way}, {repeat + 1} of {repeats}")
                begin = time.process_time()
                run()
                found[way].append(time.process_time() - begin)
    return {way: statistics.median(values) for way, values in found.items()}


@torch.inference_mode()
def textbook_loop(network: AutoregressiveMLP, context: Tensor, noise: Tensor) -> Tensor:
    """What one writes without a library: all windows at once, and `torch.cat` with what the network says of them.

    Args:
        network: The network.
        context: `[B, L]`, data units.
        noise: `[B, P, H, noise]`.

    Returns:
        `[B, P, H]`, data units.
    """
    series, paths, horizon = noise.shape[:3]
    length, patch = network.context_length, network.patch_length
    scaling = network.scale(context, torch.ones_like(context, dtype=torch.bool)).repeat(paths)
    noise = torch.nn.functional.pad(noise.flatten(0, 1), (0, 0, 0, -horizon % patch), value=0.5)
    window = context.repeat_interleave(paths, 0)
    observed = torch.ones_like(window, dtype=torch.bool)
    drawn = []
    for step in range(0, horizon, patch):
        distribution = network.conditional(window, observed, scaling, step=step)
        drawn.append(distribution.draw(noise[:, step : step + patch]))
        window = torch.cat([window, drawn[-1]], 1)[:, -length:]
    return torch.cat(drawn, 1)[:, :horizon].unflatten(0, (series, paths))
