"""Panels that are too large for memory, saved in files beside their source."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from armlp.data import storage
from armlp.data.covariates import CovariateColumn
from armlp.data.panel import Panel, TableStyle
from armlp.data.sources.files import find_files
from armlp.data.storage import Residency, Shapes, Store
from armlp.data.tables.align import Alignment
from armlp.data.tables.columns import table_type
from armlp.data.tables.fill import PanelFiller, make_panel
from armlp.data.tables.rows import TableRows
from armlp.data.time.calendar import Calendar
from armlp.errors import UserError

_SERIES = "series.arrow"
# A mapped panel may have this many resident bytes in any case.
_MIN_RESIDENT = 32 << 20


class PanelCache:
    """The saved panel of the files `paths` that are read with certain options.

    A panel of more than `max_bytes` stays in its files, mapped into memory.
    """

    def __init__(self, paths: Sequence[str], options: Sequence[Any], max_bytes: int) -> None:
        self.folder, self.max_bytes = _folder(paths, options), max_bytes
        files = (file for path in paths for file in find_files(path))
        # Names, sizes and modification times, to notice changes.
        self._files = [[str(file.absolute()), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]

    def load(self) -> tuple[Panel, list[str]] | None:
        """Return the panel and its warnings; None if it was not saved or its source has changed."""
        from pyarrow import feather

        found = storage.description(self.folder)
        if found is None or found["sources"] != self._files:
            return None
        table = feather.read_table(self.folder / _SERIES, memory_map=False)
        store = storage.load(self.folder, self.max_bytes)

        def stacked(prefix: str, kind: type) -> np.ndarray:
            columns = [table[name].to_numpy() for name in table.column_names if name.startswith(prefix)]
            return np.stack(columns, axis=1).astype(kind) if columns else np.empty((len(table), 0), kind)

        base_values, ids = stacked("level", np.float64), table["id"].combine_chunks()
        alignment = Alignment(
            ids=(ids.dictionary_decode() if hasattr(ids, "dictionary_decode") else ids).to_numpy(zero_copy_only=False),
            series=np.empty(0, np.int64),
            calendar=Calendar(found["freq"], found["timezone"]),
            starts=table["start"].to_numpy().copy(),
            offsets=np.concatenate([[0], table["end"]]),
            future=table["future"].to_numpy().copy(),
        )
        id_type, time_type = (table_type(table.schema.field(name).type) for name in ("id", "time"))
        fields: dict[str, Any]
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in found["panel"].items()}
        fields["style"] = TableStyle("pyarrow", id_type if found["has_ids"] else None, time_type)
        fields["covariate_columns"] = {
            role: tuple(CovariateColumn(name, kinds and tuple(kinds)) for name, kinds in columns)
            for role, columns in fields["covariate_columns"].items()
        }
        residency = Residency(store.pages.maps, max(self.max_bytes, _MIN_RESIDENT)) if store.pages.maps else None
        static = stacked("static", np.float32)
        panel = make_panel(alignment, store, base_values if base_values.shape[1] else None, static, fields, residency)
        return panel, found["notes"]

    def build(
        self, table: TableRows, alignment: Alignment, static: np.ndarray, shapes: Shapes, warning_texts: list[str]
    ) -> tuple[Panel, list[str]]:
        """Save a panel, and return it as `load` does; raise a `UserError` if its source has changed meanwhile."""

        def save(store: Store, folder: Path) -> Mapping[str, Any]:
            base_values = PanelFiller(alignment, store).fill(table)
            _save_series(folder, alignment, base_values, static, table.types)
            return {
                "sources": self._files,
                "notes": warning_texts,
                "freq": alignment.calendar.freq,
                "timezone": alignment.calendar.timezone,
                "has_ids": table.types["id"] is not None,
                "panel": {name: value for name, value in table.panel_fields.items() if name != "style"},
            }

        storage.build(self.folder, shapes, save)
        saved = self.load()
        if saved is None:
            raise UserError(f"{table.table.name} has changed while it was read: read it again when it is whole.")
        return saved


def _folder(paths: Sequence[str], options: Sequence[Any]) -> Path:
    """Return the folder of the panel: beside its source, or in the user's cache where that is not writable."""
    path = Path(paths[0]).expanduser().absolute()
    folder = path.parent
    while any(character in str(folder) for character in "*?["):
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        import pooch

        folder = Path(pooch.os_cache("armlp"))
    key = json.dumps([str(path), *paths[1:], *options], default=str)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in path.name)
    return folder / f".{name}.{digest}{storage.SUFFIX}"


def _save_series(
    folder: Path, alignment: Alignment, base_values: np.ndarray | None, static: np.ndarray, types: Mapping[str, Any]
) -> None:
    """Save the arrays with one item per series, with ids and times in the arrow types of the source."""
    from pyarrow import feather

    ids = pa.array(alignment.ids)
    if types["id"] is not None and pa.types.is_dictionary(types["id"]):
        ids = ids.dictionary_encode()
    columns = {"id": ids, "start": alignment.starts, "end": alignment.offsets[1:], "future": alignment.future}
    columns |= {f"static{index}": values for index, values in enumerate(static.T)}
    if base_values is not None:
        columns |= {f"level{channel}": values for channel, values in enumerate(base_values.T)}
    columns["time"] = pa.nulls(len(ids), types["time"] or pa.int64())
    feather.write_feather(pa.table(columns), folder / _SERIES, compression="uncompressed")
