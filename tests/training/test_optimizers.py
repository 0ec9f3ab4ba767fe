"""Tests of the optimizers, with torch's own as the oracle."""

import pytest
import torch

from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.optimizers import Muon, make_optimizer


def network(**options):
    torch.manual_seed(0)
    options = {"hidden_sizes": [8], "residual_blocks": 1, "dropout": 0.0, "head": "normal"} | options
    return AutoregressiveMLP(6, 2, **options)


def stepped(model, *optimizers, steps=3):
    """The weights after some steps on the same data."""
    context = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    value = torch.randn(16, 2, generator=torch.Generator().manual_seed(2))
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        (-model(context).log_prob(value).mean()).backward()
        for optimizer in optimizers:
            optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_and_adamw_are_those_of_torch_with_their_own_weight_decay(name, kind):
    ours, theirs, without = network(), network(), network()
    found = stepped(ours, make_optimizer(name, ours, 0.01, 0.5))
    expected = stepped(theirs, kind(theirs.parameters(), lr=0.01, weight_decay=0.5))
    assert all(got.equal(one) for got, one in zip(found, expected, strict=True))
    free = stepped(without, make_optimizer(name, without, 0.01, 0.0))
    assert not any(got.equal(one) for got, one in zip(found, free, strict=True))


def test_muon_steps_matrices_as_muon_does_and_the_rest_as_adamw():
    ours, theirs = network(), network()
    matrices = [weight for name, weight in theirs.named_parameters() if name.startswith("layers") and weight.ndim == 2]
    others = [weight for weight in theirs.parameters() if not any(weight is matrix for matrix in matrices)]
    both = (
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.01, weight_decay=0.1),
    )
    for got, expected in zip(
        stepped(ours, make_optimizer("muon", ours, 0.01, 0.1)), stepped(theirs, *both), strict=True
    ):
        assert got.equal(expected)


def test_muon_goes_on_from_its_state():
    unbroken, broken = network(), network()
    expected = stepped(unbroken, make_optimizer("muon", unbroken, 0.01, 0.0), steps=5)
    first = make_optimizer("muon", broken, 0.01, 0.0)
    stepped(broken, first, steps=2)
    second = make_optimizer("muon", broken, 1.0, 0.0)
    second.load_state_dict(first.state_dict())
    assert all(got.equal(one) for got, one in zip(stepped(broken, second, steps=3), expected, strict=True))


def test_a_schedule_reaches_all_parts_of_muon():
    model = network()
    optimizer = make_optimizer("muon", model, 0.01, 0.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    assert all(one.equal(other) for one, other in zip(stepped(model, optimizer), before, strict=True))


def test_muon_trains_every_member_as_it_would_alone():
    ensemble, alone = network(members=2), [network(), network()]
    for member, one in enumerate(alone):
        with torch.no_grad():
            for ours, theirs in zip(one.parameters(), ensemble.parameters(), strict=True):
                ours.copy_(theirs[member].view_as(ours))
    optimizers = [make_optimizer("muon", one, 0.01, 0.1) for one in (ensemble, *alone)]
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        context, value = (torch.randn(16, count, 1, generator=generator) for count in (6, 2))
        for optimizer in optimizers:
            optimizer.zero_grad()
        everything = torch.ones(32, 6, 1, dtype=torch.bool)
        rows = torch.cat([context, context])
        scaling = ensemble.measure_scaling(rows, everything)
        law = ensemble.predict_patch(rows, everything, scaling)
        (-law.log_prob(torch.cat([value, value])).mean() * 2).backward()
        for one in alone:
            (-one(context).log_prob(value).mean()).backward()
        for optimizer in optimizers:
            torch.nn.utils.clip_grad_value_([p for g in optimizer.param_groups for p in g["params"]], 0.05)
            optimizer.step()
    for member, one in enumerate(alone):
        for ours, theirs in zip(ensemble.parameters(), one.parameters(), strict=True):
            torch.testing.assert_close(ours[member].view_as(theirs), theirs, rtol=1e-4, atol=1e-5)


def test_muon_is_refused_where_there_are_no_matrices():
    with pytest.raises(UserError, match=r"`optimizer`: muon"):
        Muon(network(hidden_sizes=[], residual_blocks=0), 0.01, 0.0)
