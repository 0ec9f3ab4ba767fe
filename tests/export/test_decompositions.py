"""Tests of what is put in the place of functions that ONNX lacks, with scipy and torch as the oracles."""

import numpy as np
import pytest
import torch
from scipy import special

from armlp.export.decompositions import (
    count_below,
    erfinv,
    expm1,
    lgamma,
    log1p,
    ndtri,
    running_maximum,
    running_minimum,
)

LEVELS = np.concatenate([np.logspace(-10, -0.31, 200), 1 - np.logspace(-10, -0.31, 200)])
ALL = np.concatenate([-np.logspace(-12, -0.01, 200), np.logspace(-12, 2, 200)])


@pytest.mark.parametrize(
    ("function", "oracle", "values"),
    [
        (ndtri, special.ndtri, LEVELS),
        (erfinv, special.erfinv, 2 * LEVELS - 1),
        (lgamma, special.gammaln, np.logspace(-6, 8, 200)),
        (log1p, special.log1p, ALL),
        (expm1, special.expm1, ALL),
    ],
)
def test_a_function_in_other_words_is_that_of_scipy(function, oracle, values):
    found = function(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found, oracle(values), rtol=1e-9, atol=1e-12)


def test_running_extremes_are_those_of_torch():
    values = torch.randn(3, 70, 2, generator=torch.Generator().manual_seed(0))
    assert running_maximum(values, 1)[0].equal(values.cummax(1).values)
    assert running_minimum(values, 1)[0].equal(values.cummin(1).values)


def test_counts_of_edges_below_are_those_of_searchsorted():
    edges = torch.arange(6.0).repeat(4, 1) + torch.arange(4.0)[:, None]
    values = torch.tensor([-1.0, 0.5, 3.0, 9.0]).repeat(4, 1)
    assert count_below(edges, values).equal(torch.searchsorted(edges, values))
