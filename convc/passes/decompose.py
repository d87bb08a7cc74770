"""Replaces operators that are made of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.passes.rewriter import Rewriter


@dataclass(frozen=True)
class Decompose:
    """An operator without a formula, loops or procedure becomes what its facet `decompose` says, until each has one.

    before:
        graph g(x: float32[N, 4]) -> (y) {
          y = softmax(x)
        }
    after:
        graph g(x: float32[N, 4]) -> (y) {
          reduce_max = reduce_max(x) {axes=(1,), keepdims=true}
          sub = sub(x, reduce_max)
          exp = exp(sub)
          reduce_sum = reduce_sum(exp) {axes=(1,), keepdims=true}
          y = div(exp, reduce_sum)
        }
    """

    name: ClassVar[str] = "decompose"

    def __call__(self, graph: Graph) -> Graph:
        while any(is_composite(node) for node in graph.nodes):
            graph = decomposed(graph)
        return graph


def is_composite(node: Node) -> bool:
    """Whether an operator can only be computed through others."""
    op = node.op
    own = op.formula or op.loops or op.procedure
    return op.decompose is not None and own is None


def decomposed(graph: Graph) -> Graph:
    """The graph with each composite operator replaced once."""
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if not is_composite(node):
            rewriter.keep(node)
            continue
        assert node.op.decompose is not None
        rewriter.layer = node.layer
        values = node.op.decompose(rewriter, *rewriter.resolve(node).inputs)
        for old, new in zip(node.outputs, values, strict=True):
            rewriter.replace(old, new)
    return rewriter.done()
