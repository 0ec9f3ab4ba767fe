"""The autoregressive MLP: a window of past values in, the distribution of the next patch out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from armlp.data.covariates import Covariates
from armlp.errors import UserError
from armlp.model.dependence import Dependence
from armlp.model.ensemble import ACTIVATIONS, EnsembleMixture, layer_norm, linear
from armlp.model.families import HEADS, Predictive
from armlp.model.inputs import Inputs
from armlp.model.scaling import SCALERS, Scaling
from armlp.model.settings import NetworkSettings
from armlp.registry import options_of


class ResidualBlock(nn.Module):
    """`x + W2 drop(act(W1 norm(x)))` for `x [B, width]`; an `inner` size below `width` makes a bottleneck."""

    def __init__(self, width: int, inner: int, activation: str, dropout: float, members: int = 1) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            layer_norm(members, width),
            linear(members, width, inner),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            linear(members, inner, width),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `[B, width]` to `[B, width]`."""
        return hidden + self.inside(hidden)


class AutoregressiveMLP(nn.Module):
    """P(x_t, ..., x_{t+U-1} | x_<t): a scaler, two skips and an MLP give the parameters of a head.

        context [B, L] --scaler--> z --+--> linear skip (all L) ------------------+
                                       +--> seasonal skip (value one season ago) --+--> head --> P(next U values)
          covariates, calendar, static +--> MLP (residual blocks) ----------------+

    With both skips off, one hidden layer and a point head it is the textbook's
    `Linear(L, hidden) -> ReLU -> Linear(hidden, 1)`. In plain torch:

        model = AutoregressiveMLP(context_length=96)
        loss = -model(context).log_prob(target).mean()  # context [B, 96], target [B, 1]
        paths = rollout(model.eval(), context, horizon=48, num_paths=100)  # [B, 100, 48]

    Args:
        context_length: `L`. This and the other options are described in `armlp.model.settings.NetworkSettings`.
        **head_options: Options of the head, such as `bins` of the categorical head; those of other registered heads are
            checked and ignored.

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
        symbols: int = 0,
        scaler: str = "standard",
        level_input: bool = True,
        mask_input: bool = False,
        linear_skip: bool = True,
        seasonal_skip: bool = True,
        season_length: int = 1,
        channels: int = 1,
        non_negative: bool = False,
        members: int = 1,
        covariate_sizes: Mapping[str, Sequence[int]] | None = None,
        **head_options: Any,
    ) -> None:
        # Check all arguments first: until another variable is assigned, `locals()` holds the arguments by name.
        declared = {one.name for one in fields(NetworkSettings)}
        settings = NetworkSettings(**{name: value for name, value in locals().items() if name in declared})
        super().__init__()
        hidden_sizes, head_options = settings.hidden_sizes or [], dict(settings.head_options or {})
        if residual_blocks and not hidden_sizes:
            raise UserError("`residual_blocks`: blocks need a layer before them; give `hidden_sizes`.")
        head_class, network_arguments = HEADS.find(head), {"channels": channels, "symbols": symbols}
        if head_class.distribution.numeric == (symbols > 0):
            raise UserError(
                f"`head`: {head!r} is not for {'symbols' if symbols else 'numbers'}; "
                f"{'leave it out' if symbols else 'give `symbols` true if the targets are symbols'}."
            )

        self.context_length, self.patch_length, self.season_length = context_length, patch_length, season_length
        self.channels, self.members, self.symbols, self.non_negative = channels, members, symbols, non_negative
        own_options = {name: value for name, value in head_options.items() if name in options_of(head_class)}
        self.head = head_class(**own_options, **{name: network_arguments[name] for name in head_class.supplied})
        self.dependence = Dependence(patch_length, channels) if self.head.noise else None
        # Symbols have neither a scale nor a location to add to.
        self.scaler = SCALERS.find("none" if symbols else scaler)(season_length)
        for name, statistic in self.scaler.initial_statistics(channels).items():
            self.register_buffer(name, statistic)
        # For each value of the patch, the position in the context of the latest value in the same phase of the season.
        self.seasonal_positions: list[int] | None = None
        if seasonal_skip and season_length <= context_length and not symbols:
            self.seasonal_positions = [
                context_length - season_length + step % season_length for step in range(patch_length)
            ]
        level_input = level_input and self.scaler.by_window
        sizes = covariate_sizes or {}
        self.inputs = Inputs(context_length, patch_length, channels, mask_input, level_input, symbols, sizes, members)
        outputs = patch_length * channels
        # For block sizes of the rollout.
        self.max_width = max(outputs * self.head.outputs, *hidden_sizes, block_size or 0)
        self.layers: nn.Sequential | None = None
        if hidden_sizes:
            layers: list[nn.Module] = []
            for before, after in pairwise([self.inputs.width, *hidden_sizes]):
                layers += [linear(members, before, after), ACTIVATIONS[activation]()]
            width = hidden_sizes[-1]
            for _ in range(residual_blocks):
                layers.append(ResidualBlock(width, block_size or width, activation, dropout, members))
            self.layers = nn.Sequential(*layers, linear(members, width, outputs * self.head.outputs))
        elif symbols or self.inputs.has_covariates:
            what = "Symbols" if symbols else "Covariates"
            raise UserError(f"`hidden_sizes`: {what} go through the MLP; give it a layer, such as [64].")
        else:
            self.bias = nn.Parameter(torch.zeros(members * outputs * self.head.outputs))
        self.linear_skip = linear(members, context_length * channels, outputs) if linear_skip and not symbols else None
        # Training starts at the seasonal naive: where there is a skip, the layers add 0 to it.
        if self.linear_skip is not None:
            _set_to_zero(self.linear_skip)
        if self.layers is not None and (self.linear_skip is not None or self.seasonal_positions is not None):
            _set_to_zero(self.layers[-1])

    def forward(
        self, context: Tensor, observed: Tensor | None = None, covariates: Covariates | None = None
    ) -> Predictive:
        """Return the distribution of the next patch, `[B, U, V]`, data units; `[B, U]` for a context `[B, L]`.

        Args:
            context: `[B, L, V]`, or `[B, L]` of one channel, data units; missing values filled with the last observed.
            observed: Bool of the same shape, False where the context is padding or was missing; all observed if left
                out.
            covariates: Covariates of the window, for a model that has any.
        """
        observed = torch.ones_like(context, dtype=torch.bool) if observed is None else observed
        has_channels = context.dim() == 3
        if not has_channels:
            context, observed = context[..., None], observed[..., None]
        scaling = self.measure_scaling(context, observed)
        if self.members > 1:
            context, observed = (torch.cat([part] * self.members) for part in (context, observed))
            scaling, covariates = scaling.tile(self.members), covariates and covariates.tile(self.members)
        raw = self.raw_outputs(context, observed, scaling, covariates)
        shift, scale = scaling.shift_at(self.context_length, self.patch_length), scaling.scale
        if not has_channels:
            raw, shift, scale = raw[:, :, 0], shift[:, :, 0], scale[:, :, 0]
        distribution = self.head(raw, shift, scale)
        return distribution if self.members == 1 else EnsembleMixture(distribution, self.members)

    def measure_scaling(self, context: Tensor, observed: Tensor) -> Scaling:
        """Return the scaling of a context `[B, L, V]`, data units, at its origin; it holds for the whole forecast."""
        statistics = {name: self.get_buffer(name) for name in self.scaler.statistics}
        return self.scaler.measure(context, observed, **statistics)

    def predict_patch(
        self, window: Tensor, observed: Tensor, scaling: Scaling, covariates: Covariates | None = None, step: int = 0
    ) -> Predictive:
        """Return the distribution of the patch after a window, `[B, U, V]`, data units.

        This is what every step of a rollout calls. In an ensemble the first `1 / E` of the batch belongs to the first
        member, and so on.

        Args:
            window: `[B, L, V]`, data units.
            observed: `[B, L, V]` bool.
            scaling: Scaling of the context at the origin.
            covariates: Covariates of the window at the origin.
            step: Steps from the origin to the patch.
        """
        raw = self.raw_outputs(window, observed, scaling, covariates, step)
        return self.head(raw, scaling.shift_at(step + self.context_length, self.patch_length), scaling.scale)

    def raw_outputs(
        self, window: Tensor, observed: Tensor, scaling: Scaling, covariates: Covariates | None = None, step: int = 0
    ) -> Tensor:
        """Return the input of the head, `[B, U, V, outputs]`, network units; arguments as in `predict_patch`."""
        values = scaling.to_network(window, step)
        if self.layers is None:  # `[B, U V outputs]`, from `[E, U V outputs]`
            raw = self.bias.unflatten(0, (self.members, -1)).repeat_interleave(window.shape[0] // self.members, 0)
        else:
            # `[B, 1, L, ...]`, because `self.inputs` takes the windows of several patches.
            inputs = self.inputs(self.inputs.embed(values)[:, None], observed[:, None], scaling, covariates, [step])
            raw = self.layers(inputs[:, 0])
        raw = raw.unflatten(1, (self.patch_length, self.channels, self.head.outputs))
        skips = []
        if self.linear_skip is not None:
            skips.append(self.linear_skip(values.flatten(1)).view(raw.shape[:-1]))
        if self.seasonal_positions is not None:
            # The values at `seasonal_positions`, by slices: an index would be copied to the GPU at every call.
            repeats = -(-self.patch_length // self.season_length)
            skips.append(torch.cat([values[:, -self.season_length :]] * repeats, 1)[:, : self.patch_length])
        if not skips:
            return raw
        return torch.cat([raw[..., :1] + sum(skips)[..., None], raw[..., 1:]], dim=-1)


def _set_to_zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
