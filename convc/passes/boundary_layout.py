"""The order of the dimensions of images at a model's boundary: channels first or last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.graph.ir import Builder, Graph, Node, renamed
from convc.ops.shape import Transpose
from convc.types import TensorType

FIRST = (0, 3, 1, 2)
"""Channels last to channels first."""
LAST = (0, 2, 3, 1)


@dataclass(frozen=True)
class TransposeBoundary:
    """Inputs and outputs of four dimensions are given and come in another order, each with a transpose beside it.

    `given` is that order, in dimensions of the model's own. Later passes cancel what can be cancelled.

    before:
        graph g(x: float32[N, 4, 2, 3]) -> (y) {
          y = relu(x)
        }
    after:
        graph g(x: float32[N, 2, 3, 4]) -> (y) {
          x_own = transpose(x) {perm=(0, 3, 1, 2)}
          y_own = relu(x_own)
          y = transpose(y_own) {perm=(0, 2, 3, 1)}
        }
    """

    name: ClassVar[str] = "transpose-boundary"
    given: tuple[int, ...] = LAST

    def __call__(self, graph: Graph) -> Graph:
        producers = graph.producers()
        builder = Builder(graph.name, dict(graph.weights), reserved=frozenset(graph.types))
        names: dict[str, str] = {}
        for name in graph.inputs:
            type = graph.types[name]
            image = type.rank == 4 and name not in graph.outputs
            shape = tuple(type.shape[p] for p in self.given) if image else type.shape
            builder.input(name, TensorType(type.dtype, shape))
            names |= {name: builder.fresh(f"{name}_own")} if image else {}
        back = tuple(self.given.index(d) for d in range(4))
        for name, own in names.items():
            builder.emit(Node(Transpose(back), (name,), (own,)))
        moved = [o for o in graph.outputs if graph.types[o].rank == 4 and o in producers]
        names |= {o: builder.fresh(f"{o}_own") for o in moved}
        for node in graph.nodes:
            outputs = tuple(names.get(o, o) for o in node.outputs)
            builder.emit(replace(renamed(node, names), outputs=outputs))
        for name in moved:
            builder.emit(Node(Transpose(self.given), (names[name],), (name,)))
        return builder.finish(graph.outputs)


def is_channels_last(graph: Graph) -> bool:
    """Whether a model speaks of images channels last: its layers transpose to our order."""
    return any(isinstance(n.op, Transpose) and n.op.perm == FIRST for n in graph.nodes)
