"""Tests of the final training: on validation rows too, never on those of the test, and otherwise as the first one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

from armlp import Forecaster, UserError
from armlp.data.datamodule import SeriesDataModule
from armlp.training import trials
from armlp.training.callbacks import BestCheckpoint
from armlp.training.checkpoint import read_checkpoint
from armlp.training.fit import settle_refit
from armlp.training.module import ForecastModule
from armlp.training.trainer import BEST, TRAINER

MakeTable = Callable[..., pd.DataFrame]
Weights = dict[str, torch.Tensor]
OPTIONS: dict[str, Any] = {
    "horizon": 6, "test_windows": 1, "max_steps": 9, "val_check_interval": 3, "check_val_every_n_epoch": None,
    "hidden_sizes": [8], "residual_blocks": 1, "dropout": 0.2, "input_noise": 0.1, "mask_input": True,
    "patch_length": 3, "unroll": 2, "averaging": 0.5, "batch_size": 40, "learning_rate": 0.05,
}  # fmt: skip
ARGUMENTS = ["--data.source=table.parquet", "--data.horizon=6", "--data.test_windows=1", "--data.batch_size=40"] + [
    f"--{'trainer' if name in ('max_steps', 'val_check_interval', 'check_val_every_n_epoch') else 'model'}.{name}="
    f"{'null' if value is None else value}"
    for name, value in OPTIONS.items()
    if name not in ("horizon", "test_windows", "batch_size")
]
CHECKPOINTS = Path("lightning_logs/version_0/checkpoints")


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A maker of best checkpoints."""

    def fit(table: pd.DataFrame, **options: Any) -> dict[str, Any]:
        place = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
        return Forecaster(**OPTIONS | place | {"refit": True} | options).fit(table)._fitted()

    return fit


def same(ours: Weights, theirs: Weights) -> bool:
    """To the last bit."""
    return all(torch.equal(ours[name], value) for name, value in theirs.items())


def changed(table: pd.DataFrame, rows: slice, value: float) -> pd.DataFrame:
    """The table with some rows of each series, counted from its end, replaced."""
    table = table.copy()
    for _, part in table.groupby("unique_id"):
        table.loc[part.index[rows], "y"] = value
    return table


def test_validation_rows_are_trained_on_and_those_of_the_test_never(fitted: Any, make_table: MakeTable):
    test, validation = slice(-6, None), slice(-12, -6)
    whole = fitted(make_table())["state_dict"]
    for poison in (1e6, np.nan):
        assert same(whole, fitted(changed(make_table(), test, poison))["state_dict"])
    assert not same(whole, fitted(changed(make_table(), validation, 11.0))["state_dict"])
    first = fitted(make_table(), refit=False)["state_dict"]
    assert not same(whole, first)


@pytest.mark.parametrize("windows", [1, 10**20])
def test_the_final_training_is_one_on_the_longer_part_of_all_steps_or_of_those_that_were_best(
    fitted: Any, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, windows: int
):
    monkeypatch.setattr(SeriesDataModule, "num_val_windows", windows)
    found = fitted(make_table())
    steps = found["refit"]["steps"]
    assert found["global_step"] < OPTIONS["max_steps"]
    assert steps == (OPTIONS["max_steps"] if windows == 1 else found["global_step"])
    # Another validation part after the first one, so that this one is trained on.
    table = make_table(rows=96)
    later = table.groupby("unique_id").tail(6).assign(ds=lambda rows: rows["ds"] + pd.Timedelta("6h"), y=77.0)
    longer = pd.concat([table, later]).sort_values(["unique_id", "ds"])
    seed_everything(0, verbose=False)
    options = {name: OPTIONS[name] for name in ("horizon", "test_windows", "batch_size")}
    data = SeriesDataModule(longer, **options)
    module = ForecastModule(**found["hyper_parameters"])
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    trainer = Trainer(**TRAINER | quiet, max_steps=steps)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == steps
    assert same(module.state_dict(), found["state_dict"])


def test_all_but_the_weights_of_the_best_checkpoint_stays(fitted: Any, make_table: MakeTable):
    table = make_table(series=40)  # enough to recalibrate by
    first, found = fitted(table, refit=False, conformal="split"), fitted(table, conformal="split")
    assert found.keys() == first.keys() | {"refit"}
    assert torch.equal(found["conformal"]["factors"], first["conformal"]["factors"])
    assert same(found["SeriesDataModule"], first["SeriesDataModule"])
    assert same(found["current_model_state"], first["current_model_state"])
    for part in ("global_step", "epoch", "loops", "lr_schedulers", "datamodule_hyper_parameters"):
        assert found[part] == first[part]
    assert found["hyper_parameters"] == first["hyper_parameters"] | {"refit": True}


def test_a_final_training_that_diverges_is_not_kept(
    fitted: Any, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
):
    def spoil(module: ForecastModule) -> None:
        if module.trainer.limit_val_batches == 0:
            for weight in module.parameters():
                weight.data.fill_(np.nan)

    monkeypatch.setattr(ForecastModule, "on_train_end", spoil)
    with pytest.warns(UserWarning, match=r"`refit`: .*best\.ckpt stays as validation has chosen it"):
        found = fitted(make_table())
    assert "refit" not in found
    assert all(value.isfinite().all() for value in found["state_dict"].values())


def test_a_broken_off_final_training_is_done_again_when_the_run_goes_on(
    program: Any, make_table: MakeTable, tmp_path: Path
):
    make_table().to_parquet("table.parquet")
    fit = ["fit", *ARGUMENTS, "--model.refit=true", "--trainer.logger=false"]
    program.breaks_off(lambda module: module.trainer.limit_val_batches == 0 and module.global_step == 2, *fit)
    before, best = read_checkpoint(CHECKPOINTS / "best.ckpt"), CHECKPOINTS / "best.ckpt"
    assert "refit" not in before
    assert sorted(path.name for path in CHECKPOINTS.iterdir()) == ["best.ckpt", "last.ckpt"]
    with pytest.warns(UserWarning, match="nothing was left to train: the checkpoint is at step 9"):
        printed = program(*fit, "--ckpt_path", CHECKPOINTS / "last.ckpt")
    assert "best.ckpt was then trained anew on the validation rows too" in printed
    found, written = read_checkpoint(best), best.stat().st_mtime_ns
    assert "refit" in found
    assert "refit" not in read_checkpoint(CHECKPOINTS / "last.ckpt")
    # Once it is done, there is nothing left to do, and nothing is reported as if there were.
    with pytest.warns(UserWarning, match="nothing was left to train"):
        assert program(*fit, "--ckpt_path", CHECKPOINTS / "last.ckpt") == ""
    assert best.stat().st_mtime_ns == written
    # The other door trains the same.
    options = {"refit": True, "logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path / "other"}
    other = Forecaster(**OPTIONS | options).fit("table.parquet")
    assert same(other._fitted()["state_dict"], found["state_dict"])
    assert "give the last.ckpt" in program.refuses(*fit, "--ckpt_path", CHECKPOINTS / "best.ckpt")
    # A validation of it is no longer fair, a test is.
    assert "trained on these times in 3 of 3 series" in program("validate", "--ckpt_path", best)
    assert "trained on these times" not in program("test", "--ckpt_path", best)


@pytest.mark.parametrize(
    ("series", "rows", "steps", "options", "wanted"),
    [
        (30, 66, 900, {}, True),  # 6 of validation beside 60 of training
        (30, 67, 900, {}, False),
        (30, 67, 600, {}, False),
        (29, 67, 600, {}, True),  # too few windows to choose a step by
        (29, 67, 601, {}, False),
        (30, 66, 600, {"max_steps": 3}, False),
        (30, 66, 600, {"max_epochs": 3}, False),
        (30, 66, 600, {"limit_val_batches": 0}, False),
        (30, 66, 600, {"callbacks": []}, False),
    ],
)
def test_much_validation_or_too_little_is_trained_on_unless_the_length_of_the_training_was_given(
    series: int, rows: int, steps: int, options: dict[str, Any], wanted: bool, make_table: MakeTable
):
    module, data = ForecastModule(), SeriesDataModule(make_table(series, rows), horizon=6)
    module.settle(data)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    usual = {"callbacks": [BestCheckpoint(**BEST)], "enable_checkpointing": "callbacks" not in options}
    settle_refit(Trainer(**TRAINER | quiet | usual | options), module, data, steps)
    assert module.hparams["refit"] is wanted
    assert ("refit" in module.chosen) is wanted


def test_what_was_given_is_settled(make_table: MakeTable):
    data = SeriesDataModule(make_table(rows=66), horizon=6)
    for given in (True, False):
        module = ForecastModule(refit=given)
        settle_refit(Trainer(logger=False, callbacks=[BestCheckpoint(**BEST)], max_steps=3), module, data, 600)
        assert module.hparams["refit"] is given
    with pytest.raises(UserError, match=r"`refit`: .*`enable_checkpointing`"):
        settle_refit(Trainer(logger=False, enable_checkpointing=False), ForecastModule(refit=True), data, 600)


def test_the_trainings_of_a_backtest_choose_anew_from_what_lies_before_the_origin(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither a choice of a trial nor a row of the end may reach the model of an earlier origin."""
    small = {"max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "logger": False}
    options = {"trials": 2, "refit": True, "enable_progress_bar": False, "default_root_dir": tmp_path, **small}
    table, end = make_table(), slice(-12, None)
    tried: list[int] = []
    monkeypatch.setattr(trials, "candidates", lambda data, choices: {"small": {"hidden_sizes": [3]}})
    judged = trials._judged

    def judge(entry: trials.Trial, *args: Any) -> trials.Trial:
        tried.append(1)
        return judged(entry, *args)

    monkeypatch.setattr(trials, "_judged", judge)
    forecaster = Forecaster(horizon=6, **options).fit(table)
    forecaster.save(tmp_path / "model.ckpt")
    loaded = Forecaster.load(tmp_path / "model.ckpt", enable_progress_bar=False)
    in_one_fit = len(tried)
    tables = [one.backtest(table, windows=2, refit=True) for one in (forecaster, loaded)]
    assert len(tried) == in_one_fit * (1 + 2 * 2)
    pd.testing.assert_frame_equal(*tables)
    poisoned = changed(table, end, 1e3)
    other = Forecaster(horizon=6, **options).fit(poisoned).backtest(windows=2, refit=True)
    names = [name for name in tables[0] if name.startswith("armlp")]
    first = tables[0]["cutoff"] == tables[0]["cutoff"].min()
    pd.testing.assert_frame_equal(tables[0].loc[first, names], other.loc[first, names])
