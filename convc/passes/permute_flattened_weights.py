"""Puts the transpose before a flatten into the rows of the product after it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.graph.ir import Graph, Node
from convc.ops.matmul import MatMul
from convc.ops.shape import Reshape, Transpose
from convc.passes.rewriter import Rewriter


@dataclass(frozen=True)
class PermuteFlattenedWeights:
    """matmul(flatten(transpose(x)), w) becomes matmul(flatten(x), w'), w' being w with its rows in x's order.

    The transpose leaves the first dimension where it is, the flatten keeps it alone, and nothing else reads
    the flattened value.

    before:
        graph g(x: float32[N, 2, 2]) -> (y) {
          weight w: float32[4, 1] = [1.0, 2.0, 3.0, 4.0]
          a = transpose(x) {perm=(0, 2, 1)}
          b = reshape(a) {shape=(N, 4)}
          y = mat_mul(b, w)
        }
    after:
        graph g(x: float32[N, 2, 2]) -> (y) {
          weight w_1: float32[4, 1] = [1.0, 3.0, 2.0, 4.0]
          b_1 = reshape(x) {shape=(N, 4)}
          y = mat_mul(b_1, w_1)
        }
    """

    name: ClassVar[str] = "permute-flattened-weights"

    def __call__(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            found = transposed_before(rewriter, node)
            if found is None:
                rewriter.keep(node)
                continue
            transpose, flat = found
            rewriter.layer = flat.layer
            x, w = transpose.inputs[0], node.inputs[1]
            straight = rewriter.add(flat.op, x, name=flat.outputs[0])
            weight = rewriter.weight(w, reordered(rewriter, transpose, w))
            rewriter.apply(node.op, (straight, weight), node)
        return rewriter.done()


def transposed_before(rewriter: Rewriter, node: Node) -> tuple[Node, Node] | None:
    """The transpose and the flatten before a product with a weight, if they are as the pass wants them."""
    if not isinstance(node.op, MatMul) or node.inputs[1] not in rewriter.weights:
        return None
    x, w = rewriter.resolve(node).inputs
    flat = rewriter.producer.get(x)
    if flat is None or not isinstance(flat.op, Reshape) or rewriter.uses[node.inputs[0]] != 1:
        return None
    transpose = rewriter.producer.get(flat.inputs[0])
    if transpose is None or not isinstance(transpose.op, Transpose) or transpose.op.perm[0] != 0:
        return None
    before, after = rewriter.types[flat.inputs[0]].shape, rewriter.types[x].shape
    inner = before[1:]
    fits = len(after) == 2 and after[0] == before[0] and rewriter.types[w].rank == 2
    if not fits or not all(isinstance(e, int) for e in inner):
        return None
    return transpose, flat


def reordered(rewriter: Rewriter, transpose: Node, w: str) -> np.ndarray:
    """The weight's rows in the order of the value before the transpose."""
    assert isinstance(transpose.op, Transpose)
    sizes = [int(e) for e in rewriter.types[transpose.outputs[0]].shape[1:]]  # type: ignore[arg-type]
    perm = transpose.op.perm[1:]
    back = [perm.index(d) for d in range(1, len(perm) + 1)]
    order = np.arange(math.prod(sizes)).reshape(sizes).transpose(back).reshape(-1)
    return np.asarray(rewriter.weights[w])[order]
