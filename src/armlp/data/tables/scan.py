"""The survey: what a table says of each series, before its values are laid into the panel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from armlp.data.tables.rows import Rows

# So many rows are enough to tell the step of time; of more, only those of some series are kept.
_SAMPLE = 1 << 20
_NEVER, _BEFORE = np.iinfo(np.int64).max, np.iinfo(np.int64).min


class TableScan:
    """What is known of every series after its rows have gone by once, in memory of the size of `S`.

    Series are numbered as in `Rows.codes`; times are int64, as the table has them.

    Args:
        channels: `V`.
        known: How many covariates are known ahead.
        static: How many are static.

    Attributes:
        first: `[S, V]` time of the first observed value.
        last: `[S]` time of the last row.
        last_value: `[S]` time of the last observed value.
        known_until: `[S, C]` time of the last value of every covariate that is known ahead.
        least: `[S, M]` least value of static covariates; nan where there is none.
        most: `[S, M]` greatest one.
        sample: Some of the rows.
    """

    def __init__(self, channels: int, known: int, static: int) -> None:
        self.first = np.empty((0, channels), np.int64)
        self.last, self.last_value = np.empty(0, np.int64), np.empty(0, np.int64)
        self.known_until = np.empty((0, known), np.int64)
        self.least, self.most = np.empty((0, static), np.float32), np.empty((0, static), np.float32)
        self.sample = Sample()

    def add(self, rows: Rows) -> None:
        """Takes in some rows."""
        times = rows.times.astype(np.int64)
        self._make_room(int(rows.codes.max()) + 1)
        observed = ~np.isnan(rows.values)
        groups = Groups(rows.codes)
        groups.reduce(np.maximum, self.last, times)
        groups.reduce(np.maximum, self.last_value, np.where(observed.any(axis=1), times, _BEFORE))
        for channel, seen in enumerate(observed.T):
            groups.reduce(np.minimum, self.first[:, channel], np.where(seen, times, _NEVER))
        for place, values in enumerate(rows.covariates["known"].T):
            groups.reduce(np.maximum, self.known_until[:, place], np.where(np.isnan(values), _BEFORE, times))
        for place, values in enumerate(rows.covariates["static"].T):
            groups.reduce(np.fmin, self.least[:, place], values)
            groups.reduce(np.fmax, self.most[:, place], values)
        self.sample.add(rows.codes, times)

    def _make_room(self, series: int) -> None:
        """Grows what has fewer series than have come, twofold, so that growing costs little."""
        if series <= len(self.last):
            return
        room = max(series, 2 * len(self.last))
        for name, start in {"first": _NEVER, "last": _BEFORE, "last_value": _BEFORE, "known_until": _BEFORE,
                            "least": np.nan, "most": np.nan}.items():  # fmt: skip
            array = getattr(self, name)
            grown = np.full((room, *array.shape[1:]), start, array.dtype)
            grown[: len(array)] = array
            setattr(self, name, grown)

    def finish(self, series: int) -> None:
        """Drops the room that was not needed."""
        self._make_room(series)
        for name in ("first", "last", "last_value", "known_until", "least", "most"):
            setattr(self, name, getattr(self, name)[:series])

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
        """`[S]` time of the last row of the history: with covariates known ahead, of its last value."""
        return self.last_value if self.known_until.shape[1] else self.last

    @property
    def ends(self) -> np.ndarray:
        """`[S]` time of the last row: of the history, or as far as all covariates are known."""
        told = self.known_until[
            :, (self.known_until > _BEFORE).any(axis=0)
        ]  # a column of holidays may name none at all
        return np.maximum(self.history_ends, told.min(axis=1)) if told.shape[1] else self.history_ends


class Groups:
    """Rows grouped by series, for reductions: fast where the rows of a series come one after the other.

    Args:
        codes: `[rows]` int64.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self._begins = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
        self._codes = codes[self._begins]

    def reduce(self, ufunc: np.ufunc, into: np.ndarray, values: np.ndarray) -> None:
        """Reduces the values of each series into its place.

        Args:
            ufunc: Such as `np.minimum`.
            into: `[S]`, changed.
            values: `[rows]`.
        """
        if len(self._begins) < len(values):
            values = ufunc.reduceat(values, self._begins)
        ufunc.at(into, self._codes, values)


class Sample:
    """All rows of some series: of all series as long as they are few, of an even choice of them when they are not."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._rows = 0
        self._share = 2**32  # series are kept whose hash lies below
        self._full = False

    def add(self, codes: np.ndarray, times: np.ndarray) -> None:
        """Takes in rows `[rows]` of the series that are kept."""
        if self._full:
            return
        if self._share < 2**32:
            kept = _hash(codes) < self._share
            codes, times = codes[kept], times[kept]
        if len(codes):
            self._parts.append((codes, times))
            self._rows += len(codes)
        while self._rows > _SAMPLE and not self._full:
            self._thin()

    def _thin(self) -> None:
        """Keeps half of the series; of a single one its first rows."""
        codes, times = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._full = bool((codes == codes[0]).all())
        self._share //= 2
        kept = np.arange(len(codes)) < _SAMPLE if self._full else _hash(codes) < self._share
        self._parts, self._rows = [(codes[kept], times[kept])], int(kept.sum())

    def __contains__(self, code: int) -> bool:
        """Whether the rows of a series are kept."""
        return any(code in codes for codes, _ in self._parts)

    def include(self, codes: np.ndarray, times: np.ndarray) -> None:
        """Takes in all rows of a series that was not kept."""
        self._parts.append((codes, times))

    def sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`[rows]` series and times, sorted by both, and `[kept series + 1]` where each series begins."""
        codes, times = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        if not ((np.diff(codes) > 0) | ((np.diff(codes) == 0) & (np.diff(times) >= 0))).all():
            order = np.lexsort((times, codes))
            codes, times = codes[order], times[order]
        begins = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]])
        return codes, times, begins


def _hash(codes: np.ndarray | Sequence[int]) -> np.ndarray:
    """`[rows]` int64 below 2^32, evenly spread; 0 for the first series, which is always kept."""
    return (np.asarray(codes, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)).astype(np.int64)
