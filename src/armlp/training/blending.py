"""Blending: forecasts moved a share of the way to those of the Theta method, which sees all of a short series."""

from __future__ import annotations

from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.evaluation.baselines import Theta
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.sampling import Sampling

# Of fewer rows, and fewer seasons, Theta makes a line of what is noise.
_LEAST_ROWS, _LEAST_SEASONS = 6, 4
# So many values of its forecasts are kept, for origins that are forecast again and again.
_MOST_KEPT = 1 << 22


class Blending:
    """Moves all paths of a series alike, so that their spread stays, and values that are given stay as they are.

    Networks and statistical methods err differently, so that their mean beats both, as in the M4 competition:
    Spyros Makridakis et al. (2020), https://doi.org/10.1016/j.ijforecast.2019.04.014

    Args:
        data: With all rows before the origins.
        share: How far the centre of the network's forecast moves to Theta's; at 1 it is Theta's. Series of less than
            four seasons, or six values, do not move.
    """

    def __init__(self, data: SeriesDataModule, share: float) -> None:
        self.share = share
        self.least = max(_LEAST_ROWS, _LEAST_SEASONS * data.season_length)
        self.theta = Theta(data.panel, data.season_length)
        self._kept: dict[tuple[bytes, bytes, int], Tensor] = {}
        self._room = _MOST_KEPT

    def __call__(
        self, network: AutoregressiveMLP, paths: Tensor, windows: Windows, given: Tensor | None = None
    ) -> Tensor:
        """Moves the paths of a batch.

        Args:
            network: That made the paths; what it has no values below 0 of still has none.
            paths: `[B, P, H(, V)]`, data units.
            windows: Which the paths go on from.
            given: `[B, H(, V)]` what was known of the future; nan elsewhere.

        Returns:
            `[B, P, H(, V)]`, data units.
        """
        share = (self.share * (windows.origin >= self.least)).view(-1, *[1] * (paths.dim() - 2)).cpu()
        if not bool(share.any()):
            return paths
        centre = Sampling().centre(network, self.theta.panel, windows, paths.shape[2])
        moved = paths + (share * (self._theta_of(windows, paths.shape[2]) - centre.cpu())).to(paths)[:, None]
        moved = moved.clamp(min=0) if network.non_negative else moved
        return moved if given is None else moved.where(given.isnan()[:, None].to(paths.device), paths)

    def _theta_of(self, windows: Windows, horizon: int) -> Tensor:
        """Theta's forecasts, `[B, H(, V)]`; those of a batch that was seen before are not made again."""
        series, origin = windows.series.cpu(), windows.origin.cpu()
        key = series.numpy().tobytes(), origin.numpy().tobytes(), horizon
        if key in self._kept:
            return self._kept[key]
        found = self.theta.forecast(series, origin, horizon)
        if found.numel() <= self._room:
            self._kept[key] = found
            self._room -= found.numel()
        return found
