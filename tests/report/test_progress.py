"""Tests of the progress bar."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.report.progress import StepBar
from armlp.training.module import ForecastModule


@pytest.mark.parametrize(("bar", "words"), [(StepBar(), "training: 100%"), (StepBar("trying wide", 12), "wide:  50%")])
def test_one_bar_counts_the_steps_of_a_training_and_one_the_batches_of_a_test(
    bar: StepBar, words: str, trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = SeriesDataModule(trained.table, horizon=6, test_windows=2, batch_size=64)
    module = ForecastModule(hidden_sizes=[4], residual_blocks=0, context_length=24)
    trainer = Trainer(
        max_steps=6, val_check_interval=1, check_val_every_n_epoch=None, log_every_n_steps=2, callbacks=[bar],
        logger=False, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    (*_, line) = capsys.readouterr().err.strip().splitlines()
    last = line.split("\r")[-1]
    assert words in last
    assert "| 6/" in last
    for name, metric in {"loss": "train/loss", "skill": "val/skill"}.items():
        assert f"{name}={trainer.callback_metrics[metric].item():.3f}" in last
    trainer.test(module, datamodule=data, verbose=False)
    assert "testing: 100%" in capsys.readouterr().err


class Stops(ForecastModule):
    def on_train_epoch_end(self) -> None:
        raise RuntimeError("the power went")


def test_a_bar_that_is_disabled_prints_nothing_and_one_is_closed_by_an_exception(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for enabled in (False, True):
        bar = StepBar()
        trainer = Trainer(
            max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[bar], logger=False,
            enable_checkpointing=False, enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        if not enabled:
            bar.disable()
        module = Stops(hidden_sizes=[4], residual_blocks=0, context_length=24)
        with pytest.raises(RuntimeError, match="the power went"):
            trainer.fit(module, datamodule=SeriesDataModule(trained.table, horizon=6))
        assert bar.bar is None
        assert ("training:" in capsys.readouterr().err) == enabled
