"""Tests of the network: the textbook's model, the skips, scaling, masks and what it refuses."""

import inspect
from importlib.resources import files

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.model.families import HEADS
from armlp.model.mlp import ACTIVATIONS, AutoregressiveMLP
from armlp.model.rollout import rollout
from armlp.model.scaling import SCALERS
from armlp.training.objective import unrolled_objective

LENGTH = 12
PRESET = yaml.safe_load(files("armlp.presets").joinpath("textbook.yaml").read_text())["model"]
NUMBERS = [name for name in HEADS if name != "symbols"]
CONTINUOUS = [name for name, head in HEADS.items() if not head.distribution.discrete]
properties = settings(max_examples=30)


def textbook_pair(seed=0):
    """The model of the preset, and the textbook's own with the same weights."""
    torch.manual_seed(seed)
    accepted = inspect.signature(AutoregressiveMLP).parameters
    options = {name: value for name, value in PRESET.items() if name in accepted}
    model = AutoregressiveMLP(context_length=LENGTH, **options)
    (hidden,) = PRESET["hidden_sizes"]
    oracle = nn.Sequential(nn.Linear(LENGTH, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
            ours.copy_(theirs)
    return model, oracle


def preset_loss(model, windows):
    return unrolled_objective(model, windows, PRESET["loss_units"], input_noise=PRESET["input_noise"]).loss


def batch_of(context, target):
    seen = [torch.ones_like(part, dtype=torch.bool) for part in (context, target)]
    number = torch.arange(len(context))
    return Windows(*(part[..., None] for part in (context, seen[0], target, seen[1])), number, number)


def random_batch(batch=16, span=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    values = 20 + 5 * torch.randn(batch, LENGTH + span, generator=generator)
    return batch_of(*values.split([LENGTH, span], 1))


def noisy(model, seed=0):
    """The model with no weight left at zero, in float64 and without dropout."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def random_context(*shape, seed=0):
    return 10 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quantities(distribution, noise=0.3):
    """What a distribution says, stacked: its mean and one draw."""
    uniform = torch.full((*distribution.batch_shape, distribution.noise), noise, dtype=torch.float64)
    return torch.stack([distribution.mean, distribution.draw(uniform)])


def test_the_textbook_preset_has_the_parameters_of_the_textbook():
    model, oracle = textbook_pair()
    ours, theirs = ([p.shape for p in network.parameters()] for network in (model, oracle))
    assert ours == theirs
    assert sum(p.numel() for p in model.parameters()) == LENGTH * 128 + 128 + 128 + 1


def test_the_textbook_preset_gives_the_outputs_of_the_textbook():
    model, oracle = textbook_pair()
    context = random_batch().context[..., 0]
    assert model(context).mean.equal(oracle(context))


def test_the_textbook_preset_has_the_loss_and_the_gradients_of_the_textbook():
    model, oracle = textbook_pair()
    windows = random_batch()
    loss = preset_loss(model, windows)
    expected = nn.functional.mse_loss(oracle(windows.context[..., 0]), windows.target[..., 0])
    assert torch.allclose(loss, expected, rtol=1e-6)
    loss.backward()
    expected.backward()
    for ours, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_the_textbook_preset_trains_to_the_weights_of_the_textbook():
    model, oracle = textbook_pair()
    assert (PRESET["optimizer"], PRESET["weight_decay"], PRESET["unroll"]) == ("adam", 0, 1)
    optimizers = [torch.optim.Adam(network.parameters(), lr=PRESET["learning_rate"]) for network in (model, oracle)]
    for step in range(30):
        windows = random_batch(seed=step)
        losses = [
            preset_loss(model, windows),
            nn.functional.mse_loss(oracle(windows.context[..., 0]), windows.target[..., 0]),
        ]
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@torch.no_grad()
def test_the_textbook_preset_rolls_out_as_the_loop_of_the_textbook():
    model, oracle = textbook_pair()
    window = random_batch().context[..., 0]
    paths = rollout(model, window, horizon=30)
    future = []
    for _ in range(30):
        future.append(oracle(window))
        window = torch.cat([window[:, 1:], future[-1]], 1)
    assert torch.allclose(paths[:, 0], torch.cat(future, 1), rtol=1e-6)


@pytest.mark.parametrize("head", NUMBERS)
@pytest.mark.parametrize("scaler", SCALERS)
@given(patch=st.integers(1, 9), season=st.integers(1, LENGTH), channels=st.sampled_from([1, 3]), blocks=st.booleans())
@settings(max_examples=8)
def test_training_starts_at_the_seasonal_naive(head, scaler, patch, season, channels, blocks):
    model = AutoregressiveMLP(
        LENGTH,
        patch,
        [8],
        residual_blocks=int(blocks),
        head=head,
        scaler=scaler,
        season_length=season,
        channels=channels,
        mask_input=True,
    ).double()
    window = context = random_context(5, LENGTH, channels)
    observed = torch.ones_like(window, dtype=torch.bool)
    scaling = model.measure_scaling(window, observed)
    # In network units, because counts bend the location to stay above 0.
    location = model.raw_outputs(window, observed, scaling)[..., 0]
    location = (scaling.shift_at(LENGTH, patch) + scaling.scale * location).view(5, patch, channels)
    for step in range(patch):
        row = LENGTH + step - season
        while row >= LENGTH:  # inside the patch: the same phase of the last season
            row -= season
        assert torch.allclose(location[:, step], context[:, row])
    if head in CONTINUOUS:
        middle = model(window)
        middle = middle.mean if head == "student_t" else middle.icdf(torch.tensor(0.5).double())
        assert torch.allclose(middle.view(5, patch, channels), location)


@pytest.mark.parametrize("linear_skip", [True, False])
def test_training_starts_at_the_level_of_the_window_where_no_season_fits(linear_skip):
    model = AutoregressiveMLP(LENGTH, 2, [8], head="normal", season_length=LENGTH + 1, linear_skip=linear_skip)
    context = random_context(5, LENGTH).float()
    close = torch.allclose(model(context).mean, context.mean(1, keepdim=True).expand(-1, 2))
    assert close == linear_skip


@pytest.mark.parametrize("head", NUMBERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch", [1, 5])
@pytest.mark.parametrize("hidden", [[], [7], [7, 4]])
def test_a_forward_pass_gives_a_patch_of_every_window(head, channels, patch, hidden):
    model = noisy(
        AutoregressiveMLP(
            LENGTH,
            patch,
            hidden,
            residual_blocks=len(hidden),
            head=head,
            channels=channels,
            mask_input=True,
            season_length=3,
        )
    )
    shape = (6, LENGTH, 3) if channels > 1 else (6, LENGTH)
    context = random_context(*shape)
    distribution = model(context)
    assert distribution.batch_shape == distribution.mean.shape == (6, patch, *shape[2:])
    alone = model(context[2:3])
    assert torch.allclose(quantities(distribution)[:, 2], quantities(alone)[:, 0])
    if hidden and channels > 1:  # joint: every channel of the context moves every channel of the patch
        context[:, 4, 0] += 1
        assert (model(context).mean != distribution.mean).all()


@pytest.mark.parametrize("channels", [1, 2])
@torch.no_grad()
def test_symbols_are_predicted_from_the_symbols_before_them(channels):
    network = noisy(AutoregressiveMLP(LENGTH, 2, [8], head="symbols", symbols=5, channels=channels, season_length=3))
    shape = (6, LENGTH, channels) if channels > 1 else (6, LENGTH)
    context = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(0)).double()
    distribution = network(context)
    assert distribution.batch_shape == (6, 2, *shape[2:])
    total = sum(distribution.log_prob(torch.tensor(float(code))).exp() for code in range(5))
    assert torch.allclose(total, torch.ones_like(total))
    # Symbols have no order, level or spread: nothing but the vectors of a symbol says anything of it.
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.inputs.symbol_embedding.weight.copy_(network.inputs.symbol_embedding.weight[order].clone())
    renamed = order.argsort()[context.long()].double()
    assert torch.allclose(network(renamed).log_probs, distribution.log_probs)


@pytest.mark.parametrize("head", CONTINUOUS)
@given(factor=st.floats(0.01, 100), offset=st.floats(-1000, 1000), seed=st.integers(0, 100))
@settings(max_examples=10)
def test_scale_and_shift_the_context_and_the_distribution_scales_and_shifts(head, factor, offset, seed):
    def model(**options):
        torch.manual_seed(seed)
        return noisy(AutoregressiveMLP(LENGTH, 3, [9], head=head, season_length=4, **options), seed)

    context = random_context(4, LENGTH, seed=seed)
    relative = [name for name, kind in SCALERS.items() if kind.by_window]
    for scaler in relative:
        network = model(scaler=scaler)
        expected = factor * quantities(network(context))
        assert torch.allclose(quantities(network(factor * context)), expected, rtol=1e-6)
    for scaler in set(relative) - {"mean_abs"}:
        network = model(scaler=scaler, level_input=False)
        expected = factor * quantities(network(context)) + offset
        assert torch.allclose(quantities(network(factor * context + offset)), expected, rtol=1e-6, atol=1e-6)


def test_level_input_gives_the_network_the_level_that_scaling_removes():
    context = random_context(3, LENGTH)
    for level_input in (True, False):
        network = noisy(AutoregressiveMLP(LENGTH, 1, [9], head="point", level_input=level_input))
        moved = network(context + 50).mean - 50
        assert torch.allclose(moved, network(context).mean) is not level_input


@pytest.mark.parametrize("mask_input", [True, False])
def test_the_mask_reaches_the_network_only_as_mask_input(mask_input):
    network = noisy(AutoregressiveMLP(LENGTH, 1, [9], scaler="none", mask_input=mask_input))
    context = random_context(3, LENGTH)
    observed = torch.ones_like(context, dtype=torch.bool)
    observed[:, 3] = False
    assert network(context, observed).mean.equal(network(context).mean) is not mask_input


@pytest.mark.parametrize("mask_input", [True, False])
@pytest.mark.parametrize("scaler", SCALERS)
def test_no_mask_means_all_observed(mask_input, scaler):
    network = noisy(AutoregressiveMLP(LENGTH, 2, [9], mask_input=mask_input, scaler=scaler))
    context = random_context(3, LENGTH)
    observed = torch.ones_like(context, dtype=torch.bool)
    assert quantities(network(context)).equal(quantities(network(context, observed)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_residual_blocks_and_activations_equal_the_formula(activation):
    network = noisy(
        AutoregressiveMLP(
            LENGTH,
            1,
            [6],
            residual_blocks=2,
            block_size=3,
            activation=activation,
            head="point",
            scaler="none",
            linear_skip=False,
            seasonal_skip=False,
        )
    )
    act = getattr(torch.nn.functional, activation)
    context = random_context(4, LENGTH)
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    features = act(context @ weights["layers.0.weight"].T + weights["layers.0.bias"])
    for block in ("layers.2.inside", "layers.3.inside"):
        gain, bias = weights[f"{block}.0.weight"], weights[f"{block}.0.bias"]
        centred = features - features.mean(1, keepdim=True)
        inner = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * gain + bias
        inner = act(inner @ weights[f"{block}.1.weight"].T + weights[f"{block}.1.bias"])
        assert inner.shape == (4, 3)
        features = features + inner @ weights[f"{block}.4.weight"].T + weights[f"{block}.4.bias"]
    expected = features @ weights["layers.4.weight"].T + weights["layers.4.bias"]
    assert torch.allclose(network(context).mean, expected)


def test_dropout_acts_in_training_only():
    network = noisy(AutoregressiveMLP(LENGTH, 1, [32], residual_blocks=1, dropout=0.5, head="point"))
    context = random_context(3, LENGTH)
    assert network(context).mean.equal(network(context).mean)
    network.train()
    assert not network(context).mean.equal(network(context).mean)


def test_a_network_without_hidden_layers_is_linear():
    network = noisy(AutoregressiveMLP(LENGTH, 2, [], head="point", scaler="none", season_length=3))
    one, other = random_context(2, LENGTH), random_context(2, LENGTH, seed=1)
    zero = network(torch.zeros_like(one)).mean
    combined = network(2 * one - 3 * other).mean - zero
    assert torch.allclose(combined, 2 * (network(one).mean - zero) - 3 * (network(other).mean - zero))


@pytest.mark.parametrize("head", NUMBERS)
@pytest.mark.parametrize("skips", [True, False])
def test_bfloat16_autocast_changes_nothing_but_precision(head, skips):
    torch.manual_seed(0)
    network = noisy(AutoregressiveMLP(LENGTH, 2, [16], head=head, linear_skip=skips, seasonal_skip=skips)).float()
    context, value = random_context(4, LENGTH).float(), torch.full((4, 2), 11.0)
    noise = torch.full((4, 2, network.head.noise), 0.05)
    answers = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            distribution = network(context)
            loss = network.head.loss(distribution, value, torch.ones(4, 1))
            drawn = distribution.draw(noise)
            assert drawn.dtype == torch.float32
            # A draw may land in the next count or bin.
            jumps = network.head.discrete or head == "categorical"
            answers.append(torch.stack([distribution.mean, loss, *([] if jumps else [drawn])]))
    assert answers[1].dtype == torch.float32
    assert not answers[0].equal(answers[1])
    assert torch.allclose(*answers, rtol=0.1, atol=0.4 if head == "categorical" else 0.2)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("context_length", 0),
        ("patch_length", 0),
        ("hidden_sizes", [8, 0]),
        ("residual_blocks", -1),
        ("block_size", 0),
        ("block_size", -2),
        ("activation", "swish"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("head", "gaussian"),
        ("point_loss", "mape"),
        ("scaler", "minmax"),
        ("season_length", 0),
        ("season_length", -7),
        ("channels", 0),
        ("members", 0),
        ("components", 0),
        ("bins", 2),
        ("quantile_loss", "mse"),
    ],
)
def test_a_wrong_option_is_refused_by_name(option, value):
    options = {"context_length": LENGTH, "head": "point", option: value}
    with pytest.raises(UserError) as error:
        AutoregressiveMLP(**options)
    sentence = str(error.value)
    assert sentence.startswith(f"`{option}`")
    assert str(value[-1] if isinstance(value, list) else value) in sentence
    assert sentence.endswith(".")


def test_a_wrong_point_loss_is_refused_whatever_the_head():
    with pytest.raises(UserError, match=r"`point_loss`: 'mape'"):
        AutoregressiveMLP(LENGTH, head="normal", point_loss="mape")


def test_residual_blocks_without_a_layer_before_them_are_refused():
    with pytest.raises(UserError, match=r"`residual_blocks`.*`hidden_sizes`"):
        AutoregressiveMLP(LENGTH, hidden_sizes=[], residual_blocks=1)


@pytest.mark.parametrize(("head", "symbols"), [("symbols", 0), ("normal", 5)])
def test_a_head_of_the_wrong_kind_of_values_is_refused(head, symbols):
    with pytest.raises(UserError, match=rf"`head`: '{head}' is not for"):
        AutoregressiveMLP(LENGTH, head=head, symbols=symbols)
