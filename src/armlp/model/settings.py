"""The options of the network: each one declared, limited and described once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from armlp.options import Options, option


@dataclass(frozen=True)
class NetworkSettings(Options):
    """The options that shape an `AutoregressiveMLP`. None is chosen from the data."""

    context_length: int | None = option(minimum=1)
    """`L`, the past values that the network sees."""

    patch_length: int | None = option(minimum=1)
    """`U`, the values that one network call emits. 1 is the classic model, whose steps depend on each other. Longer
    patches are faster and often better over long horizons, but their values are independent given the context."""

    hidden_sizes: Sequence[int] | None = None
    """Widths of the plain layers. An empty list leaves the skips alone: a linear model."""

    residual_blocks: int | None = option(minimum=0)
    """How many residual blocks follow the plain layers."""

    block_size: int | None = option(minimum=1)
    """Width inside a residual block; that of the last plain layer where left out."""

    activation: str = "gelu"
    """`relu`, `gelu`, `silu` or `tanh`."""

    dropout: float | None = None
    """Share of inner units dropped in the residual blocks during training."""

    head: str | None = None
    """The family of the distribution, or the class path of a `Head`; by the kind of values where left out or `auto`."""

    point_loss: str = "mse"
    """Loss of the point head: `mse`, `mae` or `huber`."""

    quantile_loss: str = "pinball"
    """Loss of the quantile head: `pinball` at its knots, or the exact `crps`."""

    components: int = option(3, minimum=1)
    """Normal distributions in the mixture head."""

    bins: int = option(64, minimum=3)
    """Bins of the categorical head."""

    symbols: int | None = option(minimum=0)
    """Size of the alphabet where the values are symbols, 0 where they are numbers."""

    scaler: str | None = None
    """How a window is scaled to network units, or the class path of a `Scaler`."""

    level_input: bool = True
    """Give the network the log ratio of the window's spread and level, which scaling removes."""

    mask_input: bool | None = None
    """Give the network the mask of observed context values."""

    linear_skip: bool = True
    """Add a linear map of the whole context to the location."""

    seasonal_skip: bool = True
    """Add the value one season ago to the location, so that training starts at the seasonal naive forecast."""

    season_length: int | None = option(minimum=1)
    """Steps in a season of the seasonal skip and scaler; 1 where there is none."""

    channels: int | None = option(minimum=1)
    """`V`, values per time step."""

    non_negative: bool | None = None
    """Cut forecasts off at 0; where left out, if no training value is below 0."""

    members: int | None = option(minimum=1)
    """`E`, networks trained side by side as an ensemble; each path of a forecast comes from one member. 1 where left
    out, unless `effort` says more."""

    covariate_sizes: Mapping[str, Sequence[int]] | None = None
    """By role (`known`, `past`, `calendar`, `static`), for each column the number of its codes, or 0 for numbers."""
