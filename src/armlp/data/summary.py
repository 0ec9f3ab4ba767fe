"""The summary of a data set at the start of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from armlp.data.panel import Panel
from armlp.data.split import Split
from armlp.data.time.calendar import Calendar, spell_time

_MAX_NAMES = 6


class Between(NamedTuple):
    """The earliest and the latest of a time that may differ by series, as text."""

    earliest: str
    latest: str

    @property
    def is_one(self) -> bool:
        """Whether all series agree."""
        return self.earliest == self.latest

    def __str__(self) -> str:
        return self.earliest if self.is_one else f"between {self.earliest} and {self.latest}"


class SplitPart(NamedTuple):
    """One part of the split."""

    windows: int  # number of origins, or of training windows in an epoch
    begins: Between  # first row of each series in it
    ends: Between  # last row

    def __str__(self) -> str:
        one = self.begins.is_one and self.ends.is_one
        return f"{self.begins} to {self.ends}" if one else f"begins {self.begins}, ends {self.ends}"


class DataSummary(NamedTuple):
    """A summary of a data set."""

    name: str
    series: int
    channels: Sequence[str]
    lengths: tuple[int, float, int]  # rows of a series: fewest, median, most
    calendar: Calendar
    season_length: int  # 1 for none
    missing: float  # share of the values
    constant: int | None  # channels of series that never change; None for symbols
    symbols: Sequence[object] | None
    horizon: int
    needed: int  # rows that training needs of a series
    held_out: int  # those of them that are held out
    too_short: int  # series with fewer rows
    covariates: dict[str, list[str]]  # names by role
    calendar_inputs: bool  # whether there are calendar features
    train: SplitPart | None
    val: SplitPart | None
    test: SplitPart | None

    def rows(self) -> dict[str, str]:
        """Return the summary as a table of labels and texts."""
        fewest, median, most = self.lengths
        channels = len(self.channels)
        freq = f"integers, {self.calendar.freq} apart" if self.calendar.is_integer else str(self.calendar.freq)
        missing = f"{100 * self.missing:.3g}%" if self.missing >= 1e-4 else "less than 0.01%"
        rows = {
            "series": f"{self.series:,}" + (f" of {channels} channels: {_few(self.channels)}" if channels > 1 else ""),
            "length": f"{fewest:,} to {most:,} steps, median {median:,.0f}" if fewest < most else f"{most:,} steps",
            "frequency": freq + (f", {self.calendar.timezone}" if self.calendar.timezone else ""),
            "season": f"{self.season_length:,} steps" if self.season_length > 1 else "none",
            "missing": f"{missing} of the values" if self.missing else "none",
        }
        if self.symbols is not None:
            rows["symbols"] = f"{len(self.symbols)}: {_few(self.symbols)}"
        else:
            of = f"{self.series * channels:,} {'channels' if channels > 1 else 'series'}"
            rows["constant"] = f"{self.constant:,} of {of}" if self.constant else "none"
        shorter = f"{self.too_short:,} of {self.series:,} series" if self.too_short else "no series"
        rows["shortest usable"] = f"{_count(self.needed, 'step')}, {self.held_out:,} held out; shorter: {shorter}"
        named = [f"{role} {_few(names)}" for role, names in self.covariates.items() if names]
        if self.calendar_inputs:
            named.append("the calendar")
        if named:
            rows["covariates"] = "; ".join(named)
        if self.train:
            rows["training"] = f"{_count(self.train.windows, 'window')} an epoch, ends {self.train.ends}"
        for name, part in {"validation": self.val, "test": self.test}.items():
            rows[name] = "none"
            if part:
                rows[name] = f"{_count(part.windows, 'origin')} x {_count(self.horizon, 'step')}, {part}"
        return rows


def summarize(panel: Panel, split: Split, season_length: int, training_windows: int) -> DataSummary:
    """Return the summary of a data set; `training_windows` are those of an epoch."""
    lengths = panel.lengths
    ends = split.train_ends(lengths)
    usable = (ends >= 2).nonzero()[:, 0]
    return DataSummary(
        name=panel.name,
        series=len(panel),
        channels=panel.channels,
        lengths=(int(lengths.min()), float(np.median(lengths.numpy())), int(lengths.max())),
        calendar=panel.calendar,
        season_length=season_length,
        missing=panel.missing / (int(lengths.sum()) * len(panel.channels)),
        constant=int(panel.constant.sum()) if panel.is_numeric else None,
        symbols=panel.symbols,
        horizon=split.horizon,
        needed=split.rows_needed,
        held_out=split.held_out,
        too_short=len(panel) - len(usable),
        covariates={role: [column.name for column in columns] for role, columns in panel.covariate_columns.items()},
        calendar_inputs=bool(panel.calendar_cycles),
        train=_part(panel, training_windows, usable, usable * 0, ends[usable]),
        val=_held_out(panel, split, "val", lengths - split.test_length),
        test=_held_out(panel, split, "test", lengths),
    )


def _held_out(panel: Panel, split: Split, part: str, ends: Tensor) -> SplitPart | None:
    """Return a part that begins in every series with its first origin, and ends before the rows `ends [S]`."""
    series, origins = split.origins(panel.lengths, part)
    first = series.diff(prepend=series.new_full((1,), -1)) != 0
    return _part(panel, len(series), series[first], origins[first], ends[series[first]])


def _part(panel: Panel, windows: int, series: Tensor, begins: Tensor, ends: Tensor) -> SplitPart | None:
    """Return the part of `series [n]` from the rows `begins [n]` to before the rows `ends [n]`."""
    if not len(series):
        return None
    starts = panel.starts[series.numpy()]
    return SplitPart(windows, *(_between(panel.calendar, starts, rows) for rows in (begins, ends - 1)))


def _between(calendar: Calendar, starts: np.ndarray, rows: Tensor) -> Between:
    times = calendar.shift(starts, rows.numpy())
    earliest, latest = map(spell_time, calendar.wall_times(np.array([times.min(), times.max()])))
    for needless in (":00", " 00:00") if calendar.on_wall_clock else (":00",):
        if earliest.endswith(needless) and latest.endswith(needless):
            earliest, latest = earliest.removesuffix(needless), latest.removesuffix(needless)
    return Between(earliest, latest)


def _few(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:_MAX_NAMES])) + (", ..." if len(names) > _MAX_NAMES else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
