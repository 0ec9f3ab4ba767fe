"""Tests of the share of Theta: where forecasts move towards Theta's, by how much, and what stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from armlp import Forecaster, UserError
from armlp.data.datamodule import SeriesDataModule
from armlp.evaluation.baselines.theta import Theta
from armlp.training.fit import fit
from armlp.training.loop.trainer import TRAINER
from armlp.training.module import ForecastModule
from armlp.training.sampling import Sampling
from armlp.training.settings import ModelSettings
from armlp.training.settle import settle_model
from armlp.training.transforms import TowardsTheta

MakeTable = Callable[..., pd.DataFrame]
TINY: dict[str, Any] = {"hidden_sizes": [4], "residual_blocks": 0, "max_steps": 3}
QUIET: dict[str, Any] = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}


def fitted(table: pd.DataFrame, **options: Any) -> Forecaster:
    return Forecaster(**{"horizon": 5, "min_spread": 0.0} | TINY | QUIET | options).fit(table)


def theta_of(table: pd.DataFrame, horizon: int) -> np.ndarray:
    """`[S, H]` of the end of every series."""
    data = SeriesDataModule(table, horizon=horizon)
    series = torch.arange(len(data.panel))
    return Theta(data.panel, data.season_length).forecast(series, data.panel.lengths, horizon)[..., 0].numpy()


def test_the_whole_share_is_theta_with_the_spread_of_the_network(make_table: MakeTable):
    table = make_table()
    alone, whole, half = (fitted(table, theta_share=share).sample(horizon=8, num_paths=501) for share in (0, 1, 0.5))
    moved = whole - alone
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1], moved.shape), atol=1e-4)
    np.testing.assert_allclose(half, (alone + whole) / 2, atol=1e-4)
    # One call of the network makes the first five steps, so that what is a median of its draws is a median of paths.
    spread = alone.std(1)
    distance = np.abs(np.median(whole, 1) - theta_of(table, 8))[:, :5]
    assert (distance < 0.15 * spread[:, :5]).all()


def test_the_median_of_a_skewed_forecast_moves_to_theta_and_not_its_mean(make_table: MakeTable):
    table = make_table(rows=200)
    table["y"] = 10 + np.random.default_rng(0).lognormal(0.0, 1.0, len(table))
    training = {"max_steps": 60, "learning_rate": 0.05, "dropout": 0.0}
    alone, whole = (fitted(table, **training, theta_share=share).sample(num_paths=2001) for share in (0, 1))
    spread, theta = alone.std(1), theta_of(table, 5)
    assert (np.abs(alone.mean(1) - np.median(alone, 1)) > 0.1 * spread).any()
    assert (np.abs(np.median(whole, 1) - theta) < 0.01 * spread).all()


def test_paths_do_not_depend_on_how_many_there_are_nor_the_first_steps_on_the_others(make_table: MakeTable):
    forecaster = fitted(make_table(), theta_share=0.5, patch_length=2, members=2)
    few, many = forecaster.sample(horizon=4, num_paths=6), forecaster.sample(horizon=9, num_paths=30)
    assert few.shape[1] == 6
    np.testing.assert_allclose(
        forecaster.sample(horizon=4, num_paths=30).mean(1), many[:, :, :4].mean(1), rtol=1e-5, atol=1e-5
    )


def test_nothing_falls_below_0_where_the_network_cuts_off(make_table: MakeTable):
    table = make_table(rows=120)
    table["y"] = np.tile(np.linspace(100, 0, 120), 3)  # a line that goes on below 0
    assert (theta_of(table, 8) < 0).all()
    paths = fitted(table, theta_share=1.0).sample(horizon=8, num_paths=50)
    assert (paths >= 0).all()
    assert (fitted(table, theta_share=1.0, non_negative=False).sample(horizon=8, num_paths=50) < 0).any()


def test_what_is_too_short_for_theta_stays_with_the_network(make_table: MakeTable):
    table = make_table()
    rows = {"s00": 95, "s01": 96, "s02": 3}  # of a season of 24
    short = table[table.groupby("unique_id").cumcount() < table["unique_id"].map(rows)]
    alone, moved = (fitted(table, theta_share=share).predict(short) for share in (0.0, 0.5))
    same = (alone == moved)["armlp"].groupby(alone["unique_id"]).all()
    assert same.to_dict() == {"s00": True, "s01": False, "s02": True}


def test_theta_is_asked_once_for_origins_that_come_again(make_table: MakeTable):
    asked: list[int] = []

    class Asked(Theta):
        def forecast(self, series: torch.Tensor, *args: Any) -> torch.Tensor:
            asked.append(len(series))
            return super().forecast(series, *args)

    data = SeriesDataModule(make_table(rows=200), horizon=5, val_windows=4)
    module = ForecastModule(theta_share=0.5, hidden_sizes=[4], residual_blocks=0)
    Trainer(**QUIET, max_steps=1, limit_val_batches=0).fit(module, datamodule=data)
    network, (windows,) = module.network.eval(), data.val_dataloader()
    towards = TowardsTheta(data, 0.5)
    towards.theta = Asked(data.panel, data.season_length)
    paths = Sampling(num_paths=3).paths(network, data.panel, windows, 5)
    first, second = (towards(network, paths, windows) for _ in range(2))
    assert asked == [12]
    assert torch.equal(first, second)
    assert torch.equal(first, TowardsTheta(data, 0.5)(network, paths, windows))


def test_what_is_known_of_the_future_stays_as_it_is(make_table: MakeTable):
    table = make_table()
    forecaster = fitted(table, theta_share=0.5)
    first = table["unique_id"].iloc[0]
    plain = forecaster.predict(horizon=6)
    ahead = plain[plain["unique_id"] == first]
    known = pd.DataFrame({"unique_id": [first], "ds": [ahead["ds"].iloc[2]], "y": [1234.5]})
    conditioned = forecaster.predict(horizon=6, known_future=known)
    known_first = conditioned[conditioned["unique_id"] == first]
    assert known_first["armlp"].iloc[2] == known_first["armlp-lo-95"].iloc[2] == 1234.5
    pd.testing.assert_frame_equal(conditioned[conditioned["unique_id"] != first], plain[plain["unique_id"] != first])
    np.testing.assert_allclose(known_first["armlp"].iloc[:2], ahead["armlp"].iloc[:2])


def test_theta_has_a_share_of_short_series_of_numbers_unless_the_network_was_chosen_by_hand(
    make_table: MakeTable,
):
    def share(table: pd.DataFrame, data: dict[str, Any] | None = None, **options: Any) -> float:
        settled = settle_model(ModelSettings(**options), SeriesDataModule(table, horizon=5, **data or {}))
        assert settled.settings.theta_share is not None
        return settled.settings.theta_share

    table = make_table()
    assert share(table) == 0.35
    assert share(table, members=3, learning_rate=1e-3) == 0.35
    assert share(table, context_length=12) == 0
    assert share(table, hidden_sizes=[8]) == 0
    assert share(table, hidden_sizes=[8], theta_share=0.2) == 0.2
    assert share(make_table(rows=500)) == 0
    assert share(table.assign(y=(table["y"] > table["y"].median()).astype(int))) == 0  # counts
    assert share(table.assign(price=table["y"] % 7), {"known_covariates": ["price"]}) == 0
    pauses = np.random.default_rng(0).random(len(table))
    assert share(table.assign(y=table["y"].where(pauses > 0.05, 0.0))) == 0.35
    assert share(table.assign(y=table["y"].where(pauses > 0.3, 0.0))) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"theta_share": 1.5}, "`theta_share`: 1.5 is too large; it must be at most 1"),
        ({"theta_share": -0.1}, "`theta_share`: -0.1 is too small; it must be at least 0"),
        ({"theta_share": float("nan")}, "`theta_share`: nan is "),
    ],
)
def test_a_share_is_a_share(options: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        ForecastModule(**options)


@pytest.mark.parametrize("head", ["poisson", "negative_binomial"])
def test_counts_are_not_moved(head: str, make_table: MakeTable):
    table = make_table()
    table["y"] = table["y"].abs().round()
    with pytest.raises(UserError, match=f"`theta_share`: 0.3 .* head '{head}' .*give `theta_share` 0"):
        fitted(table, head=head, theta_share=0.3)


def test_a_saved_share_is_kept(make_table: MakeTable, tmp_path: Path):
    forecaster = fitted(make_table(), theta_share=0.6)
    forecaster.save(tmp_path / "model.ckpt")
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "model.ckpt").predict(make_table()), forecaster.predict())


def test_who_says_how_long_to_train_gets_the_network_alone(make_table: MakeTable):
    class Enough(Exception):
        """Ends a fit when its options are settled."""

    class Look(Callback):
        def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
            reasons = pl_module.reasons
            chosen.append(reasons["theta_share"].value if "theta_share" in reasons else None)
            raise Enough

    chosen: list[float | None] = []
    for steps in ({"max_steps": 2}, {}):
        module = ForecastModule(trials=0, refit=False, members=1)
        trainer = Trainer(**TRAINER | QUIET | steps, callbacks=[Look()])
        with pytest.raises(Enough):
            fit(trainer, module, SeriesDataModule(make_table(), horizon=5))
    assert chosen == [None, 0.35]
    module = ForecastModule(trials=0, refit=False)
    data = SeriesDataModule(make_table(), horizon=5)
    assert fit(Trainer(**TRAINER | QUIET, max_steps=1), module, data).module.settings.theta_share == 0


def test_an_export_says_what_it_leaves_out(make_table: MakeTable, tmp_path: Path):
    """The warning is an error here, so that no file is written, which takes long."""
    forecaster = fitted(make_table(rows=40), theta_share=0.4, calendar_inputs=False)
    with pytest.raises(UserWarning, match=r"network alone: the 40% .*`theta_share` 0"):
        forecaster.export(tmp_path / "model.onnx")
