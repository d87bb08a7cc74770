"""Computes at compile time what depends on weights alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.graph.ir import Array, Graph, Node
from convc.graph.op import Op
from convc.ops.augment import Drawn
from convc.ops.base import numbers
from convc.ops.elementwise import Dropout, Identity, StopGradient
from convc.ops.shape import (
    Broadcast,
    Concat,
    DepthToSpace,
    Gather,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
    Transpose,
)
from convc.passes.rewriter import Rewriter
from convc.program.deferred import is_deferred
from convc.types import DType, TensorType, size_of

MOVES = (
    Broadcast, Concat, DepthToSpace, Dropout, Gather, Identity, Pad, Reshape, Slice, SpaceToDepth,
    StopGradient, Transpose,
)  # fmt: skip
"""Operators that compute nothing, so that their operands need no wider dtype."""


@dataclass(frozen=True)
class FoldConstants:
    """A node whose inputs are all weights becomes a weight.

    Floats are computed in float64 and rounded once, which for float32 gives the sums, products, quotients and
    square roots that float32 arithmetic gives. A result of more than `limit` bytes that is also more than twice
    its operands (a broadcast) stays computed.

    before:
        graph g(x: float32[N, 2]) -> (y) {
          weight a: float32[2] = [1.0, 2.0]
          weight b: float32[2] = [3.0, 4.0]
          c = mul(a, b)
          d = neg(c)
          y = add(x, d)
        }
    after:
        graph g(x: float32[N, 2]) -> (y) {
          weight d: float32[2] = [-3.0, -8.0]
          y = add(x, d)
        }
    """

    name: ClassVar[str] = "fold-constants"
    limit: int = 65536

    def __call__(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            if not self._folds(rewriter, node):
                rewriter.keep(node)
                continue
            types = [graph.types[n] for n in node.outputs]
            arrays = [rewriter.weights[n] for n in node.inputs]
            for name, array in zip(node.outputs, evaluated(node.op, arrays, types), strict=True):
                rewriter.constant(name, array)
        return rewriter.done()

    def _folds(self, rewriter: Rewriter, node: Node) -> bool:
        if not node.inputs or not all(i in rewriter.weights for i in node.inputs):
            return False
        if isinstance(node.op, Drawn):  # training makes something else of it
            return False
        if not set(rewriter.graph.outputs).isdisjoint(node.outputs):
            return False
        types = [rewriter.graph.types[n] for n in node.outputs]
        if not all(isinstance(e, int) for t in types for e in t.shape):
            return False
        given = bytes_of(rewriter.types[n] for n in node.inputs)
        made = bytes_of(types)
        return made <= max(self.limit, 2 * given)


def bytes_of(types: Iterable[TensorType]) -> int:
    """The memory of tensors without symbols."""
    total = 0
    for type in types:
        size = size_of(type.shape)
        assert isinstance(size, int)
        total += size * type.dtype.itemsize
    return total


def evaluated(op: Op, arrays: list[Array], types: list[TensorType]) -> list[Array]:
    """The operator's outputs for arrays, of the given types."""
    if is_deferred(arrays[0]) and isinstance(op, Transpose | Reshape):
        moved = arrays[0].transpose(op.perm) if isinstance(op, Transpose) else arrays[0]
        return [moved.reshape(numbers(types[0].shape))]
    if not isinstance(op, MOVES):
        arrays = [a.astype(np.float64) if DType.of(a.dtype).is_float else a for a in arrays]
    with np.errstate(all="ignore"):
        result = op.reference(*arrays)
        results = result if isinstance(result, tuple) else (result,)
        return [
            np.ascontiguousarray(np.asarray(r).astype(t.dtype.numpy, copy=False)).reshape(
                np.shape(r)
            )
            for r, t in zip(results, types, strict=True)
        ]
