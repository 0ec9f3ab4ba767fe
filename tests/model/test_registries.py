"""Heads and scalers from outside the package: registered by a name, or given by a class path."""

import sys
from types import ModuleType

import pytest
import torch

from armlp.errors import UserError
from armlp.model.families import HEADS, head_options
from armlp.model.families.location_scale import NormalHead
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import SCALERS, Scaler, Scaling
from armlp.registry import check_class_paths


class ShiftedHead(NormalHead):
    """A normal distribution whose mean is moved.

    Args:
        offset: What is added to the mean, in network units,
            before it is scaled.
    """

    def __init__(self, offset: float = 0.5) -> None:
        super().__init__()
        if offset > 9:
            raise UserError(f"`offset`: {offset} is too large.")
        self.offset = offset

    def forward(self, raw, shift, scale):
        return super().forward(torch.cat([raw[..., :1] + self.offset, raw[..., 1:]], -1), shift, scale)


class HalfScaler(Scaler):
    """Divide by two."""

    def measure(self, context, observed, **statistics):
        one = torch.ones_like(context[:, :1])
        return Scaling(0 * one, 2 * one, one)


@pytest.fixture
def library():
    """A module that is imported, and holds both classes."""
    module = sys.modules["my_library"] = ModuleType("my_library")
    module.ShiftedHead, module.HalfScaler, module.other = ShiftedHead, HalfScaler, 3
    yield module
    del sys.modules["my_library"]


@pytest.fixture
def registered():
    """The head under a name of its own, as long as the test runs."""
    HEADS.register("shifted")(ShiftedHead)
    yield "shifted"
    del HEADS._classes["shifted"]


def test_a_class_path_stands_for_a_head_with_its_options_and_for_a_scaler(library):
    options = {"hidden_sizes": [4], "scaler": "my_library.HalfScaler"}
    model = AutoregressiveMLP(3, head="my_library.ShiftedHead", offset=2.0, **options)
    assert type(model.head) is ShiftedHead
    assert type(model.scaler) is HalfScaler
    assert model(torch.zeros(1, 3)).mean.item() == pytest.approx(2 * 2.0)  # network units of two data units
    assert set(AutoregressiveMLP(3, **options).state_dict()) == set(model.state_dict())


def test_an_option_of_a_registered_head_is_known_checked_and_described(registered):
    option = head_options()["offset"]
    assert option.default == 0.5
    assert option.hint is float
    assert option.heads == ("shifted",)
    assert option.doc == "What is added to the mean, in network units, before it is scaled."
    assert AutoregressiveMLP(3, head=registered, offset=3).head.offset == 3
    assert type(AutoregressiveMLP(3, head="normal", offset=3).head) is NormalHead  # checked, and not used
    for head in (registered, "normal"):
        with pytest.raises(UserError, match="`offset`: 10 is too large"):
            AutoregressiveMLP(3, head=head, offset=10)


def test_an_option_that_no_head_has_is_refused():
    with pytest.raises(UserError, match="`offset`: neither the network nor a head has this option"):
        AutoregressiveMLP(3, head="normal", offset=3)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_library.Head", "`head`: 'no_such_library.Head' cannot be imported"),
        ("my_library.Missing", "`head`: 'my_library.Missing' cannot be imported"),
        ("my_library.other", "`head`: my_library.other is no subclass of Head"),
        ("my_library.HalfScaler", "`head`: my_library.HalfScaler is no subclass of Head"),
    ],
)
def test_a_wrong_class_path_is_refused(library, path, message):
    with pytest.raises(UserError) as error:
        AutoregressiveMLP(3, head=path)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("option", ["head", "scaler"])
def test_saved_options_import_no_code(option, library):
    check_class_paths({option: "my_library.Anything"}, (HEADS, SCALERS))
    check_class_paths({option: None}, (HEADS, SCALERS))
    check_class_paths({option: "normal" if option == "head" else "global"}, (HEADS, SCALERS))
    with pytest.raises(UserError, match="import this_is_not_imported first"):
        check_class_paths({option: "this_is_not_imported.Anything"}, (HEADS, SCALERS))
    assert "this_is_not_imported" not in sys.modules


def test_a_class_has_the_name_that_it_is_registered_by():
    assert [SCALERS.name_of(kind) for kind in SCALERS.values()] == list(SCALERS)
    assert SCALERS.name_of(HalfScaler).endswith("test_registries.HalfScaler")
