"""The command line: LightningCLI over `ForecastModule` and `SeriesDataModule`, and nothing else."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

import armlp
from armlp.commands import ExportingTrainer
from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError, check_bounds
from armlp.presets import preset_path
from armlp.report.console import ConsoleListener, print_summaries
from armlp.report.forecast_writer import ForecastWriter
from armlp.report.progress import StepBar
from armlp.report.runs import (
    RunLogger,
    claim_log_folder,
    find_checkpoint,
    make_run_folder,
    resumed_run,
    run_folder,
    runs_folder,
)
from armlp.report.tensorboard import Dashboard, TestDashboard
from armlp.routing import names
from armlp.training.callbacks import BestCheckpoint, LastCheckpoint, StopEarly
from armlp.training.checkpoint import read_checkpoint
from armlp.training.fit import fit
from armlp.training.module import ForecastModule
from armlp.training.refit_backtest import backtest_refitting
from armlp.training.requested import Requested, warn_of_missing_callbacks
from armlp.training.settings import NETWORK_OPTIONS
from armlp.training.trainer import BEST, TRAINER, all_callbacks, listed, quiet, trainer_mistakes

_TABLES = {"predict": "forecast.parquet", "test": "backtest.parquet"}
_FILES = {"score": "scores.parquet", "export": "model.onnx"}
_CKPT_PATH = (
    "The .ckpt file that `armlp fit` wrote: fit goes on from there, and other commands use its model. 'last' and "
    "'best' are last.ckpt and best.ckpt of the newest run in lightning_logs that has one."
)
# What may be otherwise where a training goes on.
_FREE = ("val_paths", "trials", "refit")


class ArmlpCLI(LightningCLI):
    """`armlp fit | validate | test | predict | score | export`.

    What a checkpoint knows becomes the default of the options, so that `predict --ckpt_path CKPT` needs no other,
    and what is said on the command line wins.
    """

    def __init__(self, args: ArgsType = None) -> None:
        self._asked = args[0] if isinstance(args, list) and args and args[0] in self.subcommands() else None
        self._listener = ConsoleListener()
        super().__init__(
            ForecastModule,
            SeriesDataModule,
            trainer_class=ExportingTrainer,
            args=args,
            trainer_defaults=TRAINER | {"callbacks": [StepBar(), self._listener]},
            seed_everything_default=0,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=_Parser,
            parser_kwargs={"prog": "armlp", "version": armlp.__version__, "description": armlp.__doc__},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands and ours, with the arguments that are no options."""
        commands = {**LightningCLI.subcommands(), **{name: {"model", "datamodule"} for name in _FILES}}
        return {name: {*skipped, "ckpt_path"} for name, skipped in commands.items()}  # which has a help of its own

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if self._asked not in (None, subcommand):
            return self.init_parser(**kwargs)  # to add the options of commands that nobody asked for takes a while
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=_CKPT_PATH)
        self._subcommand_method_arguments[subcommand].append("ckpt_path")
        parser.link_arguments("seed_everything", "data.seed")
        if subcommand == "fit":
            parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
            parser.add_lightning_class_args(StopEarly, "early_stopping")
            parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
            parser.add_lightning_class_args(Dashboard, "dashboard")
            parser.set_defaults({f"checkpoint.{name}": value for name, value in BEST.items()})
        if subcommand in ("validate", "test"):
            parser.set_defaults({"verbose": False})  # the report says it
        if subcommand == "test":
            parser.add_argument(
                "--refit",
                type=int,
                default=0,
                help="Train anew at every so many origins, with the options of the checkpoint, on what lies before "
                "them only, instead of testing the checkpoint; --trainer has the options of these trainings.",
            )
        if subcommand in _TABLES:
            parser.add_lightning_class_args(ForecastWriter, "forecast")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Finds presets by name and takes defaults from the checkpoint, then parses."""
        assert isinstance(args, list)
        args = _with_newest(args)
        command, path = next(iter(args), ""), _value_of("--ckpt_path", args)
        if command in self._subcommand_parsers and path is not None:
            checkpoint = read_checkpoint(path)
            known = {f"model.{name}": value for name, value in checkpoint["hyper_parameters"].items()}
            known |= {f"data.{name}": value for name, value in checkpoint["datamodule_hyper_parameters"].items()}
            known["seed_everything"] = known.pop("data.seed")  # they are linked
            known.setdefault("data.source", None)
            self._subcommand_parsers[command].set_defaults(known)
        self.config = parser.parse_args(_with_presets(args))
        command = self.config.subcommand
        if path is None and command != "fit":
            raise UserError(f"--ckpt_path is needed: armlp {command} uses the .ckpt file that `armlp fit` wrote.")
        if self.config[command]["data"]["source"] is None and command != "export":
            raise UserError(f"--data.source is needed: {path} was trained on a table in memory.")
        if self.config[command].ckpt_path != path:
            raise UserError("ckpt_path stands in a configuration file; give it on the command line, as --ckpt_path.")
        if path is not None:
            alphabet = checkpoint["datamodule_hyper_parameters"].get("symbols", False)
            if self.config[command].data.symbols is True:  # as in a preset: the symbols of the training
                self.config[command].data.symbols = alphabet
            if self.config[command].data.symbols != alphabet:
                raise UserError(f"--data.symbols: {path} was trained on {alphabet}; leave the option out.")
            _keep_as_trained(self.config[command].model, checkpoint["hyper_parameters"], command, path)

    def _parse_ckpt_path(self) -> None:
        """Done before parsing, so that the command line wins."""

    def before_instantiate_classes(self) -> None:
        """Puts what a command writes into the run of its checkpoint."""
        config = self.config[self.subcommand]
        if self.subcommand in _TABLES and config.forecast.output is None:
            config.forecast.output = str(run_folder(config.ckpt_path) / _TABLES[self.subcommand])
        if self.subcommand in _FILES and config.output is None:
            config.output = str(run_folder(config.ckpt_path) / _FILES[self.subcommand])
        if self.subcommand == "predict":
            config.return_predictions = False  # the writer keeps what is needed of them

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Only `fit` makes a run folder, and goes on in the old one when it resumes."""
        config = self.config[self.subcommand]
        if self.subcommand != "fit":
            kwargs["logger"] = False
            self.save_config_callback = None
        elif config.trainer.logger in (None, True):
            kwargs["logger"] = RunLogger(config.trainer.default_root_dir, config.ckpt_path)
        elif config.trainer.logger is False:
            self.save_config_kwargs = {"save_to_log_dir": False}
        with trainer_mistakes():
            return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Leaves out the callbacks of what is switched off, which Lightning would refuse."""
        unwanted = {"enable_progress_bar": StepBar, "enable_checkpointing": Checkpoint}
        self._listener.progress = config["enable_progress_bar"] is not False
        kinds = tuple(kind for option, kind in unwanted.items() if config[option] is False)
        if any(isinstance(callback, EarlyStopping) for callback in listed(config["callbacks"])):
            kinds += (StopEarly,)
        always = [callback for callback in self.trainer_defaults["callbacks"] if not isinstance(callback, kinds)]
        if self.subcommand == "test":
            always.append(TestDashboard(self.config.test.ckpt_path))
        self.trainer_defaults = self.trainer_defaults | {"callbacks": always}
        return super()._instantiate_trainer(config, [one for one in callbacks if not isinstance(one, kinds)])

    def fit(self, model: ForecastModule, **options: Any) -> None:
        """Train, after every check that needs no run folder."""
        config = self.config.fit

        def before_training() -> None:
            if self.trainer.is_global_zero:
                self._claim_folders(config.trainer, config.ckpt_path)

        self.model, _ = fit(self.trainer, model, self.datamodule, self._listener, config.ckpt_path, before_training)

    def _claim_folders(self, options: Namespace, resumed: str | None) -> None:
        """Make the folders of a training whose logger does not do it, so that no other training gets the same ones."""
        if not self.trainer.loggers and not options.fast_dev_run:
            keep = [one for one in all_callbacks(self.trainer) if isinstance(one, (BestCheckpoint, LastCheckpoint))]
            if keep := [one for one in keep if one.dirpath is None]:
                run = resumed_run(resumed) or make_run_folder(runs_folder(options.default_root_dir))
                for callback in keep:
                    callback.dirpath = str(run / "checkpoints")
        elif resumed is None:
            asked = options.logger if isinstance(options.logger, list) else [options.logger]
            for logger, option in zip(self.trainer.loggers, asked, strict=False):
                if isinstance(option, Namespace) and option.get("init_args.version") is None:
                    claim_log_folder(logger)

    def test(self, **options: Any) -> None:
        """Tests the checkpoint, or models that are trained anew on the way."""
        config = self.config.test
        if not config.refit:
            self.trainer.test(**options)
            if self.trainer.is_global_zero:
                print_summaries(self.config_init.test.forecast.table)
            return
        check_bounds("--refit", config.refit, 0)
        checkpoint = read_checkpoint(config.ckpt_path)
        requested = Requested.from_checkpoint(checkpoint)
        warn_of_missing_callbacks(requested, listed(self.config_init.test.trainer.callbacks))
        data = _changed(self.datamodule.hparams, checkpoint["datamodule_hyper_parameters"])
        data |= {name: self.datamodule.hparams[name] for name in ("test_step", "test_gap")}
        data |= {
            "test_windows": self.datamodule.hparams["test_windows"] or 1,
            "memory_budget": config.data.memory_budget,
        }
        usual = {name: option.default for name, option in inspect.signature(Trainer).parameters.items()} | TRAINER
        backtest_refitting(
            data.pop("source", self.datamodule.source),
            requested.data | data,
            requested.model | _changed(vars(self.model.settings), checkpoint["hyper_parameters"]),
            TRAINER | requested.trainer | _changed(self.config_init.test.trainer, usual),
            self.config_init.test.forecast,
            config.refit,
            listener=self._listener,
        )

    def after_test(self) -> None:
        """Says where the table is."""
        if self.trainer.is_global_zero:
            print(f"backtest table: {self.config.test.forecast.output}")

    def after_score(self) -> None:
        """Says where the table is."""
        print(f"score table: {self.config.score.output}")

    def after_export(self) -> None:
        """Says where the file is."""
        print(f"exported rollout: {self.config.export.output}")

    def after_predict(self) -> None:
        """Says where the forecast is."""
        if not self.trainer.is_global_zero:
            return
        forecast = self.config.predict.forecast
        print(f"forecast table: {forecast.output}")
        for what, path in {"paths": forecast.paths, "fan charts": forecast.plot}.items():
            if path is not None:
                print(f"{what}: {path}")


class _SaveConfig(SaveConfigCallback):
    """Saves the configuration in the run folder, also without a logger."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it beside the checkpoints where there is no logger."""
        last = next((one for one in all_callbacks(trainer) if isinstance(one, LastCheckpoint)), None)
        if not self.save_to_log_dir and last is not None:
            path = Path(str(last.dirpath)).parent / self.config_filename
            # Values of None too; the name of that argument depends on the version of jsonargparse.
            self.parser.save(self.config, path, "parser_mode", False, overwrite=True)


def _keep_as_trained(model: Namespace, trained: Mapping[str, Any], command: str, path: str) -> None:
    """Takes what was not given from the checkpoint, and refuses what contradicts it.

    All but `fit` are free to differ in what has no part in the network.
    """
    for name, value in trained.items():
        if model[name] in (None, "auto"):
            model[name] = value
        if model[name] != value and (name in NETWORK_OPTIONS or (command == "fit" and name not in _FREE)):
            raise UserError(
                f"--model.{name}: {model[name]} was given, but {path} was trained with {value}; "
                "leave the option out, or train anew without --ckpt_path."
            )


def _changed(options: Mapping[str, Any] | Namespace, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not as they were before."""
    return {name: value for name, value in options.items() if value != before.get(name)}


def _value_of(option: str, args: Sequence[str]) -> str | None:
    """The last value of `option` on a command line."""
    value = None
    for index, argument in enumerate(args):
        if argument == option and index + 1 < len(args):
            value = args[index + 1]
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
    return value


def _with_newest(args: Sequence[str]) -> list[str]:
    """Return the same arguments with the file that a `--ckpt_path` of `last` or `best` means, and say which it is."""
    path = _value_of("--ckpt_path", args)
    if path is None:
        return list(args)
    found = find_checkpoint(path, _value_of("--trainer.default_root_dir", args))
    if found != path:
        print(f"{path} checkpoint: {found}")
    return [*args, f"--ckpt_path={found}"] if found != path else list(args)


class _Parser(LightningArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends in the sentence, without the usage of a hundred options."""
        raise UserError(f"{' '.join(message.split())} (armlp --help lists the commands, armlp fit --help the options)")


def _with_presets(args: Sequence[str]) -> list[str]:
    """The same arguments with the name of a preset replaced by its file."""
    options = ("--config", "-c")
    return [
        f"{option}={preset_path(value)}"
        if option in options and sign
        else str(preset_path(argument))
        if index and args[index - 1] in options
        else argument
        for index, argument in enumerate(args)
        for option, sign, value in [argument.partition("=")]
    ]


def with_flags(sentence: str, command: str | None = None) -> str:
    """Return a sentence whose options are spelled as a command takes them: `horizon` becomes --data.horizon."""
    groups: dict[str, type] = {
        "data": SeriesDataModule, "model": ForecastModule, "forecast": ForecastWriter, "trainer": Trainer
    }  # fmt: skip
    if command in _TABLES:
        groups = {"forecast": ForecastWriter} | groups

    def flag(match: re.Match[str]) -> str:
        name = match[1]
        if command in _FILES and name in inspect.signature(getattr(ExportingTrainer, str(command))).parameters:
            return f"--{name}"
        group = next((group for group, kind in groups.items() if name in names(kind)), None)
        return f"--{group}.{name}" if group else f"--{name}" if "." in name else name

    return re.sub(r"`([\w.-]+)`", flag, sentence)


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; a user's mistake ends with one sentence on standard error and exit code 2.

    Args:
        args: What follows `armlp` on the command line; `sys.argv` if left out.
    """
    quiet()
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # where the meaning of options stands
    args = list(sys.argv[1:] if args is None else args)
    command = next(iter(args), None)
    warnings.formatwarning = lambda message, *_: f"armlp: {with_flags(str(message), command)}\n"  # no line of code
    try:
        ArmlpCLI(args)
    except (UserError, MisconfigurationException) as error:
        print(f"armlp: {with_flags(' '.join(str(error).split()), command)}", file=sys.stderr)
        sys.exit(2)
