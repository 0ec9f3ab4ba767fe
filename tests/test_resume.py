"""Whole-program tests of training that is cut short and goes on: it ends as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

MakeTable = Callable[..., pd.DataFrame]
LAST = Path("lightning_logs/version_0/checkpoints/last.ckpt")
# Dropout, input noise and a fed-back sample: everything that draws random numbers.
DRAWS = (
    "--data.source=table.parquet", "--data.horizon=6", "--data.batch_size=32", "--model.context_length=24",
    "--model.patch_length=3", "--model.unroll=2", "--model.hidden_sizes=[8]", "--model.residual_blocks=1",
    "--model.dropout=0.3", "--model.input_noise=0.1", "--trainer.check_val_every_n_epoch=null", "--model.val_paths=10",
)  # fmt: skip
# Whatever changes as training goes on, or goes on beside it.
GROWS = (*DRAWS, "--model.unroll_growth=0.7", "--model.averaging=0.4", "--model.members=2", "--model.ridge_init=true")

# A program that is killed within a training step.
KILLED = """
import os, signal, sys
from armlp.cli import main
from armlp.training.module import ForecastModule
step = ForecastModule.training_step
def killed(module, *args):
    if module.global_step == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(module, *args)
ForecastModule.training_step = killed
main(sys.argv[1:])
"""


def assert_same(ours: Any, theirs: Any, where: str = "checkpoint") -> None:
    """Compares what two checkpoints hold, to the last bit."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


def without(name: str, value: Any) -> Any:
    """The same values, with the name of a folder taken out of every text."""
    if isinstance(value, dict):
        value.pop("current_score", None)  # of the last validation in this process; nothing reads it
        return {without(name, key): without(name, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without(name, item) for item in value]
    return value.replace(f"/{name}/", "/") if isinstance(value, str) else value


def checkpoints(folder: str) -> dict[str, Any]:
    """The checkpoints of the only run in a folder."""
    (run,) = Path(folder, "lightning_logs").iterdir()
    paths = (run / "checkpoints").iterdir()
    found = {path.name: without(folder, torch.load(path, weights_only=True)) for path in paths}
    assert sorted(found) == ["best.ckpt", "last.ckpt"]
    return found


@pytest.mark.parametrize("options", [pytest.param(DRAWS, marks=pytest.mark.exhaustive), GROWS])
def test_a_training_that_broke_off_ends_with_the_bits_of_an_unbroken_one(
    options: tuple[str, ...], program: Any, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
):
    # An epoch has 6 batches, so that the checkpoints, one every 4 steps, lie within epochs.
    fit = ("fit", *options, "--trainer.max_steps=12", "--trainer.val_check_interval=4")
    ends = {}
    for folder, moment in {"unbroken": None, "early": 5, "late": 10}.items():
        Path(folder).mkdir()
        monkeypatch.chdir(folder)
        make_table().to_parquet("table.parquet")
        if moment is None:
            program(*fit)
        else:
            program.breaks_off(lambda module, moment=moment: module.global_step == moment, *fit)
            assert torch.load(LAST, weights_only=True)["global_step"] == moment // 4 * 4
            program(*fit, "--ckpt_path", LAST)
        monkeypatch.chdir("..")
        ends[folder] = checkpoints(folder)
        assert ends[folder]["last.ckpt"]["global_step"] == 12
    assert ("averaging_state" in ends["unbroken"]["last.ckpt"]) == (options is GROWS)
    # Everything: weights and their average, optimizer, schedule, loops, loader, the best so far.
    assert_same(ends["early"], ends["unbroken"])
    assert_same(ends["late"], ends["unbroken"])


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_bits_of_an_unbroken_one(
    program: Any, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
):
    fit = ("fit", *DRAWS, "--trainer.max_steps=16", "--trainer.val_check_interval=4")
    for folder in ("killed", "unbroken"):
        Path(folder).mkdir()
        make_table().to_parquet(f"{folder}/table.parquet")

    monkeypatch.chdir("killed")
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", KILLED, *fit], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(LAST, weights_only=True)["global_step"] == 8
    program(*fit, "--ckpt_path", LAST)
    monkeypatch.chdir("../unbroken")
    program(*fit)
    monkeypatch.chdir("..")

    killed, unbroken = checkpoints("killed"), checkpoints("unbroken")  # one run each
    assert_same(killed, unbroken)

    # TensorBoard shows one line that goes on, and the hyperparameters once.
    scalars = {}
    for folder in ("killed", "unbroken"):
        events = EventAccumulator(f"{folder}/lightning_logs/version_0").Reload()
        scalars[folder] = {event.step: event.value for event in events.Scalars("val/mae")}
        files = Path(folder, "lightning_logs/version_0").glob("events.out.tfevents.*")
        logged = (event for file in files for event in EventFileLoader(str(file)).Load())
        tags = [value.tag for event in logged for value in event.summary.value]
        assert tags.count("_hparams_/session_start_info") == 1
    assert scalars["killed"] == scalars["unbroken"]


def test_a_finished_training_goes_on_when_it_is_given_more_steps(program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    fit = ("fit", *DRAWS, "--trainer.val_check_interval=2", "--model.schedule=constant")
    program(*fit, "--trainer.max_steps=4")
    with pytest.warns(UserWarning, match="nothing was left to train"):
        program(*fit, "--trainer.max_steps=4", "--ckpt_path", LAST)
    assert torch.load(LAST, weights_only=True)["global_step"] == 4
    program(*fit, "--trainer.max_steps=8", "--ckpt_path", LAST)
    Path("lightning_logs").rename("in_two_parts")
    program(*fit, "--trainer.max_steps=8")
    parts = [torch.load(LAST, weights_only=True), torch.load("in_two_parts" / LAST.relative_to("lightning_logs"))]
    assert parts[0]["global_step"] == 8
    assert_same(parts[0]["state_dict"], parts[1]["state_dict"])


def test_the_configuration_that_a_run_keeps_repeats_it(program: Any, make_table: MakeTable):
    make_table().to_parquet("table.parquet")
    program("fit", *DRAWS, "--trainer.max_steps=3", "--seed_everything=5")
    program("fit", "--config=lightning_logs/version_0/config.yaml")
    first, second = (
        torch.load(f"lightning_logs/version_{index}/checkpoints/last.ckpt", weights_only=True) for index in range(2)
    )
    assert_same(first["state_dict"], second["state_dict"])
    assert first["datamodule_hyper_parameters"] == second["datamodule_hyper_parameters"]
    assert first["datamodule_hyper_parameters"]["seed"] == 5


def test_a_resumed_run_keeps_its_seed_and_refuses_another_schedule(program: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"ds": range(80), "y": np.sin(np.arange(80))})
    table.to_csv("table.csv", index=False)
    run = program.fit("table.csv", "--data.horizon=6", "--seed_everything=7")
    last = run / "checkpoints" / "last.ckpt"
    assert "--model.learning_rate" in program.refuses("fit", f"--ckpt_path={last}", "--model.learning_rate=0.1")
    program("fit", f"--config={run / 'config.yaml'}", f"--ckpt_path={last}", "--trainer.max_steps=6")
    resumed = torch.load(last, weights_only=True)
    assert resumed["global_step"] == 6
    assert resumed["datamodule_hyper_parameters"]["seed"] == 7


def test_a_training_that_resumes_a_saved_model_gets_a_new_run_folder(program: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"ds": range(80), "y": np.sin(np.arange(80))}).to_csv("table.csv", index=False)
    run = program.fit("table.csv", "--data.horizon=6")
    Path("home").mkdir()
    shutil.copy(run / "checkpoints" / "last.ckpt", "home/model.ckpt")
    program("fit", "--ckpt_path=home/model.ckpt", "--trainer.max_steps=6")
    assert [path.name for path in Path("home").iterdir()] == ["model.ckpt"]
    assert len(list(Path("lightning_logs").iterdir())) == 2


@pytest.mark.parametrize("option", ["enable_progress_bar", "enable_checkpointing"])
def test_what_is_switched_off_leaves_no_callback_behind(program: Any, tmp_path: Path, monkeypatch: Any, option: str):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"ds": range(80), "y": np.sin(np.arange(80))}).to_csv("table.csv", index=False)
    program.fit("table.csv", "--data.horizon=6", f"--trainer.{option}=false", logs=True)
