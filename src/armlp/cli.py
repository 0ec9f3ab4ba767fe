"""The command line: LightningCLI over `ForecastModule` and `SeriesDataModule`, and nothing else."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from armlp.commands import CommandTrainer
from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError, check_bounds
from armlp.model.families import head_options
from armlp.parser import (
    FILES,
    TABLES,
    CommandParser,
    checkpoint_defaults,
    import_classes,
    merge_checkpoint,
    option_value,
    resolve_checkpoint,
    resolve_presets,
    with_flags,
)
from armlp.report.console import ConsoleListener, print_summaries
from armlp.report.forecast_writer import ForecastWriter
from armlp.report.progress import StepBar
from armlp.report.runs import RunLogger, claim_log_folder, make_run_folder, resumed_run, run_folder, runs_folder
from armlp.report.tensorboard import Dashboard, TestDashboard
from armlp.training.fit import fit
from armlp.training.loop.callbacks import BestCheckpoint, LastCheckpoint, StopEarly
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.loop.trainer import BEST, TRAINER, all_callbacks, as_list, quiet, trainer_mistakes
from armlp.training.module import ForecastModule
from armlp.training.refit_backtest import backtest_refitting, repeated_options
from armlp.version import SUMMARY, __version__

# Callbacks that `fit` has options for, by the name of these options.
_FIT_CALLBACKS = {
    "checkpoint": BestCheckpoint, "early_stopping": StopEarly, "last_checkpoint": LastCheckpoint, "dashboard": Dashboard
}  # fmt: skip

# What a barebones Trainer refuses to have.
_BAREBONES = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": None,
    "num_sanity_val_steps": None, "enable_model_summary": None,
}  # fmt: skip

_WRITTEN = {
    "test": "backtest table", "predict": "forecast table", "score": "score table", "export": "exported rollout"
}  # fmt: skip


class ArmlpCLI(LightningCLI):
    """`armlp fit | validate | test | predict | score | export`.

    What a checkpoint holds becomes the default of the options, so that `predict --ckpt_path CKPT` needs no other,
    and the command line wins. `args` is what follows `armlp` on the command line.
    """

    def __init__(self, args: Sequence[str]) -> None:
        args = resolve_presets(resolve_checkpoint(args))
        heads = import_classes(args)
        commands = self.subcommands()
        asked = next((argument for argument in args[:1] if argument in commands), None)
        self.ckpt_path = option_value("--ckpt_path", args)
        self.checkpoint = None if asked is None or self.ckpt_path is None else read_checkpoint(self.ckpt_path)
        if self.checkpoint is not None:
            heads.append(self.checkpoint["hyper_parameters"]["head"])
        self.heads = heads
        self.parsers: dict[str, CommandParser] = {}
        self._listener = ConsoleListener(spell=partial(with_flags, command=asked))
        parsers = {name: {"command": name, "is_asked": asked in (name, None)} for name in commands}
        super().__init__(
            ForecastModule,
            SeriesDataModule,
            trainer_class=CommandTrainer,
            args=args,
            trainer_defaults=TRAINER,
            seed_everything_default=0,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=CommandParser,
            parser_kwargs={"prog": "armlp", "version": __version__, "description": SUMMARY, **parsers},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's commands and two more, with the arguments of their methods that are not options."""
        commands = {**LightningCLI.subcommands(), **{name: {"model", "datamodule"} for name in FILES}}
        return {name: {*skipped, "ckpt_path"} for name, skipped in commands.items()}  # the parser adds it

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of trainer, model and data."""
        assert isinstance(parser, CommandParser)
        if parser.is_asked:
            super().add_core_arguments_to_parser(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of one command, and take defaults from the checkpoint."""
        assert isinstance(parser, CommandParser)
        if not parser.is_asked or parser.command is None:
            return
        self.parsers[parser.command] = parser
        for name, one in head_options(*self.heads).items():
            of = f"Option of the head {', '.join(one.heads)}: "
            parser.add_argument(f"--model.{name}", type=one.hint, default=one.default, help=of + one.doc)
        parser.link_arguments("seed_everything", "data.seed")
        if parser.command == "fit":
            for key, kind in _FIT_CALLBACKS.items():
                parser.add_lightning_class_args(kind, key)
            parser.set_defaults({f"checkpoint.{name}": value for name, value in BEST.items()})
        if parser.command == "test":
            parser.add_argument(
                "--refit",
                type=int,
                default=0,
                help="Train anew at every so many origins, with the options of the checkpoint, on what lies before "
                "them only, instead of testing the checkpoint; --trainer has the options of these trainings.",
            )
        if parser.command in TABLES:
            parser.add_lightning_class_args(ForecastWriter, "forecast")
        if self.checkpoint is not None:
            parser.set_defaults(checkpoint_defaults(self.checkpoint))

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and compare with the checkpoint."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args)
        command = self.config.subcommand
        config = self.config[command]
        if self.ckpt_path is None and command != "fit":
            raise UserError(f"--ckpt_path is needed: armlp {command} uses the .ckpt file that `armlp fit` wrote.")
        if config.data.source is None and command != "export":
            raise UserError(f"--data.source is needed: {self.ckpt_path} was trained on a table in memory.")
        if config.ckpt_path != self.ckpt_path:
            raise UserError("ckpt_path stands in a configuration file; give it on the command line, as --ckpt_path.")
        if self.checkpoint is not None:
            merge_checkpoint(config, self.checkpoint, str(self.ckpt_path), is_resumed=command == "fit")
        config.ckpt_path = None  # of which Lightning would take the options of the model, against the command line

    def before_instantiate_classes(self) -> None:
        """Put what a command writes into the run of its checkpoint."""
        config = self.config[self.subcommand]
        config.ckpt_path = self.ckpt_path
        if self.subcommand in TABLES and config.forecast.output is None:
            config.forecast.output = str(run_folder(config.ckpt_path) / TABLES[self.subcommand])
        if self.subcommand in FILES and config.output is None:
            config.output = str(run_folder(config.ckpt_path) / FILES[self.subcommand])
        if self.subcommand == "predict":
            config.return_predictions = False  # the writer keeps what is needed of them

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer; only `fit` makes a run folder, and goes on in the old one when it resumes."""
        options = self.config_init[self.subcommand].trainer
        if self.subcommand != "fit":
            kwargs["logger"] = False
            self.save_config_callback = None
        elif options.logger in (None, True):
            kwargs["logger"] = RunLogger(options.default_root_dir, self.ckpt_path)
        elif options.logger is False:
            self.save_config_kwargs = {"save_to_log_dir": False}
        if options.barebones:
            kwargs |= _BAREBONES
            self.save_config_callback = None
        self._leave_out_callbacks({**options, **kwargs})
        with trainer_mistakes():
            return super().instantiate_trainer(**kwargs)

    def _leave_out_callbacks(self, options: Mapping[str, Any]) -> None:
        """Leave out the callbacks of what is switched off, which Lightning would refuse."""
        self._listener.progress = options["enable_progress_bar"] is not False
        always: list[Callback] = [StepBar()] if self._listener.progress else []
        always.append(self._listener)
        if self.subcommand == "test":
            always.append(TestDashboard(str(self.ckpt_path)))
        self.trainer_defaults = TRAINER | {"callbacks": always}
        off = {"checkpoint", "last_checkpoint"} if options["enable_checkpointing"] is False else set()
        if any(isinstance(callback, EarlyStopping) for callback in as_list(options["callbacks"])):
            off.add("early_stopping")
        if options["barebones"]:  # nothing is logged that they could work with
            off |= {*_FIT_CALLBACKS}
        parser = self.parsers[str(self.subcommand)]
        parser.callback_keys = [key for key in parser.callback_keys if key not in off]

    def fit(self, model: ForecastModule, **options: Any) -> None:
        """Train, after every check that needs no run folder."""

        def before_training() -> None:
            if self.trainer.is_global_zero:
                self._claim_folders(self.config.fit.trainer)

        if self.trainer.limit_train_batches == 0:
            raise UserError("`trainer.limit_train_batches`: 0 leaves nothing to train on; raise it, or leave it out.")
        self.model, _ = fit(self.trainer, model, self.datamodule, self._listener, self.ckpt_path, before_training)

    def _claim_folders(self, options: Namespace) -> None:
        """Make the folders of a training whose logger does not do it, so that no other training gets the same ones."""
        if not self.trainer.loggers and not options.fast_dev_run:
            keep = [one for one in all_callbacks(self.trainer) if isinstance(one, (BestCheckpoint, LastCheckpoint))]
            if keep := [one for one in keep if one.dirpath is None]:
                run = resumed_run(self.ckpt_path) or make_run_folder(runs_folder(options.default_root_dir))
                for callback in keep:
                    callback.dirpath = str(run / "checkpoints")
        elif self.ckpt_path is None:
            asked = options.logger if isinstance(options.logger, list) else [options.logger]
            for logger, option in zip(self.trainer.loggers, asked, strict=False):
                if isinstance(option, Namespace) and option.get("init_args.version") is None:
                    claim_log_folder(logger)

    def test(self, **options: Any) -> None:
        """Test the checkpoint, or with `--refit` models that are trained anew on the way."""
        config = self.config.test
        if not config.refit:
            self.trainer.test(**options)
            if self.trainer.is_global_zero:
                print_summaries(self.config_init.test.forecast.table)
            return
        check_bounds("--refit", config.refit, 0)
        checkpoint = read_checkpoint(config.ckpt_path)
        hparams = self.datamodule.hparams
        data = _changed_options(hparams, checkpoint["datamodule_hyper_parameters"])
        data |= {"test_step": hparams["test_step"], "test_gap": hparams["test_gap"]}
        data |= {"test_windows": hparams["test_windows"] or 1, "memory_budget": config.data.memory_budget}
        source = data.pop("source", self.datamodule.source)
        model = _changed_options(self.model.settings.flat(), checkpoint["hyper_parameters"])
        usual = {name: option.default for name, option in inspect.signature(Trainer).parameters.items()} | TRAINER
        trainer = _changed_options(self.config_init.test.trainer, usual)
        repeated = repeated_options(checkpoint, data, model, trainer)
        backtest_refitting(source, *repeated, self.config_init.test.forecast, config.refit, self._listener)

    def _print_outputs(self) -> None:
        """Print where the files are that a command has written."""
        if not self.trainer.is_global_zero:
            return
        options = self.config[self.subcommand]
        options = options.forecast if self.subcommand in TABLES else options
        print(f"{_WRITTEN[str(self.subcommand)]}: {options.output}")
        if self.subcommand == "predict":
            for what, path in {"paths": options.paths, "fan charts": options.plot}.items():
                if path is not None:
                    print(f"{what}: {path}")

    after_test = after_predict = after_score = after_export = _print_outputs


class _SaveConfig(SaveConfigCallback):
    """Save the configuration in the run folder, also without a logger."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it beside the checkpoints where there is no logger."""
        last = next((one for one in all_callbacks(trainer) if isinstance(one, LastCheckpoint)), None)
        if not self.save_to_log_dir and last is not None:
            path = Path(str(last.dirpath)).parent / self.config_filename
            # Values of None too; the name of that argument depends on the version of jsonargparse.
            self.parser.save(self.config, path, "parser_mode", False, overwrite=True)


def _changed_options(options: Mapping[str, Any] | Namespace, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not as they were before."""
    return {name: value for name, value in options.items() if value != before.get(name)}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; a user's mistake ends with one sentence on standard error and exit code 2."""
    quiet()
    # So that a configuration with defaults of Lightning that are enums can be written.
    yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, enum: dumper.represent_data(enum.value))
    args = list(sys.argv[1:] if args is None else args)
    # The meaning of options stands below each of them; reading it takes long, and only a help shows it.
    set_parsing_settings(docstring_parse_attribute_docstrings=not {"-h", "--help"}.isdisjoint(args))
    command = next(iter(args), None)
    warnings.formatwarning = lambda message, *_: f"armlp: {with_flags(str(message), command)}\n"  # no line of code
    try:
        ArmlpCLI(args)
    except (UserError, MisconfigurationException) as error:
        print(f"armlp: {with_flags(' '.join(str(error).split()), command)}", file=sys.stderr)
        sys.exit(2)
