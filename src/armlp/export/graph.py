"""The ONNX graph of a rollout, whose step is the body of a `Scan` node that runs any number of times."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnx import helper, inliner
from torch.distributions import Distribution
from torch.export import Dim

from armlp.errors import UserError, short_message
from armlp.export.decompositions import DECOMPOSITIONS
from armlp.export.parts import AfterLoop, BeforeLoop, Example, LoopStep

OPSET = 20


def rollout_model(before_loop: BeforeLoop, after_loop: AfterLoop) -> Any:
    """Return the whole rollout as an `onnx.ModelProto`; raise `UserError` if ONNX cannot express a part."""
    step, inputs = LoopStep(before_loop), before_loop.examples()
    carried, fixed, stepped = before_loop.carried, before_loop.fixed, before_loop.stepped
    with _tracing():
        first_values = before_loop(*(example.values for example in inputs.values()))
        # The first axis of `stepped` values is the step, that of all others the row.
        step_inputs = {
            f"first_{name}" if name in fixed else name: Example(part[0] if name in stepped else part, {0: "rows"})
            for name, part in zip(step.names, first_values, strict=True)
        }
        patch = step(*(example.values for example in step_inputs.values()))[-1]
        num_steps = len(first_values[step.names.index("noise")])
        drawn = Example(torch.stack([patch] * num_steps), {0: "steps", 1: "rows"})
        first = _trace(before_loop, inputs, [f"first_{name}" for name in step.names])
        body = _trace(step, step_inputs, [*(f"next_{name}" for name in carried), "patch"])
        last = _trace(after_loop, {"drawn": drawn, "noise": inputs["noise"]}, after_loop.outputs)
    varying = [*carried, *stepped]
    nodes, shared = _split_nodes(body, varying)
    loop = helper.make_node(
        "Scan",
        [f"first_{name}" for name in varying],
        [*(f"last_{name}" for name in carried), "drawn"],
        name="steps",
        body=helper.make_graph(
            nodes, "step", [value for value in body.input if value.name in varying], list(body.output)
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
    """Switch off gradients, messages of torch.onnx, and checks of values, which traced tensors do not have."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    # A private name: torch can set this default, but has no public way to read it.
    validates = Distribution._validate_args
    logger.setLevel(logging.ERROR)
    Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch.onnx calls deprecated functions
            yield
    finally:
        logger.setLevel(level)
        Distribution.set_default_validate_args(validates)


def _trace(part: BeforeLoop | LoopStep | AfterLoop, examples: Mapping[str, Example], outputs: Sequence[str]) -> Any:
    """Return the graph of a part, its inputs and outputs renamed and all other names prefixed."""
    shapes: Any = tuple({axis: Dim.DYNAMIC for axis in example.free_axes} for example in examples.values())
    shapes = shapes if isinstance(part, AfterLoop) else (shapes,)
    values = tuple(example.values for example in examples.values())
    try:
        program = torch.export.export(part, values, dynamic_shapes=shapes, strict=False)
        # Example inputs add checks of their sizes, which cannot always be traced again. No documented argument
        # leaves them out.
        program.example_inputs = None
        program = program.run_decompositions(dict(DECOMPOSITIONS))
        exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    except Exception as error:  # torch raises many types
        lines = [line for line in str(error).splitlines() if "Error" in line or "not supported" in line]
        reason = short_message(Exception(lines[-1] if lines else error))
        raise UserError(
            f"Export: ONNX cannot hold {part.title} ({reason}); {part.remedy}, or forecast with armlp predict."
        ) from error
    assert exported is not None
    graph = inliner.inline_local_functions(exported.model_proto).graph
    names = {value.name: name for value, name in zip(graph.input, examples, strict=True)}
    names |= {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    _rename(graph, names, f"{type(part).__name__.lower()}/")
    for value, example in zip(graph.input, examples.values(), strict=True):
        for index, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_param:
                axis.dim_param = example.free_axes[index]
    return graph


def _rename(graph: Any, names: Mapping[str, str], prefix: str) -> None:
    """Rename values and nodes, also in the subgraphs of nodes."""

    def renamed(name: str) -> str:
        return names.get(name, name and prefix + name)

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)
    for node in graph.node:
        node.name = renamed(node.name)
        for values in (node.input, node.output):
            values[:] = [renamed(name) for name in values]
        for subgraph in _subgraphs(node):
            _rename(subgraph, names, prefix)


def _split_nodes(body: Any, varying: Collection[str]) -> tuple[list[Any], list[Any]]:
    """Return the nodes of a loop body that depend on `varying` values, and the other nodes."""
    dependent, nodes, shared = set(varying), [], []
    for node in body.node:
        if dependent.isdisjoint(_used_values(node)):
            shared.append(node)
        else:
            dependent.update(node.output)
            nodes.append(node)
    return nodes, shared


def _used_values(node: Any) -> set[str]:
    """Return the names of the values that a node uses, also in its subgraphs."""
    return {*node.input, *(name for graph in _subgraphs(node) for inner in graph.node for name in _used_values(inner))}


def _subgraphs(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
