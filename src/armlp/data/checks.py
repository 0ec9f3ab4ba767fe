"""Checks that data suffice for training, for held-out windows or for a forecast."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from armlp.data.panel import Panel
from armlp.data.split import Split
from armlp.data.time.features import CYCLE_NAMES, feature_cycles, spell_cycles
from armlp.data.time.frequency import DENSE, MAX_SERIES, check_mixed_steps
from armlp.data.windows import Windows
from armlp.errors import UserError

# From this share of the series on, constant ones are reported.
_MANY_CONSTANT = 0.5


def check_lengths(panel: Panel, split: Split) -> None:
    """Raise a `UserError` if no series is long enough to train on."""
    needed = split.rows_needed
    if int(panel.lengths.max()) < needed:
        held_out = f"{needed}, {needed - 2} of them held out; lower `horizon`, `val_windows` or `test_windows`"
        raise _too_short(panel, "is long enough to train on", held_out)


def check_origins(panel: Panel, split: Split, part: str, series: Tensor) -> None:
    """Raise a `UserError` if a part (`val`, `test` or `predict`) has no origin."""
    if not len(series):
        name = "validation" if part == "val" else part
        needed = 1 + (split.test_span if part == "test" else split.horizon + split.test_length)
        raise _too_short(panel, f"of {panel.name} is long enough for the {name} windows", f"{needed}; lower `horizon`")


def _too_short(panel: Panel, what: str, needed: str) -> UserError:
    longest = int(panel.lengths.argmax())
    return UserError(
        f"No series {what}: the longest, '{panel.ids[longest]}', has {int(panel.lengths[longest])} rows and needs "
        f"{needed}, or add rows."
    )


def check_window_count(panel: Panel, windows: int, processes: int) -> None:
    """Raise a `UserError` if there are fewer training windows than processes."""
    if windows < processes:
        raise UserError(f"{panel.name} has {windows} training windows for {processes} processes; lower `devices`.")


def check_observed(panel: Panel, split: Split, validation: Iterable[Windows]) -> None:
    """Raise a `UserError` if no value of the validation windows was observed."""
    if not any(bool(windows.target_observed.any()) for windows in validation):
        raise UserError(
            f"{panel.name} has no observed value in the last {split.val_windows} x {split.horizon} steps before the "
            "test windows, which validation needs: leave out empty rows at the end, or raise `val_windows`."
        )


def check_regular_gaps(panel: Panel) -> None:
    """Raise a `UserError` if some series have values at regular gaps only.

    In a wide table, weekly values among daily ones stand between empty cells.
    """
    if panel.fully_observed or not panel.is_numeric:
        return
    for channel in range(len(panel.channels)):
        counts = torch.zeros(len(panel), dtype=torch.int64)
        for block in panel.blocks():
            counts.index_add_(0, panel.locate(block)[0], panel.observed[block, channel].long())
        sparse = ((counts > 2) & (counts <= DENSE * panel.lengths)).nonzero()[:, 0]
        sparse = sparse[counts[sparse].argsort(descending=True, stable=True)][:MAX_SERIES]
        observed = panel.observed[:, channel]
        first, last = panel.offsets[sparse].tolist(), (panel.offsets[:-1] + panel.lengths)[sparse].tolist()
        rows = [observed[begin:end].nonzero()[:, 0] for begin, end in zip(first, last, strict=True)]
        if not rows:
            continue
        begins = np.cumsum([0, *map(len, rows)])
        times = panel.times(sparse.repeat_interleave(torch.tensor(list(map(len, rows)))), torch.cat(rows))
        instants = panel.calendar.instants(times.numpy())
        check_mixed_steps(instants, begins, panel.ids[sparse.numpy()], panel.calendar, panel.name)


def warn_of_short(panel: Panel, split: Split) -> None:
    """Warn about series that are too short to train on."""
    short = (split.train_ends(panel.lengths) < 2).nonzero()[:, 0].tolist()
    if short:
        needed = split.rows_needed
        names = ", ".join(f"'{panel.ids[index]}' ({int(panel.lengths[index])} rows)" for index in short[:3])
        warnings.warn(
            f"{len(short)} of {len(panel)} series are too short to train on and are only forecast: {names}"
            f"{', ...' if len(short) > 3 else ''}; a series needs {needed} rows, {needed - 2} of them held out; to "
            "train on more, add rows or lower `horizon`, `val_windows` or `test_windows`.",
            stacklevel=3,
        )


def warn_of_constant(panel: Panel) -> None:
    """Warn about target columns that never change, or many series that never change."""
    if not panel.is_numeric:
        return
    columns, series = panel.constant.all(axis=0).nonzero()[0], panel.constant.all(axis=1).nonzero()[0]
    if len(columns):
        what = f"target column '{panel.channels[columns[0]]}'" if len(panel.channels) > 1 else "target"
        warnings.warn(
            f"The {what} of {panel.name} never changes within a series: correct the table, or give other "
            "`target_columns`.",
            stacklevel=3,
        )
    elif len(series) >= _MANY_CONSTANT * len(panel):
        names = ", ".join(f"'{panel.ids[index]}'" for index in series[:3])
        warnings.warn(
            f"{len(series)} of {len(panel)} series of {panel.name} never change: {names}"
            f"{', ...' if len(series) > 3 else ''}; leave them out of the table, because training spends as much on "
            "them as on the others.",
            stacklevel=3,
        )


def check_counts(panel: Panel, head: str) -> None:
    """Raise a `UserError` if a value is no count, or a series is stored less a base value, which leaves no counts."""
    if panel.base_values is not None:
        large = panel.base_values.abs().amax(1)
        raise UserError(
            f"`head` {head} is for counts, but series '{panel.ids[int(large.argmax())]}' of {panel.name} varies "
            f"so little beside its level of {large.max():g} that the model sees only the difference from it: give "
            "another head, such as `head` quantile."
        )
    count, row = 0, 0
    for rows in panel.blocks():
        values = panel.values[rows]
        wrong = (panel.observed[rows] & ((values < 0) | (values != values.round()))).any(1).nonzero()[:, 0]
        if len(wrong) and not count:
            row = rows.start + int(wrong[0])
        count += len(wrong)
    if not count:
        return
    series, step = (int(found) for found in panel.locate(slice(row, row + 1)))
    value = next(value for value in panel.values[row].tolist() if value < 0 or value != round(value))
    raise UserError(
        f"`head` {head} is for counts, but series '{panel.ids[series]}' of {panel.name} has {value:g} at "
        f"{panel.spell_time(series, step)} ({count} such rows in all): give another head, such "
        "as `head` quantile, or whole numbers from 0 on."
    )


def check_calendar_cycles(panel: Panel, cycles: Sequence[str]) -> None:
    """Raise a `UserError` if a cycle is unknown, or the times of the data do not have it."""
    for cycle in cycles:
        if cycle not in CYCLE_NAMES:
            raise UserError(
                f"`calendar_inputs`: {cycle!r} is no cycle of a calendar; give some of {', '.join(CYCLE_NAMES)}."
            )
    known = feature_cycles(panel.calendar)
    if set(cycles) <= set(known):
        return
    times = "are integers" if panel.calendar.is_integer else f"step by {panel.calendar.freq}"
    has = f"only {spell_cycles(known)}" if known else "nothing"
    raise UserError(
        f"`calendar_inputs`: the model uses {spell_cycles(cycles)}, but the times of {panel.name} {times}, for "
        f"which the calendar has {has}: give dates that step as in training, or train with "
        "`calendar_inputs` false."
    )


def check_known_covariates(panel: Panel, horizon: int, statistics: Sequence[Mapping[str, Any]]) -> None:
    """Raise a `UserError` if known covariates are missing within the horizon.

    Columns of numbers that had missing ones in training (`statistics`) may have some.
    """
    if panel.future is None:
        return
    short = (panel.future < horizon).nonzero()[:, 0]
    if len(short):
        series = int(short[0])
        first = panel.spell_time(series, int(panel.stored_lengths[series]))
        raise UserError(
            f"{panel.name} lacks the `known_covariates` of series '{panel.ids[series]}' from {first} on "
            f"({len(short)} of {len(panel)} series lack some): give {horizon} rows (`horizon`) after the last value of "
            "every series, with empty targets or in a table of their own, `future`."
        )
    needed = [index for index, one in enumerate(statistics) if "mean" in one and not one.get("missing")]
    for block in torch.arange(len(panel)).split(max(1, (1 << 20) // horizon)):
        row = (panel.offsets[block] + panel.lengths[block])[:, None] + torch.arange(horizon)
        holes = panel.gather_rows(panel.known, row)[..., needed].isnan().nonzero()
        if len(holes):
            index, step, column = holes[0].tolist()
            series, name = int(block[index]), panel.covariate_columns["known"][needed[column]].name
            raise UserError(
                f"{panel.name} lacks '{name}' of `known_covariates` for series "
                f"'{panel.ids[series]}' at {panel.spell_time(series, int(panel.lengths[series]) + step)}, within the "
                "horizon, and in training it was never missing: fill it."
            )
