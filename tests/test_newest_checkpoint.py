"""Tests of `--ckpt_path last` and `best`: the newest run that has such a file."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch


def runs(trained: Any, *numbers: int) -> None:
    for number in numbers:
        shutil.copytree(trained.run, Path("lightning_logs", f"version_{number}"))


@pytest.mark.parametrize("word", ["last", "best"])
def test_a_word_means_the_file_of_the_newest_run(program: Any, trained: Any, word: str):
    runs(trained, 2, 10, 11)
    for file in Path("lightning_logs/version_11/checkpoints").iterdir():
        file.unlink()  # a run that was killed before it had any
    printed = program("predict", "--ckpt_path", word)
    assert f"{word} checkpoint: lightning_logs/version_10/checkpoints/{word}.ckpt" in printed
    assert Path("lightning_logs/version_10/forecast.parquet").exists()


def test_a_training_goes_on_from_the_last_checkpoint_of_the_given_folder(program: Any, trained: Any):
    Path("runs").mkdir()
    shutil.copytree(trained.run.parent, "runs/lightning_logs")
    program("fit", "--ckpt_path=last", "--trainer.default_root_dir=runs", "--trainer.max_steps=6")
    saved = torch.load("runs/lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 6


@pytest.mark.parametrize("command", ["fit", "predict"])
@pytest.mark.parametrize("word", ["last", "best", "hpc", "registry", "registry:name"])
def test_a_word_without_a_file_is_refused_in_one_sentence(program: Any, command: str, word: str):
    sentence = program.refuses(command, "--ckpt_path", word)
    assert "--ckpt_path" in sentence
    assert "lightning_logs" in sentence
    assert ".ckpt file that `armlp fit` wrote" in sentence


def test_a_file_of_that_name_is_the_file(program: Any, trained: Any):
    shutil.copy(trained.best, "last")
    program("predict", "--ckpt_path=last", "--forecast.output=f.csv")
    assert Path("f.csv").exists()


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "score", "export"])
def test_the_help_describes_last_and_best(command: str, program: Any, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        program(command, "--help")
    assert not end.value.code
    said = " ".join(capsys.readouterr().out.split())
    assert "'last' and 'best' are last.ckpt and best.ckpt of the newest run" in said
    assert "hpc" not in said
    assert said.count("--ckpt_path CKPT_PATH") <= 2
