"""How fast is a rollout? Path-steps a second, beside loops and beside the matrix products that a rollout consists of.

    python scripts/how_fast_is_a_rollout.py [plain] [deep] [default] [one] [growth] [--repeats 5] [--write]

414 series, 100 paths and 48 steps on one core. Weights are random, because the time of a step does not depend on them.
The parts:

    plain      L=336, hidden [256], Student's t, scaled, with skips
    deep       the same with hidden [256, 256], also with products in bfloat16
    default    L=168, quantile head, 256 + two blocks of 64, one value a call and twelve; the default network for
               M4 Hourly
    one        one series, one path: microseconds a step, also as ONNX (as `how_fast_is_an_export.py`)
    growth     seconds by series, paths, horizon and context, each doubled in turn; with --write also the picture
               scripts/pictures/rollout_growth.png

`rollout` is compared with

    loop       all windows at once, `torch.cat`, the network's own `conditional(...).draw`
    blocks     the same loop on memory allocated once, in blocks that fit the cache: `rollout(reference=True)`
    floor      the additions and multiplications of the rollout as `torch.mm` of the same shapes, in blocks, and nothing
               else: the history that the paths of a series share, the values of each path, the layers
    square     the rate of `torch.mm` of large square matrices of the same type

All get the same random numbers, and their forecasts agree. They take turns, slow ones fewer, and the tables hold
medians of the seconds of the processor in this process. A number in brackets is the target.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from report import add_write_option, table, write_results
from side_by_side import median_seconds, textbook_loop
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from armlp.model.families.base import open_interval
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import rollout

SERIES, PATHS, HORIZON = 414, 100, 48
PLAIN = {"context_length": 336, "head": "student_t", "season_length": 24}
NARROW = {"context_length": 168, "hidden_sizes": [256], "residual_blocks": 2, "block_size": 64, "season_length": 24}
DEFAULT = {
    "256 + 2 of 64, U=1": NARROW,
    "256 + 2 of 64, U=12": NARROW | {"patch_length": 12},
    "256 + 2 of 256, U=24": NARROW | {"patch_length": 24, "block_size": None},
}


class Problem:
    """A network, contexts of S series, and noise for P paths of H steps."""

    def __init__(
        self, options: Mapping[str, Any], series: int = SERIES, paths: int = PATHS, horizon: int = HORIZON
    ) -> None:
        torch.manual_seed(0)
        self.options = options
        self.network = AutoregressiveMLP(**options).eval()
        for parameter in self.network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.01)
        self.context = 10 + torch.randn(series, self.network.context_length)
        self.noise = open_interval(torch.rand(series, paths, horizon, self.network.head.noise))

    def rollout(self, **options: Any) -> Tensor:
        """Forecast by `armlp.rollout`."""
        paths, horizon = self.noise.shape[1:3]
        return rollout(self.network, self.context, horizon, paths, noise=self.noise, **options)

    def loop(self) -> Tensor:
        """Forecast by the loop that one writes without a library."""
        return textbook_loop(self.network, self.context, self.noise)

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers in their order, with those of blocks, without the skip."""
        assert self.network.layers is not None
        return [layer for layer in self.network.layers.modules() if isinstance(layer, nn.Linear)]

    @property
    def path_steps(self) -> int:
        """The number of values that are drawn."""
        return self.noise[..., 0].numel()


def floor(problem: Problem, dtype: torch.dtype = torch.float32, block: int = 1024) -> Callable[[], None]:
    """Return a function that does the arithmetic of a rollout as plain matrix products, in blocks."""
    (series, paths, horizon), network = problem.noise.shape[:3], problem.network
    weights = [layer.weight.detach().T.to(dtype) for layer in problem.linears]
    first, *rest = weights
    steps, length = range(0, horizon, network.patch_length), network.context_length
    at_once = max(1, block // paths)
    history = torch.randn(at_once * len(steps), len(first)).to(dtype)
    generated = torch.randn(at_once * paths, horizon).to(dtype)
    prefix = history.new_empty(len(history), first.shape[1])
    outs = [generated.new_empty(len(generated), weight.shape[1]) for weight in weights]

    def run() -> None:
        for begin in range(0, series, at_once):
            count = min(at_once, series - begin)
            torch.mm(history[: count * len(steps)], first, out=prefix[: count * len(steps)])
            for step in steps:
                rows = count * (paths if step else 1)
                hidden = outs[0][:rows]
                if step:
                    torch.mm(generated[:rows, :step], first[length - step : length], out=hidden)
                for weight, out in zip(rest, outs[1:], strict=True):
                    hidden = torch.mm(hidden, weight, out=out[:rows])

    return run


class Breakdown(TorchDispatchMode):
    """Seconds of the operations of torch by purpose: by their names, and by the code that calls them."""

    NAMES: ClassVar = {
        "products": ("mm",),
        "activation": ("gelu", "relu", "silu", "tanh"),
        "normalisation": ("norm", "sum", "sqrt", "square", "addcmul", "sub", "clamp", "div"),
        "copies": ("copy", "clone", "cat", "repeat", "index", "pad", "fill", "zero", "empty"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, list[float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begin = time.process_time()
        result = func(*args, **(kwargs or {}))
        seconds = time.process_time() - begin
        group = "views" if func.is_view else self._group(func.overloadpacket.__name__)
        self.times.setdefault(group, []).append(seconds)
        return result

    def _group(self, name: str) -> str:
        frame, callers = sys._getframe(2), ""
        while frame is not None:
            if (file := frame.f_code.co_filename.rpartition("/armlp/model/")[2]) != frame.f_code.co_filename:
                callers += f"{file}:{frame.f_code.co_name} "
            frame = frame.f_back
        if "heads/" in callers or "distributions/" in callers:
            return "head, drawing"
        if "skip" in callers:
            return "skips"
        groups = (group for group, parts in self.NAMES.items() if any(part in name for part in parts))
        group = next(groups, "rest")
        return group if group != "normalisation" or "stack.py" in callers else "rest"

    @classmethod
    def of(cls, run: Callable[[], object]) -> dict[str, float]:
        """Return seconds by group, less the overhead of measuring, which is the time of a view."""
        with cls() as mode:
            run()
        overhead = statistics.median(mode.times.pop("views"))
        return {group: sum(max(0.0, seconds - overhead) for seconds in each) for group, each in mode.times.items()}


def main() -> None:
    """Measure the parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--repeats", type=int, default=5)
    add_write_option(parser)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(unknown)} is not known; parts are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    tables = []
    for name in options.parts or PARTS:
        tables += PARTS[name](options)
    write_results(__file__, __doc__, tables, options.write)


def plain(options: argparse.Namespace) -> list[str]:
    """Compare networks of one hidden layer."""
    problems = {
        f"336 -> 256, {name}": Problem(PLAIN | {"hidden_sizes": [256], "activation": name}) for name in ("gelu", "relu")
    }
    return compare("Plain", problems, options.repeats, {"/ loop": 15, "/ blocks": 7, "of floor": 0.6})


def deep(options: argparse.Namespace) -> list[str]:
    """Compare networks of two hidden layers."""
    problems = {"336 -> 256 -> 256": Problem(PLAIN | {"hidden_sizes": [256, 256]})}
    return compare("Deep", problems, options.repeats, {"/ loop": 4}, {"/ loop": 6})


def default(options: argparse.Namespace) -> list[str]:
    """Compare the default networks."""
    problems = {name: Problem(network) for name, network in DEFAULT.items()}
    return compare("Default", problems, options.repeats, {"of floor": 1 / 1.4})


def compare(title: str, problems: Mapping[str, Problem], repeats: int, *targets: Mapping[str, float]) -> list[str]:
    """Return a table of rates and ratios of every network, and one of seconds by purpose.

    `targets` are by heading; where there are two, the second is of products in bfloat16.
    """
    rates, seconds = [], []
    for name, problem in problems.items():
        few = Problem(problem.options, 3)
        for other in (few.rollout(reference=True), few.loop()):
            torch.testing.assert_close(few.rollout(), other, rtol=1e-3, atol=1e-3)
        kinds = {name: torch.float32, f"{name}, bf16": torch.bfloat16}
        kinds = dict(list(kinds.items())[: len(targets)])
        functions: dict[str, Callable[[], object]] = {
            "loop": problem.loop,
            "blocks": lambda problem=problem: problem.rollout(reference=True),
        }
        for kind, dtype in kinds.items():
            functions[kind] = lambda problem=problem, dtype=dtype: problem.rollout(precision=dtype)
            functions[f"{kind}, floor"] = floor(problem, dtype)
            side = torch.randn(2048, 2048).to(dtype)
            functions[f"{kind}, square"] = lambda side=side: torch.mm(side, side)
        times = median_seconds(name, functions, repeats)
        for kind, target in zip(kinds, targets, strict=True):
            whole, least, square = (times[key] for key in (kind, f"{kind}, floor", f"{kind}, square"))
            rate = (f"{problem.path_steps / value / 1e6:.2f}" for value in (whole, times["loop"], times["blocks"]))
            ratios = dict(zip(RATIOS, (times["loop"] / whole, times["blocks"] / whole, least / whole), strict=True))
            cells = (f"{ratio:.2f}" + (f" ({target[of]:.2g})" if of in target else "") for of, ratio in ratios.items())
            rates.append((kind, *rate, *cells, f"{multiplications(problem) / least * square / 2048**3:.2f}"))
            groups = Breakdown.of(functions[kind])
            purposes = [groups.get(group, 0.0) for group in PURPOSES]
            seconds.append((kind, *(f"{value:.2f}" for value in (whole, least, *purposes, whole - sum(purposes)))))
    return [
        table(
            f"{title}: million path-steps a second",
            ("network", "rollout", "loop", "blocks", *RATIOS, "floor / square"),
            rates,
        ),
        table(f"{title}: seconds by purpose", ("network", "whole", "floor", *PURPOSES, "rest, Python"), seconds),
    ]


def multiplications(problem: Problem) -> int:
    """Return the number of multiplications in `floor`."""
    series, paths, horizon = problem.noise.shape[:3]
    first, *rest = (layer.weight for layer in problem.linears)
    steps = range(0, horizon, problem.network.patch_length)
    calls = series * (1 + paths * (len(steps) - 1))
    history, generated = series * len(steps) * first.numel(), series * paths * sum(steps) * len(first)
    return history + generated + calls * sum(weight.numel() for weight in rest)


def one(options: argparse.Namespace) -> list[str]:
    """Compare rollouts of one series."""
    try:
        from how_fast_is_an_export import one_series
    except ModuleNotFoundError as error:
        print(
            f"{error.name} is not installed: the part `one` is left out (pip install 'armlp[export]').", file=sys.stderr
        )
        return []
    return [one_series(3 * options.repeats)]


def growth(options: argparse.Namespace) -> list[str]:
    """Measure the time as each size is doubled while the others stay."""
    from matplotlib import pyplot

    usual = {"series": 32, "paths": 64, "horizon": 48, "context": 192}
    doubled = {"series": (16, 256), "paths": (32, 512), "horizon": (24, 384), "context": (48, 768)}
    rows = []
    figure, axes = pyplot.subplots(figsize=(6, 4.2), layout="constrained")
    for name, (least, most) in doubled.items():
        sizes = [least * 2**power for power in range(5)]
        functions = {}
        for size in sizes:
            now = usual | {name: size}
            network = PLAIN | {"hidden_sizes": [256], "context_length": now["context"]}
            functions[str(size)] = Problem(network, now["series"], now["paths"], now["horizon"]).rollout
        times = list(median_seconds(name, functions, options.repeats).values())
        # The slope of the horizon ends at the context: beyond it no step costs more than the one before.
        count = sum(size <= usual["context"] for size in sizes) if name == "horizon" else len(sizes)
        slope = np.polyfit(np.log(sizes[:count]), np.log(times[:count]), 1)[0]
        until = f" up to {sizes[count - 1]}" if count < len(sizes) else ""
        label = f"{name} {least} to {most}: slope {slope:.2f}{until}"
        axes.loglog(2.0 ** np.arange(5), times, "o-", base=2, label=label)
        rows.append((f"{name}, {least} to {most}", *(f"{value:.3f}" for value in times), f"{slope:.2f}{until}"))
    axes.set(xlabel="factor", ylabel="seconds on one core", title="Time of a rollout, each size doubled in turn")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    if options.write:
        figure.savefig(PICTURE, dpi=120)
    headings = ("size", *(f"x {2**power}" for power in range(5)), "slope in log-log")
    return [table("Growth: seconds as one size is doubled", headings, rows)]


RATIOS = ("/ loop", "/ blocks", "of floor")
PURPOSES = (*Breakdown.NAMES, "head, drawing", "skips")
PICTURE = Path(__file__).parent / "pictures" / "rollout_growth.png"
PARTS = {"plain": plain, "deep": deep, "default": default, "one": one, "growth": growth}


if __name__ == "__main__":
    main()
