"""A door: whole rollouts as one ONNX file, which forecasts without torch and without armlp."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from armlp.arguments import check_argument
from armlp.data.covariate_scaling import ColumnScaling
from armlp.errors import UserError, check_bounds
from armlp.evaluation.quantiles import check_levels
from armlp.export.metadata import file_metadata
from armlp.files import prepare_output, replacing

if TYPE_CHECKING:
    from armlp.training.module import ForecastModule


# Of each input, which axes may have any size, and what to call it.
_FREE = {
    "context": {0: "batch"},
    "observed": {0: "batch"},
    "noise": {0: "batch", 1: "paths", 2: "horizon"},
    "known": {0: "batch", 1: "times"},
    "past": {0: "batch"},
    "calendar": {0: "batch", 1: "leads"},
    "static": {0: "batch"},
}


def write_onnx(
    module: ForecastModule,
    data: Mapping[str, Any],
    path: str | os.PathLike[str],
    horizon: int | None = None,
    num_paths: int = 200,
    levels: Sequence[float] | float = (80, 95),
) -> None:
    """Writes the whole rollout of a trained model as one ONNX file.

    Its inputs are the context, which of it was observed, uniform noise, and covariates where the model has any; its
    outputs are paths and quantiles, all in data units. Series, paths and steps may be any number: the noise says how
    many. The same noise gives the same paths as `rollout`. What the file is of is written in it as metadata.

    Args:
        module: Trained.
        data: Hyperparameters of the data that it was trained on.
        path: The file, `.onnx`.
        horizon: `H` that the metadata recommend; that of the training where left out.
        num_paths: `P` that they recommend.
        levels: Central coverages of the intervals, in percent.

    Raises:
        UserError: What writes ONNX is not installed, the file cannot be written, or ONNX cannot hold the model.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (what torch.onnx needs)
    except ImportError as error:
        raise UserError(
            f"Export needs {error.name}, which is not installed: run python -m pip install 'armlp[export]'."
        ) from error
    from armlp.export.graph import Example, whole_graph
    from armlp.export.parts import AfterLoop, BeforeLoop

    horizon = int(check_argument("horizon", data["horizon"] if horizon is None else horizon, int))
    num_paths, levels = check_argument("num_paths", num_paths, int), check_levels(levels)
    for name, value in {"horizon": horizon, "num_paths": num_paths}.items():
        check_bounds(name, value, 1)
    prepare_output(path, (".onnx",))
    # Always on the processor and in float32, whatever it was trained on.
    network = module.network.cpu().float().eval()
    if share := module.settings.theta_share:
        warnings.warn(
            f"The file holds the network alone: the {share:.0%} that armlp's own forecasts take from the Theta method "
            "need whole series. Forecast with `theta_share` 0 to have armlp's the same as the file's; where they "
            "are recalibrated, train with it too.",
            stacklevel=2,
        )
    factors = None if module.settings.conformal == "off" else module.conformal_factors
    shown = None if network.symbols else list(levels) if module.has_distribution else []
    statistics = data.get("covariate_statistics") or {}
    opening = BeforeLoop(network, {role: _scaling(columns) for role, columns in statistics.items() if columns})
    closing = AfterLoop(network, factors if module.has_distribution else None, shown)
    # Sizes that differ from each other and from 1, so that none is taken for another or for a constant.
    values = _values(opening, statistics, batch=3, paths=5, steps=2 * network.patch_length + 5)
    examples = {name: Example(value, _FREE[name]) for name, value in values.items()}
    model = whole_graph(opening, closing, examples, ["paths"] if shown is None else ["paths", "quantiles"])
    metadata = file_metadata(module, data, model.graph, statistics, horizon, num_paths, shown)
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    model.producer_name = "armlp"
    onnx.checker.check_model(model)
    with replacing(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


def _scaling(columns: Sequence[Mapping[str, Any]]) -> ColumnScaling:
    """The scaling of columns whose categories are told by their places in the metadata."""
    codes = {
        place: torch.tensor([*range(1, len(column["categories"]) + 1), 0])
        for place, column in enumerate(columns)
        if "categories" in column
    }
    return ColumnScaling(
        torch.tensor([column.get("mean", 0.0) for column in columns]),
        torch.tensor([column.get("std", 1.0) for column in columns]),
        codes,
        [place for place, column in enumerate(columns) if column.get("missing")],
    )


def _values(
    opening: Any, statistics: Mapping[str, Sequence[Any]], batch: int, paths: int, steps: int
) -> dict[str, torch.Tensor]:
    """Inputs to trace with."""
    network = opening.network
    channels = (network.channels,) if network.channels > 1 else ()
    length = network.context_length
    columns = {
        role: len(statistics[role]) if statistics.get(role) else len(network.inputs.sizes[role])
        for role in network.inputs.sizes
    }
    sizes = {
        "context": (batch, length, *channels),
        "noise": (batch, paths, steps, *channels, max(1, network.head.noise)),
        "known": (batch, length + steps + 1, columns["known"]),
        "past": (batch, length, columns["past"]),
        "calendar": (batch, steps + 2, columns["calendar"]),
        "static": (batch, columns["static"]),
    }
    values = {name: torch.full(sizes[name], 0.5) for name in opening.inputs if name in sizes}
    return {"context": values.pop("context"), "observed": torch.ones(sizes["context"], dtype=torch.bool)} | values
