"""The heat map in a model's graph: computed where it is asked for, and otherwise at no cost.

ONNX Runtime computes every output of a graph, whichever are fetched. So the nodes that only the heat map needs stand in
a branch, which an input that may be left out opens.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hemascope.export.graph import nodes_for, with_nodes
from hemascope.runtime import HEATMAP, WANTED


def on_request(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose output "heatmap" is empty, (0, 0, 0), unless WANTED is given as true.

    What the other outputs need stands outside of the branch and is computed once for both.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    always = _needed(graph, (value.name for value in graph.output if value.name != HEATMAP))
    inside = _needed(graph, [HEATMAP]) - always
    branch = [node for place, node in enumerate(graph.node) if place in inside]
    outside = [node for place, node in enumerate(graph.node) if place in always]
    for node in branch:
        for place, name in enumerate(node.output):
            if name == HEATMAP:
                node.output[place] = f"{HEATMAP}_inside"
    empty = numpy_helper.from_array(np.zeros((0, 0, 0), np.float32))
    nothing = helper.make_node("Constant", [], [f"{HEATMAP}_empty"], value=empty, name=f"{HEATMAP}_empty")
    choice = helper.make_node(
        "If",
        [WANTED],
        [HEATMAP],
        name=HEATMAP,
        then_branch=helper.make_graph(branch, "wanted", [], [_map(f"{HEATMAP}_inside")]),
        else_branch=helper.make_graph([nothing], "not_wanted", [], [_map(f"{HEATMAP}_empty")]),
    )
    kept = [_map(HEATMAP) if value.name == HEATMAP else value for value in graph.output]
    del graph.node[:]
    graph.node.extend([*outside, choice])
    del graph.output[:]
    graph.output.extend(kept)
    graph.input.append(helper.make_tensor_value_info(WANTED, TensorProto.BOOL, []))
    graph.initializer.append(numpy_helper.from_array(np.array(False), WANTED))
    return without_twins(whole)


def without_heatmap(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that gives no heat map; one that gives none is copied as it is."""
    outputs = [value for value in model.graph.output if value.name != HEATMAP]
    inputs = [value for value in model.graph.input if value.name != WANTED]
    bare = with_nodes(model, nodes_for(model, [value.name for value in outputs]), inputs, outputs)
    helper.set_model_props(bare, {entry.key: entry.value for entry in model.metadata_props})
    return bare


def without_twins(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which constants that are the same stand once."""
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    graph = smaller.graph
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    inputs = {value.name for value in graph.input}
    renamed, kept = {}, []
    for tensor in graph.initializer:
        key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        if tensor.name in inputs or key not in first:
            kept.append(tensor)
            if tensor.name not in inputs:
                first[key] = tensor.name
        else:
            renamed[tensor.name] = first[key]
    _rename(graph, renamed)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return smaller


def _map(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["maps", "map_height", "map_width"])


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for inner in _branches(node):
            _rename(inner, names)


def _branches(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def _needed(graph: onnx.GraphProto, outputs: Iterable[str]) -> set[int]:
    """The places of the nodes that some values are computed by."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    wanted, found = list(outputs), set[int]()
    while wanted:
        place = makers.get(wanted.pop())
        if place is not None and place not in found:
            found.add(place)
            wanted.extend(_read(graph.node[place]))
    return found


def _read(node: onnx.NodeProto) -> list[str]:
    """The values that a node reads, those that its branches read from outside among them."""
    return [*node.input, *(name for inner in _branches(node) for one in inner.node for name in _read(one))]
