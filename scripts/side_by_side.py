"""What the benchmarks of rollouts share: timing functions in turn, and a rollout written without a library."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from rich.console import Console
from torch import Tensor

from armlp.model.mlp import AutoregressiveMLP

# Seconds of the processor after which a function is not run again.
ENOUGH = 8


def median_seconds(name: str, functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each function, by name.

    The functions take turns, so that a disturbance of the machine affects all of them. Seconds are of the processor in
    this process, which other programs affect less.
    """
    times: dict[str, list[float]] = {function: [] for function in functions}
    with Console(stderr=True).status(name) as status:
        for repeat in range(repeats):
            for function, run in functions.items():
                if sum(times[function]) > ENOUGH:
                    continue
                status.update(f"{name}: {function}, {repeat + 1} of {repeats}")
                begin = time.process_time()
                run()
                times[function].append(time.process_time() - begin)
    return {function: statistics.median(values) for function, values in times.items()}


@torch.inference_mode()
def textbook_loop(network: AutoregressiveMLP, context: Tensor, noise: Tensor) -> Tensor:
    """Roll out as one does without a library: all windows at once, each step appended by `torch.cat`.

    Args:
        network: The network.
        context: `[B, L]`, data units.
        noise: `[B, P, H, noise]`.

    Returns:
        `[B, P, H]`, data units.
    """
    series, paths, horizon = noise.shape[:3]
    length, patch = network.context_length, network.patch_length
    context, noise = context[..., None], noise.unsqueeze(3)
    scaling = network.measure_scaling(context, torch.ones_like(context, dtype=torch.bool)).repeat(paths)
    noise = torch.nn.functional.pad(noise.flatten(0, 1), (0, 0, 0, 0, 0, -horizon % patch), value=0.5)
    window = context.repeat_interleave(paths, 0)
    observed = torch.ones_like(window, dtype=torch.bool)
    patches = []
    for step in range(0, horizon, patch):
        distribution = network.predict_patch(window, observed, scaling, step=step)
        patches.append(distribution.draw(noise[:, step : step + patch]))
        window = torch.cat([window, patches[-1]], 1)[:, -length:]
    return torch.cat(patches, 1)[:, :horizon, 0].unflatten(0, (series, paths))
