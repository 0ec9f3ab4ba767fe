"""Tests of output files: they are written whole, or not at all."""

import os
from pathlib import Path

import pytest

from armlp.errors import UserError
from armlp.files import replacing


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_folder_takes_the_place_of_an_old_one(tmp_path: Path):
    path = tmp_path / "panel"
    for name in ("first", "second"):
        with replacing(path) as unfinished:
            unfinished.mkdir()
            (unfinished / name).write_text(name)
    assert os.listdir(tmp_path) == ["panel"]
    assert os.listdir(path) == ["second"]


def write_half(path: Path, kind: str, error: Exception) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text("half") if kind == "file" else unfinished.mkdir()
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no such type")])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_after_an_error_everything_is_as_it_was(error: Exception, kind: str, tmp_path: Path):
    path = tmp_path / "output"
    path.write_text("old") if kind == "file" else path.mkdir()
    with pytest.raises(UserError if isinstance(error, OSError) else ValueError, match=str(error.args[-1])):
        write_half(path, kind, error)
    assert os.listdir(tmp_path) == ["output"]
    assert kind == "folder" or path.read_text() == "old"


def test_a_file_never_replaces_a_folder(tmp_path: Path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(UserError, match=r"table\.csv cannot be written"), replacing(tmp_path / "table.csv") as file:
        file.write_text("")
    assert (tmp_path / "table.csv").is_dir()
    assert os.listdir(tmp_path) == ["table.csv"]


def test_the_message_says_what_was_to_be_written_and_what_to_do(tmp_path: Path):
    path = tmp_path / "missing" / "table.csv"
    with (
        pytest.raises(UserError, match=r"table\.csv, the forecast, cannot be written \(No such file.*\): try again\."),
        replacing(path, ", the forecast,", "try again") as unfinished,
    ):
        unfinished.write_text("")
