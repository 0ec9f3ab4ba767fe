"""From the parts of a rollout to one ONNX graph: the steps are the body of a `Scan`, however many there are."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import onnx
import torch
from onnx import helper, inliner
from torch import Tensor
from torch.distributions import Distribution
from torch.export import Dim

from armlp.errors import UserError, one_line
from armlp.export.decompositions import DECOMPOSITIONS
from armlp.export.parts import AfterLoop, BeforeLoop, LoopStep

OPSET = 20


class Example(NamedTuple):
    """An input that a part is traced with.

    Attributes:
        values: Of any size along the free axes.
        free: Name of each axis that may have another size.
    """

    values: Tensor
    free: Mapping[int, str]


def whole_graph(
    opening: BeforeLoop, closing: AfterLoop, examples: Mapping[str, Example], outputs: Sequence[str]
) -> Any:
    """The whole rollout as an `onnx.ModelProto`.

    Args:
        opening: What comes before the steps.
        closing: What comes after them.
        examples: By name, what `opening` takes.
        outputs: Names of what `closing` gives.
    """
    step = LoopStep(opening)
    carried, fixed, stepped = opening.carried, opening.fixed, opening.stepped
    with _tracing():
        begun = dict(zip(step.names, opening(*(example.values for example in examples.values())), strict=True))
        # Along the first axis of what is stepped lie the steps, and of all else the rows.
        seen = [Example(part[0] if name in stepped else part, {0: "rows"}) for name, part in begun.items()]
        drawn = step(*(example.values for example in seen))[-1]
        drawn = Example(torch.stack([drawn] * len(begun["noise"])), {0: "steps", 1: "rows"})
        first = _traced(opening, examples, [f"first_{name}" for name in step.names])
        # What all steps share the body of the loop takes from around it.
        names = [f"first_{name}" if name in fixed else name for name in step.names]
        later = [*(f"next_{name}" for name in carried), "patch"]
        body = _traced(step, dict(zip(names, seen, strict=True)), later)
        last = _traced(closing, {"drawn": drawn, "noise": examples["noise"]}, outputs)
    nodes, shared = _parted(body, [*carried, *stepped])
    loop = helper.make_node(
        "Scan",
        [f"first_{name}" for name in (*carried, *stepped)],
        [*(f"last_{name}" for name in carried), "drawn"],
        name="steps",
        body=helper.make_graph(
            nodes, "step", [value for value in body.input if value.name in (*carried, *stepped)], list(body.output)
        ),
        num_scan_inputs=len(stepped),
    )
    graph = helper.make_graph(
        [*first.node, *shared, loop, *last.node],
        "rollout",
        list(first.input),
        list(last.output),
        [*first.initializer, *body.initializer, *last.initializer],
    )
    for value in graph.output:
        for axis, name in zip(value.type.tensor_type.shape.dim, ("batch", "paths", "horizon"), strict=False):
            if axis.dim_param:
                axis.dim_param = name
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


@contextmanager
def _tracing() -> Iterator[None]:
    """Quiet, without the checks of values that cannot be traced."""
    logger, checked = logging.getLogger("torch.onnx"), Distribution._validate_args
    level = logger.level
    logger.setLevel(logging.ERROR)
    Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of what torch.onnx itself calls
            yield
    finally:
        logger.setLevel(level)
        Distribution.set_default_validate_args(checked)


def _traced(part: BeforeLoop | LoopStep | AfterLoop, examples: Mapping[str, Example], outputs: Sequence[str]) -> Any:
    """The graph of a part, its inputs and outputs named, and all else in it by a prefix of its own.

    Raises:
        UserError: The part does something that ONNX has no word for.
    """
    shapes: Any = tuple({axis: Dim.DYNAMIC for axis in example.free} for example in examples.values())
    shapes = shapes if isinstance(part, AfterLoop) else (shapes,)
    values = tuple(example.values for example in examples.values())
    try:
        program = torch.export.export(part, values, dynamic_shapes=shapes, strict=False)
        program.example_inputs = None  # with them come checks of sizes, which cannot always be traced again
        program = program.run_decompositions(dict(DECOMPOSITIONS))
        exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    except Exception as error:  # of whatever kind, it is the model's part that cannot be told in ONNX
        lines = [line for line in str(error).splitlines() if "Error" in line or "not supported" in line]
        reason = one_line(Exception(lines[-1] if lines else error))
        raise UserError(
            f"Export: ONNX cannot hold {part.title} ({reason}); {part.remedy}, or forecast with armlp predict."
        ) from error
    assert exported is not None
    graph = inliner.inline_local_functions(exported.model_proto).graph
    names = {value.name: name for value, name in zip(graph.input, examples, strict=True)}
    names |= {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    _rename(graph, names, f"{type(part).__name__.lower()}/")
    for value, example in zip(graph.input, examples.values(), strict=True):
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_param:
                axis.dim_param = example.free[place]
    return graph


def _rename(graph: Any, names: Mapping[str, str], prefix: str) -> None:
    """Renames values and nodes, within the subgraphs of nodes too."""

    def renamed(name: str) -> str:
        return names.get(name, name and prefix + name)

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)
    for node in graph.node:
        node.name = renamed(node.name)
        for places in (node.input, node.output):
            places[:] = [renamed(name) for name in places]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, names, prefix)


def _parted(body: Any, varying: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """The nodes of a loop's body that change from step to step, and those that come out alike at each."""
    inside, nodes, shared = set(varying), [], []
    for node in body.node:
        if inside.isdisjoint(_used(node)):
            shared.append(node)
        else:
            inside.update(node.output)
            nodes.append(node)
    return nodes, shared


def _used(node: Any) -> set[str]:
    """The values that a node takes, those of its subgraphs too."""
    graphs = (attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH)
    return {*node.input, *(name for graph in graphs for inner in graph.node for name in _used(inner))}
