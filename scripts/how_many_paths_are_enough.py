"""How many paths are enough? Scores of forecasts from stratified noise, beside those from independent noise.

    python scripts/how_many_paths_are_enough.py [m3-quarterly taylor ...] [--paths 20,50,200,1000] [--seeds 5] [--write]

Trains the defaults of a data set, without trials, and forecasts its validation origins with several seeds of noise:
stratified, as `path_noise` returns it, and independent. Scores are means over the seeds. `by seed` is the standard
deviation of the medians over the seeds, as a share of the mean absolute error.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from lightning.pytorch import seed_everything
from report import add_write_option, table, write_results
from torch import Tensor
from what_helps import train

from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.evaluation.scoreboard import MODEL, Evaluation
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout
from armlp.training.loop.trainer import quiet
from armlp.training.module import ForecastModule


class Scores(NamedTuple):
    """Mean scores over the seeds, and the difference of the medians by seed."""

    mase: float
    crps: float
    by_seed: float


def main() -> None:
    """Measure a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=["m3-quarterly", "taylor"], metavar="DATA SET")
    parser.add_argument("--paths", default="20,50,200,1000")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max_steps", type=int, help="of the training; fewer for a quick look")
    add_write_option(parser)
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    tables = []
    for name in options.names:
        seed_everything(0, verbose=False)
        data, module = SeriesDataModule(name), ForecastModule(theta_share=0.0)
        train(module, data, {} if options.max_steps is None else {"max_steps": options.max_steps})
        rows = []
        for paths in map(int, options.paths.split(",")):
            for noise in ("independent", "stratified"):
                scores = forecast(module, data, paths, noise == "stratified", options.seeds)
                rows.append((f"{paths}", noise, f"{scores.mase:.4f}", f"{scores.crps:.4f}", f"{scores.by_seed:.2%}"))
        tables.append(table(name, ("paths", "noise", "MASE", "scaled CRPS", "by seed"), rows))
    write_results(__file__, __doc__, tables, options.write)


def forecast(module: ForecastModule, data: SeriesDataModule, paths: int, stratified: bool, seeds: int) -> Scores:
    """Forecast the validation origins with noise of several seeds, and score the forecasts."""
    assert module.network is not None
    network = module.network.eval()
    scores, medians = [], []
    for seed in range(seeds):
        judge, batches = Evaluation(data, "val", data.horizon), []
        for windows in data.val_dataloader():
            noise = noise_of(data, network, windows, paths, seed, stratified)
            drawn = rollout(network, windows.context, data.horizon, paths, windows.observed, noise, windows.covariates)
            drawn = data.panel.in_data_units(windows.series, drawn)
            judge.update(network, drawn, windows)
            batches.append(drawn.median(1).values)
        judge.sum_up(torch.device("cpu"))
        scores.append(judge.scores[MODEL])
        medians.append(torch.cat(batches))
    mean = {name: sum(score[name] for score in scores) / seeds for name in ("mase", "scaled_crps", "mae")}
    by_seed = torch.stack(medians).double().var(0).mean().sqrt().item() / mean["mae"]
    return Scores(mean["mase"], mean["scaled_crps"], by_seed)


def noise_of(
    data: SeriesDataModule,
    network: AutoregressiveMLP,
    windows: Windows,
    paths: int,
    seed: int,
    stratified: bool,
) -> Tensor:
    """Return noise `[B, P, H, V, noise]`."""
    size = (network.channels, network.head.noise)
    if stratified:
        keys = data.panel.keys[windows.series]
        return path_noise(keys, windows.origin, paths, data.horizon, size, seed, network.members)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(windows.context), paths, data.horizon, *size, generator=generator)


if __name__ == "__main__":
    main()
