"""Tests of checkpoints: plain values and tensors, and enough of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from armlp.errors import UserError
from armlp.report.runs import run_folder
from armlp.training.loop.checkpoint import FORMAT, read_checkpoint
from armlp.training.module import ForecastModule

PLAIN = (bool, int, float, str, type(None))


def is_plain(value: Any) -> bool:
    """Whether a value is made of what every language has."""
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return type(value) in PLAIN


def test_a_checkpoint_is_tensors_and_plain_values_with_every_choice_made(trained: Any):
    checkpoint = torch.load(trained.best, weights_only=True)
    assert checkpoint["armlp_format"] == FORMAT
    model, data = checkpoint["hyper_parameters"], checkpoint["datamodule_hyper_parameters"]
    assert is_plain(dict(model))
    assert is_plain(dict(data))
    # Only what may be left open for good is open.
    assert {name for name, value in model.items() if value is None} <= {"block_size", "trials", "metrics"}
    covariates = {f"{role}_covariates" for role in ("known", "past", "static")}
    assert {name for name, value in data.items() if value is None} <= {
        "target_columns", "freq", "batch_size", "test_step", *covariates
    }  # fmt: skip
    assert data["trained_freq"] == "h"
    assert (data["horizon"], data["season_length"], data["source"]) == (6, 24, str(trained.source))
    assert model["season_length"] == 24


def test_a_checkpoint_holds_what_was_trained_on(trained: Any):
    checkpoint = read_checkpoint(trained.best)
    seen = checkpoint["SeriesDataModule"]
    assert len(seen["keys"]) == len(seen["until"]) == 3
    assert seen["keys"].dtype == seen["until"].dtype == torch.int64


def test_a_module_made_of_a_checkpoint_is_whole_before_it_sees_data(trained: Any):
    checkpoint = read_checkpoint(trained.best)
    module = ForecastModule(**checkpoint["hyper_parameters"])
    assert all(matched.numel() for matched in module.parameters())
    result = module.load_state_dict(checkpoint["state_dict"])
    assert not result.missing_keys
    assert not result.unexpected_keys


def test_lightning_itself_can_load_the_checkpoint(trained: Any):
    module = ForecastModule.load_from_checkpoint(trained.best, weights_only=True)
    state = read_checkpoint(trained.best)["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("runs/version_3/checkpoints/best.ckpt", "runs/version_3"),
        ("models/model.ckpt", "models"),
        ("model.ckpt", "."),
    ],
)
def test_the_run_of_a_checkpoint_is_the_folder_above_checkpoints(path: str, folder: str):
    assert run_folder(path) == Path(folder).resolve()


@pytest.mark.parametrize(("other", "fix"), [(1, "upgrade armlp"), (-2, "fit anew, or use the version of armlp that")])
def test_a_checkpoint_of_another_format_says_what_to_do(trained: Any, tmp_path: Path, other: int, fix: str):
    checkpoint = torch.load(trained.best, weights_only=True) | {"armlp_format": FORMAT + other}
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=f"has format {FORMAT + other}, and this armlp reads {FORMAT}; {fix}"):
        read_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize("text", ["hello", "unique_id,ds,y\na,1,1\n", "y\n", "1\n", ""])
def test_a_text_file_is_no_whole_checkpoint(text: str, tmp_path: Path):
    (tmp_path / "text.ckpt").write_text(text)
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        read_checkpoint(tmp_path / "text.ckpt")


@pytest.mark.parametrize("part", ["armlp_format", "hyper_parameters", "datamodule_hyper_parameters", "state_dict"])
@pytest.mark.parametrize("value", [None, "1", {}])
def test_a_checkpoint_that_lacks_a_part_was_not_written_by_armlp(part: str, value: Any, trained: Any, tmp_path: Path):
    torch.save(torch.load(trained.best, weights_only=True) | {part: value}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="was not written by armlp"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_folder_in_place_of_a_checkpoint_is_called_one(tmp_path: Path):
    with pytest.raises(UserError, match="is a folder"):
        read_checkpoint(tmp_path)
