"""Printed reports."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
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
from armlp.evaluation.labels import best_score, format_score, label, shown
from armlp.evaluation.quantiles import MODEL
from armlp.report.progress import StepBar
from armlp.report.texts import choice_rows, compare_with_baselines, judge_intervals
from armlp.training.loop.callbacks import LastCheckpoint, best_checkpoint
from armlp.training.loop.listener import FitListener, Trial
from armlp.training.module import ForecastModule
from armlp.training.recipe import Choice
from armlp.training.trials import best_of

_MAX_ROWS = 6  # of a test by lead or by series


class ConsoleListener(FitListener, Callback):
    """Print the data and the chosen options when training starts, and the scores when they are known.

    `spell` rewrites the options named in a sentence, as `armlp.parser.with_flags` does.
    """

    def __init__(self, progress: bool = True, spell: Callable[[str], str] = str) -> None:
        self.progress, self.spell = progress, spell
        self._has_trained = False
        self._trials: Sequence[Trial] = ()

    def progress_bar(self, description: str, steps: int | None) -> list[Callback]:
        """Return a progress bar, if `progress`."""
        return [StepBar(description, steps)] if self.progress else []

    def trials_ended(self, trials: Sequence[Trial]) -> None:
        """Keep the trials to print them after the data."""
        self._trials = trials

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the data, the trials, and the chosen options with their reasons."""
        assert isinstance(pl_module, ForecastModule)
        self._has_trained = True
        if not trainer.is_global_zero:
            return
        print_summary(pl_module.datamodule.summary())
        if self._trials:
            print_trials(self._trials)
        if pl_module.reasons:
            print_choices(pl_module.reasons)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the scores and the path of the best checkpoint."""
        assert isinstance(pl_module, ForecastModule)
        if not trainer.is_global_zero or not self._has_trained:
            return
        if pl_module.best_scores is not None:
            windows = pl_module.datamodule.num_val_windows
            print_scores(pl_module.best_scores, "Validation, best checkpoint", spell=self.spell, windows=windows)
        best = best_checkpoint(trainer)
        last = next((one for one in trainer.checkpoint_callbacks if isinstance(one, LastCheckpoint)), None)
        if best is not None and best.best_model_path and not best.is_temporary:
            print(f"best checkpoint: {os.path.relpath(best.best_model_path)}")
        elif last is not None and last.best_model_path:
            path = os.path.relpath(last.best_model_path)
            print(f"nothing was validated, so there is no best checkpoint, only {path}")
        if isinstance(trainer.logger, TensorBoardLogger):
            print(f"to see the training: tensorboard --logdir {os.path.relpath(trainer.logger.root_dir)}")

    def refit_ended(self, name: str, steps: int) -> None:
        """Print that the best checkpoint was trained on the validation rows too."""
        print(
            f"{name} was then trained anew on the validation rows too, for {steps} steps; the scores above are "
            "from before."
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the scores of `validate`; a fit prints those of its best checkpoint at the end."""
        assert isinstance(pl_module, ForecastModule)
        if trainer.is_global_zero and trainer.state.fn == TrainerFn.VALIDATING:
            warning = leakage_warning(pl_module.datamodule, "val") if pl_module.refit_steps else None
            windows = pl_module.datamodule.num_val_windows
            print_scores(pl_module.scores, "Validation", warning, spell=self.spell, windows=windows)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the scores of the test, and a warning if the model was trained on the same times."""
        assert isinstance(pl_module, ForecastModule)
        if not trainer.is_global_zero:
            return
        data = pl_module.datamodule
        split = data.test_split
        origins = len(split.origins(data.panel.lengths, "test")[0])
        gap = f", each after a gap of {split.test_gap}," if split.test_gap else ""
        title = f"Test, {origins} x {data.horizon} steps{gap} at the end of {data.panel.name}"
        print_scores(pl_module.scores, title, leakage_warning(data), spell=self.spell, windows=origins)

    def backtest_ended(
        self, scores: Mapping[str, Mapping[str, float]], num_origins: int, horizon: int, refit: int, table: Any
    ) -> None:
        """Print the scores of a backtest with refits, and its table by lead and by series."""
        every = "every origin" if refit == 1 else f"every {refit} origins"
        title = f"Test, {num_origins} x {horizon} steps, trained anew for {every}"
        print_scores(scores, title, spell=self.spell, windows=num_origins)
        print_summaries(table)


def leakage_warning(data: SeriesDataModule, part: str = "test") -> str | None:
    """Return a warning if the model was trained on the times of `part`, `test` or `val`; None if not."""
    count = data.series_seen(part)
    if not count:
        return None
    fix = "to hold them out" if part == "test" else "and judge it by armlp test"
    return (
        f"Caution: the checkpoint was trained on these times in {count} of {len(data.panel)} series, so its score is "
        f"too good; train with `test_windows` {fix}."
    )


def print_summaries(backtest: Any) -> None:
    """Print a backtest table by lead and by series, at most six rows of each."""
    for by in ("lead", "series"):
        rows = nw.from_native(summarize_backtest(backtest, by)).lazy().collect().rows(named=True)
        count = min(len(rows), _MAX_ROWS)
        if count < 2:
            continue
        if by == "lead":  # evenly spaced
            title, rows = "Test by lead", [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]
        else:
            title = f"Test by series, the worst {count} of {len(rows)} first"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        for name in rows[0]:
            heading = "series" if name == "unique_id" else label(name).heading
            table.add_column(f"{heading} ", justify="left" if name in ("unique_id", "channel") else "right")
        for row in rows[:count]:
            table.add_row(*(Text(f"{_format_cell(*cell)} ") for cell in row.items()))
        Console().print(table)


def _format_cell(name: str, value: Any) -> str:
    if name in ("unique_id", "channel", "lead"):
        return str(value)
    return f"{value:,}" if name == "count" else format_score(name, value)


def print_summary(summary: DataSummary) -> None:
    """Print the summary of a data set."""
    table = Table(title=escape(f"The data: {summary.name}"), title_justify="left", show_header=False)
    for row in summary.rows().items():
        table.add_row(*map(Text, row))  # plain text, because names of a user may look like markup
    Console().print(table)


def print_trials(trials: Sequence[Trial]) -> None:
    """Print the candidates with their scores on validation, the best in bold."""
    metrics = [name for name in ("skill", "scaled_crps", "error_rate") if any(name in trial.scores for trial in trials)]
    table = Table("tried", "with", title="Tried on validation", title_justify="left")
    for heading in (*(label(name).heading for name in metrics), "seconds"):
        table.add_column(heading, justify="right")
    best = best_of(trials)
    for trial in trials:
        options = ", ".join(f"{name} {value}" for name, value in trial.options.items())
        scores = [format_score(name, trial.scores.get(name, math.nan)) for name in metrics]
        row = (trial.name, options or "the recipe's choices", *scores, f"{trial.seconds:.1f}")
        table.add_row(*map(Text, row), style="bold" if trial is best else None)
    Console().print(table)


def print_choices(choices: Mapping[str, Choice]) -> None:
    """Print the chosen options, their values and the reasons."""
    table = Table("option", "chosen", "because", title="Chosen from the data", title_justify="left")
    for row in choice_rows(choices):
        table.add_row(*map(Text, row))
    Console().print(table)


def print_scores(
    scores: Mapping[str, Mapping[str, float]],
    title: str,
    caption: str | None = None,
    spell: Callable[[str], str] = str,
    windows: int = 0,
) -> None:
    """Print a table of metrics by forecaster, the best marked, and sentences that compare the model with the baselines.

    `caption` is a sentence below the table, and `spell` is as in `ConsoleListener`. The number of `windows` says how
    exactly intervals can be judged; 0 leaves that out.
    """
    console = Console()
    metrics = shown(scores)
    table = _score_table(scores, metrics, title)
    unbounded = console.options.update(max_width=10 * console.width)
    while len(metrics) > 1 and console.measure(table, options=unbounded).maximum > console.width:
        metrics.pop()  # the least important one
        table = _score_table(scores, metrics, title)
    console.print(table)
    judged = judge_intervals(scores[MODEL], windows) if windows else []
    for sentence in (*compare_with_baselines(scores), *judged, *([caption] if caption else [])):
        console.print(spell(sentence), highlight=False)


def _score_table(scores: Mapping[str, Mapping[str, float]], metrics: Sequence[str], title: str) -> Table:
    """Return a table with a row for each forecaster and an asterisk at the best of each column."""
    table = Table("", title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=0)
    columns = []
    for name in sorted(metrics, key=lambda name: label(name).order):
        table.add_column(f"{label(name).heading} ", justify="right", no_wrap=True)
        values = [row.get(name, math.nan) for row in scores.values()]
        best = best_score(name, values)
        marked = None if best is None else format_score(name, best)
        texts = [format_score(name, value) for value in values]
        columns.append([Text(f"{text}*", "bold") if text == marked else f"{text} " for text in texts])
    for forecaster, *cells in zip(scores, *columns, strict=True):
        table.add_row(forecaster, *cells)
    return table
