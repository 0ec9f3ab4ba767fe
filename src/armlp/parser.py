"""The command line as text: presets and checkpoints by name, a parser for each command, options spelled as flags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from armlp.commands import CommandTrainer
from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.evaluation.metrics.base import METRICS
from armlp.model.families import HEADS
from armlp.model.scaling import SCALERS
from armlp.model.settings import network_options
from armlp.presets import preset_path, read_yaml
from armlp.report.forecast_writer import ForecastWriter
from armlp.report.runs import find_checkpoint
from armlp.routing import option_names
from armlp.training.module import ForecastModule

# The tables that commands with the options of `ForecastWriter` write, and the files of the other commands.
TABLES = {"predict": "forecast.parquet", "test": "backtest.parquet"}
FILES = {"score": "scores.parquet", "export": "model.onnx"}

# Options of a training that may change where it goes on.
_FREE_WHEN_RESUMED = ("val_paths", "trials", "refit")
_CKPT_PATH = (
    "The .ckpt file that `armlp fit` wrote: fit goes on from there, and other commands use its model. 'last' and "
    "'best' are last.ckpt and best.ckpt of the newest run in lightning_logs that has one."
)


class CommandParser(LightningArgumentParser):
    """The parser of one command (None: of the program), whose errors are one sentence.

    Parsers of commands that are not asked for stay empty, because adding all options takes long.
    """

    def __init__(self, *args: Any, command: str | None = None, is_asked: bool = True, **options: Any) -> None:
        super().__init__(*args, **options)
        self.command, self.is_asked = command, is_asked

    def add_method_arguments(self, *args: Any, **options: Any) -> list[str]:
        """Add the arguments of the Trainer's method, `--ckpt_path` with a text of armlp's."""
        if not self.is_asked:
            return []
        added: list[str] = super().add_method_arguments(*args, **options)
        self.add_argument("--ckpt_path", type=str | None, default=None, help=_CKPT_PATH)
        if self.command in ("validate", "test"):
            self.set_defaults({"verbose": False})  # the report prints the scores
        return [*added, "ckpt_path"]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as a UserError, without the usage of a hundred options."""
        raise UserError(f"{' '.join(message.split())} (armlp --help lists the commands, armlp fit --help the options)")


def option_value(option: str, args: Sequence[str]) -> str | None:
    """Return the last value of an option on a command line; None where it is not given."""
    value = None
    for index, argument in enumerate(args):
        if argument == option and index + 1 < len(args):
            value = args[index + 1]
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
    return value


def resolve_checkpoint(args: Sequence[str]) -> list[str]:
    """Return the arguments with the file that `--ckpt_path last` or `best` means, and print which it is."""
    path = option_value("--ckpt_path", args)
    if path is None:
        return list(args)
    found = find_checkpoint(path, option_value("--trainer.default_root_dir", args))
    if found == path:
        return list(args)
    print(f"{path} checkpoint: {found}")
    return [*args, f"--ckpt_path={found}"]


def resolve_presets(args: Sequence[str]) -> list[str]:
    """Return the arguments with names of presets after `--config` replaced by their files."""
    resolved: list[str] = []
    for index, argument in enumerate(args):
        option, sign, value = argument.partition("=")
        if sign and option in ("--config", "-c"):
            argument = f"{option}={preset_path(value)}"
        elif index and args[index - 1] in ("--config", "-c"):
            argument = str(preset_path(argument))
        resolved.append(argument)
    return resolved


def import_classes(args: Sequence[str]) -> list[str]:
    """Import the classes that a command line or its `--config` gives by class path; return those of heads."""
    config = option_value("--config", args) or option_value("-c", args)
    content = read_yaml(config) if config is not None else {}
    model = content.get("model") if isinstance(content, dict) else None
    model, found = model if isinstance(model, dict) else {}, {}
    for registry in (HEADS, SCALERS, METRICS):
        value = option_value(f"--model.{registry.option}", args) or model.get(registry.option) or []
        names = yaml.safe_load(value) if isinstance(value, str) else value
        found[registry.option] = [name for name in ([names] if isinstance(names, str) else names) if "." in str(name)]
        for name in found[registry.option]:
            registry.find(name)
    return found["head"]


def checkpoint_defaults(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint holds of the options, by their full names."""
    options = {f"model.{name}": value for name, value in checkpoint["hyper_parameters"].items()}
    options |= {f"data.{name}": value for name, value in checkpoint["datamodule_hyper_parameters"].items()}
    options["seed_everything"] = options.pop("data.seed")  # the two are linked
    return {"data.source": None} | options


def merge_checkpoint(config: Namespace, checkpoint: Mapping[str, Any], path: str, is_resumed: bool) -> None:
    """Take the options that a configuration leaves open from a checkpoint; raise a UserError if they contradict it.

    `config` is changed in place. Options that have no part in the network may differ, unless the training goes on.
    """
    alphabet = checkpoint["datamodule_hyper_parameters"].get("symbols", False)
    if config.data.symbols is True:  # as in a preset: the symbols of the training
        config.data.symbols = alphabet
    if config.data.symbols != alphabet:
        raise UserError(f"--data.symbols: {path} was trained on {alphabet}; leave the option out.")
    for name, value in checkpoint["hyper_parameters"].items():
        if config.model[name] in (None, "auto"):
            config.model[name] = value
        is_fixed = name in network_options() or (is_resumed and name not in _FREE_WHEN_RESUMED)
        if config.model[name] != value and is_fixed:
            raise UserError(
                f"--model.{name}: {config.model[name]} was given, but {path} was trained with {value}; "
                "leave the option out, or train anew without --ckpt_path."
            )


def with_flags(sentence: str, command: str | None = None) -> str:
    """Return a sentence with its options spelled as a command takes them: `horizon` becomes --data.horizon."""
    flags = _flags(command)

    def flag(match: re.Match[str]) -> str:
        name = match[1]
        return flags.get(name, f"--{name}" if "." in name else name)

    return re.sub(r"`([\w.-]+)`", flag, sentence)


def _flags(command: str | None) -> Mapping[str, str]:
    """Return the flag of every option of a command; of several options with the same name, the last one wins."""
    groups = {"trainer": Trainer, "forecast": ForecastWriter, "model": ForecastModule, "data": SeriesDataModule}
    if command in TABLES:
        groups["forecast"] = groups.pop("forecast")
    flags = {"preset": "--config"}
    for group, kind in groups.items():
        flags |= {name: f"--{group}.{name}" for name in option_names(kind)}
    if command in FILES:
        flags |= {name: f"--{name}" for name in option_names(getattr(CommandTrainer, command))}
    return flags
