"""Blending: forecasts moved a share of the way to those of the Theta method, which sees all of a short series."""

from __future__ import annotations

from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.evaluation.baselines import Theta
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.sampling import Sampling


def towards_theta(
    paths: Tensor,
    share: float,
    network: AutoregressiveMLP,
    data: SeriesDataModule,
    windows: Windows,
    given: Tensor | None = None,
) -> Tensor:
    """Moves all paths of a series alike, so that their spread stays, and values that are given stay as they are.

    Networks and statistical methods err differently, so that their mean beats both, as in the M4 competition:
    Spyros Makridakis et al. (2020), https://doi.org/10.1016/j.ijforecast.2019.04.014

    Args:
        paths: `[B, P, H(, V)]`, data units.
        share: How far the centre of the network's forecast moves to Theta's; at 1 it is Theta's.
        network: That made the paths; what it has no values below 0 of still has none.
        data: With all rows before the origins.
        windows: Which the paths go on from.
        given: `[B, H(, V)]` what was known of the future; nan elsewhere.

    Returns:
        `[B, P, H(, V)]`, data units.
    """
    horizon = paths.shape[2]
    theta = Theta(data.panel, data.season_length).forecast(windows.series.cpu(), windows.origin.cpu(), horizon)
    centre = Sampling().centre(network, data.panel, windows, horizon)
    moved = paths + (share * (theta - centre.cpu())).to(paths)[:, None]
    moved = moved.clamp(min=0) if network.non_negative else moved
    return moved if given is None else moved.where(given.isnan()[:, None].to(paths.device), paths)
