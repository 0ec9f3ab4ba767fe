"""Tests of the forecast columns, with numpy as the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armlp.errors import UserError
from armlp.evaluation.quantiles import check_levels, forecast_columns


@given(
    paths=st.integers(1, 30),
    levels=st.lists(st.sampled_from([1, 50, 80, 90, 95, 97.5, 99.9]), unique=True, max_size=4),
)
@settings(max_examples=40)
def test_columns_are_the_quantiles_of_numpy_by_the_names_of_nixtla(paths, levels):
    drawn = 100 * torch.randn(3, paths, 4, generator=torch.Generator().manual_seed(paths))
    columns = forecast_columns(drawn, levels)
    expected = {"armlp": 0.5}
    for level in levels:
        expected |= {f"armlp-lo-{level}": 0.5 - level / 200, f"armlp-hi-{level}": 0.5 + level / 200}
    assert list(columns) == list(expected)
    for name, probability in expected.items():
        assert columns[name].shape == (3, 4)
        assert np.allclose(columns[name], np.quantile(drawn.numpy(), probability, axis=1, method="hazen"), atol=1e-3)


def test_the_levels_80_and_95_are_named_as_people_write_them():
    names = list(forecast_columns(torch.zeros(1, 2, 1), [80, 95.0, 97.5]))
    assert names == [
        "armlp", "armlp-lo-80", "armlp-hi-80", "armlp-lo-95", "armlp-hi-95", "armlp-lo-97.5", "armlp-hi-97.5"
    ]  # fmt: skip


def test_another_name_may_be_given():
    assert list(forecast_columns(torch.zeros(1, 2, 1), [80], name="mlp")) == ["mlp", "mlp-lo-80", "mlp-hi-80"]


def test_intervals_are_nested_around_the_median():
    columns = forecast_columns(torch.randn(5, 100, 6, generator=torch.Generator().manual_seed(0)), [80, 95])
    order = ["armlp-lo-95", "armlp-lo-80", "armlp", "armlp-hi-80", "armlp-hi-95"]
    assert (torch.stack([columns[name] for name in order]).diff(dim=0) >= 0).all()


@pytest.mark.parametrize("level", [0, 100, -5, 120, float("nan")])
def test_a_level_that_is_no_percentage_is_refused_by_name(level):
    for refuse in (check_levels, lambda levels: forecast_columns(torch.zeros(1, 2, 1), levels)):
        with pytest.raises(UserError, match=rf"`levels`: {level} is not a coverage in percent"):
            refuse([80, level])


def test_a_level_given_twice_is_refused():
    with pytest.raises(UserError, match=r"`levels`: \[80, 95, 80\] names a level twice"):
        check_levels([80, 95, 80])
