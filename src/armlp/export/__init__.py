"""Export of the whole rollout as one ONNX file, which forecasts without torch and armlp."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from armlp.arguments import check_argument
from armlp.data.covariates import ColumnScaling
from armlp.data.time.features import CYCLE_NAMES
from armlp.errors import UserError, check_bounds
from armlp.evaluation.quantiles import check_levels
from armlp.files import prepare_output, replacing
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


def write_onnx(
    module: ForecastModule,
    data: Mapping[str, Any],
    path: str | os.PathLike[str],
    horizon: int | None = None,
    num_paths: int = 200,
    levels: Sequence[float] | float = (80, 95),
) -> None:
    """Write the whole rollout of a trained model as one ONNX file.

    It maps the context, its mask, uniform noise and covariates to paths and quantiles in data units. The shape of the
    noise sets the numbers of series, paths and steps. The same noise gives the same paths as `rollout`.

    Args:
        module: A trained module; its network is moved to the CPU and to float32.
        data: Hyperparameters of the data module that it was trained on.
        path: A `.onnx` file.
        horizon: `H` recommended in the metadata; that of the training if None.
        num_paths: `P` recommended in the metadata.
        levels: Central coverages of the intervals, in percent.

    Raises:
        UserError: `onnx` or `onnxscript` is missing, the file cannot be written, or ONNX cannot express the model.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise UserError(
            f"Export needs {error.name}, which is not installed: run python -m pip install 'armlp[export]'."
        ) from error
    from armlp.export.graph import rollout_model
    from armlp.export.parts import AfterLoop, BeforeLoop

    horizon = int(check_argument("horizon", data["horizon"] if horizon is None else horizon, int))
    num_paths, levels = check_argument("num_paths", num_paths, int), check_levels(levels)
    for name, value in {"horizon": horizon, "num_paths": num_paths}.items():
        check_bounds(name, value, 1)
    prepare_output(path, (".onnx",))
    network = module.network.cpu().float().eval()
    if share := module.settings.theta_share:
        warnings.warn(
            f"The file holds the network alone: the {share:.0%} that armlp's own forecasts take from the Theta method "
            "need whole series. Forecast with `theta_share` 0 to have armlp's the same as the file's; where they "
            "are recalibrated, train with it too.",
            stacklevel=2,
        )
    if module.settings.min_spread:
        warnings.warn(
            "The file holds the network alone, without the least width that intervals of few short series have. "
            "Forecast with `min_spread` 0 to have armlp's the same as the file's.",
            stacklevel=2,
        )
    is_recalibrated = module.settings.conformal != "off" and module.has_distribution
    quantile_levels = None if not network.head.numeric else list(levels) if module.has_distribution else []
    statistics = data.get("covariate_statistics") or {}
    scalings = {role: _column_scaling(columns) for role, columns in statistics.items() if columns}
    before_loop = BeforeLoop(network, scalings)
    after_loop = AfterLoop(network, module.recalibration.factors if is_recalibrated else None, quantile_levels)
    model = rollout_model(before_loop, after_loop)
    metadata = _file_metadata(module, data, model.graph, statistics, horizon, num_paths, quantile_levels)
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    model.producer_name = "armlp"
    onnx.checker.check_model(model)
    with replacing(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


def _column_scaling(columns: Sequence[Mapping[str, Any]]) -> ColumnScaling:
    """Return a scaling that takes the index of a category in the metadata instead of its name."""
    counts = {index: len(column["categories"]) for index, column in enumerate(columns) if "categories" in column}
    codes = {index: torch.tensor([*range(1, count + 1), 0]) for index, count in counts.items()}
    return ColumnScaling(
        torch.tensor([column.get("mean", 0.0) for column in columns]),
        torch.tensor([column.get("std", 1.0) for column in columns]),
        codes,
        [index for index, column in enumerate(columns) if column.get("missing")],
    )


def _file_metadata(
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
            role: [{key: column[key] for key in ("name", "categories") if key in column} for column in columns]
            for role, columns in statistics.items()
        },
    }
    present = {key: value for key, value in metadata.items() if value not in (None, [])}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in present.items()}


def _describe_value(value: Any) -> dict[str, Any]:
    """Return the shape, type and meaning of an input or output of the graph."""
    from onnx import helper

    kind = value.type.tensor_type
    shape = [axis.dim_param or axis.dim_value for axis in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return {"shape": shape, "dtype": dtype, "meaning": _MEANINGS[value.name]}
