"""Lets the weights of convolutions and products be computed when the artifact is made, not pass by pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from convc.graph.ir import Graph
from convc.graph.printer import INLINE
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.matmul import MatMul
from convc.ops.shape import Reshape, Transpose
from convc.program.deferred import Source, as_array, is_deferred


def defer_weights(graphs: Mapping[str, Graph]) -> Mapping[str, Graph]:
    """The graphs, with the weights of convolutions and products deferred; one array stays one.

    A weight that anything else reads is left as it is, and so is one that the graph's text shows.
    """
    sources: dict[int, Source] = {}
    found = {}
    for entry, graph in graphs.items():
        weights = dict(graph.weights)
        for name in linear_weights(graph):
            array = weights[name]
            if not is_deferred(array):
                weights[name] = as_array(sources.setdefault(id(array), Source(array)))
        found[entry] = replace(graph, weights=weights)
    return found


def linear_weights(graph: Graph) -> list[str]:
    """The weights that only convolutions and products read, as their weight, perhaps transposed or reshaped."""
    others = {*graph.outputs}
    for node in reversed(graph.nodes):
        linear = isinstance(node.op, Conv2d | ConvTranspose2d | MatMul)
        moved = isinstance(node.op, Transpose | Reshape) and others.isdisjoint(node.outputs)
        if not moved:
            others.update(node.inputs[:1] if linear else node.inputs)
    return [n for n, array in graph.weights.items() if n not in others and array.size > INLINE]
