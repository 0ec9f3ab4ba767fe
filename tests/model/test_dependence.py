"""The dependence inside a patch, against an autoregression whose joint distribution is known at any horizon."""

import numpy as np
import pytest
import scipy
import torch
from torch import Tensor

from armlp.data.windows import Windows
from armlp.evaluation.one_step import one_step_nll
from armlp.model.dependence import Dependence
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout

PHI, PATCH, HORIZON, LAST = 0.8, 6, 16, 3.0


def autoregression(horizon: int, phi: float = PHI) -> tuple[np.ndarray, np.ndarray]:
    """Return mean `[H]` and covariance `[H, H]` of the future of x_t = phi x_(t-1) + e_t after the value 1."""
    responses = phi ** np.subtract.outer(np.arange(horizon), np.arange(horizon))
    impact = np.tril(responses)
    return phi ** np.arange(1, horizon + 1), impact @ impact.T


def factor(patch: int = PATCH) -> Tensor:
    covariance = autoregression(patch)[1]
    deviation = np.sqrt(np.diag(covariance))
    return torch.from_numpy(np.linalg.cholesky(covariance / np.outer(deviation, deviation)))


def network(patch: int = PATCH, head: str = "normal", members: int = 1, dependent: bool = True) -> AutoregressiveMLP:
    """Return a network that is exactly this autoregression, `patch` values at a time."""
    model = AutoregressiveMLP(
        2, patch, hidden_sizes=[], head=head, scaler="none", level_input=False, seasonal_skip=False, members=members
    ).eval()
    mean, covariance = autoregression(patch)
    spread = torch.from_numpy(np.expm1(np.sqrt(np.diag(covariance)) - 1e-4)).log()
    with torch.no_grad():
        skip = model.linear_skip
        skip.weight.zero_()
        skip.weight[..., -1] = torch.from_numpy(mean).to(skip.weight)
        skip.bias.zero_()
        model.bias.zero_()
        model.bias.view(members, patch, -1)[..., 1] = spread.float()
        if dependent and patch > 1:
            model.dependence.load_state_dict({"step_factor": factor(patch), "channel_factor": torch.empty(0, 0)})
    return model


def contexts(count: int) -> Tensor:
    return torch.tensor([0.0, LAST]).expand(count, 2).contiguous()


def paths_of(model: AutoregressiveMLP, series: int, paths: int, horizon: int = HORIZON, **options: object) -> Tensor:
    noise = path_noise(
        torch.arange(series), torch.zeros(series, dtype=torch.int64), paths, horizon, (1,), 0, model.members
    )
    return rollout(model, contexts(series), horizon, paths, noise=noise, **options).double()


@pytest.mark.parametrize("paths", [1, 200])
def test_paths_have_the_covariance_of_the_autoregression_over_several_patches(paths: int) -> None:
    """A path of two patches and a part of a third is one draw of the joint distribution."""
    drawn = paths_of(network(), 40_000 // paths, paths).flatten(0, 1)
    mean, covariance = autoregression(HORIZON)
    assert np.allclose(drawn.mean(0), LAST * mean, atol=0.05)
    assert np.allclose(np.cov(drawn.T), covariance, atol=0.1)


def test_intervals_of_sums_maxima_and_first_passages_cover() -> None:
    """Quantiles of functions of paths are those of the functions' exact distributions."""
    drawn = paths_of(network(), 200, 200).numpy()
    mean, covariance = autoregression(HORIZON)
    truth = np.random.default_rng(0).multivariate_normal(LAST * mean, covariance, 200_000)
    functions = {
        "sum": lambda values: values.sum(-1),
        "sum of 6": lambda values: values[..., :6].sum(-1),
        "maximum": lambda values: values.max(-1),
    }
    for name, function in functions.items():
        for level in (80, 95):
            low, high = np.quantile(function(drawn), [0.5 - level / 200, 0.5 + level / 200], axis=1).mean(1)
            exact = np.mean((function(truth) >= low) & (function(truth) <= high))
            assert exact == pytest.approx(level / 100, abs=0.015), name
    for lead in range(1, HORIZON + 1):
        reached, exact = ((values[..., :lead] > 4).any(-1).mean() for values in (drawn, truth))
        assert reached == pytest.approx(exact, abs=0.01)


def test_independent_draws_would_not_cover_the_sum() -> None:
    """The measure of the test before sees the fault that it is for."""
    drawn = paths_of(network(dependent=False), 200, 200).sum(-1)
    mean, covariance = autoregression(HORIZON)
    low, high = np.quantile(drawn, [0.1, 0.9], axis=1).mean(1)
    law = scipy.stats.norm(LAST * mean.sum(), np.sqrt(covariance.sum()))
    assert law.cdf(high) - law.cdf(low) < 0.7


@pytest.mark.parametrize("paths", [1, 2, 7, 50, 200])
def test_the_distribution_of_each_value_stays_as_it_was(paths: int) -> None:
    """Dependent noise is uniform, and as evenly spread over the paths as before."""
    dependence = Dependence(PATCH, 1)
    dependence.load_state_dict({"step_factor": factor(), "channel_factor": torch.empty(0, 0)})
    series = 20_000 // paths
    noise = path_noise(torch.arange(series), torch.zeros(series, dtype=torch.int64), paths, PATCH, (1, 1), 0)
    found = dependence(noise, [0])
    for lead in range(PATCH):
        values = found[:, :, lead].flatten().numpy()
        assert scipy.stats.kstest(values, "uniform").statistic < 2 / np.sqrt(len(values))
        strata = (found[:, :, lead, 0, 0] * paths + 1e-4).floor().clamp(max=paths - 1).sort(1).values
        assert (strata == torch.arange(paths)).double().mean() > 0.99


def test_the_fast_rollout_equals_the_plain_loop() -> None:
    """Both draw the same dependent values, also with values known ahead."""
    model = network(members=2)
    given = torch.full((5, HORIZON), torch.nan)
    given[1, 3], given[2, 8], given[3] = 1.0, -2.0, 0.5
    for known in (None, given):
        fast, plain = (paths_of(model, 5, 8, given=known, reference=reference) for reference in (False, True))
        assert torch.allclose(fast, plain, atol=1e-5)


def test_a_longer_horizon_continues_a_shorter_one() -> None:
    """Each path begins the same whatever the horizon, as without dependence."""
    long, short = (paths_of(network(), 3, 9, horizon) for horizon in (16, 8))
    assert torch.equal(long[:, :, :8], short)


def test_values_after_a_known_one_follow_its_exact_conditional_distribution() -> None:
    """A value known ahead moves all later ones as the joint distribution says."""
    given = torch.full((300, HORIZON), torch.nan)
    given[:, 3] = 6.0
    drawn = paths_of(network(), 300, 200, given=given).flatten(0, 1)
    mean, covariance = autoregression(HORIZON - 4)
    assert torch.equal(drawn[:, 3], torch.full_like(drawn[:, 3], 6.0))
    assert np.allclose(drawn[:, 4:].mean(0), 6 * mean, atol=0.05)
    assert np.allclose(np.cov(drawn[:, 4:].T), covariance, atol=0.1)


def test_a_patch_of_one_value_has_no_dependence() -> None:
    """The classic model is unchanged, bit by bit."""
    model = network(patch=1)
    expected = paths_of(model, 3, 5)
    model.dependence = None
    assert torch.equal(paths_of(model, 3, 5), expected)


@pytest.mark.parametrize("members", [1, 3])
def test_the_likelihood_of_a_window_is_joint(members: int) -> None:
    """It equals that of the multivariate normal distribution, with missing values left out."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(4, 2 * PATCH, 1, generator=generator)
    observed = torch.rand(target.shape, generator=generator) < 0.8
    context = torch.randn(4, 2, 1, generator=generator)
    windows = Windows(context, torch.ones_like(context, dtype=torch.bool), target, observed, *torch.zeros(2, 4).long())
    total, count = one_step_nll(network(members=members), windows)
    mean, covariance = autoregression(PATCH)
    expected = 0.0
    values = torch.cat([context, target], 1).double().numpy()[..., 0]
    for row, seen in zip(values, observed.numpy()[..., 0], strict=True):
        for start in (0, PATCH):
            mask = seen[start : start + PATCH]
            last = row[start + 1]
            patch = row[start + 2 : start + 2 + PATCH]
            if mask.any():
                law = scipy.stats.multivariate_normal(last * mean[mask], covariance[np.ix_(mask, mask)])
                expected -= law.logpdf(patch[mask])
    assert count == observed.sum()
    assert total.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("patch", "channels"), [(PATCH, 1), (3, 2)])
def test_the_correlation_is_found_in_normal_scores(patch: int, channels: int) -> None:
    """Many scores give back the correlation that they were drawn with, also where some are missing."""
    true = factor(patch * channels)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(40_000, patch * channels, dtype=torch.float64, generator=generator) @ true.mT
    observed = torch.rand(scores.shape, generator=generator) < 0.9
    dependence = Dependence(patch, channels)
    dependence.fit(scores.unflatten(1, (patch, channels)), observed.unflatten(1, (patch, channels)), 40_000)
    assert torch.allclose(dependence.matrix(patch), true @ true.mT, atol=0.03)


def test_few_windows_give_a_smooth_correlation() -> None:
    """Of few windows only the correlation by distance is taken, which is a correlation matrix all the same."""
    scores = torch.randn(4, 18, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    dependence = Dependence(18, 1)
    dependence.fit(scores, torch.ones_like(scores, dtype=torch.bool), 2)
    matrix = dependence.matrix(18)
    assert torch.allclose(matrix.diagonal(), torch.ones(18, dtype=torch.float64), atol=1e-6)
    assert torch.linalg.eigvalsh(matrix)[0] > 0


def test_a_large_patch_has_a_correlation_of_steps_and_one_of_channels() -> None:
    """The two factors are found where the correlation is their product."""
    steps, channels = factor(300), torch.linalg.cholesky(torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64))
    scores = torch.randn(4000, 300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    scores = steps @ scores @ channels.mT
    dependence = Dependence(300, 2)
    dependence.fit(scores, torch.ones_like(scores, dtype=torch.bool), 10**9)
    assert torch.allclose(dependence.channel_factor.double(), channels, atol=0.02)
    assert torch.allclose(
        dependence.matrix(4), torch.kron((steps @ steps.mT)[:4, :4], channels @ channels.mT), atol=0.06
    )


def test_weights_without_dependence_load_and_say_so() -> None:
    """Forecasts are as before, with a warning."""
    old = {name: value for name, value in network().state_dict().items() if "dependence" not in name}
    model = network()
    with pytest.warns(UserWarning, match="independent inside a patch of 6 steps"):
        model.load_state_dict(old)
    assert torch.equal(paths_of(model, 2, 5), paths_of(network(dependent=False), 2, 5))
