"""How fast is a rollout? Path-steps a second, beside loops and beside the matrix products that it consists of.

    python scripts/how_fast_is_a_rollout.py [plain] [deep] [default] [one] [growth] [--repeats 3]

On one core, weights random (the time of a step does not depend on them), 414 series, 100 paths, 48 steps. The rows:

    plain      L=336, hidden [256], Student's t, scaled, with skips
    deep       the same with hidden [256, 256], also with products in bfloat16
    default    L=168, quantile head, 256 + two bottlenecks of 64, one value a call and twelve; the recipe's own network;
               and what each part of them costs
    one        one series, one path: microseconds a step, also as ONNX (as `how_fast_is_an_export.py`)
    growth     seconds against series, paths, horizon and context, each doubled; scripts/pictures/rollout_growth.png

`rollout` is compared with

    loop       all windows at once, `torch.cat`, the network's own `conditional(...).draw`
    blocks     the same loop on memory allocated once, in blocks that the cache holds: `rollout(reference=True)`
    floor      the same additions and multiplications as `torch.mm` of the same shapes, in blocks, and nothing else:
               what the paths of a series have in common, what each has drawn so far, the layers
    square     the rate of `torch.mm` of large square matrices of the same type

The same random numbers are given to all, and all forecasts agree. Ways take turns, slow ones fewer; medians are told,
of the seconds of the processor in this process. After a figure stands what is to be reached.
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
from rich.console import Console
from rich.table import Table
from side_by_side import seconds, textbook_loop
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
    """A network, and what it forecasts.

    Args:
        options: Of the network.
        series: `S`.
        paths: `P`.
        horizon: `H`.
    """

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
        """Ours."""
        paths, horizon = self.noise.shape[1:3]
        return rollout(self.network, self.context, horizon, paths, noise=self.noise, **options)

    def loop(self) -> Tensor:
        """The textbook's."""
        return textbook_loop(self.network, self.context, self.noise)

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, those of blocks too, in their order; not the skip."""
        assert self.network.layers is not None
        return [layer for layer in self.network.layers.modules() if isinstance(layer, nn.Linear)]

    @property
    def path_steps(self) -> int:
        """How many values are drawn."""
        return self.noise[..., 0].numel()


def floor(problem: Problem, dtype: torch.dtype = torch.float32, block: int = 1024) -> Callable[[], None]:
    """The additions and multiplications of a rollout as plain matrix products, blocks of series after each other."""
    (series, paths, horizon), network = problem.noise.shape[:3], problem.network
    weights = [layer.weight.detach().T.to(dtype) for layer in problem.linears]
    first, *rest = weights
    steps, length = range(0, horizon, network.patch_length), network.context_length
    at_once = max(1, block // paths)
    history, own = (
        torch.randn(at_once * len(steps), len(first)).to(dtype),
        torch.randn(at_once * paths, horizon).to(dtype),
    )
    prefix = history.new_empty(len(history), first.shape[1])
    outs = [own.new_empty(len(own), weight.shape[1]) for weight in weights]

    def run() -> None:
        for begin in range(0, series, at_once):
            count = min(at_once, series - begin)
            torch.mm(history[: count * len(steps)], first, out=prefix[: count * len(steps)])
            for step in steps:
                rows = count * (paths if step else 1)
                hidden = outs[0][:rows]
                if step:
                    torch.mm(own[:rows, :step], first[length - step : length], out=hidden)
                for weight, out in zip(rest, outs[1:], strict=True):
                    hidden = torch.mm(hidden, weight, out=out[:rows])

    return run


class Breakdown(TorchDispatchMode):
    """Seconds of the operations of torch, by what they are for: by their names, and by whose code calls them."""

    NAMES: ClassVar = {
        "products": ("mm",),
        "activation": ("gelu", "relu", "silu", "tanh"),
        "normalisation": ("norm", "sum", "sqrt", "square", "addcmul", "sub", "clamp", "div"),
        "copies": ("copy", "clone", "cat", "repeat", "index", "pad", "fill", "zero", "empty"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begin = time.process_time()
        result = func(*args, **(kwargs or {}))
        taken = time.process_time() - begin
        self.found.setdefault("views" if func.is_view else self._group(func.overloadpacket.__name__), []).append(taken)
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
        found = (group for group, parts in self.NAMES.items() if any(part in name for part in parts))
        group = next(found, "rest")
        return group if group != "normalisation" or "stack.py" in callers else "rest"

    @classmethod
    def of(cls, run: Callable[[], object]) -> dict[str, float]:
        """Seconds by group; each operation less what a view takes, which is nothing but the cost of looking."""
        with cls() as mode:
            run()
        looking = statistics.median(mode.found.pop("views"))
        return {group: sum(max(0.0, taken - looking) for taken in each) for group, each in mode.found.items()}


def main() -> None:
    """Prints a table per row."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    arguments.add_argument("--repeats", type=int, default=5)
    given = arguments.parse_args()
    if unknown := set(given.rows) - set(ROWS):
        arguments.error(f"{', '.join(unknown)} is not known; rows are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    console = Console(width=130)
    for name in given.rows or ROWS:
        for table in ROWS[name](given.repeats):
            console.print(table)


def plain(repeats: int) -> list[Table]:
    """One hidden layer."""
    problems = {
        f"336 -> 256, {name}": Problem(PLAIN | {"hidden_sizes": [256], "activation": name}) for name in ("gelu", "relu")
    }
    return compared(problems, repeats, {"/ loop": 15, "/ blocks": 7, "of floor": 0.6})


def deep(repeats: int) -> list[Table]:
    """Two hidden layers."""
    problems = {"336 -> 256 -> 256": Problem(PLAIN | {"hidden_sizes": [256, 256]})}
    return compared(problems, repeats, {"/ loop": 4}, {"/ loop": 6})


def default(repeats: int) -> list[Table]:
    """The default networks."""
    return compared({name: Problem(options) for name, options in DEFAULT.items()}, repeats, {"of floor": 1 / 1.4})


def compared(problems: Mapping[str, Problem], repeats: int, *goals: Mapping[str, float]) -> list[Table]:
    """Rates and ratios of every network, and where the time goes.

    Args:
        problems: By name.
        repeats: Turns.
        goals: What is to be reached by heading; a second one of products in bfloat16, if they are tried.
    """
    rates = Table("million a second", "path-steps / s", "loop", "blocks", *RATIOS, "floor / square")
    shares = Table("seconds", "whole", "floor", *PARTS, "rest, between")
    for name, problem in problems.items():
        few = Problem(problem.options, 3)
        for other in (few.rollout(reference=True), few.loop()):
            torch.testing.assert_close(few.rollout(), other, rtol=1e-3, atol=1e-3)
        kinds = {name: torch.float32, f"{name}, bf16": torch.bfloat16}
        kinds = dict(list(kinds.items())[: len(goals)])
        ways: dict[str, Callable[[], object]] = {
            "loop": problem.loop,
            "blocks": lambda problem=problem: problem.rollout(reference=True),
        }
        for kind, dtype in kinds.items():
            ways[kind] = lambda problem=problem, dtype=dtype: problem.rollout(precision=dtype)
            ways[f"{kind}, floor"] = floor(problem, dtype)
            side = torch.randn(2048, 2048).to(dtype)
            ways[f"{kind}, square"] = lambda side=side: torch.mm(side, side)
        found = seconds(name, ways, repeats)
        for kind, goal in zip(kinds, goals, strict=True):
            whole, least, square = (found[way] for way in (kind, f"{kind}, floor", f"{kind}, square"))
            rate = (f"{problem.path_steps / value / 1e6:.2f}" for value in (whole, found["loop"], found["blocks"]))
            ratios = dict(zip(RATIOS, (found["loop"] / whole, found["blocks"] / whole, least / whole), strict=True))
            cells = (f"{ratio:.2f}" + (f" ({goal[of]:.2g})" if of in goal else "") for of, ratio in ratios.items())
            rates.add_row(kind, *rate, *cells, f"{multiplications(problem) / least * square / 2048**3:.2f}")
            groups = Breakdown.of(ways[kind])
            parts = [groups.get(group, 0.0) for group in PARTS]
            shares.add_row(kind, *(f"{value:.2f}" for value in (whole, least, *parts, whole - sum(parts))))
    return [rates, shares]


def multiplications(problem: Problem) -> int:
    """How many `floor` does."""
    series, paths, horizon = problem.noise.shape[:3]
    first, *rest = (layer.weight for layer in problem.linears)
    steps = range(0, horizon, problem.network.patch_length)
    calls = series * (1 + paths * (len(steps) - 1))
    history, own = series * len(steps) * first.numel(), series * paths * sum(steps) * len(first)
    return history + own + calls * sum(weight.numel() for weight in rest)


def one(repeats: int) -> list[Table]:
    """One series."""
    try:
        from how_fast_is_an_export import one_series
    except ModuleNotFoundError as error:
        print(
            f"{error.name} is not installed: the row `one` is left out (pip install 'armlp[export]').", file=sys.stderr
        )
        return []
    return [one_series(3 * repeats)]


def growth(repeats: int) -> list[Table]:
    """Each size doubled, the others as they are."""
    from matplotlib import pyplot

    usual = {"series": 32, "paths": 64, "horizon": 48, "context": 192}
    doubled = {"series": (16, 256), "paths": (32, 512), "horizon": (24, 384), "context": (48, 768)}
    table = Table("seconds", *(f"x {2**power}" for power in range(5)), "slope in log-log", title="Growth")
    figure, axes = pyplot.subplots(figsize=(6, 4.2), layout="constrained")
    for name, (least, most) in doubled.items():
        sizes = [least * 2**power for power in range(5)]
        ways = {}
        for size in sizes:
            now = usual | {name: size}
            options = PLAIN | {"hidden_sizes": [256], "context_length": now["context"]}
            ways[str(size)] = Problem(options, now["series"], now["paths"], now["horizon"]).rollout
        found = list(seconds(name, ways, repeats).values())
        # A horizon beyond the context is another matter: from there on no step costs more than the one before.
        count = sum(size <= usual["context"] for size in sizes) if name == "horizon" else len(sizes)
        slope = np.polyfit(np.log(sizes[:count]), np.log(found[:count]), 1)[0]
        until = f" up to {sizes[count - 1]}" if count < len(sizes) else ""
        axes.loglog(
            2.0 ** np.arange(5), found, "o-", base=2, label=f"{name} {least} to {most}: slope {slope:.2f}{until}"
        )
        table.add_row(f"{name}, {least} to {most}", *(f"{value:.3f}" for value in found), f"{slope:.2f}{until}")
    axes.set(
        xlabel="times as much", ylabel="seconds on one core", title="Time of a rollout, each size doubled by itself"
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(PICTURE, dpi=120)
    return [table]


RATIOS = ("/ loop", "/ blocks", "of floor")
PARTS = (*Breakdown.NAMES, "head, drawing", "skips")
PICTURE = Path(__file__).parent / "pictures" / "rollout_growth.png"
ROWS = {"plain": plain, "deep": deep, "default": default, "one": one, "growth": growth}


if __name__ == "__main__":
    main()
