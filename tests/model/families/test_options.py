"""Tests of what each head makes of its options and of raw zeros."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlp.errors import UserError
from armlp.model.families import HEADS, check_head_options, head_options
from armlp.model.families.categorical import CategoricalHead
from armlp.model.families.point import PointHead
from armlp.model.families.quantile import QuantileHead

properties = settings(max_examples=50)


def make(name):
    """A small head for two channels; so the last axis of values is always 2."""
    options = {"categorical": {"bins": 7}, "symbols": {"symbols": 5}, "multivariate_normal": {"channels": 2}}
    return HEADS[name](**options.get(name, {}))


def random_raw(name, *shape, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, make(name).outputs, generator=generator, dtype=torch.float64)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("name", "oracle"), [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", F.huber_loss)])
def test_point_losses_equal_those_of_torch_in_multiples_of_the_unit(name, oracle):
    head = PointHead(name)
    raw = random_raw("point", 6, 3, spread=3)
    value = random_raw("point", 6, 3, seed=1, spread=3)[..., 0]
    unit = torch.full((6, 1), 2.5).double()
    loss = head.loss(head(raw, torch.zeros(6, 1), torch.ones(6, 1)), value, unit)
    assert loss.shape == (6, 3)
    assert torch.allclose(loss.mean(), oracle(raw[..., 0] / 2.5, value / 2.5))


def test_an_option_is_declared_by_the_head_that_takes_it():
    found = {name: (option.hint, option.default, option.heads) for name, option in head_options().items()}
    assert found == {
        "bins": (int, 64, ("categorical",)),
        "components": (int, 3, ("mixture",)),
        "point_loss": (str, "mse", ("point",)),
        "quantile_loss": (str, "pinball", ("quantile",)),
    }
    for name, option in head_options().items():
        assert option.doc in " ".join(HEADS[option.heads[0]].__doc__.split())
        assert option.doc.endswith("."), name


def test_options_change_the_head():
    assert HEADS["mixture"](components=5).outputs == 16
    assert HEADS["categorical"](bins=10).outputs == 11
    assert HEADS["multivariate_normal"](channels=4).outputs == 5
    assert HEADS["symbols"](symbols=4).outputs == 4
    assert HEADS["quantile"](quantile_loss="crps").quantile_loss == "crps"
    assert HEADS["point"](point_loss="mae").point_loss == "mae"


@pytest.mark.parametrize("head", [None, "normal", "mixture", "categorical"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("point_loss", "mape", "`point_loss`: 'mape' is not a point loss; use one of mse, mae, huber."),
        ("quantile_loss", "mae", "`quantile_loss`: 'mae' is not"),
        ("components", 0, "`components`: 0 is too small"),
        ("bins", 2, "`bins`: 2 is too small; it must be at least 3"),
        ("bins", "many", "`bins`: 'many' is not a whole number"),
        ("bin", 2, "`bin`: neither the network nor a head has this option"),
    ],
)
def test_a_wrong_option_is_named_whatever_the_head(head, option, value, message):
    with pytest.raises(UserError) as error:
        check_head_options({option: value}, head)
    assert str(error.value).startswith(message)


def test_symbols_need_an_alphabet():
    with pytest.raises(UserError, match="`symbols`: 1 is too small"):
        HEADS["symbols"](symbols=1)


def test_only_the_edges_of_bins_are_saved_and_only_from_data_they_change():
    for name in HEADS:
        assert list(make(name).state_dict()) == (["edges"] if name == "categorical" else [])
        assert not list(torch.nn.Module.parameters(make(name)))


def test_edges_start_at_the_quantiles_of_a_standard_normal():
    assert np.allclose(CategoricalHead(64).edges, stats.norm.ppf(np.arange(1, 64) / 64), atol=1e-6)


def test_chosen_edges_are_the_quantiles_of_the_residuals():
    head = CategoricalHead(10)
    residuals = torch.from_numpy(np.random.default_rng(0).gumbel(size=(50, 100)))
    head.choose_edges(residuals)
    counts = np.histogram(residuals, [-np.inf, *head.edges.tolist(), np.inf])[0]
    assert (abs(counts - 500) <= 2).all()


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, 1e-5, -3.0, 200.0]), min_size=1, max_size=30), st.integers(3, 40)
)
@properties
def test_chosen_edges_ascend_whatever_the_ties(residuals, bins):
    head = CategoricalHead(bins)
    head.choose_edges(torch.tensor(residuals))
    assert (head.edges.diff() > 0.9 * head.MIN_WIDTH).all()
    quantiles = np.quantile(residuals, np.arange(1, bins) / bins)
    assert (abs(head.edges.numpy() - quantiles) <= bins * head.MIN_WIDTH + 1e-4).all()


def test_equal_probabilities_in_fine_bins_are_nearly_the_normal_they_were_cut_from():
    head = CategoricalHead(64)
    distribution = head(torch.zeros(1, 65).double(), double(5.0), double(2.0))
    values = stats.norm(5, 2).ppf(np.linspace(0.0005, 0.9995, 1000))
    gap = stats.norm(5, 2).logpdf(values) - distribution.log_prob(torch.from_numpy(values)).numpy()
    assert abs(gap).mean() < 0.05
    assert distribution.variance.item() == pytest.approx(4, rel=0.05)


def test_parts_of_a_mixture_that_starts_at_raw_zeros_differ():
    raw = torch.zeros(2, 10, requires_grad=True)
    make("mixture")(raw, torch.zeros(1), torch.ones(1)).log_prob(torch.tensor([0.3, -2.0])).sum().backward()
    assert len({round(value, 6) for value in raw.grad[0, 1:4].tolist()}) == 3
    assert make("mixture")(torch.zeros(2, 10), double(3.0), double(2.0)).mean.tolist() == pytest.approx([3, 3])


def test_knots_of_raw_zeros_are_the_quantiles_of_a_normal_of_half_the_spread():
    knots = QuantileHead()(torch.zeros(1, QuantileHead.outputs).double(), double(3.0), double(4.0)).knots[0]
    assert np.allclose(knots, stats.norm(3, 2).ppf(QuantileHead.PROBABILITIES), atol=4 * 6e-4)  # gaps have a floor
