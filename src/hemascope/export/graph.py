"""Parts of an ONNX graph: what a value needs, what follows from it, what the file says of itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import onnx
from onnx import helper

HALVES = ("logits", "embedding")
"""Where the body of every model's graph ends and its tail begins."""


def nodes_for(model: onnx.ModelProto, outputs: Iterable[str], given: Collection[str] = ()) -> list[onnx.NodeProto]:
    """The nodes that some values are computed by, in their order; no further back than the values `given`."""
    wanted, kept = set(outputs) - set(given), []
    for node in reversed(model.graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(name for name in node.input if name not in given)
    return kept[::-1]


def followers(nodes: Iterable[onnx.NodeProto], starts: Collection[str]) -> set[str]:
    """The names of all values that depend on some values, those among them; nodes: in their order."""
    found = set(starts)
    for node in nodes:
        if not found.isdisjoint(node.input):
            found.update(node.output)
    return found


def with_nodes(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """A model of some of a model's nodes, with the constants that those need."""
    needed = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(list(nodes), model.graph.name or "part", list(inputs), list(outputs), constants)
    part = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    part.functions.extend(model.functions)
    return part


def tail_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """What stands behind a model's body, alone: "logits" and "embedding" -> "probabilities"."""
    nodes = nodes_for(model, ["probabilities"], HALVES)
    used = [name for name in HALVES if any(name in node.input for node in nodes)]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", None]) for name in used]
    outputs = [value for value in model.graph.output if value.name == "probabilities"]
    return with_nodes(model, nodes, inputs, outputs)


def forget_sources(model: onnx.ModelProto) -> None:
    """Take from a graph what the exporter notes of each node: the lines of code it came from, by their paths here."""
    for part in (model.graph, *model.functions):
        _forget(part)


def _forget(part: onnx.GraphProto | onnx.FunctionProto) -> None:
    values = [*part.value_info]
    if isinstance(part, onnx.GraphProto):
        values += [*part.input, *part.output]
        for tensor in part.initializer:
            del tensor.metadata_props[:]
    for value in values:
        del value.metadata_props[:]
    for node in part.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _forget(inner)
    del part.metadata_props[:]


def add_metadata(model: onnx.ModelProto, facts: Mapping[str, str]) -> None:
    """Let a model's file say more of itself; what it says already stays as it is."""
    known = {entry.key for entry in model.metadata_props}
    for key, value in facts.items():
        if key not in known:
            model.metadata_props.add(key=key, value=value)
