"""Tests of ensembles: E members side by side are E models one by one, and a pool is the mixture of what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import nn

from armlp.data.covariates import Covariates
from armlp.data.windows import Windows
from armlp.model.ensemble import EnsembleMixture, StackedLayerNorm, StackedLinear
from armlp.model.families import HEADS
from armlp.model.families.location_scale import Normal
from armlp.model.families.symbols import Symbols
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import rollout
from armlp.training.objective import unrolled_objective

LENGTH, MEMBERS, PATCH = 7, 3, 2
SIZES = {"known": [0, 4], "past": [0], "calendar": [0, 0], "static": [3, 0]}


def ensemble_of(head, covariates=False, seed=0, **options):
    """E single models with random weights, and the ensemble that holds them, in float64."""
    torch.manual_seed(seed)
    symbols = 4 if head == "symbols" else 0
    shared = {"hidden_sizes": [6], "residual_blocks": 1, "dropout": 0.0, "season_length": 3, "symbols": symbols}
    shared |= {"head": head, "covariate_sizes": SIZES if covariates else None, "mask_input": True} | options
    singles = [AutoregressiveMLP(LENGTH, PATCH, **shared).double().eval() for _ in range(MEMBERS)]
    for parameter in (parameter for single in singles for parameter in single.parameters()):
        parameter.data += 0.1 * torch.randn(parameter.shape)
    ensemble = AutoregressiveMLP(LENGTH, PATCH, members=MEMBERS, **shared).double().eval()
    for name, parameter in ensemble.named_parameters():
        parts = [dict(single.named_parameters())[name].data for single in singles]
        parameter.data = (torch.cat if "embedding" in name else torch.stack)(parts).view(parameter.shape)
    return singles, ensemble


def random_windows(span, symbols=False, batch=4, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, LENGTH + span, channels)
    values = 10 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if symbols:
        values = torch.randint(0, 4, shape, generator=generator).double()
    observed = torch.rand(shape, generator=generator) < 0.8
    observed[:, LENGTH - 2 :: 2] = True
    (context, target), (seen, target_seen) = (part.split([LENGTH, span], 1) for part in (values, observed))
    reach = LENGTH + span + PATCH
    covariates = Covariates(
        known=torch.randint(0, 4, (batch, reach, 2), generator=generator).double(),
        past=torch.randn(batch, reach, 1, generator=generator, dtype=torch.float64),
        calendar=torch.randn(batch, span + PATCH, 2, generator=generator, dtype=torch.float64),
        static=torch.randint(0, 3, (batch, 2), generator=generator).double(),
    )
    number = torch.arange(batch)
    return Windows(context, seen, target, target_seen, number, number, covariates)


each_head = pytest.mark.parametrize("head", HEADS)


@given(members=st.integers(2, 4), inputs=st.integers(1, 5), outputs=st.integers(1, 4), batch=st.integers(1, 3))
@settings(max_examples=20)
def test_a_stacked_linear_layer_is_a_linear_layer_for_each_member(members, inputs, outputs, batch):
    stacked = StackedLinear(members, inputs, outputs)
    values = torch.randn(members * batch, inputs)
    for member, (rows, outcome) in enumerate(zip(values.chunk(members), stacked(values).chunk(members), strict=True)):
        single = nn.Linear(inputs, outputs)
        single.weight.data, single.bias.data = stacked.weight[member], stacked.bias[member]
        assert torch.allclose(outcome, single(rows), atol=1e-6)


def test_members_start_apart_and_as_wide_as_single_layers_do():
    stacked, single = StackedLinear(5, 50, 40), nn.Linear(50, 40)
    assert len({weight.sum().item() for weight in stacked.weight}) == 5
    for ours, theirs in ((stacked.weight, single.weight), (stacked.bias, single.bias)):
        bound = 50**-0.5
        assert ours.abs().max() <= bound
        assert ours.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert theirs.abs().max() <= bound


@given(members=st.integers(2, 4), width=st.integers(2, 6), batch=st.integers(1, 3))
@settings(max_examples=20)
def test_a_stacked_normalisation_is_a_normalisation_for_each_member(members, width, batch):
    stacked = StackedLayerNorm(members, width)
    stacked.weight.data, stacked.bias.data = torch.randn(members, 1, width), torch.randn(members, 1, width)
    values = torch.randn(members * batch, width)
    for member, (rows, outcome) in enumerate(zip(values.chunk(members), stacked(values).chunk(members), strict=True)):
        single = nn.LayerNorm(width)
        single.weight.data, single.bias.data = stacked.weight[member, 0], stacked.bias[member, 0]
        assert torch.allclose(outcome, single(rows), atol=1e-5)


@each_head
@pytest.mark.parametrize(
    ("covariates", "scaler", "options"),
    [
        (False, "standard", {}),
        (True, "seasonal", {}),
        (True, "last", {"channels": 2, "non_negative": True}),
        (False, "none", {"hidden_sizes": [], "residual_blocks": 0}),
    ],
)
@pytest.mark.parametrize("paths", [1, 7])
def test_a_path_of_an_ensemble_is_that_of_its_member_alone(head, covariates, scaler, options, paths):
    if head == "symbols":
        options = options | {"hidden_sizes": [6]}  # they need a layer
    singles, ensemble = ensemble_of(head, covariates, scaler=scaler, **options)
    channels = options.get("channels", 1)
    windows = random_windows(5, head == "symbols", channels=channels)
    noise = torch.rand(4, paths, 5, channels, ensemble.head.noise, dtype=torch.float64)
    beside = {"observed": windows.observed, "covariates": windows.covariates if covariates else None}
    together = rollout(ensemble, windows.context, 5, paths, noise=noise, **beside)
    alone = [rollout(single, windows.context, 5, paths, noise=noise, **beside) for single in singles]
    assert together.shape == alone[0].shape
    for path in range(paths):
        assert torch.allclose(together[:, path], alone[path % MEMBERS][:, path], rtol=1e-9)
    if paths > 1:
        assert not torch.allclose(alone[0], alone[1])  # of other weights


@each_head
@pytest.mark.parametrize("covariates", [False, True])
@pytest.mark.parametrize("options", [{"objective": "head"}, {"objective": "head", "gradient": "last"}])
def test_an_ensemble_has_the_mean_objective_of_its_members_and_each_its_own_gradient(head, covariates, options):
    singles, ensemble = ensemble_of(head, covariates)
    windows = random_windows(PATCH if head == "symbols" else 3 * PATCH, head == "symbols")
    options |= {"feed": "mean", "with_nll": True}
    together = unrolled_objective(ensemble, windows, **options)
    alone = [unrolled_objective(single, windows, **options) for single in singles]
    assert torch.allclose(together.loss, torch.stack([one.loss for one in alone]).mean())
    if together.nll is not None:
        assert torch.allclose(together.nll, torch.stack([one.nll for one in alone]).mean())
    together.loss.backward()
    for member, (single, objective) in enumerate(zip(singles, alone, strict=True)):
        objective.loss.backward()
        for name, parameter in single.named_parameters():
            gradient = dict(ensemble.named_parameters())[name].grad.view(MEMBERS, *parameter.shape)[member]
            assert torch.allclose(gradient, parameter.grad / MEMBERS, rtol=1e-6, atol=1e-12), name


@pytest.mark.parametrize("objective", ["crps", "energy"])
def test_members_are_scored_apart_by_scores_of_paths(objective):
    singles, ensemble = ensemble_of("student_t", covariates=True)
    windows = random_windows(PATCH)
    torch.manual_seed(0)
    together = unrolled_objective(ensemble, windows, objective=objective).loss
    torch.manual_seed(0)  # one patch: the members draw one after the other
    alone = [unrolled_objective(single, windows, objective=objective).loss for single in singles]
    assert torch.allclose(together, torch.stack(alone).mean())


@each_head
@torch.no_grad()
def test_an_ensemble_says_the_mean_density_of_its_members(head):
    singles, ensemble = ensemble_of(head, covariates=True)
    windows = random_windows(PATCH, head == "symbols")
    inputs = windows.context, windows.observed, windows.covariates
    pool, alone = ensemble(*inputs), [single(*inputs) for single in singles]
    assert isinstance(pool, EnsembleMixture)
    assert pool.batch_shape == alone[0].batch_shape
    value = windows.target.round().abs() if ensemble.head.discrete else windows.target
    assert torch.allclose(pool.mean, torch.stack([one.mean for one in alone]).mean(0))
    assert torch.allclose(pool.cdf(value), torch.stack([one.cdf(value) for one in alone]).mean(0))
    if ensemble.head.has_density:
        density = torch.stack([one.log_prob(value).exp() for one in alone]).mean(0)
        assert torch.allclose(pool.log_prob(value).exp(), density)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_the_density_of_a_pool_integrates_to_its_distribution_function_and_to_one(seed):
    generator = torch.Generator().manual_seed(seed)
    means, spreads = 2 * torch.randn(3, 2, generator=generator), 0.5 + torch.rand(3, 2, generator=generator)
    pool = EnsembleMixture(Normal(means.double(), spreads.double()), 3)  # three members, a single window, two values

    def density(value, place):
        return pool.log_prob(torch.tensor(value).double())[0, place].exp().item()

    for place in range(2):
        ends = means[:, place].min().item() - 20, means[:, place].max().item() + 20
        assert integrate.quad(density, *ends, (place,), limit=200)[0] == pytest.approx(1, abs=1e-6)
        below = integrate.quad(density, ends[0], 0.7, (place,), limit=200)[0]
        assert below == pytest.approx(pool.cdf(torch.tensor(0.7).double())[0, place].item(), abs=1e-6)


def test_mean_and_variance_of_a_pool_are_those_of_its_draws():
    generator = torch.Generator().manual_seed(0)
    members = Normal(torch.tensor([[-2.0], [0.5], [4.0]]), torch.tensor([[0.3], [2.0], [1.0]]))
    pool = EnsembleMixture(members, 3)
    which, normal = torch.randint(0, 3, (100_000,), generator=generator), torch.randn(100_000, generator=generator)
    drawn = (members.mean[which, 0] + members.stddev[which, 0] * normal).numpy()
    assert pool.mean.item() == pytest.approx(drawn.mean(), abs=5 * float(drawn.std()) / 1e5**0.5)
    assert pool.variance.item() == pytest.approx(drawn.var(), rel=0.02)


@pytest.mark.parametrize("level", [0.001, 0.1, 0.5, 0.77, 0.999])
@each_head
@torch.no_grad()
def test_the_quantile_of_a_pool_inverts_its_distribution_function(head, level):
    _, ensemble = ensemble_of(head)
    windows = random_windows(PATCH, head == "symbols")
    pool = ensemble(windows.context, windows.observed)
    quantile = pool.icdf(torch.tensor(level).double())
    assert quantile.shape == pool.batch_shape
    if ensemble.head.discrete:
        assert quantile.equal(quantile.round())
        assert (pool.cdf(quantile) >= level - 1e-9).all()
        assert (pool.cdf(quantile - 1) < level + 1e-9).all()
    elif head == "point":  # steps: the least value that reaches the level
        assert (pool.cdf(quantile + 1e-6) >= level).all()
        assert (pool.cdf(quantile - 1e-6) < level).all()
    else:
        assert torch.allclose(pool.cdf(quantile), torch.tensor(level).double(), atol=1e-6)


def test_a_pool_of_symbols_is_of_the_mean_probabilities():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    pool = EnsembleMixture(Symbols(logits), 2)
    probabilities = logits.softmax(-1).view(2, 3, 4).mean(0)
    for code in range(4):
        assert np.allclose(pool.log_prob(torch.tensor(float(code))).exp(), probabilities[:, code])
