"""How many paths are enough? Forecasts from stratified draws beside the same from free ones.

    python scripts/how_many_paths_are_enough.py [m3-quarterly taylor ...] [--paths 20,50,200,1000] [--seeds 5]

Trains the defaults of a data set, without trials, and forecasts its validation origins again and again: with noise from
`path_noise`, which takes care at every step that the paths share the distribution evenly, and with noise that is drawn
freely. `by seed` is how much the medians of two seeds differ, the standard deviation as a share of the mean absolute
error; the scores are means over the seeds, of the paths as they are. One call of the network emits all steps up to the
horizon, or a patch of them.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from what_helps import train

from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.evaluation.scoreboard import MODEL, Evaluation
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout
from armlp.training.module import ForecastModule
from armlp.training.trainer import quiet


class Found(NamedTuple):
    """How good forecasts of several seeds are, and how much their medians differ."""

    mase: float
    crps: float
    by_seed: float


def main() -> None:
    """Prints a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["m3-quarterly", "taylor"])
    parser.add_argument("--paths", default="20,50,200,1000")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    for name in given.names:
        data, module = SeriesDataModule(name), ForecastModule(theta_share=0.0)
        train(module, data, {})
        table = Table("paths", "draws", "MASE", "scaled CRPS", "by seed", title=name, title_justify="left")
        for number in map(int, given.paths.split(",")):
            for draws in ("free", "stratified"):
                found = forecast(module, data, number, draws == "stratified", given.seeds)
                table.add_row(f"{number}", draws, f"{found.mase:.4f}", f"{found.crps:.4f}", f"{found.by_seed:.2%}")
        Console().print(table)


def forecast(module: ForecastModule, data: SeriesDataModule, paths: int, stratified: bool, seeds: int) -> Found:
    """Forecasts the validation origins with noise of several seeds."""
    assert module.network is not None
    network = module.network.eval()
    scores, medians = [], []
    for seed in range(seeds):
        judge, each = Evaluation(data, "val", data.horizon), []
        for windows in data.val_dataloader():
            noise = noise_of(data, network, windows, paths, seed, stratified)
            found = rollout(network, windows.context, data.horizon, paths, windows.observed, noise, windows.covariates)
            found = data.panel.in_data_units(windows.series, found)
            judge.update(network, found, windows)
            each.append(found.median(1).values)
        judge.sum_up(torch.device("cpu"))
        scores.append(judge.scores[MODEL])
        medians.append(torch.cat(each))
    mean = {name: sum(score[name] for score in scores) / seeds for name in ("mase", "scaled_crps", "mae")}
    by_seed = torch.stack(medians).double().var(0).mean().sqrt().item() / mean["mae"]
    return Found(mean["mase"], mean["scaled_crps"], by_seed)


def noise_of(
    data: SeriesDataModule,
    network: AutoregressiveMLP,
    windows: Windows,
    paths: int,
    seed: int,
    stratified: bool,
) -> Tensor:
    """`[B, P, H, noise]`."""
    size = (*windows.context.shape[2:], network.head.noise)
    if stratified:
        keys = data.panel.keys[windows.series]
        return path_noise(keys, windows.origin, paths, data.horizon, size, seed, network.members)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(windows.context), paths, data.horizon, *size, generator=generator)


if __name__ == "__main__":
    main()
