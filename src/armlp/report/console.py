"""The printed report of a command."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from armlp.data.datamodule import SeriesDataModule
from armlp.data.summary import DataSummary
from armlp.evaluation.backtest_summary import summarize_backtest
from armlp.report.comparison import compare_with_baselines, format_score
from armlp.report.forecast_writer import ForecastWriter
from armlp.training.callbacks import LastCheckpoint, best_checkpoint
from armlp.training.listener import FitListener
from armlp.training.module import ForecastModule
from armlp.training.progress import StepBar
from armlp.training.recipe import Choice, explained
from armlp.training.trainer import all_callbacks
from armlp.training.trials import Trial, best_of

# By how much they tell: where the table is too wide for the terminal, the last ones are left out.
_HEADINGS = {
    "skill": "skill", "mase": "MASE", "mae": "MAE", "smape": "sMAPE", "crps": "CRPS", "wql": "wQL",
    "coverage_80": "in 80%", "coverage_95": "in 95%", "error_rate": "wrong", "perplexity": "perplexity", "nll": "NLL",
    "rmsse": "RMSSE", "owa": "OWA", "rmse": "RMSE",
}  # fmt: skip
_ORDER = (
    "mae", "rmse", "smape", "mase", "rmsse", "wql", "crps", "coverage_80", "coverage_95", "error_rate", "nll",
    "perplexity", "owa", "skill",
)  # fmt: skip
_MAX_ROWS = 6  # of a test by lead or by series


class ConsoleListener(FitListener):
    """Prints what a training tells."""

    def __init__(self) -> None:
        self._trials: Sequence[Trial] = ()

    def progress_bar(self, description: str, steps: int) -> list[Callback]:
        """Return a bar for one part of a training."""
        return [StepBar(description, steps)]

    def trials_ended(self, trials: Sequence[Trial]) -> None:
        """Keep the trials, to be printed below the data."""
        self._trials = trials

    def settled(self, data: DataSummary, choices: Mapping[str, Choice]) -> None:
        """Print what the data are, what was tried and chosen, and why."""
        print_summary(data)
        if self._trials:
            print_trials(self._trials)
        if choices:
            print_choices(choices)

    def final_training_ended(self, name: str, steps: int) -> None:
        """Print that there was a final training."""
        print(f"{name} was then trained anew on the validation rows too, for {steps} steps; the scores are of before.")

    def backtest_ended(
        self, scores: Mapping[str, Mapping[str, float]], num_origins: int, horizon: int, refit: int, table: Any
    ) -> None:
        """Print the scores of a backtest."""
        every = "every origin" if refit == 1 else f"every {refit} origins"
        print_scores(scores, f"Test, {num_origins} x {horizon} steps, trained anew for {every}")
        print_summaries(table)


class Report(Callback):
    """Prints the data and what was chosen when training starts, and how good the model is when that is known."""

    def __init__(self) -> None:
        self._has_trained = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints what the data are, what was chosen from them, and why."""
        assert isinstance(pl_module, ForecastModule)
        self._has_trained = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the scores of the best checkpoint, and where it is."""
        if not trainer.is_global_zero or not self._has_trained:
            return
        assert isinstance(pl_module, ForecastModule)
        if pl_module.best_scores is not None:
            print_scores(pl_module.best_scores, "Validation, best checkpoint")
        checkpoint = best_checkpoint(trainer)
        last = next((one for one in all_callbacks(trainer) if isinstance(one, LastCheckpoint)), None)
        if checkpoint is not None and checkpoint.best_model_path and not checkpoint.is_temporary:
            print(f"best checkpoint: {os.path.relpath(checkpoint.best_model_path)}")
        elif last is not None and last.best_model_path:
            print(
                f"nothing was validated, so there is no best checkpoint, only {os.path.relpath(last.best_model_path)}"
            )
        if isinstance(trainer.logger, TensorBoardLogger):
            print(f"to look at it: tensorboard --logdir {os.path.relpath(trainer.logger.root_dir)}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the scores of `validate`; in training the bar shows them."""
        assert isinstance(pl_module, ForecastModule)
        if trainer.is_global_zero and trainer.state.fn == TrainerFn.VALIDATING:
            seen = leakage_warning(pl_module.datamodule, "val") if pl_module.refit_steps else None
            print_scores(pl_module.scores, "Validation", seen)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the scores of the test origins, and says whether training has seen them."""
        assert isinstance(pl_module, ForecastModule)
        if not trainer.is_global_zero:
            return
        data = pl_module.datamodule
        split = data.test_split
        origins = len(split.origins(data.panel.lengths, "test")[0])
        after = f", each after a gap of {split.test_gap}," if split.test_gap else ""
        title = f"Test, {origins} x {data.horizon} steps{after} at the end of {data.panel.name}"
        print_scores(pl_module.scores, title, leakage_warning(data))
        writer = next((one for one in all_callbacks(trainer) if isinstance(one, ForecastWriter)), None)
        if writer is not None:
            print_summaries(writer.table)


def leakage_warning(data: SeriesDataModule, part: str = "test") -> str | None:
    """That the times of a part, `test` or `val`, were trained on, in a sentence; None where they were not."""
    seen = data.series_seen(part)
    if not seen:
        return None
    fix = "to hold them out" if part == "test" else "and judge it by armlp test"
    return (
        f"Caution: the checkpoint was trained on these times in {seen} of {len(data.panel)} series, so this flatters "
        f"it; train with `test_windows` {fix}."
    )


def print_summaries(backtest: Any) -> None:
    """Prints a backtest table by lead and by series, of each some rows at most."""
    for by in ("lead", "series"):
        rows = nw.from_native(summarize_backtest(backtest, by)).lazy().collect().rows(named=True)
        if len(rows) < 2:
            continue
        count = min(len(rows), _MAX_ROWS)
        title, shown = f"Test by series, the worst {count} of {len(rows)} first", list(range(count))
        if by == "lead":
            title, shown = "Test by lead", [round(place * (len(rows) - 1) / (count - 1)) for place in range(count)]
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        for name in rows[0]:
            heading = _HEADINGS.get(name.replace("-", "_"), name).replace("unique_id", "series")
            table.add_column(f"{heading} ", justify="left" if name in ("unique_id", "channel") else "right")
        for place in shown:
            table.add_row(*(Text(f"{_cell(*cell)} ") for cell in rows[place].items()))
        Console().print(table)


def _cell(name: str, value: Any) -> str:
    if name in ("unique_id", "channel", "lead"):
        return str(value)
    return f"{value:,}" if name == "count" else format_score(name, value)


def print_summary(summary: DataSummary) -> None:
    """Prints what a data set is."""
    table = Table(title=escape(f"The data: {summary.name}"), title_justify="left", show_header=False)
    for row in summary.rows().items():
        table.add_row(*map(Text, row))  # the names of a user are no markup
    Console().print(table)


def print_trials(trials: Sequence[Trial]) -> None:
    """Prints what was tried on the validation origins, and how good it was; what is then trained is marked."""
    scores = [name for name in ("skill", "scaled_crps", "error_rate") if any(name in trial.scores for trial in trials)]
    headings = [{"scaled_crps": "scaled CRPS"}.get(name, _HEADINGS.get(name, name)) for name in scores]
    table = Table("tried", "with", title="Tried on validation", title_justify="left")
    for heading in (*headings, "seconds"):
        table.add_column(heading, justify="right")
    best = best_of(trials)
    for trial in trials:
        differing = ", ".join(f"{name} {value}" for name, value in trial.options.items())
        found = [format_score(name, trial.scores.get(name, math.nan)) for name in scores]
        row = (trial.name, differing or "what the data suggest", *found, f"{trial.seconds:.1f}")
        table.add_row(*map(Text, row), style="bold" if trial is best else None)
    Console().print(table)


def print_choices(choices: Mapping[str, Choice]) -> None:
    """Prints options, their values, and the reasons."""
    table = Table("option", "chosen", "because", title="Chosen from the data", title_justify="left")
    for row in explained(choices):
        table.add_row(*map(Text, row))
    Console().print(table)


def print_scores(scores: Mapping[str, Mapping[str, float]], title: str, caption: str | None = None) -> None:
    """Prints the model's scores beside the baselines', the best marked, and says in words who is better.

    Args:
        scores: Metrics by forecaster, as `Scoreboard.summary` returns them.
        title: Of the table.
        caption: A sentence below it.
    """
    console = Console()
    shown = [name for name in _HEADINGS if any(not math.isnan(row.get(name, math.nan)) for row in scores.values())]
    table = _score_table(scores, shown, title)
    unbounded = console.options.update(max_width=10 * console.width)
    while len(shown) > 1 and console.measure(table, options=unbounded).maximum > console.width:
        shown.pop()
        table = _score_table(scores, shown, title)
    console.print(table)
    for sentence in (*compare_with_baselines(scores), *([caption] if caption else [])):
        console.print(sentence, highlight=False)


def _score_table(scores: Mapping[str, Mapping[str, float]], shown: Sequence[str], title: str) -> Table:
    """Rows of forecasters; the best of each column has an asterisk."""
    table = Table("", title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=0)
    columns = []
    for name in (name for name in _ORDER if name in shown):
        table.add_column(f"{_HEADINGS[name]} ", justify="right", no_wrap=True)
        values = [row.get(name, math.nan) for row in scores.values()]
        rivals = [value for value in values if not math.isnan(value)]
        marked = len(set(rivals)) > 1 and not name.startswith("coverage")
        best = format_score(name, (max if name == "skill" else min)(rivals)) if marked else None
        texts = [format_score(name, value) for value in values]
        columns.append([Text(f"{text}*", "bold") if text == best else f"{text} " for text in texts])
    for forecaster, *cells in zip(scores, *columns, strict=True):
        table.add_row(forecaster, *cells)
    return table
