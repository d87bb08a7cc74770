"""Copies weights that change, so that what a convolution reads together stands together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.shape import Reshape, Transpose
from convc.ops.values import Value
from convc.passes.rewriter import Rewriter
from convc.types import Shape, size_of

Perm = tuple[int, ...]


@dataclass(frozen=True)
class PackWeights:
    """A convolution whose weight is computed or an input reads a copy of it with the output channels last.

    Constant weights are packed when they are compiled; these once per run: the first reshape is a copy, what follows
    only looks at it.

    before:
        graph g(x: float32[N, 4, 5, 5], w: float32[8, 4, 3, 3]) -> (y) {
          y = conv2d(x, w)
        }
    after:
        graph g(x: float32[N, 4, 5, 5], w: float32[8, 4, 3, 3]) -> (y) {
          transpose = transpose(w) {perm=(1, 2, 3, 0)}
          reshape = reshape(transpose) {shape=(36, 8)}
          reshape_1 = reshape(reshape) {shape=(4, 3, 3, 8)}
          transpose_1 = transpose(reshape_1) {perm=(3, 0, 1, 2)}
          y = conv2d(x, transpose_1)
        }
    """

    name: ClassVar[str] = "pack-weights"

    def __call__(self, graph: Graph) -> Graph:
        rewriter, copies = Rewriter(graph), dict[tuple[str, Perm], str]()
        producers = graph.producers()
        for node in graph.nodes:
            perm = wanted_order(graph, node)
            if perm is None or is_packed(producers, node.inputs[1]):
                rewriter.keep(node)
                continue
            x, weight = rewriter.resolve(node).inputs
            key = (weight, perm)
            if key not in copies:
                rewriter.layer = node.layer
                copies[key] = packed(Value(rewriter, weight), perm).name
            rewriter.emit(replace(node, inputs=(x, copies[key])))
        return rewriter.done()


def wanted_order(graph: Graph, node: Node) -> Perm | None:
    """The order in which a convolution reads its weight best, if that isn't settled when it is compiled."""
    if not isinstance(node.op, (Conv2d, ConvTranspose2d)) or node.inputs[1] in graph.weights:
        return None
    outputs, per_group = graph.types[node.inputs[1]].shape[:2]
    if outputs == 1:
        return None
    # A depthwise convolution's output channels are the first dimension in both.
    first = isinstance(node.op, Conv2d) or per_group == 1
    return (1, 2, 3, 0) if first else (0, 2, 3, 1)


def is_packed(producers: Mapping[str, Node], weight: str) -> bool:
    """Whether a weight is such a copy already."""
    for wanted in (Transpose, Reshape, Reshape):
        node = producers.get(weight)
        if node is None or not isinstance(node.op, wanted):
            return False
        weight = node.inputs[0]
    return True


def packed(weight: Value, perm: Perm) -> Value:
    """The weight, in memory in an order of its dimensions."""
    turned = weight.transpose(perm)
    shape: Shape = turned.shape
    flat = turned.apply("reshape", shape=(size_of(shape[:-1]), shape[-1]))
    whole = flat.apply("reshape", shape=shape)
    return whole.transpose(perm.index(d) for d in range(4))
