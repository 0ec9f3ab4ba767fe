"""Tests that training finds what theory says there is to find, on simulated series whose law is known.

Tolerances are standard errors of the theory, or several of them, so that a failure is a finding.
"""

import math
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from armlp.data.catalog.generated import markov_entropy
from armlp.data.datamodule import SeriesDataModule
from armlp.data.loaders import TrainingLoader
from armlp.data.windows import Windows
from armlp.evaluation.one_step import one_step_nll
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import rollout
from armlp.training.loop.trainer import TRAINER
from armlp.training.module import ForecastModule
from armlp.training.objective import unrolled_objective
from armlp.training.optimizers import learning_rate_factor

FIRST, SECOND, SPREAD = 1.2, -0.5, 0.7  # of an autoregression of order two
HORIZON, PATHS = 20, 20_000
ENTROPY = 0.5 * math.log(2 * math.pi * math.e)  # of a normal distribution of spread 1


def simulate(step: Any, length: int, before: int = 2, seed: int = 0) -> Tensor:
    """A series from `step(values so far, generator)`, without its start, float64."""
    generator, values = np.random.default_rng(seed), [0.0] * before
    for _ in range(length + 200):
        values.append(step(values, generator))
    return torch.tensor(values[-length:], dtype=torch.float64)


def windows_of(series: Tensor, length: int, span: int = 1) -> Windows:
    """Every window of a series `[T, V]`, or `[T]`."""
    series = series[:, None] if series.dim() == 1 else series
    values = series.unfold(0, length + span, 1).movedim(-1, 1)
    seen, number = torch.ones_like(values, dtype=torch.bool), torch.arange(len(values))
    (context, target), (one, other) = (part.split([length, span], 1) for part in (values, seen))
    return Windows(context, one, target, other, number, number)


def rows(windows: Windows, index: Tensor) -> Windows:
    return Windows(*(part[index] for part in windows[:6]))


def train(
    model: AutoregressiveMLP, windows: Windows, steps: int, rate: float = 1e-2, **options: Any
) -> AutoregressiveMLP:
    """Adam on random batches, with the schedule of the program."""
    generator, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * learning_rate_factor("cosine", step, steps, 0.1)
        index = torch.randint(len(windows.context), (256,), generator=generator)
        optimizer.zero_grad()
        unrolled_objective(model, rows(windows, index), **options).loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def mean_nll(model: AutoregressiveMLP, windows: Windows) -> float:
    total, count = one_step_nll(model, windows)
    return (total / count).item()


def linear_model(length: int, **options: Any) -> AutoregressiveMLP:
    plain = {"hidden_sizes": [], "head": "normal", "scaler": "none", "seasonal_skip": False}
    return AutoregressiveMLP(length, **plain | options)


def next_of_two(values: list[float], generator: np.random.Generator) -> float:
    return FIRST * values[-1] + SECOND * values[-2] + SPREAD * generator.standard_normal()


@pytest.fixture(scope="module")
def fitted() -> AutoregressiveMLP:
    """A linear model with a normal head, by the maximum of its likelihood on 40,000 values of an AR(2)."""
    model = linear_model(2).double()
    windows = windows_of(simulate(next_of_two, 40_000), 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        objective = unrolled_objective(model, windows).loss
        objective.backward()
        return objective

    optimizer.step(loss)
    return model.eval()


def path_covariance(horizon: int) -> Tensor:
    """Of the first values after an origin: the shocks since then, each through the powers of the companion matrix."""
    companion = torch.tensor([[FIRST, SECOND], [1.0, 0.0]], dtype=torch.float64)
    responses = [torch.linalg.matrix_power(companion, lead)[0, 0].item() for lead in range(horizon)]
    shocks = torch.zeros(horizon, horizon, dtype=torch.float64)
    for lead in range(horizon):
        for shock in range(lead + 1):
            shocks[lead, shock] = SPREAD * responses[lead - shock]
    return shocks @ shocks.T


def test_a_fitted_autoregression_has_the_coefficients_of_the_data_within_standard_errors(fitted):
    second, first = fitted.linear_skip.weight[0].tolist()
    error = math.sqrt((1 - SECOND**2) / 40_000)  # of both, by the information matrix of an AR(2)
    assert abs(first - FIRST) < 3 * error
    assert abs(second - SECOND) < 3 * error
    distribution = fitted(torch.zeros(1, 2, dtype=torch.float64))
    assert abs(distribution.stddev.item() - SPREAD) < 3 * SPREAD / math.sqrt(2 * 40_000)
    level = SPREAD / math.sqrt(40_000)
    assert abs(distribution.mean.item()) < 3 * level


def variance_errors(paths: Tensor) -> dict[int, float]:
    """By lead, how many standard errors the variance of paths `[P, H]` lies from the theoretical one."""
    expected, error = path_covariance(HORIZON).diagonal(), math.sqrt(2 / len(paths))
    # Of the coefficients too: they are of 40,000 values.
    error = math.hypot(error, 3 * math.sqrt(2 / 40_000))
    return {lead: abs((paths[:, lead - 1].var() / expected[lead - 1]).item() - 1) / error for lead in (1, 2, 5, 20)}


def test_uncertainty_grows_with_the_lead_as_theory_says(fitted):
    torch.manual_seed(0)
    paths = rollout(fitted, torch.tensor([[1.0, 2.0]]).double(), HORIZON, PATHS)[0]
    assert all(error < 3 for error in variance_errors(paths).values())


@torch.no_grad()
def test_paths_that_are_fed_means_fail_the_same_check(fitted):
    torch.manual_seed(0)
    window, drawn = torch.tensor([[1.0, 2.0]]).double().expand(PATHS, 2), []
    for _ in range(HORIZON):
        distribution = fitted(window)
        drawn.append(distribution.sample())
        window = torch.cat([window, distribution.mean], 1)[:, 1:]
    errors = variance_errors(torch.cat(drawn, 1))
    assert errors[1] < 3
    assert all(errors[lead] > 10 for lead in (2, 5, 20))


def test_the_covariance_of_a_sampled_path_is_that_of_the_process(fitted):
    torch.manual_seed(1)
    paths = rollout(fitted, torch.tensor([[-1.0, 0.5]]).double(), HORIZON, PATHS)[0]
    expected = path_covariance(HORIZON)
    variance = expected.diagonal()
    error = ((variance[:, None] * variance + expected**2) / PATHS).sqrt()
    assert ((torch.cov(paths.T) - expected).abs() < 4 * error + 0.02 * expected.abs()).all()


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"scaler": "none", "hidden_sizes": []}, 300), ({"scaler": "none", "hidden_sizes": [16]}, 400)],
)
def test_the_likelihood_reaches_the_entropy_rate(options, steps):
    torch.manual_seed(0)
    series = simulate(next_of_two, 60_000, seed=1).float()
    model = train(AutoregressiveMLP(4, head="normal", **options), windows_of(series[:20_000], 4), steps, 2e-2)
    assert mean_nll(model, windows_of(series[20_000:], 4)) == pytest.approx(ENTROPY + math.log(SPREAD), rel=0.01)


def table_of(*series: Tensor) -> pd.DataFrame:
    parts = [{"unique_id": str(index), "ds": range(len(part)), "y": part} for index, part in enumerate(series)]
    return pd.concat(map(pd.DataFrame, parts))


def fit(source: Any, steps: int, data: dict[str, Any], callbacks: Any = (), **model: Any) -> ForecastModule:
    """The program's own training, validated at its end."""
    torch.manual_seed(0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options = TRAINER | quiet | {"max_steps": steps, "val_check_interval": steps, "check_val_every_n_epoch": None}
    module = ForecastModule(**model)
    Trainer(**options, callbacks=list(callbacks)).fit(module, datamodule=SeriesDataModule(source, **data))
    return module


# Of every family, the step of a process that it is made for, and the family that is put to shame.
def counts_of_a_memory(values, generator):
    mean = 1 + 0.6 * values[-1]
    return float(generator.negative_binomial(1, 1 / (1 + mean)))


def few_counts(values, generator):
    return float(generator.poisson(0.4 + 0.4 * values[-1]))


def heavy_tails(values, generator):
    return 0.5 * values[-1] + generator.standard_t(2.5)


def two_modes(values, generator):
    return 0.3 * values[-1] + generator.choice([-2, 2]) + 0.3 * generator.standard_normal()


def sharp_peak(values, generator):
    return 0.5 * values[-1] + generator.laplace()


def one_long_tail(values, generator):
    return 0.5 * values[-1] + generator.exponential() ** 1.5


def log_probs(model: AutoregressiveMLP, windows: Windows, counts: bool) -> Tensor:
    """Of every target; of counts a density has the probability of the interval around them."""
    distribution, value = model(windows.context), windows.target
    if not counts or model.head.discrete:
        return distribution.log_prob(value)
    ends = [torch.special.ndtr((value + side - distribution.mean) / distribution.stddev) for side in (0.5, -0.5)]
    return (ends[0] - ends[1]).clamp(min=1e-12).log()


@pytest.mark.parametrize(
    ("step", "head"),
    [
        (counts_of_a_memory, "negative_binomial"),
        (few_counts, "poisson"),
        (heavy_tails, "student_t"),
        (two_modes, "mixture"),
        (sharp_peak, "laplace"),
        (two_modes, "categorical"),
        (one_long_tail, "quantile"),
    ],
)
def test_a_head_beats_the_normal_one_on_the_data_that_it_is_made_for(step, head):
    counts = head in ("negative_binomial", "poisson")
    series = simulate(step, 15_000)
    fitting, held_out = windows_of(series[:10_000], 2), windows_of(series[10_000:], 2)
    scores = []
    for name in (head, "normal"):
        torch.manual_seed(0)
        model = AutoregressiveMLP(2, hidden_sizes=[16], head=name, scaler="none", bins=32, dropout=0.0).double()
        if name == "categorical":
            model.head.choose_edges(fitting.target - model(fitting.context).icdf(torch.tensor(0.5).double()))
        train(model, fitting, 150, loss_units="data")
        with torch.no_grad():
            scores.append(log_probs(model, held_out, counts))
    gain = (scores[0] - scores[1]).flatten()
    assert gain.mean() > 5 * gain.std() / math.sqrt(len(gain))


def test_channels_that_vary_together_are_for_the_joint_normal_head():
    generator = torch.Generator().manual_seed(0)
    shocks = torch.randn(15_000, 2, generator=generator, dtype=torch.float64)
    series = shocks @ torch.linalg.cholesky(torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()).T
    fitting, held_out = windows_of(series[:10_000], 2), windows_of(series[10_000:], 2)
    scores = []
    for head in ("multivariate_normal", "normal"):
        torch.manual_seed(0)
        model = AutoregressiveMLP(2, hidden_sizes=[8], head=head, scaler="none", channels=2, seasonal_skip=False)
        train(model.double(), fitting, 150)
        with torch.no_grad():
            scores.append(log_probs(model, held_out, counts=False).sum(-1))
    gain = (scores[0] - scores[1]).flatten()
    expected = -0.5 * math.log(1 - 0.8**2)  # what the channels know of each other
    assert gain.mean().item() == pytest.approx(expected, abs=4 * gain.std().item() / math.sqrt(len(gain)) + 0.02)


def long_memory(values, generator):
    return 0.9 * values[-1000] + generator.standard_normal()


@pytest.mark.parametrize(("length", "learns"), [(1200, True), (100, False)])
def test_a_dependence_on_a_thousand_steps_ago_is_learned_if_the_context_holds_it(length, learns):
    series = simulate(long_memory, 20_000, before=1000)
    nll = fit(
        table_of(series), 60, {"horizon": 50, "val_windows": 40, "season_length": 1},
        context_length=length, patch_length=1, head="normal", ridge_init=True, hidden_sizes=[16], residual_blocks=0,
        val_paths=2,
    ).scores["armlp"]["nll"]  # fmt: skip
    forgetful = ENTROPY - 0.5 * math.log(1 - 0.9**2)  # of one that knows nothing of the past
    if learns:
        assert nll - ENTROPY < 0.15 * (forgetful - ENTROPY)
    else:
        assert nll - ENTROPY > 0.9 * (forgetful - ENTROPY)


def test_a_long_context_costs_no_memory_but_that_of_its_batch(make_panel: Any):
    panel = make_panel([5000, 3000])
    stored = {}
    for length in (12, 1200):
        loader = TrainingLoader(panel, panel.lengths, length, span=3, batch_size=16)
        batch = next(iter(loader))
        assert batch.context.shape == batch.observed.shape == (16, length, 1)
        assert batch.target.shape == (16, 3, 1)
        parts = [part for part in vars(loader).values() if isinstance(part, Tensor)]
        stored[length] = sum(part.untyped_storage().nbytes() for part in parts)
    assert stored[1200] <= stored[12] < 1000


class Losses(Callback):
    """Writes down the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
        self.values.append(outputs["loss"].item())


@pytest.mark.parametrize(
    ("rate", "unroll", "options"),
    [
        (2e-4, 96, {}),
        pytest.param(2e-3, 96, {}, marks=pytest.mark.exhaustive),
        (2e-2, 96, {}),
        (2e-2, 1, {}),
        (2e-3, 12, {"head": "normal"}),
        (2e-2, 12, {"head": "student_t", "gradient": "last"}),
        (2e-2, 12, {"head": "mixture", "feed": "mean"}),
        (2e-2, 12, {"head": "normal", "objective": "energy"}),
    ],
)
def test_training_stays_finite_on_heavy_tails_and_an_outlier_at_any_rate_and_length_of_chain(rate, unroll, options):
    noise = torch.distributions.StudentT(torch.tensor(1.5)).sample
    torch.manual_seed(0)
    series = [noise((700,)).cumsum(0), noise((700,))]
    series[0][500] = 1e6
    losses = Losses()
    module = fit(
        table_of(*series), 4, {"horizon": 12, "season_length": 1, "batch_size": 32}, [losses],
        learning_rate=rate, unroll=unroll, warmup=0.0, **options,
    )  # fmt: skip
    assert module.hparams["patch_length"] == 1
    assert len(losses.values) == 4
    assert all(map(math.isfinite, losses.values))
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert all(math.isfinite(module.scores["armlp"][name]) for name in ("mae", "crps", "nll"))


def test_the_preset_for_symbols_learns_a_markov_chain_to_within_two_percent_of_its_entropy():
    preset = yaml.safe_load(files("armlp.presets").joinpath("symbols.yaml").read_text())
    data = preset["data"] | {"horizon": 24, "val_windows": 100}
    nll = fit("markov", 250, data, val_paths=2, **preset["model"]).scores["armlp"]["nll"]
    assert nll == pytest.approx(markov_entropy(), rel=0.02)
