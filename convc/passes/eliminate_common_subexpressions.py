"""Computes the same thing once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from convc.graph.ir import Array, Graph, Node
from convc.ops.broadcasting import Add, And, Equal, Maximum, Minimum, Mul, NotEqual, Or, Xor
from convc.ops.reduce import Count
from convc.passes.rewriter import Rewriter
from convc.program.deferred import is_deferred
from convc.types import TensorType, size_of

COMMUTATIVE = (Add, And, Equal, Maximum, Minimum, Mul, NotEqual, Or, Xor)
COMPARED = 4096
"""The most elements of a weight that is compared by its values; larger ones are one if they are one array."""


@dataclass(frozen=True)
class EliminateCommonSubexpressions:
    """Nodes with one operator and the same inputs (in any order, where that doesn't matter) become one, equal
    weights too, and numbers of elements (`count`) of equally many.

    before:
        graph g(x: float32[N, 2]) -> (y) {
          weight a: float32[2] = [1.0, 2.0]
          weight b: float32[2] = [1.0, 2.0]
          c = mul(x, a)
          d = mul(b, x)
          y = sub(c, d)
        }
    after:
        graph g(x: float32[N, 2]) -> (y) {
          weight a: float32[2] = [1.0, 2.0]
          c = mul(x, a)
          y = sub(c, c)
        }
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"

    def __call__(self, graph: Graph) -> Graph:
        rewriter, seen = Rewriter(graph), dict[Any, tuple[str, ...]]()
        for name, array in graph.weights.items():
            rewriter.replace(name, seen.setdefault(weight_key(array), (name,))[0])
        for node in graph.nodes:
            new = rewriter.resolve(node)
            key = node_key(new, graph.types)
            if key not in seen:
                seen[key] = node.outputs
                rewriter.keep(node)
                continue
            for old, first in zip(node.outputs, seen[key], strict=True):
                rewriter.replace(old, first)
        return rewriter.done()


def node_key(node: Node, types: Mapping[str, TensorType]) -> Any:
    """What equal nodes share."""
    if isinstance(node.op, Count):  # of its operand it needs the shape only
        x = types[node.inputs[0]]
        return Count, x.dtype, size_of(x.shape[axis] for axis in node.op.axes)
    inputs = tuple(sorted(node.inputs)) if isinstance(node.op, COMMUTATIVE) else node.inputs
    # The attributes' texts keep apart what compares equal: 0.0 and -0.0, 1 and True.
    return type(node.op), repr(node.op), inputs


def weight_key(array: Array) -> Any:
    """What equal weights share."""
    if array.size > COMPARED or is_deferred(array):
        return id(array)
    return array.dtype.name, array.shape, array.tobytes()
