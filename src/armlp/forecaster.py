"""The Python interface: fit, predict, sample, backtest, save and load."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import nn

from armlp.arguments import check_argument
from armlp.commands import CommandTrainer
from armlp.data.datamodule import SeriesDataModule
from armlp.data.tables.encoders import spell_values
from armlp.errors import UserError, check_bounds
from armlp.files import prepare_output
from armlp.presets import read_preset
from armlp.report.console import ConsoleListener, leakage_warning, print_summaries
from armlp.report.forecast_writer import ForecastWriter
from armlp.report.progress import StepBar
from armlp.report.runs import RunLogger
from armlp.report.tensorboard import Dashboard
from armlp.routing import pop_options, split_options
from armlp.training.fit import fit_with_options
from armlp.training.loop.checkpoint import read_checkpoint, write_checkpoint
from armlp.training.loop.listener import FitListener
from armlp.training.loop.trainer import (
    ONE_DEVICE,
    TRAINER,
    as_list,
    callback_states,
    check_picklable,
    check_trainer_options,
    isolated_training,
    quiet,
    restore_states,
    restored_generators,
    returns_results,
    trainer_mistakes,
)
from armlp.training.module import ForecastModule
from armlp.training.refit_backtest import backtest_refitting, repeated_options
from armlp.training.sampling import from_all_ranks, in_order

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


class Forecaster:
    """Fit an autoregressive MLP to a table of series and forecast from it.

        forecaster = Forecaster(horizon=48).fit(table)
        forecast = forecaster.predict(levels=(80, 95))

    Args:
        horizon: `H`; default: from the frequency of the table.
        seed: Seed of everything that is random in training, such as weights and batches.
        preset: A set of options by name (`fast`, `default`, `best`, `textbook`, `symbols`) or a YAML file of them;
            options that are also given directly override it.
        **options: Any option of `SeriesDataModule` (`freq`, `season_length`, `val_windows`, ...), `ForecastModule`
            (`context_length`, `head`, `learning_rate`, ...) or Lightning's `Trainer` (`max_steps`, `accelerator`,
            `default_root_dir`, ...) by its name. Options that are left out are chosen from the data.

    Several threads may call `predict`, `sample`, `score` and `backtest` of one Forecaster at the same time; fits in
    several threads take turns, because they use global random generators. No call changes the state of the global
    generators of numpy, random and torch.

    A Forecaster can be pickled. Neither pickles nor files of `save` hold a table in memory: `predict` then needs a
    table, unless `fit` was given a path or a name. Copies keep the table.

    Attributes:
        scores: Scores of the model and the baselines, by forecaster and metric. After `fit`, those of the best
            validation (before a `refit` on the validation rows); after `backtest`, those of all origins.

    Raises:
        UserError: An option is unknown or out of its range, nothing has been fitted yet, or a table or a file cannot be
            used. The message names what is wrong and the fix. All methods raise it.
    """

    def __init__(
        self,
        horizon: int | None = None,
        *,
        seed: int = 0,
        preset: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        quiet()
        usual = read_preset(check_argument("preset", preset, str | os.PathLike[str] | None))
        usual["data"].pop("source", None)  # `fit` takes the table
        own = {"seed": seed} | ({} if horizon is None else {"horizon": horizon})
        data, model, trainer = split_options(options, Forecaster, SeriesDataModule, ForecastModule, Trainer)
        given = usual["data"] | own | data
        checked = vars(SeriesDataModule(**given).given)
        self._data = self._given = {name: checked.get(name, value) for name, value in given.items()}
        self._model = usual["model"] | model
        self._trainer_options = check_trainer_options(usual["trainer"] | trainer)
        self._trainer = TRAINER | self._trainer_options
        self._callback_states = callback_states(as_list(self._trainer.get("callbacks")))
        with torch.device("meta"):  # checks the options without memory or random numbers
            ForecastModule(**self._model)
        self._seed = int(checked["seed"])
        self._module: ForecastModule | None = None
        self._table: Any = None  # the table of `fit`
        self._checkpoint: dict[str, Any] | None = None
        self.scores: dict[str, dict[str, float]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the table and the network, which `__setstate__` builds from the checkpoint."""
        check_picklable(self._trainer)
        return vars(self) | {"_table": None, "_module": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        quiet()
        vars(self).update(state)
        if self._checkpoint is not None:
            self._restore(self._checkpoint)

    def __copy__(self) -> Forecaster:
        """Return a copy that shares everything, also the table; fitting one does not change the other."""
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Forecaster:
        """Return a deep copy that shares what never changes: the table, the network and the checkpoint."""
        memo |= {id(shared): shared for shared in (self._table, self._module, self._checkpoint)}
        copied = copy(self)
        vars(copied).update(deepcopy(vars(self), memo))
        return copied

    def fit(self, table: IntoFrame | str | os.PathLike[str]) -> Forecaster:
        """Train on a table, and keep the checkpoint of the best validation.

        Args:
            table: pandas, polars or pyarrow, the path of a CSV or Parquet file, or the name of a catalog data set.

        Returns:
            The forecaster itself.
        """
        data, options = SeriesDataModule(table, **self._given), dict(self._trainer)
        if options.get("logger") in (None, True):
            options["logger"] = RunLogger(options.get("default_root_dir"))
        own = as_list(options.get("callbacks"))
        restore_states(own, self._callback_states)
        listener, shown = self._listener()
        with isolated_training():
            seed_everything(self._seed, verbose=False)
            module, checkpoint = fit_with_options(
                ForecastModule(**self._model), data, options, [Dashboard(), *shown, *own], listener
            )
            self._restore(checkpoint or {})  # which draws weights before it replaces them
        self._table, self.scores = data.source, module.best_scores or {}
        return self

    def predict(
        self,
        table: IntoFrame | str | os.PathLike[str] | None = None,
        horizon: int | None = None,
        levels: Sequence[float] = (80, 95),
        num_paths: int = 200,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        future: IntoFrame | str | os.PathLike[str] | None = None,
        known_future: IntoFrame | str | os.PathLike[str] | None = None,
        precision: str = "32-true",
        memory: str | int = "1GB",
    ) -> Any:
        """Forecast beyond the end of every series.

        Args:
            table: Series to forecast, which need not be those of the training; default: the table of `fit`.
            horizon: `H`, any length; default: that of the training.
            levels: Central coverages of the intervals, in percent.
            num_paths: `P`, sampled futures per series, whose quantiles are the forecast.
            seed: Seed of the paths; a series has the same paths with the same seed.
            temperature: For categorical heads: below 1 likely values become likelier, above 1 less likely.
            top_k: For categorical heads: draw from the `top_k` likeliest values only.
            future: A table of ids, times and known covariates in the horizon, if `table` does not hold them.
            known_future: What if: a table of ids, times and some targets in the horizon. All paths take these values,
                and later values are drawn given them; earlier values do not change. No other argument supplies targets
                after the end of a series.
            precision: Precision of matrix products in the network: `32-true`, or `bf16-mixed`, which is faster for
                large networks, and coarser.
            memory: Memory for paths, which limits how many series are forecast at a time.

        Returns:
            A table of the same kind as the input, with the columns `unique_id, ds, armlp` (the median) and
            `armlp-lo-80, armlp-hi-80` for each level, data units, sorted by `unique_id, ds`.
        """
        writer = ForecastWriter(None, levels, num_paths, seed, temperature, top_k, precision, memory)
        data = self._data_of(table, horizon, future, known_future)
        self._run("predict", data, writer, return_predictions=False)
        return writer.table

    def sample(
        self,
        table: IntoFrame | str | os.PathLike[str] | None = None,
        horizon: int | None = None,
        num_paths: int = 200,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        future: IntoFrame | str | os.PathLike[str] | None = None,
        known_future: IntoFrame | str | os.PathLike[str] | None = None,
        precision: str = "32-true",
        memory: str | int = "1GB",
    ) -> np.ndarray:
        """Return sampled futures of every series, in the order of their ids.

        The arguments are those of `predict`. The result itself takes memory on top of `memory`.

        Returns:
            `[S, P, H]`, or `[S, P, H, V]` for vector series, data units; symbols for series of symbols. It is float32,
            or float64 if float32 would lose digits, as for a series near 1e9 that varies by 1.
        """
        writer = ForecastWriter(None, (), num_paths, seed, temperature, top_k, precision, memory)
        data = self._data_of(table, horizon, future, known_future)
        module, parts = self._run("predict", data, writer, return_predictions=True)
        paths = in_order(from_all_ranks([part.cpu() for part in parts], module.trainer.world_size)).numpy()
        paths = paths[..., 0] if paths.shape[-1] == 1 else paths
        return spell_values(data.panel, paths)

    def score(self, table: IntoFrame | str | os.PathLike[str] | None = None, seed: int = 0) -> Any:
        """Score every row by its probability given the rows before it, to find anomalies.

        The distribution is that of the network: `conformal` does not recalibrate it. Rows without a value are not
        scored, nor are rows that serve as context only: the first `L` of a series, or the first half of one shorter
        than `2 L`.

        Args:
            table: As in `predict`. Rows of the training are likelier than new rows would be.
            seed: Seed of the draws in the PIT of values that have a probability, such as counts.

        Returns:
            A table of the same kind as the input, with the columns `unique_id, ds, y`; `log_likelihood`, data units;
            `pit`, the probability integral transform, which is uniform on [0, 1] if the model is right; and
            `tail_probability`, that of a value at least as far out on either side: a threshold of `a` gives false
            alarms with probability `a` (at most `a` for counts and symbols). For vectors, the last four appear once per
            channel, as `pit-x`.

        Raises:
            UserError: Nothing has been fitted, the table cannot be used, or the head has no distribution (`point`).
        """
        data = self._data_of(table)
        progress = self._trainer.get("enable_progress_bar", True)
        return self._tool().score(self._module_for_one_call(), data, seed=seed, progress=progress)

    def backtest(
        self,
        table: IntoFrame | str | os.PathLike[str] | None = None,
        windows: int = 1,
        step: int | None = None,
        gap: int = 0,
        horizon: int | None = None,
        levels: Sequence[float] = (80, 95),
        num_paths: int = 200,
        seed: int = 0,
        refit: bool | int = False,
        precision: str = "32-true",
        memory: str | int = "1GB",
    ) -> Any:
        """Forecast the end of every series from several origins, using only the values before each origin.

        Without `refit` the fitted model makes all forecasts, with a warning if it was trained on the tested times: hold
        them out in `fit` by `test_windows`, `test_step` and `test_gap`. Arguments not listed here are those of
        `predict`.

        Args:
            windows: Number of origins per series; those for which a series is too short are left out.
            step: Steps between origins; default: `H`. Windows may overlap.
            gap: Steps after an origin that are neither known nor scored; the `H` steps after them are scored.
            refit: Train anew at every `refit`-th origin (`True`: at each) on the rows before it, with the options of
                the training; options that were left out are chosen anew. The forecaster itself does not change.

        Returns:
            A table as that of `predict`, with the columns `cutoff`, the time of the origin, and `y`, sorted by
            `unique_id, cutoff, ds`. `armlp.summarize_backtest` summarizes it.
        """
        windows, gap = check_argument("windows", windows, int), check_argument("gap", gap, int)
        step, refit = check_argument("step", step, int | None), check_argument("refit", refit, int | bool)
        for name, value, least in (("windows", windows, 1), ("step", step, 1), ("gap", gap, 0), ("refit", refit, 0)):
            check_bounds(name, value, least)
        writer = ForecastWriter(None, levels, num_paths, seed, precision=precision, memory=memory)
        options: dict[str, Any] = {"test_windows": windows, "test_step": step, "test_gap": gap}
        data = self._data_of(table, horizon, None, **options)
        options["horizon"] = data.settings.horizon
        if not refit:
            module, _ = self._run("test", data, writer, verbose=False)
            self.scores = module.scores
            _, shown = self._listener()
            if shown:
                print_summaries(writer.table)
            elif sentence := leakage_warning(data):  # print_summaries has printed it otherwise
                warnings.warn(sentence, stacklevel=2)
            return writer.table
        options |= {"memory_budget": self._given.get("memory_budget")}
        trainer = self._trainer_options
        if not returns_results(Trainer(logger=False, **self._devices())):
            trainer = trainer | ONE_DEVICE
        repeated = repeated_options(self._fitted(), options, {}, trainer)
        listener, _ = self._listener()
        with isolated_training():
            self.scores = backtest_refitting(
                data.source, *repeated, writer, int(refit), listener, self._callback_states
            )
        return writer.table

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one `.ckpt` file, enough to forecast a new table, from Python or with `armlp predict`."""
        prepare_output(check_argument("path", path, _PATH), (".ckpt",))
        write_checkpoint(self._fitted(), path)

    def export(
        self,
        path: str | os.PathLike[str],
        horizon: int | None = None,
        num_paths: int = 200,
        levels: Sequence[float] = (80, 95),
    ) -> None:
        """Write the whole rollout as one ONNX file, to forecast without torch and without armlp.

        The file takes any number of series, paths and steps.

        Args:
            path: The file, `.onnx`.
            horizon: Recommended `H`, stored in the metadata; default: that of the training.
            num_paths: Recommended `P`, stored in the metadata.
            levels: Central coverages of the intervals, in percent.

        Raises:
            UserError: Nothing has been fitted, the file cannot be written, a package for ONNX is missing, or ONNX
                cannot represent the model.
        """
        from armlp.export import write_onnx

        data = self._fitted()["datamodule_hyper_parameters"]
        check_argument("path", path, _PATH)
        write_onnx(self._module_for_one_call(), data, path, horizon, num_paths, levels)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Forecaster:
        """Read a file of `save` or `armlp fit`, without running code from it.

        Args:
            path: A `.ckpt` file.
            **options: Options of Lightning's `Trainer`, such as `accelerator`.
        """
        check_argument("path", path, _PATH)
        forecaster = cls(**pop_options(Trainer, wrong := dict(options)))
        if wrong:
            raise UserError(
                f"{next(iter(wrong))} is settled in the checkpoint; load takes only options of Lightning's Trainer."
            )
        forecaster._restore(read_checkpoint(path))
        return forecaster

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        checkpoint = move_data_to_device(checkpoint, "cpu")  # so that a pickle loads on any machine
        self._data = dict(checkpoint["datamodule_hyper_parameters"])
        with restored_generators(include_cuda=False):  # initial weights are drawn, then replaced
            module = ForecastModule(**checkpoint["hyper_parameters"])
        module.restore(checkpoint)
        self._module, self._checkpoint = module, checkpoint

    @property
    def module(self) -> ForecastModule:
        """The fitted LightningModule; raises a UserError if nothing has been fitted yet."""
        self._fitted()
        assert self._module is not None
        return self._module

    def _fitted(self) -> dict[str, Any]:
        if self._checkpoint is None:
            raise UserError("There is nothing fitted yet: call fit(table) first, or Forecaster.load(path).")
        return self._checkpoint

    def _data_of(
        self, table: Any, horizon: int | None = None, future: Any = None, known_future: Any = None, **others: Any
    ) -> SeriesDataModule:
        checkpoint = self._fitted()
        table = self._table if table is None else table
        if table is None and "source" not in self._data:
            raise UserError(
                "The checkpoint holds no table: call predict(table) with the series to forecast; neither save nor "
                "pickle keeps a table in memory."
            )
        here = {"source": table, "horizon": horizon, "future": future, "known_future": known_future}
        here["memory_budget"] = self._given.get("memory_budget")
        data = SeriesDataModule(**self._data | {name: one for name, one in here.items() if one is not None} | others)
        data.load_state_dict(checkpoint.get(SeriesDataModule.__qualname__, data.state_dict()))
        return data

    def _module_for_one_call(self) -> ForecastModule:
        """Return a module for one call, which shares only its weights with the calls of other threads."""
        assert self._module is not None
        weights = {
            id(weight): nn.Parameter(weight.detach(), weight.requires_grad) for weight in self._module.parameters()
        }
        return deepcopy(self._module, weights | {id(buffer): buffer.detach() for buffer in self._module.buffers()})

    def _run(
        self, command: str, data: SeriesDataModule, writer: ForecastWriter, **options: Any
    ) -> tuple[ForecastModule, Any]:
        """Run a command of the Trainer; return the module that it used and the command's result."""
        module, trainer = self._module_for_one_call(), self._tool(writer)
        # With several processes, Lightning may seed the global generators.
        with restored_generators() if trainer.world_size > 1 else nullcontext():
            returned = getattr(trainer, command)(module, datamodule=data, **options)
        return module, returned

    def _tool(self, *callbacks: Callback) -> CommandTrainer:
        """Return a Trainer that writes no run."""
        options = {"logger": False, "callbacks": [*callbacks, *self._listener()[1]], **self._devices()}
        with trainer_mistakes():
            trainer = CommandTrainer(**options)
        return trainer if returns_results(trainer) else CommandTrainer(**options | ONE_DEVICE)

    def _devices(self) -> dict[str, Any]:
        """Return the options of the Trainer that select devices and precision."""
        kept = ("accelerator", "devices", "strategy", "precision", "enable_progress_bar")
        return {name: self._trainer[name] for name in kept if name in self._trainer}

    def _listener(self) -> tuple[FitListener, list[Callback]]:
        """Return the listener of a fit and the callbacks that print; both do nothing without a progress bar."""
        if not self._trainer.get("enable_progress_bar", True):
            return FitListener(), []
        listener = ConsoleListener()
        return listener, [StepBar(), listener]


_PATH = str | os.PathLike[str]
