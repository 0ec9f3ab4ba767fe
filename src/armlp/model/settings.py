"""The options of the network: each one declared, limited and described once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from armlp.errors import UserError, check_bounds
from armlp.model.ensemble import ACTIVATIONS
from armlp.model.families import HEADS, HeadOption, check_head_options, head_options
from armlp.model.scaling import SCALERS
from armlp.options import Options, option


@dataclass(frozen=True)
class NetworkSettings(Options):
    """The options that shape an `AutoregressiveMLP`. An option left at `None` is chosen from the data."""

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

    activation: str = option("gelu", choices=ACTIVATIONS)
    """`relu`, `gelu`, `silu` or `tanh`."""

    dropout: float | None = option(minimum=0)
    """Share of inner units dropped in the residual blocks during training."""

    head: str | None = None
    """The family of the distribution, or the class path of a `Head`; by the kind of values where left out or `auto`."""

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

    head_options: Mapping[str, Any] | None = None
    """Options of heads by name, such as `bins`. `ForecastModule` and the command line take them beside the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head is not None:
            HEADS.find(self.head)
        if self.scaler is not None:
            SCALERS.find(self.scaler)
        if any(width < 1 for width in self.hidden_sizes or ()):
            raise UserError(f"`hidden_sizes`: {self.hidden_sizes} holds a width below 1; give widths from 1 on.")
        for width in self.hidden_sizes or ():
            check_bounds("hidden_sizes", width, 1)
        if self.dropout is not None and self.dropout >= 1:
            raise UserError(f"`dropout`: {self.dropout} is not a share between 0 and 1.")
        object.__setattr__(self, "head_options", check_head_options(self.head_options or {}, self.head))

    def _head_options(self) -> dict[str, HeadOption]:
        return head_options(*([] if self.head is None else [self.head]))

    def flat(self) -> dict[str, Any]:
        """Return all options by name, head options beside the others, as a checkpoint holds them."""
        options = dict(vars(self))
        chosen = options.pop("head_options")
        return options | {name: one.default for name, one in self._head_options().items()} | chosen

    def non_defaults(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, head options beside the others."""
        options = super().non_defaults()
        chosen, known = options.pop("head_options", {}), self._head_options()
        return options | {name: value for name, value in chosen.items() if value != known[name].default}


def network_options() -> tuple[str, ...]:
    """Return the names of all options of the network, those of the registered heads among them."""
    return (*(one.name for one in fields(NetworkSettings) if one.name != "head_options"), *head_options())
