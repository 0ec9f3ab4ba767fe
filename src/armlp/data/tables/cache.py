"""Saved panels: a panel that was too large for memory, in files beside its source, to be read again at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from armlp.data import storage as stores
from armlp.data.calendar import Calendar
from armlp.data.covariates import ROLES, CovariateColumn
from armlp.data.panel import Panel, TableStyle
from armlp.data.storage import Residency, Store
from armlp.data.tables.columns import table_type
from armlp.data.tables.files import find_files
from armlp.data.tables.layout import Layout

_SERIES = "series.arrow"
# A mapped panel may have so many bytes resident, however little room there is.
_MIN_RESIDENT = 32 << 20


def make_panel(
    plan: Layout,
    arrays: Store,
    levels: np.ndarray | None,
    static: np.ndarray,
    facts: Mapping[str, Any],
    residency: Residency | None = None,
) -> Panel:
    """Puts a panel together.

    Args:
        plan: Its series.
        arrays: Its rows.
        levels: `[S, V]`, or None.
        static: `[S, M]`.
        facts: `name`, `channels`, `style`, `covariate_columns` and `symbols`, as `Panel` has them.
        residency: Of rows that are mapped.
    """
    columns = facts["covariate_columns"]
    given: dict[str, Any] = {
        role: torch.from_numpy(arrays[role]) for role in ("known", "past") if role in arrays.arrays
    }
    return Panel(
        values=torch.from_numpy(arrays["values"]),
        observed=torch.from_numpy(arrays["observed"].view(np.bool_)),
        offsets=torch.from_numpy(plan.offsets),
        ids=plan.ids,
        starts=plan.starts,
        calendar=plan.calendar,
        future=torch.from_numpy(plan.future) if columns["known"] else None,
        static=torch.from_numpy(static),
        residency=residency,
        levels=None if levels is None else torch.from_numpy(levels),
        **given,
        **facts,
    )


def shapes(rows: int, channels: int, known: int, past: int) -> dict[str, tuple[tuple[int, ...], type]]:
    """The arrays of a panel of so many rows."""
    arrays: dict[str, tuple[tuple[int, ...], type]] = {
        "values": ((rows, channels), np.float32),
        "observed": ((rows, channels), np.uint8),
        "known": ((rows, known), np.float32),
        "past": ((rows, past), np.float32),
    }
    return {name: (shape, kind) for name, (shape, kind) in arrays.items() if shape[1]}


def folder_of(source: str, options: Mapping[str, Any]) -> Path:
    """Where the panel of a source is saved when it is read with some options: beside it, or in the user's cache."""
    path = Path(source).expanduser().absolute()
    beside = path.parent
    while "*" in str(beside) or "?" in str(beside) or "[" in str(beside):
        beside = beside.parent
    if not os.access(beside, os.W_OK):
        import pooch

        beside = Path(pooch.os_cache("armlp"))
    digest = hashlib.sha256(json.dumps([str(path), options], default=str, sort_keys=True).encode()).hexdigest()[:12]
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in path.name)
    return beside / f".{name}.{digest}{stores.SUFFIX}"


def fingerprint(sources: list[str]) -> list[list[Any]]:
    """Names, sizes and times of the files of sources: another where any of them has changed."""
    files = (file for source in sources for file in find_files(source))
    return [[str(file.absolute()), (state := file.stat()).st_size, state.st_mtime_ns] for file in files]


def save_panel(
    folder: Path, plan: Layout, levels: np.ndarray | None, static: np.ndarray, types: Mapping[str, Any]
) -> None:
    """Writes what a saved panel says of its series.

    Args:
        folder: Of the store.
        plan: The series.
        levels: `[S, V]`, or None.
        static: `[S, M]`.
        types: Arrow types of `id` and `time` in the source; None where it has none.
    """
    import pyarrow as pa
    from pyarrow import feather

    ids = pa.array(plan.ids)
    if types["id"] is not None and pa.types.is_dictionary(types["id"]):
        ids = ids.dictionary_encode()
    columns = {"id": ids, "start": plan.starts, "end": plan.offsets[1:], "future": plan.future}
    columns |= {f"static{place}": values for place, values in enumerate(static.T)}
    if levels is not None:
        columns |= {f"level{channel}": values for channel, values in enumerate(levels.T)}
    columns["time"] = pa.nulls(len(ids), types["time"] or pa.int64())
    feather.write_feather(pa.table(columns), folder / _SERIES, compression="uncompressed")


def describe(
    panel_facts: Mapping[str, Any], calendar: Calendar, sources: list[list[Any]], notes: list[str]
) -> dict[str, Any]:
    """What is to be known of a saved panel, as plain Python."""
    columns = panel_facts["covariate_columns"]
    return {
        "sources": sources,
        "notes": notes,
        "freq": calendar.freq,
        "timezone": calendar.timezone,
        "name": panel_facts["name"],
        "channels": panel_facts["channels"],
        "symbols": panel_facts["symbols"],
        "has_ids": panel_facts["style"].id_dtype is not None,
        "covariate_columns": {role: [list(column) for column in columns[role]] for role in ROLES},
    }


def load_panel(folder: Path, sources: list[list[Any]], room: int) -> tuple[Panel, list[str]] | None:
    """The panel in a folder, and what there was to warn of; None if there is none of these sources.

    Args:
        folder: Of the store.
        sources: Their fingerprint today.
        room: Bytes above which its rows stay in their files.
    """
    from pyarrow import feather

    found = stores.description(folder)
    if found is None or found["sources"] != sources:
        return None
    table = feather.read_table(folder / _SERIES, memory_map=False)
    size = sum(file.stat().st_size for file in folder.glob("*.npy"))
    arrays = stores.load(folder, mapped=size > room)

    def stacked(prefix: str, kind: type) -> np.ndarray:
        names = [name for name in table.column_names if name.startswith(prefix)]
        columns = [table[name].to_numpy() for name in names]
        return np.stack(columns, axis=1).astype(kind) if names else np.empty((len(table), 0), kind)

    levels = stacked("level", np.float64)
    style = TableStyle(
        "pyarrow",
        table_type(table.schema.field("id").type) if found["has_ids"] else None,
        table_type(table.schema.field("time").type),
    )
    ids = table["id"].combine_chunks()
    plan = Layout(
        ids=(ids.dictionary_decode() if hasattr(ids, "dictionary_decode") else ids).to_numpy(zero_copy_only=False),
        places=np.empty(0, np.int64),
        calendar=Calendar(found["freq"], found["timezone"]),
        starts=table["start"].to_numpy().copy(),
        offsets=np.concatenate([[0], table["end"]]),
        future=table["future"].to_numpy().copy(),
    )
    columns = {
        role: tuple(CovariateColumn(name, kinds and tuple(kinds)) for name, kinds in found["covariate_columns"][role])
        for role in ROLES
    }
    facts = {
        "name": found["name"],
        "channels": tuple(found["channels"]),
        "symbols": None if found["symbols"] is None else tuple(found["symbols"]),
        "style": style,
        "covariate_columns": columns,
    }
    static = stacked("static", np.float32)
    residency = Residency(arrays.maps, max(room, _MIN_RESIDENT)) if arrays.maps else None
    panel = make_panel(plan, arrays, levels if levels.shape[1] else None, static, facts, residency)
    return panel, found["notes"]
