"""Tests of what the network sees, with concatenation by hand as the oracle."""

import pytest
import torch

from armlp.data.covariates import Covariates
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.evaluation.one_step import one_step_nll
from armlp.model.inputs import Inputs, embedding_width
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import rollout
from armlp.model.scaling import SCALERS
from armlp.training.objective import unrolled_objective

LENGTH, PATCH, REACH = 5, 2, 6
SIZES = {"known": [0, 4, 0], "past": [3, 0], "calendar": [0, 0], "static": [0, 6]}


def random_covariates(batch=3, seed=0, sizes=SIZES):
    """Numbers and codes by role, over the context and `REACH` steps after it."""
    generator = torch.Generator().manual_seed(seed)

    def columns(role, *steps):
        drawn = [
            torch.randint(0, size, (batch, *steps), generator=generator).double()
            if size
            else torch.randn(batch, *steps, generator=generator, dtype=torch.float64)
            for size in sizes.get(role, [])
        ]
        return torch.stack(drawn, -1) if drawn else torch.empty(batch, *steps, 0)

    length = LENGTH + REACH
    return Covariates(columns("known", length), columns("past", length), columns("calendar", REACH), columns("static"))


def random_context(batch=3, channels=1, seed=0):
    shape = (batch, LENGTH, channels)
    generator = torch.Generator().manual_seed(seed)
    context = 10 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    observed = torch.rand(shape, generator=generator) < 0.7
    observed[:, -1] = True
    return context, observed


def random_model(seed=0, sizes=SIZES, **options):
    torch.manual_seed(seed)
    options = {"hidden_sizes": [6], "head": "normal", "season_length": 2, "dropout": 0.0} | options
    model = AutoregressiveMLP(LENGTH, PATCH, covariate_sizes=sizes, **options)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model.double().eval()


def naive_inputs(inputs, values, observed, scaling, covariates, step, row):
    """The inputs of one window, column by column and step by step."""
    columns = list(values[row].flatten())
    if inputs.mask_input:
        columns += list(observed[row].flatten().double())
    if inputs.level_input:
        columns += list((scaling.scale[row] / scaling.magnitude[row]).log().flatten())
    spans = {
        "known": range(step, step + LENGTH + PATCH),
        "past": range(step, step + LENGTH),
        "calendar": range(step, step + 1),
        "static": [None],
    }
    for role in Covariates._fields:
        table, sizes = getattr(covariates, role)[row], SIZES[role]
        for codes in (False, True):
            wanted = [column for column, size in enumerate(sizes) if bool(size) is codes]
            # Numbers go step by step, codes column by column.
            places = [(at, column) for at in spans[role] for column in wanted]
            if codes:
                places = [(at, column) for column in wanted for at in spans[role]]
            for at, column in places:
                beyond = role == "past" and at >= LENGTH
                value = 0.0 if beyond else table[column] if at is None else table[at, column]
                table_of = f"{role}_{column}"
                columns += list(inputs.embeddings[table_of].weight[int(value)]) if codes else [value]
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in columns])


def one_call(inputs, values, observed, scaling, covariates, step):
    return inputs(inputs.embed(values)[:, None], observed[:, None], scaling, covariates, [step])[:, 0]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("level", [True, False])
@pytest.mark.parametrize("step", [0, 2, 4])
@torch.no_grad()
def test_inputs_lie_side_by_side_as_a_concatenation_by_hand(channels, mask, level, step):
    torch.manual_seed(0)
    inputs = Inputs(LENGTH, PATCH, channels, mask, level, 0, SIZES, members=1).double()
    values, observed = random_context(channels=channels)
    scaling, covariates = SCALERS["standard"]().measure(values, observed), random_covariates()
    seen = one_call(inputs, values, observed, scaling, covariates, step)
    assert seen.shape == (3, inputs.width)
    for row in range(3):
        assert torch.allclose(seen[row], naive_inputs(inputs, values, observed, scaling, covariates, step, row))


def test_without_anything_beside_the_series_the_inputs_are_its_values():
    inputs = Inputs(LENGTH, PATCH, 1, mask_input=False, level_input=False, num_codes=0, covariate_sizes={}, members=1)
    values, observed = random_context()
    assert not inputs.has_covariates
    assert one_call(inputs, values, observed, SCALERS["none"]().measure(values, observed), None, 0).equal(
        values[..., 0]
    )


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("members", [1, 3])
@torch.no_grad()
def test_symbols_are_seen_as_the_vectors_of_their_members_table(channels, members):
    inputs = Inputs(
        LENGTH, 1, channels, mask_input=False, level_input=False, num_codes=7, covariate_sizes={}, members=members
    )
    codes = torch.randint(0, 7, (2 * members, LENGTH, channels)).double()
    seen = one_call(inputs, codes, torch.ones_like(codes, dtype=torch.bool), None, None, 0)
    tables = inputs.symbol_embedding.weight.view(members, 7, -1)
    assert tables.shape[2] == embedding_width(7)
    assert seen.shape == (2 * members, inputs.width)
    for row in range(2 * members):
        expected = torch.cat([tables[row // 2, int(code)] for code in codes[row].flatten()])
        assert seen[row].equal(expected)


@torch.no_grad()
def test_every_member_has_a_table_of_its_own_for_every_column_of_codes():
    inputs = Inputs(LENGTH, PATCH, 1, False, False, 0, {"static": [5]}, members=3).double()
    values, observed = random_context(batch=6)
    covariates = random_covariates(6, sizes={"static": [5]})
    seen = one_call(inputs, values, observed, SCALERS["none"]().measure(values, observed), covariates, 0)
    tables = inputs.embeddings["static_0"].weight.view(3, 5, -1)
    for row in range(6):
        assert seen[row, LENGTH:].equal(tables[row // 2, int(covariates.static[row, 0])])


def test_embeddings_grow_slowly_with_the_number_of_codes_and_a_number_is_one_input():
    widths = [embedding_width(size) for size in (0, 1, 2, 10, 100, 10_000)]
    assert widths[0] == 1
    assert widths == sorted(widths)
    assert widths[-1] == 16
    assert all(1 <= width <= max(size, 2) for width, size in zip(widths[1:], (1, 2, 10, 100, 10_000), strict=True))


def moved(covariates, role, steps):
    """The same covariates, other from one step on."""
    changed = {name: part.clone() for name, part in covariates._asdict().items()}
    codes = [column for column, size in enumerate(SIZES[role]) if size]
    numbers = [column for column, size in enumerate(SIZES[role]) if not size]
    part = changed[role][:, steps] if changed[role].dim() == 3 else changed[role]
    part[..., numbers] += 3
    part[..., codes] = (part[..., codes] + 1) % torch.tensor([SIZES[role][column] for column in codes])
    if changed[role].dim() == 3:
        changed[role][:, steps] = part
    return Covariates(**changed)


@pytest.mark.parametrize("members", [1, 2])
def test_past_covariates_beyond_the_origin_never_matter(members):
    model = random_model(members=members)
    (context, observed), covariates = random_context(), random_covariates()
    other = moved(covariates, "past", slice(LENGTH, None))
    assert not other.past.equal(covariates.past)
    noise = torch.rand(3, 2, REACH, 1, 1, dtype=torch.float64)
    target = torch.randn(3, REACH, 1, dtype=torch.float64)
    seen, number = torch.ones_like(target, dtype=torch.bool), torch.arange(3)
    outcomes = []
    for known in (covariates, other):
        windows = Windows(context, observed, target, seen, number, number, known)
        torch.manual_seed(0)
        loss = unrolled_objective(model, windows).loss
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        paths = rollout(model, context, REACH, 2, observed, noise, known)
        outcomes.append([model(context, observed, known).mean, paths, loss, *gradients])
    assert all(one.equal(another) for one, another in zip(*outcomes, strict=True))


@pytest.mark.parametrize(
    ("role", "steps", "from_lead"),
    [
        ("past", slice(0, LENGTH), 0),
        ("known", slice(0, LENGTH), 0),
        ("known", slice(LENGTH + PATCH, None), PATCH),  # of the second patch
        ("known", slice(LENGTH + 2 * PATCH, None), 2 * PATCH),
        ("calendar", slice(PATCH, None), PATCH),
        ("static", None, 0),
    ],
)
def test_what_is_known_matters_from_the_patch_that_sees_it(role, steps, from_lead):
    model = random_model()
    (context, observed), covariates = random_context(), random_covariates()
    noise = torch.rand(3, 2, REACH, 1, 1, dtype=torch.float64)
    before, after = (
        rollout(model, context, REACH, 2, observed, noise, known)
        for known in (covariates, moved(covariates, role, steps))
    )
    assert before[:, :, :from_lead].equal(after[:, :, :from_lead])
    assert (before[:, :, from_lead:] != after[:, :, from_lead:]).all()


def test_later_one_step_scores_use_past_covariates_after_the_first_origin():
    model = random_model()
    (context, observed), covariates = random_context(), random_covariates()
    target = torch.randn(3, REACH, 1, dtype=torch.float64)
    seen, number = torch.ones_like(target, dtype=torch.bool), torch.arange(3)
    windows = Windows(context, observed, target, seen, number, number, covariates)
    totals = [
        one_step_nll(model, windows._replace(covariates=known))[0]
        for known in (
            covariates,
            moved(covariates, "past", slice(LENGTH, LENGTH + 1)),
            moved(covariates, "past", slice(LENGTH + REACH - PATCH, None)),  # after the last origin
        )
    ]
    assert totals[1] != totals[0]
    assert totals[2] == totals[0]


@pytest.mark.parametrize("sizes", [{"known": [0]}, {"static": [3]}, {"calendar": [0, 0]}])
def test_covariates_need_a_layer(sizes):
    with pytest.raises(UserError, match=r"`hidden_sizes`: Covariates go through the MLP"):
        AutoregressiveMLP(LENGTH, hidden_sizes=[], covariate_sizes=sizes)


def test_symbols_need_a_layer():
    with pytest.raises(UserError, match=r"`hidden_sizes`: Symbols go through the MLP"):
        AutoregressiveMLP(LENGTH, hidden_sizes=[], head="symbols", symbols=4)
