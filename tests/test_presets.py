"""Tests of presets: the same names and files from the command line and Python."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from armlp import Forecaster, UserError, presets
from armlp.training.loop.checkpoint import read_checkpoint

FOLDER = Path(presets.__file__).parent


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_python_takes_every_preset_by_its_name_and_by_its_file(name: str):
    found = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for preset in (name, FOLDER / f"{name}.yaml", str(FOLDER / f"{name}.yaml")):
        forecaster = Forecaster(preset=preset)
        assert forecaster._model == found.get("model", {})
        assert forecaster._given.items() >= found.get("data", {}).items()
        assert forecaster._trainer.items() >= found.get("trainer", {}).items()


def test_what_is_given_beside_a_preset_wins():
    forecaster = Forecaster(7, preset="textbook", activation="gelu", calendar_inputs=True, gradient_clip_val=2.0)
    assert forecaster._model["activation"] == "gelu"
    assert forecaster._model["head"] == "point"
    assert forecaster._given == {"horizon": 7, "seed": 0, "calendar_inputs": True}
    assert forecaster._trainer["gradient_clip_val"] == 2.0


def test_a_horizon_of_a_preset_stays_unless_another_is_given(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("data:\n  horizon: 9\n  source: taylor\n")
    assert Forecaster(preset=tmp_path / "mine.yaml")._given == {"horizon": 9, "seed": 0}
    assert Forecaster(3, preset=tmp_path / "mine.yaml")._given == {"horizon": 3, "seed": 0}


def test_python_and_the_command_line_refuse_an_unknown_preset_in_the_same_words(program: Any):
    sentence = program.refuses("fit", "--config=better")
    assert "better is neither a file nor a preset; the presets are best, default, fast, symbols, textbook" in sentence
    with pytest.raises(UserError) as error:
        Forecaster(preset="better")
    assert sentence == str(error.value).replace("`preset`", "--config")


@pytest.mark.parametrize("text", ["[1, 2]", "optimizer:\n  lr: 1", "model: 3", "a: [", "\x00"])
def test_a_file_that_is_no_preset_is_refused(text: str, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"`preset`: .*mine\.yaml"):
        Forecaster(preset=tmp_path / "mine.yaml")


def test_presets_say_what_fit_does_beside_its_training(program: Any, trained: Any):
    for name, settled in {
        "fast": {"trials": 0, "refit": False, "members": 1},
        "default": {"trials": None, "refit": False, "members": 1},
        "best": {"trials": None, "refit": False, "members": 5, "effort": 5},
    }.items():
        options = ("--data.horizon=6", "--trainer.max_steps=1", "--trainer.logger=false", "--model.hidden_sizes=[8]")
        program("fit", "--config", name, "--data.source", trained.source, *options)
        (last,) = Path().rglob("last.ckpt")
        assert read_checkpoint(last)["hyper_parameters"].items() >= settled.items()
        shutil.rmtree("lightning_logs")
