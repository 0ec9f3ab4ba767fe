"""One-step scores: against a loop over rows, and on data of the network's own law."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from armlp.data.panel import Panel
from armlp.data.time.calendar import Calendar
from armlp.errors import UserError
from armlp.evaluation.one_step import OneStepScores, one_step_scores, score_table
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import rollout

MakePanel = Callable[..., Panel]
L = 6


def network(head: str, seed: int = 0, **options: Any) -> AutoregressiveMLP:
    torch.manual_seed(seed)
    model = AutoregressiveMLP(L, hidden_sizes=[5], head=head, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def scored(model: AutoregressiveMLP, panel: Panel, seed: int = 0, **options: Any) -> OneStepScores:
    return OneStepScores(*map(torch.cat, zip(*one_step_scores(model, panel, seed, **options), strict=True)))


def naive(model: AutoregressiveMLP, panel: Panel) -> list[tuple[Any, ...]]:
    """Series, row, log-likelihood, and the probabilities of less than and at most the truth, row by row."""
    rows = []
    for series in range(len(panel)):
        begin, end = (int(edge) for edge in panel.offsets[series : series + 2])
        values, observed = panel.values[begin:end], panel.observed[begin:end]
        first = L if end - begin >= 2 * L else max(1, (end - begin) // 2)
        for row in range(first, end - begin):
            if not observed[row].any():
                continue
            pad = max(0, L - row)
            context = torch.cat([values[:1].expand(pad, -1), values[max(0, row - L) : row]])
            seen = torch.cat([torch.zeros_like(observed[:1]).expand(pad, -1), observed[max(0, row - L) : row]])
            target = values[row]
            law = model(context[None], seen[None])
            whole = target.expand(1, model.patch_length, *target.shape)
            below = law.cdf(whole - 1) if model.head.discrete else law.cdf(whole)
            parts = [part[0, 0].detach() for part in (law.log_prob(whole), below, law.cdf(whole))]
            rows.append((series, row, *(torch.where(observed[row], part, torch.nan) for part in parts)))
    return rows


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("normal", {}),
        ("normal", {"members": 3}),
        ("normal", {"channels": 2, "patch_length": 4}),
        ("student_t", {"mask_input": True}),
        ("quantile", {"patch_length": 3, "scaler": "seasonal", "season_length": 2}),
        ("mixture", {"scaler": "mean_abs"}),
        ("categorical", {"bins": 8}),
        ("negative_binomial", {"scaler": "mean_abs"}),
    ],
)
@torch.no_grad()
def test_scores_are_those_of_a_loop_over_rows(head: str, options: dict[str, Any], make_panel: MakePanel):
    model = network(head, **options)
    panel = make_panel([20, 1, 9, 2, 3, 40], channels=model.channels, missing=0.2)
    if model.head.discrete:
        panel = replace(panel, values=panel.values.abs().round())
    found, expected = scored(model, panel, chunk=100), naive(model, panel)
    assert found.series.tolist() == [row[0] for row in expected]
    assert found.row.tolist() == [row[1] for row in expected]
    log_likelihood, low, high = (torch.stack([row[column] for row in expected]).double() for column in (2, 3, 4))
    torch.testing.assert_close(found.log_likelihood, log_likelihood, rtol=1e-3, atol=1e-3, equal_nan=True)
    tail = 2 * torch.minimum(high, 1 - low).clamp(max=0.5)
    torch.testing.assert_close(found.tail_probability, tail, rtol=1e-3, atol=1e-4, equal_nan=True)
    inside = (low - 1e-4 <= found.pit) & (found.pit <= high + 1e-4)
    assert (inside | low.isnan()).all()
    seen = panel.observed[panel.offsets[found.series] + found.row]
    assert torch.equal(found.y.isnan(), ~seen)


def drawn_by(model: AutoregressiveMLP, series: int = 40, rows: int = 250) -> Panel:
    """Series that the network itself has drawn."""
    start = torch.zeros(series, L) if model.symbols else torch.ones(series, L)
    torch.manual_seed(1)
    values = torch.cat([start, rollout(model, start, rows)[:, 0]], 1)
    return Panel(
        values=values.reshape(-1, 1),
        observed=torch.ones(values.numel(), 1, dtype=torch.bool),
        offsets=torch.arange(series + 1) * (L + rows),
        ids=np.array([f"s{index:03d}" for index in range(series)]),
        starts=np.zeros(series, dtype=np.int64),
        calendar=Calendar(1),
    )


@pytest.mark.parametrize("head", ["normal", "laplace", "quantile", "poisson", "symbols", "cut normal"])
def test_of_the_networks_drawn_by_pit_is_even_and_false_alarms_have_their_level(head: str):
    options = {"symbols": 5} if head == "symbols" else {"non_negative": head == "cut normal"}
    model = network(head.removeprefix("cut "), scaler="none", level_input=False, **options)
    found = scored(model, drawn_by(model))
    assert len(found.y) == 40 * 250
    assert stats.kstest(found.pit.numpy(), "uniform").pvalue > 1e-3
    for level in (0.01, 0.05, 0.2):
        alarms = int((found.tail_probability < level).sum())
        # Counts, symbols and what is cut off have a probability of their own: fewer false alarms, never more.
        side = "greater" if model.head.discrete or model.non_negative else "two-sided"
        assert stats.binomtest(alarms, len(found.y), level, side).pvalue > 1e-3


def test_the_tail_of_a_symbol_is_that_of_all_no_likelier_ones():
    model = network("symbols", symbols=5, scaler="none")
    panel = drawn_by(model, series=2, rows=10)
    found = scored(model, panel)
    with torch.no_grad():
        for series, row, tail in zip(found.series, found.row, found.tail_probability, strict=True):
            at = int(panel.offsets[series] + row)
            chances = model(panel.values[None, at - L : at, 0]).log_probs.exp()[0, 0]
            drawn = chances[int(panel.values[at, 0])]
            assert tail == pytest.approx(float(chances[chances <= drawn].sum()), rel=1e-4)


@pytest.mark.parametrize("distance", [-8, -5, 5, 8])
def test_far_out_is_told_apart_on_either_side(distance: int):
    model = network("normal", scaler="none", level_input=False)
    panel = drawn_by(model, series=1, rows=40)
    with torch.no_grad():
        law = model(panel.values[None, 30 - L : 30, 0])
    panel.values[30] = law.mean[0] + distance * law.variance[0].sqrt()
    found = scored(model, panel)
    expected = 2 * stats.norm.sf(abs(distance))
    assert float(found.tail_probability[found.row == 30]) == pytest.approx(expected, rel=0.05)


def test_the_draws_of_a_row_follow_from_the_seed_not_from_its_company():
    model = network("poisson", scaler="mean_abs")
    panel = drawn_by(model, series=3, rows=30)
    alone = replace(
        panel,
        values=panel.values[panel.offsets[1] : panel.offsets[2]],
        observed=panel.observed[: L + 30],
        offsets=panel.offsets[:2],
        ids=panel.ids[1:2],
        starts=panel.starts[1:2],
    )
    every = scored(model, panel, seed=3)
    pit = every.pit[every.series == 1]
    torch.testing.assert_close(scored(model, alone, seed=3).pit, pit)
    assert not torch.allclose(scored(model, alone, seed=4).pit, pit)


def test_what_cannot_be_scored_is_said(make_panel: MakePanel):
    with pytest.raises(UserError, match="point head forecasts a value without a distribution"):
        score_table(network("point"), make_panel([20]))
    with pytest.raises(UserError, match="table has no row to score"):
        score_table(network("normal"), make_panel([1, 1]))
