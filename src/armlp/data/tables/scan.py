"""The first pass over a table: statistics of every series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from armlp.data.tables.rows import Rows, TableRows

_NEVER, _BEFORE = np.iinfo(np.int64).max, np.iinfo(np.int64).min
# The statistics of each series, and their initial values.
_STATISTICS = {"first": _NEVER, "last": _BEFORE, "last_value": _BEFORE, "known_until": _BEFORE,
               "static_min": np.nan, "static_max": np.nan}  # fmt: skip


class TableScan:
    """Statistics of every series, numbered as in `Rows.codes`; times are int64, as in the table."""

    def __init__(self, table: TableRows) -> None:
        known, static = (len(table.roles.covariates[role]) for role in ("known", "static"))
        self.first = np.empty((0, len(table.channels)), np.int64)  # `[S, V]` time of the first observed value
        self.last = np.empty(0, np.int64)  # `[S]` time of the last row
        self.last_value = np.empty(0, np.int64)  # `[S]` time of the last observed value
        self.known_until = np.empty((0, known), np.int64)  # `[S, C]` time of the last value of known covariates
        self.static_min = np.empty((0, static), np.float32)  # `[S, M]` of static covariates; nan where there is none
        self.static_max = np.empty((0, static), np.float32)
        self.sample = Sample(table.limits.sample)
        for rows in table.with_progress("scanning"):
            self._add(rows)
        self._grow(len(table.series))
        for name in _STATISTICS:
            setattr(self, name, getattr(self, name)[: len(table.series)])

    def _add(self, rows: Rows) -> None:
        times = rows.times.astype(np.int64)
        self._grow(int(rows.codes.max()) + 1)
        observed = ~np.isnan(rows.values)
        groups = Groups(rows.codes)
        groups.reduce(np.maximum, self.last, times)
        groups.reduce(np.maximum, self.last_value, np.where(observed.any(axis=1), times, _BEFORE))
        for channel, is_observed in enumerate(observed.T):
            groups.reduce(np.minimum, self.first[:, channel], np.where(is_observed, times, _NEVER))
        for index, values in enumerate(rows.covariates["known"].T):
            groups.reduce(np.maximum, self.known_until[:, index], np.where(np.isnan(values), _BEFORE, times))
        for index, values in enumerate(rows.covariates["static"].T):
            groups.reduce(np.fmin, self.static_min[:, index], values)
            groups.reduce(np.fmax, self.static_max[:, index], values)
        self.sample.add(rows.codes, times)

    def _grow(self, series: int) -> None:
        """Hold more series, at least twice as many as before, so that growing is cheap."""
        if series <= len(self.last):
            return
        size = max(series, 2 * len(self.last))
        for name, start in _STATISTICS.items():
            array = getattr(self, name)
            grown = np.full((size, *array.shape[1:]), start, array.dtype)
            grown[: len(array)] = array
            setattr(self, name, grown)

    @property
    def starts(self) -> np.ndarray:
        """`[S]` time from which every channel has been observed at least once; see `observed`."""
        return np.asarray(self.first.max(axis=1))

    @property
    def observed(self) -> np.ndarray:
        """`[S]` bool, whether every channel has a value."""
        return np.asarray(self.starts < _NEVER)

    @property
    def history_ends(self) -> np.ndarray:
        """`[S]` time of the last row of the history: with known covariates, of its last value."""
        return self.last_value if self.known_until.shape[1] else self.last

    @property
    def ends(self) -> np.ndarray:
        """`[S]` time of the last row: of the history, or of all known covariates if later."""
        filled = (self.known_until > _BEFORE).any(axis=0)  # a column that names holidays may name none
        if not filled.any():
            return self.history_ends
        return np.maximum(self.history_ends, self.known_until[:, filled].min(axis=1))


class Groups:
    """Rows grouped by their series `codes [rows]`; fast where the rows of a series follow each other."""

    def __init__(self, codes: np.ndarray) -> None:
        self._begins = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
        self._codes = codes[self._begins]

    def reduce(self, ufunc: np.ufunc, into: np.ndarray, values: np.ndarray) -> None:
        """Reduce the `[rows]` values of each series into its item of `into [S]`."""
        if len(self._begins) < len(values):
            values = ufunc.reduceat(values, self._begins)
        ufunc.at(into, self._codes, values)


class Sample:
    """All rows of some series, evenly chosen so that there are at most `max_rows`."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._rows = 0
        self._share = 2**32  # series are kept whose hash is smaller
        self._full = False

    def add(self, codes: np.ndarray, times: np.ndarray) -> None:
        """Add those of `[rows]` rows whose series are kept."""
        if self._full:
            return
        if self._share < 2**32:
            kept = _hash(codes) < self._share
            codes, times = codes[kept], times[kept]
        if len(codes):
            self._parts.append((codes, times))
            self._rows += len(codes)
        while self._rows > self._max_rows and not self._full:
            self._thin_out()

    def _thin_out(self) -> None:
        """Keep half of the series, or the first rows of a single one."""
        codes, times = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._full = bool((codes == codes[0]).all())
        self._share //= 2
        kept = np.arange(len(codes)) < self._max_rows if self._full else _hash(codes) < self._share
        self._parts, self._rows = [(codes[kept], times[kept])], int(kept.sum())

    def __contains__(self, code: int) -> bool:
        return any(code in codes for codes, _ in self._parts)

    def include(self, codes: np.ndarray, times: np.ndarray) -> None:
        """Add all rows of a series that was not kept."""
        self._parts.append((codes, times))

    def sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the `[rows]` series and times, sorted by both, and `[kept series + 1]` where each series begins."""
        codes, times = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        if not ((np.diff(codes) > 0) | ((np.diff(codes) == 0) & (np.diff(times) >= 0))).all():
            order = np.lexsort((times, codes))
            codes, times = codes[order], times[order]
        begins = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]])
        return codes, times, begins


def _hash(codes: np.ndarray | Sequence[int]) -> np.ndarray:
    """Return `[rows]` int64 below 2^32, evenly spread; 0 for code 0, so that the first series is always kept."""
    return (np.asarray(codes, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)).astype(np.int64)
