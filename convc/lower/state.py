"""How state lies in memory: each parameter as the kernels that read it most want it, and what is alike as it does."""

from __future__ import annotations

from collections.abc import Mapping

from convc.errors import IRError
from convc.graph.ir import Graph
from convc.graph.state import next_values
from convc.loops.ir import Layout
from convc.types import TensorType


def state_layouts(graphs: Mapping[str, Graph]) -> dict[str, Layout]:
    """The layout of every state of some entries, the same in all of them.

    IRError where a state has no constant shape, or two types.
    """
    types: dict[str, TensorType] = {}
    for graph in graphs.values():
        for name in next_values(graph):
            type = types.setdefault(name, graph.types[name])
            if any(not isinstance(e, int) for e in type.shape):
                raise IRError(f"{graph.name}: the state {name!r} has no constant shape: {type}")
    for graph in graphs.values():
        for name in graph.inputs:
            if types.get(name, graph.types[name]) != graph.types[name]:
                message = f"the state {name!r} is {types[name]} and {graph.types[name]}"
                raise IRError(f"{graph.name}: {message}")
    return {name: layout_of(type) for name, type in types.items()}


def layout_of(type: TensorType) -> Layout:
    """Windows' weights [outputs, inputs, rows, columns] with the outputs side by side, and others dense."""
    if type.rank == 4:
        return Layout.permuted((2, 3, 1, 0))
    return Layout.dense(type.rank)


def alike(graph: Graph, states: Mapping[str, Layout]) -> dict[str, Layout]:
    """The layouts of values that element by element become, or come of, a state: gradients, and what updates need.

    Those are the values that nodes of operands of one shape connect with it.
    """
    found = {name: states[name] for name in graph.inputs if name in states}
    shapes = {tuple(graph.types[name].shape) for name in found if graph.types[name].rank == 4}
    related = [
        {
            name
            for name in (*node.inputs, *node.outputs)
            if graph.types[name].shape == graph.types[node.outputs[0]].shape
        }
        for node in graph.nodes
        if tuple(graph.types[node.outputs[0]].shape) in shapes and graph.view(node) is None
    ]
    related += [{name, value} for name, value in next_values(graph).items() if name in states]
    changed = True
    while changed:
        changed = False
        for names in related:
            known = next((found[n] for n in names if n in found), None)
            if known is not None and not names <= found.keys():
                found |= {n: found.get(n, known) for n in names}
                changed = True
    return {n: layout for n, layout in found.items() if n not in graph.inputs}
