"""The mixture of normal distributions, and its head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from armlp.errors import check_bounds
from armlp.model.families.base import HEADS, Head, Predictive, positive
from armlp.model.families.location_scale import Normal, normal_distance


class NormalMixture(Predictive, MixtureSameFamily):
    """A mixture of K normal distributions, given by log-weights, means and deviations, `[..., K]` each, data units.

    Draws are differentiable in all parameters, also the weights, by implicit reparameterization.

    Michael Figurnov et al. (2018), Implicit Reparameterization Gradients, https://arxiv.org/abs/1805.08498
    """

    noise = 2

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        self.components = Normal(loc, scale, validate_args=False)
        super().__init__(Categorical(logits=logits, validate_args=False), self.components, validate_args=False)

    def draw(self, uniform: Tensor) -> Tensor:
        """Return values `[...]`; the first of the noise `[..., 2]` picks a component, the second draws from it.

        Components are picked in the order of their means, so that a value rises with both numbers.
        """
        with torch.no_grad():
            loc, order = self.components.loc.sort(-1)
            scale = self.components.scale.gather(-1, order)
            totals = self.mixture_distribution.probs.gather(-1, order).cumsum(-1)
            # Make the last total exactly 1, or rounding could choose a component of weight 0.
            chosen = (uniform[..., :1] > totals / totals[..., -1:]).sum(-1, keepdim=True)
            loc, scale = (part.expand(*chosen.shape[:-1], -1).gather(-1, chosen)[..., 0] for part in (loc, scale))
            value = loc + scale * torch.special.ndtri(uniform[..., 1])
        return self._with_implicit_gradient(value, torch.zeros_like(value))

    def icdf(self, value: Tensor) -> Tensor:
        """Return quantiles `[...]` at probabilities `value [...]`, data units, by bisection between the components."""
        with torch.no_grad():
            ends = self.components.icdf(value[..., None])
        return self._with_implicit_gradient(self._bisected(value, ends.amin(-1), ends.amax(-1)), value)

    def crps(self, value: Tensor) -> Tensor:
        """Return the continuous ranked probability score `[...]` at `value [...]`, data units, in closed form.

        E. P. Grimit et al. (2006), The continuous ranked probability score for circular variables and its application
        to mesoscale forecast ensemble verification, https://doi.org/10.1256/qj.05.235
        """
        weight, loc, scale = self.mixture_distribution.probs, self.components.loc, self.components.scale
        accuracy = (weight * normal_distance(value[..., None] - loc, scale)).sum(-1)
        both = torch.hypot(scale[..., None], scale[..., None, :])
        spread = normal_distance(loc[..., None] - loc[..., None, :], both)
        return accuracy - (weight[..., None] * weight[..., None, :] * spread).sum((-2, -1)) / 2

    def _with_implicit_gradient(self, value: Tensor, share: Tensor) -> Tensor:
        """Return `value` with the gradient that keeps `cdf(value) - share` constant."""
        if not torch.is_grad_enabled():
            return value
        change = self.cdf(value) - share
        density = self.log_prob(value).detach().exp()
        return value - (change - change.detach()) / density


@HEADS.register("mixture")
class MixtureHead(Head):
    """A mixture of normal distributions: several modes, heavy or uneven tails.

    Args:
        components: Number of normal distributions in the mixture head; 1 is a normal distribution.
    """

    distribution = NormalMixture
    offsets: Tensor

    def __init__(self, components: int = 3) -> None:
        super().__init__()
        check_bounds("components", components, 1)
        self.outputs = 1 + 3 * components
        # Components that start equal would get the same gradients and stay equal.
        ends = 1.0 if components > 1 else 0.0
        self.register_buffer("offsets", torch.linspace(-ends, ends, components), persistent=False)

    def forward(self, raw: Tensor, shift: Tensor, scale: Tensor) -> Predictive:
        """Read the raw outputs as location, K log-weights, K means relative to it, and K softplus deviations."""
        logits, means, spreads = raw[..., 1:].unflatten(-1, (3, -1)).unbind(-2)
        means = raw[..., :1] + means + self.offsets.to(raw)
        return NormalMixture(logits, shift[..., None] + scale[..., None] * means, scale[..., None] * positive(spreads))
