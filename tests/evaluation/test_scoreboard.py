"""Tests of the scoreboard: what perfect, equal and worse forecasts score beside the seasonal naive."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from armlp.data.loaders import OriginLoader
from armlp.data.split import Split
from armlp.errors import UserError
from armlp.evaluation.baselines import BASELINES
from armlp.evaluation.baselines.naive import SeasonalNaive, naive_errors, seasonal_naive
from armlp.evaluation.metrics.base import LeadMetric
from armlp.evaluation.scoreboard import BASELINE, MODEL, Scoreboard

HORIZON, SEASON = 4, 3
FORECASTERS = ["armlp", "seasonal naive", "Naive2", "drift", "ridge AR"]  # in the order of tables


def scored(panel, forecast, batch_size=3):
    """A scoreboard after forecasts of every test window by `forecast(batch) -> paths`."""
    split = Split(HORIZON, 0, 2)
    board = Scoreboard(panel, split.train_ends(panel.lengths), HORIZON, SEASON)
    for batch in OriginLoader(panel, *split.origins(panel.lengths, "test"), 5, HORIZON, batch_size):
        board.update(forecast(batch), batch)
    return board


def baseline_of(panel):
    return lambda batch: seasonal_naive(panel, batch.series, batch.origin, HORIZON, SEASON)[:, None]


@pytest.fixture(params=[1, 2], ids=["V=1", "V=2"])
def panel(request, make_panel):
    return make_panel([30, 25, 40], channels=request.param, missing=0.1)


def test_a_perfect_forecast_has_skill_one(panel):
    summary = scored(panel, lambda batch: batch.target[:, None].expand(-1, 9, *batch.target.shape[1:])).summary()
    assert summary[MODEL]["skill"] == 1
    assert summary[MODEL]["mae"] == summary[MODEL]["crps"] == 0
    assert summary[MODEL]["coverage_80"] == summary[MODEL]["coverage_95"] == 1
    assert summary[BASELINE]["mae"] > 0


def test_the_seasonal_naive_itself_has_skill_zero(panel):
    summary = scored(panel, baseline_of(panel)).summary()
    assert summary[MODEL]["skill"] == summary[BASELINE]["skill"] == 0
    for metric in ("mae", "smape", "mase", "crps"):
        assert summary[MODEL][metric] == summary[BASELINE][metric]


def test_a_worse_forecast_has_negative_skill(panel):
    def worse(batch):
        forecast = baseline_of(panel)(batch)
        return batch.target[:, None] + 3 * (forecast - batch.target[:, None])

    assert scored(panel, worse).summary()[MODEL]["skill"] == pytest.approx(-2, rel=1e-4)


def test_mase_and_skill_equal_the_loop_over_windows(make_panel):
    panel = make_panel([30, 25, 40], missing=0.1)
    split = Split(HORIZON, 0, 2)
    unit = naive_errors(panel, split.train_ends(panel.lengths), SEASON)[0]
    errors = {MODEL: [], BASELINE: []}
    for index, length in enumerate(panel.lengths.tolist()):
        values, seen = panel.series(index)[:, 0], panel.observed[panel.offsets[index] :][:length, 0]
        for origin in (length - 8, length - 4):
            for lead in range(HORIZON):
                if seen[origin + lead]:
                    last_season = values[origin - SEASON + lead % SEASON]
                    truth = values[origin + lead]
                    errors[MODEL].append(abs(10 - truth) / unit[index])
                    errors[BASELINE].append(abs(last_season - truth) / unit[index])
    summary = scored(panel, lambda batch: torch.full((len(batch.series), 5, HORIZON, 1), 10.0)).summary()
    means = {name: np.mean(values) for name, values in errors.items()}
    for name, mean in means.items():
        assert summary[name]["mase"] == pytest.approx(mean, rel=1e-5)
    assert summary[MODEL]["skill"] == pytest.approx(1 - means[MODEL] / means[BASELINE], rel=1e-5)


def test_the_crps_is_that_of_the_distribution_that_the_paths_are(make_panel):
    """Paths that share a distribution evenly are no sample of it: no correction for their finite number."""
    panel, generator = make_panel([30, 25]), torch.Generator().manual_seed(0)
    expected: list[float] = []

    def forecast(batch):
        paths = 10 + 2 * torch.randn(len(batch.series), 3, HORIZON, generator=generator)
        for window, lead in np.ndindex(len(batch.series), HORIZON):
            values, truth = paths[window, :, lead].double().numpy(), batch.target[window, lead].item()
            # The integral of (F(x) - 1{x >= truth})^2, step by step of the distribution function of the paths.
            knots = np.sort([*values, truth])
            below = (values[:, None] <= knots[:-1]).mean(0) - (knots[:-1] >= truth)
            expected.append(float((np.diff(knots) * below**2).sum()))
        return paths[..., None]

    found = scored(panel, forecast).summary()[MODEL]["crps"]
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def test_skill_is_measured_on_the_absolute_error_where_no_series_has_a_unit(make_panel):
    panel = make_panel([30, 25])
    for index in (0, 1):
        panel.series(index)[:-8] = 5.0  # flat until the first origin
    board = scored(panel, lambda batch: (batch.target[:, None] + baseline_of(panel)(batch)) / 2)
    summary = board.summary()
    assert math.isnan(summary[BASELINE]["mase"])
    assert summary[MODEL]["skill"] == pytest.approx(0.5, rel=1e-4)


def test_skill_beside_a_perfect_baseline_is_not_a_number(make_panel):
    panel = make_panel([30])
    panel.values[:] = 5.0
    assert math.isnan(scored(panel, baseline_of(panel)).summary()[MODEL]["skill"])


def test_the_baseline_has_no_intervals_and_the_model_has(panel):
    summary = scored(panel, baseline_of(panel)).summary()
    own = {f"{name}_{level}" for name in ("coverage", "interval") for level in (80, 95)}
    assert own | {"sum_coverage_80"} == set(summary[MODEL]) - set(summary[BASELINE])


def test_scores_do_not_depend_on_the_batches(panel):
    one, other = (scored(panel, baseline_of(panel), batch_size).summary() for batch_size in (1, 100))
    assert one[BASELINE] == pytest.approx(other[BASELINE], rel=1e-6)


def test_scores_by_lead_average_to_the_whole_where_everything_is_observed(make_panel):
    panel = make_panel([30, 25])
    board = scored(panel, lambda batch: 0.5 * batch.target[:, None])
    for metric in ("mae", "mase", "crps"):
        by_lead = board.by_lead(metric)
        assert set(by_lead) == set(FORECASTERS)
        for name, leads in by_lead.items():
            assert leads.shape == (HORIZON,)
            assert leads.mean().item() == pytest.approx(board.summary()[name][metric], rel=1e-5)


def test_reset_forgets_all_batches(panel):
    board = scored(panel, lambda batch: batch.target[:, None])
    board.reset()
    fresh = scored(panel, baseline_of(panel))
    for batch in OriginLoader(panel, *Split(HORIZON, 0, 2).origins(panel.lengths, "test"), 5, HORIZON, 3):
        board.update(baseline_of(panel)(batch), batch)
    assert board.summary() == fresh.summary()


@BASELINES.register("counted")
class Counted(SeasonalNaive):
    """The seasonal naive, which notes the batches that it has forecast; not in other scoreboards."""

    default = False
    order = 1000
    batches: ClassVar[list[torch.Tensor]] = []

    def forecast(self, series, origin, horizon):
        self.batches.append(series)
        return super().forecast(series, origin, horizon)


def test_the_baselines_forecast_once_and_keep_their_scores_from_pass_to_pass(panel):
    Counted.batches.clear()
    split = Split(HORIZON, 0, 2)
    board = Scoreboard(panel, split.train_ends(panel.lengths), HORIZON, SEASON, baselines=["counted"])
    batches = list(OriginLoader(panel, *split.origins(panel.lengths, "test"), 5, HORIZON, 2))
    summaries = []
    for passed in (batches[:1], batches, batches):  # the first one is Lightning's sanity check
        for batch in passed:
            board.update(baseline_of(panel)(batch), batch)
        summaries.append(board.summary())
        board.reset()
    assert len(Counted.batches) == len(batches) == 3
    fresh = scored(panel, baseline_of(panel)).summary()
    for summary in summaries[1:]:
        assert list(summary) == [*FORECASTERS, "counted"]
        assert summary["counted"] == summary[BASELINE]
        for name in FORECASTERS:
            assert summary[name] == pytest.approx(fresh[name], rel=1e-9, nan_ok=True)


class Bias(LeadMetric):
    """The mean of median less truth; not registered."""

    def score(self, forecast, truth, unit):
        return forecast.median() - truth


def test_a_metric_is_added_by_its_class_path_and_others_by_name(panel):
    extra = [f"{__name__}.Bias", "energy_score", "pinball"]
    split = Split(HORIZON, 0, 2)
    board = Scoreboard(panel, split.train_ends(panel.lengths), HORIZON, SEASON, metrics=extra)
    for batch in OriginLoader(panel, *split.origins(panel.lengths, "test"), 5, HORIZON, 3):
        board.update(batch.target[:, None].expand(-1, 9, *batch.target.shape[1:]) + 0.5, batch)
    summary = board.summary()
    assert summary[MODEL]["Bias"] == pytest.approx(0.5)
    assert summary[MODEL]["pinball"] == pytest.approx(0.25)
    assert {"Bias", "pinball"} <= summary["drift"].keys()
    assert "energy_score" not in summary["drift"]
    assert set(board.by_lead("Bias")) == set(FORECASTERS)


def test_a_forecast_of_one_path_has_no_score_of_whole_paths(make_panel):
    panel = make_panel([30])
    board = Scoreboard(panel, panel.lengths - HORIZON, HORIZON, SEASON, metrics=["variogram_score"])
    (batch,) = OriginLoader(panel, *Split(HORIZON, 0, 1).origins(panel.lengths, "test"), 5, HORIZON, 3)
    board.update(batch.target[:, None], batch)
    assert math.isnan(board.summary()[MODEL]["variogram_score"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"metrics": ["error_rate"]}, "error_rate is not for numbers"),
        ({"metrics": ["no_such_score"]}, "'no_such_score' is not known"),
        ({"baselines": [f"{__name__}.Bias"]}, "Bias is no subclass of Baseline"),
    ],
)
def test_a_metric_or_baseline_that_cannot_be_used_is_refused(panel, options, named):
    with pytest.raises(UserError, match=named):
        Scoreboard(panel, panel.lengths - HORIZON, HORIZON, SEASON, **options)


def test_scores_of_two_boards_are_those_of_all_their_windows(panel):
    split = Split(HORIZON, 0, 2)
    ends = split.train_ends(panel.lengths)
    parts, whole = (
        [Scoreboard(panel, ends, HORIZON, SEASON) for _ in range(2)],
        Scoreboard(panel, ends, HORIZON, SEASON),
    )
    for index, batch in enumerate(OriginLoader(panel, *split.origins(panel.lengths, "test"), 5, HORIZON, 3)):
        for board in (parts[index % 2], whole):
            board.update(1.5 * batch.target[:, None], batch)
            board.update_likelihood(torch.tensor(2.0 + index), torch.tensor(4.0))
    parts[0].join(parts[1])
    found, expected = parts[0].summary(), whole.summary()
    for name in FORECASTERS:
        assert found[name] == pytest.approx(expected[name], rel=1e-6, nan_ok=True)


def test_owa_and_the_skill_of_every_baseline_follow_from_its_row(panel):
    summary = scored(panel, lambda batch: 0.9 * batch.target[:, None]).summary()
    reference = summary["Naive2"]
    for row in summary.values():
        owa = (row["smape"] / reference["smape"] + row["mase"] / reference["mase"]) / 2
        assert row["owa"] == pytest.approx(owa)
        assert row["skill"] == pytest.approx(1 - row["mase"] / summary[BASELINE]["mase"])
    assert reference["owa"] == 1


def test_the_root_mean_squared_scaled_error_scales_by_squared_differences(make_panel):
    panel = make_panel([30])
    split = Split(HORIZON, 0, 1)
    values, end = panel.series(0)[:, 0].double().numpy(), 30 - HORIZON
    unit = np.sqrt(((values[SEASON:end] - values[: end - SEASON]) ** 2).mean())
    board = Scoreboard(panel, split.train_ends(panel.lengths), HORIZON, SEASON)
    (batch,) = OriginLoader(panel, *split.origins(panel.lengths, "test"), 5, HORIZON, 3)
    board.update(torch.full((1, 5, HORIZON, 1), 9.0), batch)
    expected = np.sqrt(((values[end:] - 9) ** 2).mean()) / unit
    assert board.summary()[MODEL]["rmsse"] == pytest.approx(expected, rel=1e-5)


def test_of_no_windows_there_are_no_scores(panel):
    board = Scoreboard(panel, panel.lengths - 8, HORIZON, SEASON)
    (batch,) = OriginLoader(panel, torch.tensor([0]), torch.tensor([20]), 5, HORIZON)
    nothing = batch._replace(**{name: getattr(batch, name)[:0] for name in batch._fields[:6]})
    board.update(nothing.target[:, None], nothing)  # the last batch of a process that has fewer than the others
    assert all(math.isnan(value) for row in board.summary().values() for value in row.values())
