"""Gives symbolic dimensions fixed values: what `--batch 8` does to a model that takes any batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from convc.graph.interp import specialised
from convc.graph.ir import Builder, Graph


def fix_batch(graph: Graph, values: Mapping[str, int]) -> Graph:
    """The graph with numbers for the given symbols, everywhere.

    Before: graph f(x: float32[N, 4]) -> (y) { y = reshape(x) {shape=(N, 2, 2)} }
    After:  graph f(x: float32[8, 4]) -> (y) { y = reshape(x) {shape=(8, 2, 2)} }      with N = 8
    """
    builder = Builder(graph.name, dict(graph.weights))
    for name in graph.inputs:
        builder.input(name, graph.types[name].evaluate(values))
    for node in graph.nodes:
        builder.emit(replace(node, op=specialised(node.op, values, None)))
    return builder.finish(graph.outputs)
