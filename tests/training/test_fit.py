"""Tests of a fit from beginning to end: what it settles, what it reports, and the refit on validation too."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler

from armlp import Forecaster, UserError
from armlp.data.datamodule import SeriesDataModule
from armlp.training.fit import choose_refit, fit, fit_with_options
from armlp.training.loop.callbacks import BestCheckpoint, StopEarly
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.loop.listener import FitListener, Trial
from armlp.training.loop.trainer import BEST, TRAINER
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.training.settings import ModelSettings
from armlp.training.settle import settle_model

MakeTable = Callable[..., pd.DataFrame]
Weights = dict[str, torch.Tensor]


class Enough(Exception):
    """Ends a fit before it trains."""


def enough() -> None:
    raise Enough


@pytest.mark.parametrize(
    ("series", "given", "stops"),
    [
        pytest.param(3, {}, False, id="few windows"),
        pytest.param(30, {}, True, id="many windows"),
        pytest.param(3, {"patience": 5}, True, id="a patience that was given"),
        pytest.param(3, {"monitor": "train/loss"}, True, id="a monitor that was given"),
    ],
)
def test_with_few_windows_a_training_does_not_stop_before_its_learning_rate_has_decayed(
    make_table: Callable[..., pd.DataFrame], series: int, given: dict[str, Any], stops: bool
) -> None:
    callback = StopEarly(**given)
    trainer = Trainer(**TRAINER | {"logger": False, "callbacks": [callback]})
    module, data = (
        ForecastModule(hidden_sizes=[4], residual_blocks=0, trials=0),
        SeriesDataModule(make_table(series), horizon=6),
    )
    with pytest.raises(Enough):
        fit(trainer, module, data, before_training=enough)
    assert (callback.patience < 10) == stops  # a training whose length the recipe chooses has ten validations


STEPS = 9
EVERY_STEP = {"max_steps": STEPS, "val_check_interval": 1, "check_val_every_n_epoch": None}
SMALL = {"horizon": 6, "hidden_sizes": [4], "residual_blocks": 0, "enable_progress_bar": False, "logger": False}


def arguments(**options: object) -> list[str]:
    """Options of the Trainer as the command line spells them."""
    return [f"--trainer.{name}={'null' if value is None else value}" for name, value in options.items()]


@pytest.mark.parametrize("patience", [None, 5])
def test_a_patience_that_is_given_is_kept_even_if_it_is_the_usual_one(
    program: Any, make_table: Callable[..., pd.DataFrame], patience: int | None
):
    make_table().to_parquet("table.parquet")
    given = [] if patience is None else [f"--early_stopping.patience={patience}"]
    never_better = ["--early_stopping.min_delta=1e9", *given]
    fit = ["fit", "--config=fast", "--data.source=table.parquet", "--data.horizon=6", *arguments(**EVERY_STEP)]
    program(*fit, *never_better)
    last = read_checkpoint("lightning_logs/version_0/checkpoints/last.ckpt")
    assert last["global_step"] == (STEPS if patience is None else 1 + patience)  # the first one is the best


def test_a_training_ends_after_five_validations_that_are_no_better(make_table: MakeTable, counter: Any):
    """The first validation is the best one: with a rate of 0 none is better."""
    options = {"learning_rate": 0.0, "refit": False, **EVERY_STEP, **SMALL}
    Forecaster(**options, callbacks=[counter]).fit(make_table(series=30))
    assert counter.steps == 1 + 5


@pytest.mark.parametrize(("patience", "steps"), [(1, 2), (1000, STEPS)])
def test_an_early_stopping_of_the_user_takes_the_place_of_ours(
    program: Any, make_table: MakeTable, patience: int, steps: int, checkpoint_of: Any, counter: Any
):
    """Ours would end the training after six validations: with a rate of 0 none is better."""
    table = make_table(series=30)
    table.to_parquet("table.parquet")
    stop = EarlyStopping("val/monitor", patience=patience)
    options = {"learning_rate": 0.0, "refit": False, **EVERY_STEP, **SMALL}
    found = Forecaster(**options, callbacks=[stop, counter]).fit(table)
    assert counter.steps == steps
    assert checkpoint_of(found)["global_step"] == 1
    callback = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/monitor"]
    model = ["--model.learning_rate=0", "--model.hidden_sizes=[4]", "--model.residual_blocks=0", "--model.refit=false"]
    fit = ["fit", "--data.source=table.parquet", "--data.horizon=6", *model, *arguments(**EVERY_STEP)]
    program(*fit, *callback, f"--trainer.callbacks.patience={patience}")
    assert read_checkpoint("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == steps


@pytest.mark.parametrize(
    ("options", "trained", "says"),
    [
        ({"max_steps": 0}, False, "nothing was trained"),
        ({"max_epochs": 0}, False, "nothing was trained"),
        ({"max_steps": 2, "limit_val_batches": 0}, True, "nothing was validated"),
    ],
)
def test_a_training_that_leaves_no_best_checkpoint_says_why(
    options: dict[str, Any],
    trained: bool,
    says: str,
    program: Any,
    make_table: Callable[..., pd.DataFrame],
    checkpoint_of: Any,
):
    make_table().to_parquet("table.parquet")
    fit = ["fit", "--config=fast", "--data.source=table.parquet", "--data.horizon=6", *arguments(**options)]
    expected = contextlib.nullcontext() if trained else pytest.warns(UserWarning, match=says)
    with expected:
        printed = program(*fit)
    if trained:
        last = "lightning_logs/version_0/checkpoints/last.ckpt"
        assert f"{says}, so there is no best checkpoint, only {last}" in printed
    else:
        assert "Chosen from the data" not in printed
        assert "best checkpoint" not in printed
    with contextlib.nullcontext() if trained else pytest.warns(UserWarning, match=says):
        found = Forecaster(**{**SMALL, **options}).fit("table.parquet")
    assert checkpoint_of(found)["global_step"] == (2 if trained else 0)


def test_a_training_that_writes_nothing_names_no_file(
    make_table: Callable[..., pd.DataFrame], capsys: pytest.CaptureFixture[str]
):
    Forecaster(**SMALL | {"max_steps": 2, "enable_progress_bar": True}).fit(make_table())
    printed = capsys.readouterr().out
    assert "Validation, best checkpoint" in printed
    assert ".ckpt" not in printed


def test_no_batches_train_nothing(program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    none = ["--config=fast", "--data.source=table.parquet", "--trainer.limit_train_batches=0"]
    assert "--trainer.limit_train_batches: 0 leaves nothing to train on" in program.refuses("fit", *none)
    with pytest.warns(UserWarning, match="nothing was trained"):
        Forecaster(**SMALL, max_steps=2, limit_train_batches=0).fit("table.parquet")


@pytest.mark.parametrize(
    ("option", "value"),
    [("accumulate_grad_batches", 0), ("gradient_clip_val", -1.0), ("check_val_every_n_epoch", 0)],
)
def test_numbers_with_which_nothing_can_be_trained_are_refused(
    option: str, value: float, make_table: Callable[..., pd.DataFrame]
):
    with pytest.raises(UserError, match=rf"`{option}`: {value} is too small"):
        Forecaster(**SMALL | {"max_steps": 2, option: value}).fit(make_table())


REFIT: dict[str, Any] = {
    "horizon": 6, "test_windows": 1, "max_steps": 9, "val_check_interval": 3, "check_val_every_n_epoch": None,
    "hidden_sizes": [8], "residual_blocks": 1, "dropout": 0.2, "input_noise": 0.1, "mask_input": True,
    "patch_length": 3, "unroll": 2, "averaging": 0.5, "batch_size": 40, "learning_rate": 0.05,
}  # fmt: skip
ARGUMENTS = ["--data.source=table.parquet", "--data.horizon=6", "--data.test_windows=1", "--data.batch_size=40"] + [
    f"--{'trainer' if name in ('max_steps', 'val_check_interval', 'check_val_every_n_epoch') else 'model'}.{name}="
    f"{'null' if value is None else value}"
    for name, value in REFIT.items()
    if name not in ("horizon", "test_windows", "batch_size")
]
CHECKPOINTS = Path("lightning_logs/version_0/checkpoints")


@pytest.fixture
def fitted(tmp_path: Path, checkpoint_of: Any) -> Callable[..., dict[str, Any]]:
    """A maker of best checkpoints."""

    def fitted(table: pd.DataFrame, **options: Any) -> dict[str, Any]:
        place = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
        return checkpoint_of(Forecaster(**REFIT | place | {"refit": True} | options).fit(table))

    return fitted


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


@pytest.mark.parametrize(("rate", "steady"), [(0.05, True), (5.0, False)])
def test_the_final_training_is_one_on_the_longer_part_of_all_steps_or_of_those_that_were_best(
    fitted: Any, make_table: MakeTable, rate: float, steady: bool
):
    found = fitted(make_table(), learning_rate=rate)
    steps = found["refit"]["steps"]
    assert found["global_step"] < REFIT["max_steps"]
    assert steps == (REFIT["max_steps"] if steady else found["global_step"])
    # Another validation part after the first one, so that this one is trained on.
    table = make_table(rows=96)
    later = table.groupby("unique_id").tail(6).assign(ds=lambda rows: rows["ds"] + pd.Timedelta("6h"), y=77.0)
    longer = pd.concat([table, later]).sort_values(["unique_id", "ds"])
    seed_everything(0, verbose=False)
    options = {name: REFIT[name] for name in ("horizon", "test_windows", "batch_size")}
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


class Spoil(GradientAccumulationScheduler):
    """Makes the weights of a refit NaN; it keeps callbacks of this kind only."""

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.limit_val_batches == 0:
            for weight in module.parameters():
                weight.data.fill_(np.nan)


def test_a_final_training_that_diverges_is_not_kept(fitted: Any, make_table: MakeTable):
    with pytest.warns(UserWarning, match=r"`refit`: .*best\.ckpt stays as validation has chosen it"):
        found = fitted(make_table(), callbacks=[Spoil({0: 1})])
    assert "refit" not in found
    assert all(value.isfinite().all() for value in found["state_dict"].values())


def test_a_broken_off_final_training_is_done_again_when_the_run_goes_on(
    program: Any, make_table: MakeTable, tmp_path: Path, checkpoint_of: Any
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
    # Python trains the same.
    options = {"refit": True, "logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path / "other"}
    other = Forecaster(**REFIT | options).fit("table.parquet")
    assert same(checkpoint_of(other)["state_dict"], found["state_dict"])
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
    data = SeriesDataModule(make_table(series, rows), horizon=6)
    settled = settle_model(ModelSettings(), data)
    settled.recommended["max_steps"] = Choice(steps, "")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    usual = {"callbacks": [BestCheckpoint(**BEST)], "enable_checkpointing": "callbacks" not in options}
    trainer = Trainer(**TRAINER | quiet | usual | options)
    found = choose_refit(settled, data, trainer)
    assert found.settings.refit is wanted
    assert ("refit" in found.applied) is wanted


def test_what_was_given_is_settled(make_table: MakeTable):
    data = SeriesDataModule(make_table(rows=66), horizon=6)
    for given in (True, False):
        trainer = Trainer(logger=False, callbacks=[BestCheckpoint(**BEST)], max_steps=3)
        assert choose_refit(settle_model(ModelSettings(refit=given), data), data, trainer).settings.refit is given
    without = Trainer(logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match=r"`refit`: .*`enable_checkpointing`"):
        choose_refit(settle_model(ModelSettings(refit=True), data), data, without)


class Diary(FitListener):
    """Writes down what it hears of a fit."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def progress_bar(self, description: str, steps: int | None) -> list[Callback]:
        self.heard.append(f"{description}: {steps} steps")
        return []

    def trials_ended(self, trials: Sequence[Trial]) -> None:
        self.heard.append(f"trials of {', '.join(trial.name for trial in trials)}")

    def refit_ended(self, name: str, steps: int) -> None:
        self.heard.append(f"{name} of {steps} steps")


def test_a_listener_is_called_for_trials_choices_and_the_final_training_in_order(make_table: MakeTable):
    diary, data = Diary(), SeriesDataModule(make_table(), horizon=6)
    options = {"max_steps": 2, "logger": False, "enable_progress_bar": False}
    module, checkpoint = fit_with_options(ForecastModule(trials=1, refit=True, val_paths=10), data, options, (), diary)
    assert diary.heard == [
        "trying recipe, 1 of 2: 2 steps",
        "trying linear, 2 of 2: 2 steps",
        "trials of recipe, linear",
        "training on validation too: 2 steps",
        "best.ckpt of 2 steps",
    ]
    assert checkpoint is not None
    assert checkpoint["refit"] == {"steps": 2}
    assert module.settings.hidden_sizes == []
