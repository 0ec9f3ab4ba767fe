"""Tests of the rollout, with the textbook's `torch.cat` loop and the companion matrix as the oracles."""

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlp.data.covariates import Covariates
from armlp.data.loaders import OriginLoader
from armlp.data.windows import gather
from armlp.errors import UserError
from armlp.model.families import HEADS
from armlp.model.families.base import open_interval
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout
from armlp.model.scaling import SCALERS

LENGTH = 8
SEASON = 3
SIZES = {"known": [0, 4], "past": [0], "calendar": [0], "static": [3]}
CONTINUOUS = [name for name, head in HEADS.items() if not head.distribution.discrete]


def random_model(seed=0, length=LENGTH, **options):
    """A float64 network with no weight left at zero, tame enough for long rollouts."""
    torch.manual_seed(seed)
    options = {"hidden_sizes": [6], "season_length": SEASON, "dropout": 0.5} | options
    options["symbols"] = 4 if options.get("head") == "symbols" else 0
    model = AutoregressiveMLP(length, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
        if model.scaler.statistics:
            model.level += 9
            model.spread += torch.rand(model.spread.shape)
    return model.double().eval()


def random_context(batch, channels=1, length=LENGTH, seed=0, symbols=0):
    shape = (batch, length, channels)
    generator = torch.Generator().manual_seed(seed)
    if symbols:
        return torch.randint(0, symbols, shape, generator=generator).double()
    return 10 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def random_covariates(batch, horizon, seed=0):
    """Over the context, the horizon and what the last patch may reach beyond it."""
    generator, span = torch.Generator().manual_seed(seed), horizon + 5
    return Covariates(
        known=torch.randint(0, 4, (batch, LENGTH + span, 2), generator=generator).double(),
        past=torch.randn(batch, LENGTH + span, 1, generator=generator, dtype=torch.float64),
        calendar=torch.randn(batch, span, 1, generator=generator, dtype=torch.float64),
        static=torch.randint(0, 3, (batch, 1), generator=generator).double(),
    )


def noise_of(model, batch, paths, horizon, seed=0, keys=None, channels=None):
    keys = torch.arange(batch) if keys is None else keys
    channels = model.channels if channels is None else channels
    return path_noise(keys, 100 + keys, paths, horizon, (channels, model.head.noise), seed).double()


@torch.no_grad()
def naive_rollout(model, context, observed, horizon, noise, covariates=None):
    """Every path of every series by itself, its window grown with `torch.cat`."""
    series = []
    for row in range(len(context)):
        one = slice(row, row + 1)
        scaling = model.measure_scaling(context[one], observed[one])
        beside = None if covariates is None else Covariates(*(part[one] for part in covariates))
        paths = []
        for path in range(noise.shape[1]):
            values, seen = context[one], observed[one]
            start = values.shape[1]
            while values.shape[1] < start + horizon:
                window = slice(values.shape[1] - model.context_length, None)
                first = values.shape[1] - start
                distribution = model.predict_patch(values[:, window], seen[:, window], scaling, beside, first)
                # Noise may end inside the patch.
                steps = [noise[row, path, min(first + step, horizon - 1)] for step in range(model.patch_length)]
                patch = distribution.draw(torch.stack(steps)[None])
                patch = torch.where(patch < 0, 0.0, patch) if model.non_negative else patch
                values = torch.cat([values, patch], 1)
                seen = torch.cat([seen, torch.ones_like(patch, dtype=torch.bool)], 1)
            paths.append(values[0, start : start + horizon])
        series.append(torch.stack(paths))
    return torch.stack(series)


@pytest.mark.parametrize("head", HEADS)
@given(
    patch=st.sampled_from([1, 3, 5]),
    channels=st.sampled_from([1, 2]),
    scaler=st.sampled_from([*SCALERS]),
    horizon=st.integers(1, 13),
    hidden=st.booleans(),
    known=st.booleans(),
    mask_input=st.booleans(),
    level_input=st.booleans(),
    non_negative=st.booleans(),
    skips=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=12)
def test_a_rollout_equals_the_naive_loop(head, patch, channels, horizon, hidden, known, skips, seed, **options):
    layers = [6] if hidden or known or head == "symbols" else []
    options |= {"linear_skip": skips or not layers, "seasonal_skip": skips, "covariate_sizes": SIZES if known else None}
    model = random_model(seed, patch_length=patch, channels=channels, hidden_sizes=layers, head=head, **options)
    context = random_context(3, channels, seed=seed, symbols=model.symbols)
    if options["non_negative"] and not model.symbols:
        context = context - 10  # else nothing is below 0
    observed = torch.rand(context.shape, generator=torch.Generator().manual_seed(seed)) < 0.8
    observed[:, -1] = True
    noise = noise_of(model, 3, 2, horizon, seed)
    covariates = random_covariates(3, horizon, seed) if known else None
    paths = rollout(model, context, horizon, 2, observed, noise, covariates)
    assert paths.shape == (3, 2, horizon, *context.shape[2:])
    assert torch.allclose(paths, naive_rollout(model, context, observed, horizon, noise, covariates), rtol=1e-9)


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_without_a_scaler_a_rollout_is_the_loop_over_the_model_itself(head):
    model = random_model(head=head, scaler="none", patch_length=3)
    context = random_context(4, symbols=model.symbols)
    noise = noise_of(model, 4, 1, 9)
    window, future = context, []
    for step in range(0, 9, 3):
        future.append(model(window).draw(noise[:, 0, step : step + 3]))
        window = torch.cat([window, future[-1]], 1)[:, 3:]
    assert torch.allclose(rollout(model, context, 9, noise=noise)[:, 0], torch.cat(future, 1), rtol=1e-9)


@torch.no_grad()
def test_a_linear_rollout_equals_the_power_of_the_companion_matrix():
    model = random_model(hidden_sizes=[], head="point", scaler="none", seasonal_skip=False)
    weights, constant = model.linear_skip.weight[0], model.linear_skip.bias[0] + model.bias[0]
    companion = torch.zeros(LENGTH + 1, LENGTH + 1, dtype=torch.float64)
    companion[: LENGTH - 1, 1:LENGTH] = torch.eye(LENGTH - 1)  # the window moves on by one
    companion[LENGTH - 1, :LENGTH] = weights
    companion[LENGTH - 1, LENGTH] = constant
    companion[LENGTH, LENGTH] = 1
    context = random_context(5)[..., 0]
    state = torch.cat([context, torch.ones(5, 1)], 1)
    paths = rollout(model, context, horizon=3 * LENGTH)
    for lead in range(1, 3 * LENGTH + 1):
        power = torch.linalg.matrix_power(companion, lead)
        assert torch.allclose(paths[:, 0, lead - 1], (state @ power.T)[:, LENGTH - 1], rtol=1e-9)


@pytest.mark.parametrize("length", [2 * SEASON, 8, 10])  # whole seasons or not
@torch.no_grad()
def test_a_seasonal_rollout_is_a_plain_one_of_the_deseasonalized_values(length):
    options = {"hidden_sizes": [], "head": "point", "seasonal_skip": False, "length": length}
    model, plain = (random_model(scaler=scaler, **options) for scaler in ("seasonal", "none"))
    context, horizon = random_context(4, length=length), 3 * length
    means = torch.stack([context[:, phase::SEASON].mean(1) for phase in range(SEASON)], 1)
    season = means[:, torch.arange(length + horizon) % SEASON]
    left = context - season[:, :length]
    scale = left.square().mean(1, keepdim=True).sqrt()
    expected = season[:, length:] + scale * rollout(plain, left / scale, horizon)[:, 0]
    assert torch.allclose(rollout(model, context, horizon)[:, 0], expected, rtol=1e-9)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("patch", [1, 3])
@given(batch=st.integers(1, 6), paths=st.sampled_from([1, 3, 500]))
@settings(max_examples=6)
def test_the_paths_of_a_series_do_not_depend_on_its_batch(head, patch, batch, paths):
    model = random_model(head=head, patch_length=patch)
    context = random_context(batch, symbols=model.symbols)
    observed = torch.ones_like(context, dtype=torch.bool)
    keys = 7 * torch.arange(batch) - 5
    together = rollout(model, context, 4, paths, observed, noise_of(model, batch, paths, 4, keys=keys))
    for row in range(batch):
        one = slice(row, row + 1)
        noise = noise_of(model, 1, paths, 4, keys=keys[one])
        alone = rollout(model, context[one], 4, paths, observed[one], noise)
        assert torch.allclose(alone, together[one], rtol=1e-9)


@pytest.mark.parametrize("head", HEADS)
@given(patch=st.sampled_from([1, 2, 5]), short=st.integers(1, 11), longer=st.integers(1, 11))
@settings(max_examples=10)
def test_a_longer_horizon_goes_on_with_the_same_paths(head, patch, short, longer):
    model = random_model(head=head, patch_length=patch)
    context = random_context(2, symbols=model.symbols)
    paths = [
        rollout(model, context, horizon, 3, noise=noise_of(model, 2, 3, horizon)) for horizon in (short, short + longer)
    ]
    assert torch.allclose(paths[0], paths[1][:, :, :short], rtol=1e-12)


@given(short=st.integers(1, 9), longer=st.integers(1, 9), paths=st.integers(1, 20), channels=st.integers(1, 3))
@settings(max_examples=30)
def test_noise_of_a_longer_horizon_begins_with_the_noise_of_a_shorter_one(short, longer, paths, channels):
    keys = torch.tensor([3, -4])
    one, other = (
        path_noise(keys, keys + 9, paths, horizon, (channels, 2), seed=1) for horizon in (short, short + longer)
    )
    assert one.shape == (2, paths, short, channels, 2)
    assert one.equal(other[:, :, :short])


def test_noise_depends_on_the_seed_the_key_and_the_origin_alone():
    def noise(key, origin, seed):
        return path_noise(torch.tensor([key]), torch.tensor([origin]), 5, 4, (1,), seed)

    assert noise(1, 10, 0).equal(noise(1, 10, 0))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    others = [noise(1, 10, 0), noise(2, 10, 0), noise(1, 11, 0), noise(1, 10, 1), noise(10, 1, 0)]
    assert torch.get_rng_state().equal(state)
    assert all(not one.equal(other) for i, one in enumerate(others) for other in others[:i])


def test_noise_is_uniform_in_the_open_interval_and_independent_between_series():
    noise = path_noise(torch.arange(40), torch.full((40,), 50), 20, 10, (2,), seed=0)
    assert noise.dtype == torch.float32
    assert stats.kstest(noise.flatten().numpy(), "uniform").pvalue > 0.01
    correlations = torch.corrcoef(noise.flatten(1)) - torch.eye(40)
    assert correlations.abs().max() < 0.25
    assert open_interval(torch.tensor(0.0)) > 0
    assert open_interval(torch.tensor(1.0)) < 1


@given(each=st.integers(1, 30), members=st.integers(1, 4), left_out=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_noise_of_a_step_has_one_value_in_every_part_of_the_interval(each, members, left_out, seed):
    paths = max(1, each * members - min(left_out, members - 1))
    noise = path_noise(torch.tensor([1, 2]), torch.tensor([9, 9]), paths, 5, (2, 1), seed, members)
    assert noise.shape == (2, paths, 5, 2, 1)
    for member in range(members):
        parts = (noise[:, member::members] * each).floor().sort(1).values
        expected = torch.arange(parts.shape[1]).view(1, -1, 1, 1, 1)
        # A member with a path less than others leaves one part out.
        assert (parts.shape[1] < each) or parts.equal(expected.expand_as(parts).float())
        assert (parts.diff(dim=1) >= 1).all()


def test_noise_of_different_steps_is_independent_within_a_path():
    noise = path_noise(torch.arange(300), torch.zeros(300).long(), 50, 4, (1,), seed=0)[..., 0]
    steps = noise.flatten(0, 1).T  # [H, B * P]
    correlations = torch.corrcoef(steps) - torch.eye(4)
    assert correlations.abs().max() < 4 / math.sqrt(steps.shape[1])
    # And not by rank only: sums of two steps follow the triangle.
    for first, second in [(0, 1), (1, 3)]:
        assert stats.kstest((steps[first] + steps[second])[::25].numpy(), stats.triang(0.5, 0, 2).cdf).pvalue > 0.001


def test_quantiles_of_paths_are_those_of_the_distribution():
    noise = path_noise(torch.arange(50), torch.zeros(50).long(), 200, 3, (1,), seed=0)[..., 0]
    free = torch.rand(50, 200, 3, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.1, 0.5, 0.9])
    wrong = [(values.quantile(levels, 1) - levels[:, None, None]).square().mean().sqrt() for values in (noise, free)]
    assert wrong[0] < 0.2 * wrong[1]


def test_keys_and_noise_are_the_same_in_another_process(make_panel):
    script = (
        "import numpy, torch; from armlp.data.panel import Panel; from armlp.model.rollout import path_noise\n"
        "panel = Panel(*[torch.zeros(2, 1)] * 2, torch.arange(3), numpy.array(['a', 'b']), numpy.zeros(2), None)\n"
        "noise = path_noise(panel.keys, torch.tensor([5, 6]), 2, 3, (1,), 9)\n"
        "print(panel.keys.tolist(), noise.flatten().tolist())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    keys = make_panel([1, 1], ids="ab").keys
    noise = path_noise(keys, torch.tensor([5, 6]), 2, 3, (1,), 9)
    assert done.stdout.strip() == f"{keys.tolist()} {noise.flatten().tolist()}"


@pytest.mark.parametrize("head", [name for name, head in HEADS.items() if head.distribution.noise])
def test_same_noise_same_paths_and_other_noise_other_paths(head):
    model = random_model(head=head)
    context = random_context(3, symbols=model.symbols)
    one, again, other = (rollout(model, context, 5, 4, noise=noise_of(model, 3, 4, 5, seed)) for seed in (0, 0, 1))
    assert one.equal(again)
    for different in (one != other, one[:, 0] != one[:, 1]):
        assert different.any() if model.head.discrete else different.all()


@pytest.mark.parametrize("head", HEADS)
def test_without_noise_given_the_global_generator_decides(head):
    model = random_model(head=head)
    context = random_context(3, symbols=model.symbols)

    def sample(seed):
        torch.manual_seed(seed)
        return rollout(model, context, 5, 4)

    assert sample(0).equal(sample(0))
    assert sample(0).equal(sample(1)) is (model.head.noise == 0)


def test_the_paths_of_a_point_head_are_all_alike():
    model = random_model(head="point", patch_length=3)
    paths = rollout(model, random_context(3), 7, 6)
    assert paths.shape == (3, 6, 7, 1)
    assert (paths == paths[:, :1]).all()


@pytest.mark.parametrize("members", [1, 3])
def test_many_series_and_paths_are_rolled_out_in_blocks_as_they_would_be_alone(members):
    model = random_model(head="normal", members=members, covariate_sizes=SIZES)
    context, noise, covariates = random_context(40), noise_of(model, 40, 100, 3), random_covariates(40, 3)
    observed = torch.ones_like(context, dtype=torch.bool)
    observed[::2, :4] = False
    paths = rollout(model, context, 3, 100, observed, noise, covariates)
    for row in (0, 9, 10, 11, 39):
        one = slice(row, row + 1)
        alone = rollout(model, context[one], 3, 100, observed[one], noise[one], covariates.rows(one))
        assert torch.allclose(paths[one], alone)


@pytest.mark.parametrize("head", HEADS)
def test_sampled_one_step_paths_follow_the_one_step_distribution(head):
    model = random_model(head=head)
    context = random_context(2, symbols=model.symbols)
    paths = rollout(model, context, 1, 4000, noise=noise_of(model, 2, 4000, 1))[:, :, 0]
    mean = model(context).mean[:, 0].detach()
    error = 5 * paths.std(1) / 4000**0.5 + 1e-9
    assert ((paths.mean(1) - mean).abs() < error).all()


@pytest.mark.parametrize("head", CONTINUOUS)
@pytest.mark.parametrize("scaler", [name for name, kind in SCALERS.items() if kind.by_window])
@given(factor=st.floats(0.01, 100), offset=st.floats(-100, 100), channels=st.sampled_from([1, 2]))
@settings(max_examples=4)
def test_scale_and_shift_the_context_and_every_path_scales_and_shifts(head, scaler, factor, offset, channels):
    offset = 0 if scaler == "mean_abs" else offset
    model = random_model(head=head, scaler=scaler, channels=channels, level_input=scaler == "mean_abs")
    context = random_context(2, channels)
    observed = torch.rand(context.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    noise = noise_of(model, 2, 3, 2 * LENGTH)
    one, other = (
        rollout(model, window, 2 * LENGTH, 3, observed, noise) for window in (context, factor * context + offset)
    )
    assert torch.allclose(factor * one + offset, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("members", [1, 2])
def test_a_forecast_less_a_level_is_cut_off_where_the_whole_one_is(channels, members):
    model = random_model(head="normal", non_negative=True, channels=channels, members=members, level_input=False)
    level = 1.0 + torch.arange(4.0 * channels, dtype=torch.float64).view(4, 1, channels)
    context, noise = random_context(4, channels) - 10, noise_of(model, 4, 5, 9)
    whole = rollout(model, context, 9, 5, noise=noise)
    less = rollout(model, context - level, 9, 5, noise=noise, zero=-level)
    assert (whole == 0).any()
    assert torch.allclose(less + level[:, None], whole)


def test_no_forecast_sees_a_value_at_or_after_its_origin(make_panel):
    panel, model = make_panel([30, 25], missing=0.1), random_model(mask_input=True).float()
    series, origins = torch.tensor([0, 0, 1]), torch.tensor([12, 20, 9])

    def forecast():
        (batch,) = OriginLoader(panel, series, origins, LENGTH, span=5)
        noise = path_noise(panel.keys[batch.series], batch.origin, 4, 5, (1, model.head.noise), 0)
        return rollout(model, batch.context, 5, 4, batch.observed, noise)

    before = forecast()
    for one, origin in ((0, 20), (1, 9)):
        panel.series(one)[origin:] = torch.nan
    after = forecast()
    assert after.equal(before)
    assert after.isfinite().all()
    panel.series(0)[19] += 1  # the last value before an origin is seen
    assert (forecast() != before).flatten(1).any(1).tolist() == [False, True, False]


def test_a_horizon_much_longer_than_the_context_works(make_panel):
    panel, model = make_panel([6]), random_model(head="quantile").float()
    batch = gather(panel, torch.tensor([0]), torch.tensor([6]), LENGTH, 0)
    assert rollout(model, batch.context, 25 * LENGTH, 2, batch.observed).shape == (1, 2, 25 * LENGTH, 1)


@torch.no_grad()
def test_with_top_k_1_a_rollout_is_the_greedy_loop():
    model = random_model(head="symbols", symbols=4)
    window = random_context(3, symbols=4)[..., 0]
    paths = rollout(model, window, 6, 5, top_k=1)
    for lead in range(6):
        likeliest = model(window).log_probs.argmax(-1).double()
        assert paths[..., lead].equal(likeliest.expand(3, 5))
        window = torch.cat([window, likeliest], 1)[:, 1:]


@pytest.mark.parametrize(("temperature", "top_k"), [(0.5, None), (3.0, None), (1.0, 2), (0.7, 3)])
@pytest.mark.parametrize("members", [1, 2])
@torch.no_grad()
def test_sharpened_symbols_are_drawn_as_often_as_their_probabilities_say(temperature, top_k, members):
    model = random_model(head="symbols", members=members)
    context = random_context(1, symbols=4)
    torch.manual_seed(0)
    paths = rollout(model, context, 1, 8000, temperature=temperature, top_k=top_k)[0, :, 0, 0]
    scaling = SCALERS["none"]().measure(context, torch.ones_like(context, dtype=torch.bool)).tile(members)
    rows = torch.cat([context] * members)
    logits = model.predict_patch(rows, torch.ones_like(rows, dtype=torch.bool), scaling).log_probs[:, 0, 0]
    probabilities = (logits / temperature).exp()
    if top_k is not None:
        probabilities[logits < logits.sort(descending=True).values[:, top_k - 1 : top_k]] = 0
    probabilities = (probabilities / probabilities.sum(-1, keepdim=True)).mean(0)
    shares = torch.bincount(paths.long(), minlength=4) / 8000
    assert ((shares - probabilities).abs() <= 5 * (probabilities * (1 - probabilities) / 8000).sqrt()).all()


@pytest.mark.parametrize("options", [{"temperature": 0.5}, {"top_k": 3}])
def test_what_has_no_separate_choices_is_not_sharpened(options):
    with pytest.raises(UserError, match=f"`?{next(iter(options))}"):
        rollout(random_model(head="normal"), random_context(1), 2, 2, **options)


def test_a_rollout_keeps_no_gradient():
    assert not rollout(random_model(), random_context(1), 3, 2).requires_grad


@pytest.mark.parametrize("option", ["horizon", "num_paths"])
@pytest.mark.parametrize("value", [0, -3])
def test_a_horizon_or_a_number_of_paths_below_one_is_refused_by_name(option, value):
    with pytest.raises(UserError, match=f"`{option}`: {value} is too small"):
        rollout(random_model(), random_context(1), **{"horizon": 2, "num_paths": 2, option: value})


def test_a_longer_context_counts_by_its_last_values_and_a_shorter_one_is_refused():
    model = AutoregressiveMLP(8, hidden_sizes=(4,), head="point").eval()
    torch.nn.init.normal_(model.layers[-1].weight)
    context = torch.randn(3, 20)
    assert rollout(model, context, 5).equal(rollout(model, context[:, -8:], 5))
    with pytest.raises(UserError, match="7 values are too few; the model sees 8"):
        rollout(model, context[:, :7], 5)
