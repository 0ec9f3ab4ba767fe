"""The autoregressive MLP: a window of past values in, the distribution of the next patch out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from armlp.errors import UserError
from armlp.model.heads import HEADS, PointHead, Predictive
from armlp.model.scaling import SCALERS, Scaling, scale_window

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class ResidualBlock(nn.Module):
    """`x + W2 drop(act(W1 norm(x)))`.

    Args:
        width: Of `x`.
        inner: Of the layer inside; narrower than `width` makes a bottleneck.
        activation: A key of `ACTIVATIONS`.
        dropout: Share of inner units dropped in training.
    """

    def __init__(self, width: int, inner: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, inner),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(inner, width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width]` to `[B, width]`."""
        return features + self.inside(features)


class AutoregressiveMLP(nn.Module):
    """`P(x_t .. x_t+U-1 | x_t-L .. x_t-1)`, the conditional distribution that a forecast applies to its own output.

        context --scaler--> z --+--> linear skip ---------------------------+
                                +--> seasonal skip (one season ago) --------+--> head --> P(next U values)
                                +--> layers --> residual blocks --> output -+

    With both skips off, one hidden layer, no blocks, no scaler and a point head it is exactly the textbook's
    `Linear(L, hidden) -> ReLU -> Linear(hidden, 1)`. With no hidden layer it is a linear autoregression.

    Args:
        context_length: `L`, the past values that the network sees. It must reach as far back as the future depends on.
        patch_length: `U`, the values that one call emits. 1 models every dependence between neighbours; longer
            patches are quicker to roll out and steadier over long horizons, their values independent given the context.
        hidden_sizes: Widths of the plain layers; none leaves the skips alone.
        residual_blocks: How many residual blocks follow the plain layers.
        block_size: Width inside a residual block; as wide as the last plain layer where left out.
        activation: `relu`, `gelu`, `silu` or `tanh`.
        dropout: Share of inner units dropped in the residual blocks during training.
        head: `point`, `normal`, `student_t` or `quantile`.
        point_loss: What the point head minimises: `mse`, `mae` or `huber`.
        scaler: `none`, `mean_abs` or `standard`.
        level_input: Tell the network how large the window's spread is beside its level (log of their ratio), which
            scaling took away.
        mask_input: Tell the network which values of the context were observed.
        linear_skip: Add a linear map of the whole context to the location.
        seasonal_skip: Add the value one season ago to the location, so that training starts at the seasonal naive.
        season_length: Steps in a season; 1 where there is none.
        channels: `V`, values per time step.

    Raises:
        UserError: An option is out of its range; the message names it.
    """

    def __init__(
        self,
        context_length: int,
        patch_length: int = 1,
        hidden_sizes: Sequence[int] = (256,),
        residual_blocks: int = 0,
        block_size: int | None = None,
        activation: str = "gelu",
        dropout: float = 0.1,
        head: str = "quantile",
        point_loss: str = "mse",
        scaler: str = "standard",
        level_input: bool = True,
        mask_input: bool = False,
        linear_skip: bool = True,
        seasonal_skip: bool = True,
        season_length: int = 1,
        channels: int = 1,
    ) -> None:
        super().__init__()
        _check_choice("head", head, HEADS)
        _check_choice("scaler", scaler, SCALERS)
        _check_choice("activation", activation, ACTIVATIONS)
        for name, value, least in (
            ("context_length", context_length, 1),
            ("patch_length", patch_length, 1),
            ("residual_blocks", residual_blocks, 0),
            ("block_size", block_size, 1),
            ("season_length", season_length, 1),
            ("channels", channels, 1),
        ):
            if value is not None and value < least:
                raise UserError(f"--model.{name}: {value} is too small; it must be at least {least}.")
        if any(width < 1 for width in hidden_sizes):
            raise UserError(f"--model.hidden_sizes: {list(hidden_sizes)} holds a width below 1.")
        if not 0 <= dropout < 1:
            raise UserError(f"--model.dropout: {dropout} is not a share between 0 and 1.")
        if residual_blocks and not hidden_sizes:
            raise UserError("--model.residual_blocks: blocks need a layer before them; give --model.hidden_sizes.")

        self.context_length = context_length
        self.patch_length = patch_length
        self.channels = channels
        self.scaler = scaler
        self.level_input = level_input and scaler != "none"
        self.mask_input = mask_input
        point_head = PointHead(point_loss)  # made in any case, because it checks the option
        self.head = point_head if head == "point" else HEADS[head]()
        # The value one season before each value of the patch; the latest such value where it is within the patch.
        self.season_ago: list[int] | None = None
        if seasonal_skip and season_length <= context_length:
            self.season_ago = [context_length - season_length + step % season_length for step in range(patch_length)]

        inputs = context_length * channels * (1 + mask_input) + channels * self.level_input
        outputs = patch_length * channels
        layers: list[nn.Module] = []
        width = inputs
        for size in hidden_sizes:
            layers += [nn.Linear(width, size), ACTIVATIONS[activation]()]
            width = size
        layers += [ResidualBlock(width, block_size or width, activation, dropout) for _ in range(residual_blocks)]
        if hidden_sizes:
            layers.append(nn.Linear(width, outputs * self.head.parameters))
            self.layers: nn.Sequential | None = nn.Sequential(*layers)
        else:
            self.layers = None
            self.bias = nn.Parameter(torch.zeros(outputs * self.head.parameters))
        self.linear_skip = nn.Linear(context_length * channels, outputs) if linear_skip else None
        self._start_at_the_skips()

    def _start_at_the_skips(self) -> None:
        """Zero weights where a skip carries the location, so that training starts at the seasonal naive."""
        if self.linear_skip is not None:
            nn.init.zeros_(self.linear_skip.weight)
            nn.init.zeros_(self.linear_skip.bias)
        if self.layers is not None and (self.linear_skip is not None or self.season_ago is not None):
            output = self.layers[-1]
            assert isinstance(output, nn.Linear)
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)

    def forward(self, context: Tensor, observed: Tensor | None = None) -> Predictive:
        """The distribution of the next patch, `[B, U(, V)]`, data units.

        Args:
            context: `[B, L(, V)]`, data units; missing values filled with the last observed one.
            observed: `[B, L(, V)]` bool, False where the context is padding or was missing; all observed if left out.
        """
        observed = torch.ones_like(context, dtype=torch.bool) if observed is None else observed
        return self.conditional(context, observed, scale_window(self.scaler, context, observed))

    def conditional(self, window: Tensor, observed: Tensor, scaling: Scaling) -> Predictive:
        """`forward` under a scaling fixed before: what every later step of a rollout uses.

        Args:
            window: `[B, L(, V)]`, data units.
            observed: `[B, L(, V)]` bool.
            scaling: Of the context at the origin.
        """
        network_window = scaling.to_network(window)
        flat = network_window.flatten(1)
        if self.layers is None:
            raw = self.bias.expand(len(flat), -1)
        else:
            inputs = [flat]
            if self.mask_input:
                inputs.append(observed.flatten(1).to(flat.dtype))
            if self.level_input:
                inputs.append((scaling.scale / scaling.magnitude).log().flatten(1))
            raw = self.layers(torch.cat(inputs, dim=1) if len(inputs) > 1 else flat)

        raw = raw.unflatten(1, (self.patch_length, *window.shape[2:], self.head.parameters))
        skips = []
        if self.linear_skip is not None:
            skips.append(self.linear_skip(flat).view(raw.shape[:-1]))
        if self.season_ago is not None:
            skips.append(network_window[:, self.season_ago])
        if skips:
            raw = torch.cat([raw[..., :1] + sum(skips)[..., None], raw[..., 1:]], dim=-1)
        return self.head(raw, scaling.shift, scaling.scale)


def _check_choice(option: str, value: str, choices: Sequence[str] | dict[str, type]) -> None:
    if value not in choices:
        raise UserError(f"--model.{option}: {value!r} is not known; use one of {', '.join(choices)}.")
