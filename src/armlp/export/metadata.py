"""The metadata of an exported file, which describe how to use it without armlp."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from armlp.data.time_features import CYCLE_NAMES
from armlp.training.module import ForecastModule
from armlp.version import __version__

_MEANINGS = {
    "context": "the last values of each series, data units; a missing one is the last one before it",
    "observed": "which of them were observed",
    "noise": "uniform random numbers between 2**-25 and 1 - 2**-24; their number is that of series, paths and steps",
    "known": "columns known ahead, from the first value of the context to the end of the horizon; nan where missing",
    "past": "columns known up to the origin, as long as the context; nan where missing",
    "calendar": "features of the times of the horizon, as local clocks show them",
    "static": "columns of each series; nan where missing",
    "paths": "sampled futures, data units",
    "quantiles": "quantiles of the paths, data units; axis 1 is in the order of quantile_names",
}


def file_metadata(
    module: ForecastModule,
    data: Mapping[str, Any],
    graph: Any,
    statistics: Mapping[str, Sequence[Mapping[str, Any]]],
    horizon: int,
    num_paths: int,
    levels: Sequence[float] | None,
) -> dict[str, str]:
    """Return the metadata of a file: texts as they are, everything else as JSON; `levels` is None without quantiles."""
    network = module.network
    kind = "symbols" if not network.head.numeric else "counts" if network.head.discrete else "numbers"
    cycles = data.get("calendar_inputs")
    cycles = cycles if isinstance(cycles, (list, tuple)) else ()
    names = ["armlp", *(f"armlp-{side}-{level:g}" for level in levels or () for side in ("lo", "hi"))]
    metadata: dict[str, Any] = {
        "armlp_version": __version__,
        "inputs": {value.name: _describe_value(value) for value in graph.input},
        "outputs": {value.name: _describe_value(value) for value in graph.output},
        "series_kind": f"vectors of {kind}" if network.channels > 1 else kind,
        "frequency": data.get("trained_freq") or data.get("freq"),
        "season_length": data["season_length"],
        "targets": data.get("target_columns"),
        "head": module.settings.head,
        "context_length": network.context_length,
        "horizon": horizon,
        "num_paths": num_paths if module.has_distribution else 1,
        "levels": levels,
        "quantile_names": None if levels is None else names,
        "non_negative": network.non_negative,
        "symbols": data.get("symbols") or None,
        "calendar": [f"{part} of {CYCLE_NAMES[cycle]}" for cycle in cycles for part in ("sine", "cosine")],
        **{
            role: [
                {"name": column["name"]} | ({"categories": column["categories"]} if "categories" in column else {})
                for column in columns
            ]
            for role, columns in statistics.items()
        },
    }
    present = {key: value for key, value in metadata.items() if value not in (None, [])}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in present.items()}


def _describe_value(value: Any) -> dict[str, Any]:
    """Return the shape, type and meaning of an input or output of the graph."""
    import onnx

    kind = value.type.tensor_type
    shape = [axis.dim_param or axis.dim_value for axis in kind.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return {"shape": shape, "dtype": dtype, "meaning": _MEANINGS[value.name]}
