"""Presets: options by name, only what differs from the defaults."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from armlp.errors import UserError

_FOLDER = resources.files("armlp") / "presets"
_SECTIONS = ("data", "model", "trainer")


def preset_path(name: str | os.PathLike[str]) -> Path:
    """Return the file of a preset; `name` may also be a file, which is returned as it is."""
    if Path(name).exists():
        return Path(name)
    names = sorted(path.name.removesuffix(".yaml") for path in _FOLDER.iterdir() if path.name.endswith(".yaml"))
    if name in names:
        return Path(str(_FOLDER / f"{name}.yaml"))
    raise UserError(f"`preset`: {name} is neither a file nor a preset; the presets are {', '.join(names)}.")


def read_preset(name: str | os.PathLike[str] | None) -> dict[str, dict[str, Any]]:
    """Return the options of a preset, or of a file, by section: those of the data, the model and the Trainer."""
    if name is None:
        return {section: {} for section in _SECTIONS}
    found = read_yaml(name)
    wrong = sorted(set(found) - set(_SECTIONS)) if isinstance(found, dict) else [type(found).__name__]
    if wrong or not all(isinstance(part, dict) for part in found.values()):
        what = wrong[0] if wrong else "a section without options"
        raise UserError(
            f"`preset`: {name} holds {what}, but a preset has options below {', '.join(_SECTIONS)}; leave the rest out."
        )
    return {section: dict(found.get(section, {})) for section in _SECTIONS}


def read_yaml(name: str | os.PathLike[str]) -> Any:
    """Return what the file of a preset holds, or another file of options, such as one that `armlp fit` has saved."""
    import yaml  # at its first use: the import takes a while

    try:
        return yaml.safe_load(preset_path(name).read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"`preset`: {name} cannot be read as YAML; give a preset's name, or a file like one."
        ) from error
