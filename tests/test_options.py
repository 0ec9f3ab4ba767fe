"""Tests of options: what a class declares of an option is what it takes, and each option is declared once."""

import inspect
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import pytest

from armlp.data.settings import DataSettings
from armlp.errors import UserError
from armlp.model.families import head_options
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.settings import NetworkSettings
from armlp.options import Options
from armlp.training.settings import ModelSettings

CLASSES = (DataSettings, NetworkSettings, ModelSettings)
NUMBERS = [
    pytest.param(declared, one.name, one.metadata, id=f"{declared.__name__}.{one.name}")
    for declared in CLASSES
    for one in fields(declared)
    if one.name in vars(declared)["__annotations__"] and any(kind in str(one.type) for kind in ("int", "float"))
]
LIMITED = [number for number in NUMBERS if "minimum" in number.values[2] and number.values[2]["minimum"] is not None]


@pytest.mark.parametrize("declared", CLASSES)
def test_every_default_is_of_its_own_type_and_range(declared: type[Options]):
    assert all(one.default is not MISSING for one in fields(declared))
    assert vars(declared(**declared.defaults())) == vars(declared())
    assert {
        name: value for name, value in vars(declared()).items() if name != "head_options"
    }.items() <= declared.defaults().items()
    assert declared().non_defaults() == {}


@pytest.mark.parametrize(("declared", "name", "limits"), LIMITED)
def test_the_least_value_is_taken_and_one_below_it_is_refused_by_name(
    declared: type[Options], name: str, limits: dict[str, Any]
):
    least = limits["minimum"]
    assert getattr(declared(**{name: least}), name) == least
    with pytest.raises(UserError, match=rf"^`{name}`: {least - 1} is too small; it must be at least {least}"):
        declared(**{name: least - 1})


@pytest.mark.parametrize(
    ("declared", "name", "limits"), [one for one in LIMITED if one.values[2]["maximum"] is not None]
)
def test_the_largest_value_is_taken_and_one_above_it_is_refused_by_name(
    declared: type[Options], name: str, limits: dict[str, Any]
):
    most = limits["maximum"]
    assert getattr(declared(**{name: most}), name) == most
    with pytest.raises(UserError, match=rf"^`{name}`: {most + 1} is too large; it must be at most {most}"):
        declared(**{name: most + 1})


@pytest.mark.parametrize(
    ("declared", "name"),
    [(declared, one.name) for declared in CLASSES for one in fields(declared) if one.metadata.get("choices")],
)
def test_a_choice_is_one_of_those_that_are_declared(declared: type[Options], name: str):
    choices = next(one.metadata["choices"] for one in fields(declared) if one.name == name)
    for choice in choices:
        assert getattr(declared(**{name: choice}), name) == choice
    with pytest.raises(UserError, match=rf"^`{name}`: 'nonsense' is not known; use one of {', '.join(choices)}\.$"):
        declared(**{name: "nonsense"})


@pytest.mark.parametrize("declared", CLASSES)
def test_a_value_of_another_type_is_refused_by_name(declared: type[Options]):
    for name in get_type_hints(declared):
        with pytest.raises(UserError, match=f"^`{name}`: "):
            declared(**{name: object()})


@pytest.mark.parametrize(("declared", "name", "limits"), NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(
    declared: type[Options], name: str, limits: dict[str, Any], value: float
):
    with pytest.raises(UserError, match=f"^`{name}`: "):
        declared(**{name: value})


@pytest.mark.parametrize("declared", CLASSES)
def test_what_is_given_makes_the_same_options_again(declared: type[Options]):
    changed = {name: value + 1 for name, value in declared.defaults().items() if type(value) is int}
    assert declared(**changed).non_defaults() == changed
    assert declared(**declared(**changed).non_defaults()) == declared(**changed)


def test_options_cannot_be_changed():
    with pytest.raises(AttributeError):
        DataSettings().horizon = 3  # type: ignore[misc]  # which is the point


def test_the_options_of_a_network_are_the_arguments_that_it_takes():
    arguments = inspect.signature(AutoregressiveMLP).parameters
    assert {one.name for one in fields(NetworkSettings)} == set(arguments)
    assert set(NetworkSettings().flat()) == {*arguments, *head_options()} - {"head_options"}


@pytest.mark.parametrize("declared", CLASSES)
def test_every_option_says_what_it_means(declared: type[Options]):
    source = inspect.getsource(declared)
    for name in vars(declared)["__annotations__"]:
        after = source.partition(f"    {name}: ")[2].partition("\n")[2].lstrip()
        assert after.startswith('"""'), name
