"""The Python face: fit, predict, sample, backtest, save and load, over the same objects as the command line."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import nn

from armlp.arguments import check_argument, check_arguments
from armlp.commands import ScoringTrainer
from armlp.data.datamodule import SeriesDataModule
from armlp.data.tables.encoders import spell_symbols
from armlp.errors import UserError, check_bounds, one_line
from armlp.files import prepare_output
from armlp.presets import read_preset
from armlp.report.console import ConsoleListener, leakage_warning, print_summaries
from armlp.report.forecast_writer import ForecastWriter
from armlp.report.progress import StepBar
from armlp.report.runs import RunLogger
from armlp.report.tensorboard import Dashboard
from armlp.routing import pop_options, split_options
from armlp.training.checkpoint import read_checkpoint, write_checkpoint
from armlp.training.fit import fit_with_options
from armlp.training.listener import FitListener
from armlp.training.module import ForecastModule
from armlp.training.refit_backtest import backtest_refitting
from armlp.training.requested import Requested, warn_of_missing_callbacks
from armlp.training.sampling import from_all_ranks, in_order
from armlp.training.trainer import (
    TRAINER,
    callback_states,
    isolated_training,
    listed,
    quiet,
    restore_states,
    restored_generators,
    trainer_mistakes,
)

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


class Forecaster:
    """Fits an autoregressive MLP to a table of series and forecasts from it.

        forecaster = Forecaster(horizon=48).fit(table)
        forecast = forecaster.predict(levels=(80, 95))

    Args:
        horizon: `H`; from the frequency of the table where left out.
        seed: Of the weights, the batches and everything else that is drawn in training.
        preset: Options by a name (`fast`, `default`, `best`, `textbook`, `symbols`), or a YAML file of them; those
            that are given beside it win.
        **options: Any option of `SeriesDataModule` (`freq`, `season_length`, `val_windows`, ...), `ForecastModule`
            (`context_length`, `head`, `learning_rate`, ...) or Lightning's `Trainer` (`max_steps`, `accelerator`,
            `default_root_dir`, ...) by its name. What is left out is chosen from the data.

    Several threads may call `predict`, `sample`, `score` and `backtest` of one Forecaster at the same time. `fit` uses
    random generators that all threads share, so fits in several threads take turns. No call changes the state of the
    global generators of numpy, random and torch.

    A Forecaster can be pickled. As in a file of `save`, a table in memory is not in the pickle: `fit` and the options
    stay as they are, and `predict` needs a table, unless `fit` was given a path or a name. A copy keeps the table.

    Attributes:
        scores: Of the model and of the baselines, by forecaster and metric: those of the best validation after `fit`
            (before it was trained anew on the validation rows, where `refit` says so), those of all origins after
            `backtest`.

    Raises:
        UserError: An option is unknown or out of its range; the message names it.
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
        usual["data"].pop("source", None)  # the table is what is fitted
        own = {"seed": seed} | ({} if horizon is None else {"horizon": horizon})
        data, model, trainer = split_options(options, Forecaster, SeriesDataModule, ForecastModule, Trainer)
        given = usual["data"] | own | data
        checked = vars(SeriesDataModule(**given).given)
        self._data = self._given = {name: checked.get(name, value) for name, value in given.items()}
        self._model = usual["model"] | model
        self._trainer_options = check_arguments(Trainer.__init__, usual["trainer"] | trainer)
        self._trainer = TRAINER | self._trainer_options
        self._callback_states = callback_states(listed(self._trainer.get("callbacks")))
        with torch.device("meta"):  # which takes no memory, and draws no weights
            ForecastModule(**self._model)
        self._seed = int(checked["seed"])
        self._module: ForecastModule | None = None
        self._table: Any = None  # of `fit`
        self._checkpoint: dict[str, Any] | None = None
        self.scores: dict[str, dict[str, float]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what `save` keeps, the options and the scores."""
        _check_picklable(self._trainer)
        return vars(self) | {"_table": None, "_module": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore it, and build the network anew from the checkpoint."""
        quiet()
        vars(self).update(state)
        if self._checkpoint is not None:
            self._module = _module_of(self._checkpoint)

    def __copy__(self) -> Forecaster:
        """Return a copy that shares everything, the table of `fit` too; a fit of one does not change the other."""
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Forecaster:
        """Return a copy that shares what never changes: the table of `fit` and what it has trained."""
        memo |= {id(shared): shared for shared in (self._table, self._module, self._checkpoint)}
        copied = copy(self)
        vars(copied).update(deepcopy(vars(self), memo))
        return copied

    def fit(self, table: IntoFrame | str | os.PathLike[str]) -> Forecaster:
        """Trains on a table, and keeps the best checkpoint of its validation.

        Args:
            table: pandas, polars or pyarrow, the path of a CSV or Parquet file, or the name of a catalog data set.

        Returns:
            Itself.

        Raises:
            UserError: The table cannot be used; the message names what is wrong and the fix.
        """
        return self._fit(SeriesDataModule(table, **self._given))

    def _fit(self, data: SeriesDataModule) -> Forecaster:
        options = dict(self._trainer)
        if options.get("logger") in (None, True):
            options["logger"] = RunLogger(options.get("default_root_dir"))
        own = listed(options.get("callbacks"))
        restore_states(own, self._callback_states)
        listener, shown = self._listener()
        with isolated_training():
            seed_everything(self._seed, verbose=False)
            module, checkpoint = fit_with_options(
                ForecastModule(**self._model), data, options, [Dashboard(), *shown, *own], listener
            )
        self._restore(checkpoint or {})
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
        """Forecasts beyond the end of every series.

        Args:
            table: Series to forecast, seen in training or not, no refit; the table of `fit` where left out.
            horizon: `H`, any length; that of the training where left out.
            levels: Central coverages of the intervals, in percent.
            num_paths: `P`, sampled futures per series that quantiles are taken from.
            seed: Of the paths.
            temperature: Of symbols and bins: below 1 the likely ones become likelier, above 1 less so.
            top_k: Of symbols and bins: only the so many likeliest are drawn.
            future: A table of ids, times and known covariates in the horizon, where `table` has none.
            known_future: What if: a table of ids, times and targets in the horizon, as many or few as are known. Every
                path has these values, and what comes later is drawn given them; what comes earlier does not change. No
                other argument ever takes a target after the end of a series as known.
            precision: Of the products inside the network: `32-true`, or `bf16-mixed`, which is faster where they are
                large, and coarser.
            memory: What paths may take while they are made; series are forecast so many at a time.

        Returns:
            The same kind of table as came in, with the columns `unique_id, ds, armlp` (the median) and per level
            `armlp-lo-80, armlp-hi-80`, data units, sorted by `unique_id, ds`.

        Raises:
            UserError: There is nothing fitted, or the table cannot be used.
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
        """Sampled futures of every series, in the order of their ids.

        Args:
            table: As in `predict`.
            horizon: `H`, any length.
            num_paths: `P`.
            seed: Of the paths; the same seed and series give the same paths.
            temperature: As in `predict`.
            top_k: As in `predict`.
            future: As in `predict`.
            known_future: As in `predict`.
            precision: As in `predict`.
            memory: As in `predict`; what is returned comes on top.

        Returns:
            `[S, P, H]`, or `[S, P, H, V]` for vector series, float32, data units; of symbols, the symbols.
            It is float64 where a series near 1e9 varies by 1, say, which float32 would lose.

        Raises:
            UserError: There is nothing fitted, or the table cannot be used.
        """
        writer = ForecastWriter(None, (), num_paths, seed, temperature, top_k, precision, memory)
        data = self._data_of(table, horizon, future, known_future)
        module, parts = self._run("predict", data, writer, return_predictions=True)
        paths = in_order(from_all_ranks([part.cpu() for part in parts], module.trainer.world_size)).numpy()
        paths = paths[..., 0] if paths.shape[-1] == 1 else paths
        return spell_symbols(data.panel, paths) if data.panel.symbols else paths

    def score(self, table: IntoFrame | str | os.PathLike[str] | None = None, seed: int = 0) -> Any:
        """Scores every row by what was expected one step before it, given the truth until then: finds anomalies.

        Expected is what the network itself says: `conformal` recalibrates forecasts by lead, and scores of rows not.

        Rows that are needed as context are not scored: the first `L` of a series, or the first half of one that is
        shorter than `2 L`. Nor are those without a value.

        Args:
            table: As in `predict`. Rows that the model was trained on are likelier than new ones would be.
            seed: Of the draws within the PIT where a value has a probability of its own, as counts have.

        Returns:
            The same kind of table as came in, with the columns `unique_id, ds, y`; `log_likelihood`, data units; `pit`,
            the probability integral transform, which is even between 0 and 1 where the model is right; and
            `tail_probability`, that of a value at least as far out on either side: rows below `a` are false alarms with
            probability `a` (of counts and symbols at most `a`). Vectors have the last four of each channel, as `pit-x`.

        Raises:
            UserError: There is nothing fitted, the table cannot be used, or the head has no distribution (`point`).
        """
        data = self._data_of(table)
        progress = self._trainer.get("enable_progress_bar", True)
        with trainer_mistakes():
            trainer = ScoringTrainer(logger=False, **self._devices())
        return trainer.score(self._module_for_one_call(), data, seed=seed, progress=progress)

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
        """Forecasts the end of every series from several origins, each as if nothing after it were known.

        Without `refit` the model is the one that there is, and it says so if it was trained on the times that it is
        tested on: hold them out in `fit` with `test_windows`, `test_step` and `test_gap`.

        Args:
            table: Series to test on, seen in training or not; the table of `fit` where left out.
            windows: Origins of every series. Those that a series is too short for are left out.
            step: How many steps they are apart; `H` where left out. Windows may overlap.
            gap: How many steps after an origin are not known yet and do not count; `H` steps after them do.
            horizon: `H`, any length; that of the training where left out.
            levels: As in `predict`.
            num_paths: As in `predict`.
            seed: As in `predict`.
            refit: Train anew at every so many origins (`True` for each), with the options of the training, on what lies
                before the origin only; what they leave open is chosen anew from these rows. The forecaster itself stays
                as it is.
            precision: As in `predict`.
            memory: As in `predict`.

        Returns:
            A table as that of `predict`, with the columns `cutoff`, the time of the origin, and `y`, sorted by
            `unique_id, cutoff, ds`. `armlp.summarize_backtest` sums it up.

        Raises:
            UserError: There is nothing fitted, or the table cannot be used.
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
            elif sentence := leakage_warning(data):  # otherwise the report has printed it
                warnings.warn(sentence, stacklevel=2)
            return writer.table
        requested = Requested.from_checkpoint(self._fitted())
        warn_of_missing_callbacks(requested, listed(self._trainer.get("callbacks")))
        options |= {"memory_budget": self._given.get("memory_budget")}
        trainer = TRAINER | requested.trainer | self._trainer_options
        if not _gives_back(Trainer(logger=False, **self._devices())):
            trainer |= _ONE_DEVICE
        with isolated_training():
            self.scores = backtest_refitting(
                data.source,
                requested.data | options,
                requested.model,
                trainer,
                writer,
                int(refit),
                states=self._callback_states,
                listener=self._listener()[0],
            )
        return writer.table

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one `.ckpt` file, enough to forecast a new table, from Python or with `armlp predict`.

        Raises:
            UserError: There is nothing fitted, or the file cannot be written.
        """
        prepare_output(check_argument("path", path, _PATH), (".ckpt",))
        write_checkpoint(self._fitted(), path)

    def export(
        self,
        path: str | os.PathLike[str],
        horizon: int | None = None,
        num_paths: int = 200,
        levels: Sequence[float] = (80, 95),
    ) -> None:
        """Writes one ONNX file that holds the whole rollout, to forecast without torch and without armlp.

        Series, paths and steps may be any number when the file is used.

        Args:
            path: The file, `.onnx`.
            horizon: `H` that its metadata recommend; that of the training where left out.
            num_paths: `P` that they recommend.
            levels: Central coverages of the intervals, in percent.

        Raises:
            UserError: There is nothing fitted, the file cannot be written, what writes ONNX is not installed, or ONNX
                cannot hold the model.
        """
        from armlp.export import write_onnx

        data = self._fitted()["datamodule_hyper_parameters"]
        check_argument("path", path, _PATH)
        write_onnx(self._module_for_one_call(), data, path, horizon, num_paths, levels)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Forecaster:
        """Reads what `save` or `armlp fit` wrote. No code of the file is run.

        Args:
            path: A `.ckpt` file.
            **options: Of Lightning's `Trainer`, such as `accelerator`.

        Raises:
            UserError: The file is missing, cut short, or of another program.
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
        checkpoint = move_data_to_device(checkpoint, "cpu")  # so that it can be pickled for any machine
        self._data = dict(checkpoint["datamodule_hyper_parameters"])
        self._module, self._checkpoint = _module_of(checkpoint), checkpoint

    def _fitted(self) -> dict[str, Any]:
        if self._checkpoint is None:
            raise UserError("There is nothing fitted yet: call fit(table) first, or Forecaster.load(path).")
        return self._checkpoint

    def _data_of(
        self, table: Any, horizon: int | None = None, future: Any = None, known_future: Any = None, **others: Any
    ) -> SeriesDataModule:
        self._fitted()
        if table is None and self._table is None and "source" not in self._data:
            raise UserError(
                "The checkpoint holds no table: call predict(table) with the series to forecast; neither save nor "
                "pickle keeps a table in memory."
            )
        options = self._data | ({} if table is None else {"source": table})
        options |= {} if horizon is None else {"horizon": horizon}
        if table is None and self._table is not None:
            options["source"] = self._table
        here = {"future": future, "known_future": known_future, "memory_budget": self._given.get("memory_budget")}
        options |= {name: value for name, value in here.items() if value is not None} | others
        data = SeriesDataModule(**options)
        data.load_state_dict(self._fitted().get(SeriesDataModule.__qualname__, data.state_dict()))
        return data

    def _module_for_one_call(self) -> ForecastModule:
        """Return a module for one call, which shares the weights with those of other threads and nothing else."""
        assert self._module is not None
        weights = {
            id(weight): nn.Parameter(weight.detach(), weight.requires_grad) for weight in self._module.parameters()
        }
        return deepcopy(self._module, weights | {id(buffer): buffer.detach() for buffer in self._module.buffers()})

    def _run(
        self, command: str, data: SeriesDataModule, writer: ForecastWriter, **options: Any
    ) -> tuple[ForecastModule, Any]:
        """Run a command of the Trainer; the module that it used, and what it returned."""
        module, trainer = self._module_for_one_call(), self._tool(writer)
        # Lightning may seed the global generators anew in each of several processes.
        with restored_generators() if trainer.world_size > 1 else nullcontext():
            returned = getattr(trainer, command)(module, datamodule=data, **options)
        return module, returned

    def _tool(self, writer: ForecastWriter) -> Trainer:
        """A trainer that leaves no run."""
        options = {"logger": False, "callbacks": [writer, *self._listener()[1]], **self._devices()}
        with trainer_mistakes():
            trainer = Trainer(**options)
        return trainer if _gives_back(trainer) else Trainer(**options | _ONE_DEVICE)

    def _devices(self) -> dict[str, Any]:
        """The options of the Trainer that say on what it runs."""
        kept = ("accelerator", "devices", "strategy", "precision", "enable_progress_bar")
        return {name: self._trainer[name] for name in kept if name in self._trainer}

    def _listener(self) -> tuple[FitListener, list[Callback]]:
        """Return who listens to a fit, and the callbacks that print; nobody and none where nothing is to be shown."""
        if not self._trainer.get("enable_progress_bar", True):
            return FitListener(), []
        listener = ConsoleListener()
        return listener, [StepBar(), listener]


_PATH = str | os.PathLike[str]
_ONE_DEVICE: dict[str, Any] = {"devices": 1, "strategy": "auto"}


def _gives_back(trainer: Trainer) -> bool:
    """Return whether results come back to this process; of strategies that spawn or fork processes they do not."""
    try:
        trainer.predict_loop.return_predictions = True
    except MisconfigurationException:
        return False
    return True


def _module_of(checkpoint: dict[str, Any]) -> ForecastModule:
    with restored_generators(include_cuda=False):  # the first weights are drawn, and replaced
        module = ForecastModule(**checkpoint["hyper_parameters"])
    module.load_state_dict(checkpoint["state_dict"])
    module.on_load_checkpoint(checkpoint)
    return module


def _check_picklable(options: dict[str, Any]) -> None:
    """Raise a UserError for options of the Trainer that cannot be pickled, such as a callback with a lambda."""
    for name, value in options.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            try:
                pickle.dumps(one)
            except Exception as error:  # an object raises what it likes
                raise UserError(
                    f"{name}: {type(one).__name__} cannot be pickled ({one_line(error)}), so the Forecaster cannot be; "
                    "leave the option out, or use save(path), which keeps no options of the Trainer."
                ) from error
