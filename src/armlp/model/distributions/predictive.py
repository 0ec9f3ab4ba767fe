"""What every predictive distribution can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from armlp.errors import UserError


class Predictive(Distribution):
    """A distribution that is drawn from uniform noise, so that a path is a function of its noise.

    Beside `draw` it has `log_prob`, `cdf`, `icdf`, `mean` and `variance`, all of shape `[...]` and in data units.

    Attributes:
        noise: How many uniform numbers a drawn value needs.
        discrete: Whether the values are integers.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True
    noise: ClassVar[int] = 1
    discrete: ClassVar[bool] = False

    if TYPE_CHECKING:  # torch's own are not typed

        def log_prob(self, value: Tensor) -> Tensor:
            """Log-density, or log-probability, `[...]` at `value [...]`, data units."""

        def cdf(self, value: Tensor) -> Tensor:
            """Probability `[...]` of at most `value [...]`, data units."""

        def icdf(self, value: Tensor) -> Tensor:
            """Quantiles `[...]` at levels `value [...]` between 0 and 1, data units."""

    def draw(self, uniform: Tensor) -> Tensor:
        """Values `[...]` for uniform noise `[..., noise]` in (0, 1), data units, differentiable in the parameters."""
        return self.icdf(uniform[..., 0])

    def _bisected(self, level: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The least values `[...]` between `low` and `high` whose `cdf` reaches `level`, without gradient."""
        with torch.no_grad():
            high = torch.where(self.cdf(low) < level, high, low)
            for _ in range(torch.finfo(low.dtype).bits):
                middle = (low + high) / 2
                below = self.cdf(middle) < level
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Values `[*sample_shape, ...]` from fresh noise, data units, differentiable as those of `draw` are."""
        like = self.mean
        uniform = torch.rand(*sample_shape, *like.shape, self.noise, dtype=like.dtype, device=like.device)
        return self.draw(open_interval(uniform))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Values `[*sample_shape, ...]` from fresh noise, data units."""
        return self.rsample(sample_shape)

    def sharpened(self, temperature: float = 1.0, top_k: int | None = None) -> Predictive:
        """The same choices, the likely ones made likelier: probabilities to the power of `1 / temperature`.

        Args:
            temperature: Above 0; below 1 sharpens, above 1 flattens.
            top_k: Only this many of the likeliest choices stay; all of them if left out.

        Raises:
            UserError: The distribution is not one over separate choices, or an option is out of its range.
        """
        if temperature == 1 and top_k is None:
            return self
        raise UserError(
            f"--forecast.{'temperature' if top_k is None else 'top_k'}: this model's head has no separate choices to "
            "sharpen; leave --forecast.temperature and --forecast.top_k out, or train with --model.head=symbols or "
            "--model.head=categorical."
        )


def open_interval(uniform: Tensor) -> Tensor:
    """Keeps uniform numbers off 0 and 1, where quantile functions are infinite."""
    return uniform.clamp(2**-25, 1 - 2**-24)
