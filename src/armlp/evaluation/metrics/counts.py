"""The continuous ranked probability score of counts in closed form."""

from __future__ import annotations

import scipy
import torch
from torch import Tensor

from armlp.model.distributions import NegativeBinomial, Poisson, Predictive

# From so many successes on, a series in their reciprocal is closer than the hypergeometric function.
_MANY = 4e3


def counts_crps(distribution: Poisson | NegativeBinomial, value: Tensor) -> Tensor:
    """The continuous ranked probability score of counts, by scipy on the processor, without gradient.

    It is the mean distance of the counts from the value, less half of that of two counts from each other.

    Wei Wei, Leonhard Held (2014), Calibration tests for count data, https://doi.org/10.1007/s11749-014-0380-8
    Alexander Jordan, Fabian Krüger, Sebastian Lerch (2019), Evaluating Probabilistic Forecasts with scoringRules,
    https://doi.org/10.18637/jss.v090.i12

    Args:
        distribution: Of values `[...]`.
        value: `[...]`, data units.

    Returns:
        `[...]`, data units.
    """
    mean, variance, value = (part.detach().double().cpu() for part in (distribution.mean, distribution.variance, value))
    twice = 2 * variance.numpy()
    even, odd = scipy.special.ive(0, twice), scipy.special.ive(1, twice)
    if isinstance(distribution, Poisson):
        law: Predictive = Poisson(mean)
        weighted, spread = law, torch.as_tensor(even + odd)
    else:
        excess = (variance - mean).sqrt()
        successes = (mean / excess) ** 2
        # Weighted by the counts themselves, the distribution is that of one more success and one more count.
        more = mean * (1 + 1 / successes)
        law, weighted = NegativeBinomial(mean, excess), NegativeBinomial(more, more / (1 + successes).sqrt())
        few, part = successes.clamp(max=_MANY).numpy(), successes.clamp(min=_MANY).numpy()
        ratio = 4 * variance.numpy() / few
        exact = scipy.special.hyp2f1(1 - few, 0.5, 2, ratio / (1 + ratio)) / (1 + ratio) ** 0.5
        near = even + odd - variance.numpy() / part * (even - odd)
        spread = torch.where(successes < _MANY, torch.as_tensor(exact), torch.as_tensor(near))
    below, less = 2 * law.cdf(value) - 1, 2 * weighted.cdf(value - 1) - 1
    return (value * below - mean * less - variance * spread).to(distribution.mean)
