"""How fast is an export? Microseconds a step of one path of one series: loops in torch, `rollout` and ONNX.

    python scripts/how_fast_is_an_export.py [--repeats 15] [--horizon 480] [--write]

The columns:

    torch loop   all windows at once, each step appended by `torch.cat`
    rollout      `armlp.rollout`
    ONNX         the exported file in onnxruntime
    bare loop    the layers alone, without scaler, skips and distribution, so with other numbers

They take turns in one process on one thread, and the table holds medians. Weights are random, because the time of a
step does not depend on them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from report import add_write_option, table, write_results
from side_by_side import median_seconds, textbook_loop

from armlp.export import write_onnx
from armlp.model.families.base import open_interval
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import rollout
from armlp.training.module import ForecastModule

TEXTBOOK = {"linear_skip": False, "seasonal_skip": False, "level_input": False, "scaler": "none", "activation": "relu"}
MODELS = {
    "textbook: 336 -> 256 -> 1, point": {"context_length": 336, "hidden_sizes": [256], "head": "point", **TEXTBOOK},
    "336 -> 256, student_t, scaled, skips": {
        "context_length": 336,
        "hidden_sizes": [256],
        "head": "student_t",
    },
    "168 -> 256 + 2 blocks of 64, quantile": {
        "context_length": 168,
        "hidden_sizes": [256],
        "residual_blocks": 2,
        "block_size": 64,
        "head": "quantile",
    },
}
REST = {
    "patch_length": 1,
    "unroll": 1,
    "residual_blocks": 0,
    "symbols": 0,
    "scaler": "standard",
    "mask_input": False,
    "season_length": 24,
    "channels": 1,
    "non_negative": False,
    "covariate_sizes": {},
    "dropout": 0.0,
    "feed": "mean",
    "input_noise": 0.0,
}


def main() -> None:
    """Measure one row per model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for option, default in {"repeats": 15, "horizon": 480}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    add_write_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"onnxruntime": onnxruntime.__version__}
    write_results(__file__, __doc__, [one_series(options.repeats, options.horizon)], options.write, versions)


def one_series(repeats: int, horizon: int = 480) -> str:
    """Return a table with a row per model."""
    rows = []
    for name, model in MODELS.items():
        times = median_seconds(name, functions_of(model, horizon), repeats)
        loop, ours, exported, bare = (1e6 * seconds / horizon for seconds in times.values())
        ratios = (ours / loop, exported / loop, exported / ours, exported / bare)
        microseconds = (f"{value:.1f}" for value in (loop, ours, exported, bare))
        rows.append((name, *microseconds, *(f"{ratio:.2f}" for ratio in ratios)))
    ratio_headings = ("rollout / loop", "ONNX / loop", "ONNX / rollout", "ONNX / bare loop")
    headings = ("network", "torch loop", "rollout", "ONNX", "bare loop", *ratio_headings)
    return table("One series, one path: microseconds a step", headings, rows)


def functions_of(options: dict[str, object], horizon: int) -> dict[str, Callable[[], object]]:
    """Return the functions that forecast one path of one series, after checking that they agree."""
    torch.manual_seed(0)
    module = ForecastModule(**(REST | options))
    network = module.network
    assert network is not None
    network.eval()
    context = 10 + torch.randn(1, network.context_length)
    noise = open_interval(torch.rand(1, 1, horizon, max(1, network.head.noise)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(module, {"horizon": horizon, "season_length": 24}, path, levels=())
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, session_options)
    names = {value.name for value in session.get_inputs()}
    inputs = {"context": context, "observed": torch.ones_like(context, dtype=torch.bool), "noise": noise}
    arrays = {name: value.numpy() for name, value in inputs.items() if name in names}
    used_noise = noise[..., : network.head.noise]
    functions = {
        "loop": lambda: textbook_loop(network, context, noise),
        "rollout": lambda: rollout(network, context, horizon, noise=used_noise),
        "ONNX": lambda: torch.from_numpy(session.run(["paths"], arrays)[0]),
    }
    first, *others = (run() for run in functions.values())
    functions["bare loop"] = lambda: bare_loop(network, context, horizon)  # gives other numbers, so it is not compared
    for other in others:
        torch.testing.assert_close(other.flatten(), first.flatten(), rtol=1e-3, atol=1e-3)
    return functions


@torch.inference_mode()
def bare_loop(network: AutoregressiveMLP, context: torch.Tensor, horizon: int) -> torch.Tensor:
    """Apply the layers alone: no scaler, skips or distribution."""
    assert network.layers is not None
    window = torch.nn.functional.pad(context, (0, network.inputs.width - network.context_length))
    for _ in range(horizon):
        window = torch.cat([window[:, 1:], network.layers(window)[:, :1]], dim=1)
    return window


if __name__ == "__main__":
    main()
