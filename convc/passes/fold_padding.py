"""Folds a pad of zeros into the padding of the convolution or pooling behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.graph.op import Op
from convc.ops.activations import Relu, Sigmoid, Softplus
from convc.ops.base import Padding
from convc.ops.broadcasting import Add, Maximum, Mul
from convc.ops.conv import Conv2d
from convc.ops.elementwise import Abs, Clip, Dropout, Exp, Identity, Sqrt, Square
from convc.ops.norm import Softmax
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ReduceMax, ReduceMean, ReduceMin, ReduceSum
from convc.ops.shape import Broadcast, Concat, Pad, Reshape, Slice, Transpose
from convc.passes.rewriter import Rewriter

NEVER_NEGATIVE = (Abs, Exp, Relu, Sigmoid, Softmax, Softplus, Sqrt, Square)
NOT_IF_INPUTS_ARE_NOT = (
    Add, AvgPool2d, Broadcast, Concat, Dropout, Identity, MaxPool2d, Maximum, Mul, ReduceMax, ReduceMean,
    ReduceMin, ReduceSum, Reshape, Slice, Transpose,
)  # fmt: skip


@dataclass(frozen=True)
class FoldPadding:
    """A pad of rows and columns of zeros goes into a convolution's padding, or into an average pooling that counts it.

    A max pooling takes it too where its input is never negative, since then no zero wins over an element of the
    window; or where the pad's value is minus infinity.

    before:
        graph g(x: float32[N, 1, 4, 4]) -> (y) {
          weight w: float32[1, 1, 2, 2] = [1.0, 2.0, 3.0, 4.0]
          a = pad(x) {pads=((0, 0), (0, 0), (1, 0), (1, 1))}
          b = conv2d(a, w) {stride=(2, 2), padding=((0, 1), (0, 0))}
          c = relu(b)
          d = pad(c) {pads=((0, 0), (0, 0), (1, 1), (1, 1))}
          y = max_pool2d(d) {kernel=(3, 3)}
        }
    after:
        graph g(x: float32[N, 1, 4, 4]) -> (y) {
          weight w: float32[1, 1, 2, 2] = [1.0, 2.0, 3.0, 4.0]
          b = conv2d(x, w) {stride=(2, 2), padding=((1, 1), (1, 1))}
          c = relu(b)
          y = max_pool2d(c) {kernel=(3, 3), padding=((1, 1), (1, 1))}
        }
    """

    name: ClassVar[str] = "fold-padding"

    def __call__(self, graph: Graph) -> Graph:
        rewriter, positive = Rewriter(graph), set[str]()
        for node in graph.nodes:
            if is_never_negative(node, positive):
                positive.update(node.outputs)
            folded = fold(rewriter, node, positive)
            if folded:
                rewriter.apply(*folded, node)
            else:
                rewriter.keep(node)
        return rewriter.done()


def is_never_negative(node: Node, positive: set[str]) -> bool:
    """Whether an operator's output has no negative element, given the values known to have none."""
    match node.op:
        case Clip():
            return node.op.min is not None and node.op.min >= 0
        case Pad():
            return node.inputs[0] in positive and node.op.value >= 0
    if isinstance(node.op, NEVER_NEGATIVE):
        return True
    return isinstance(node.op, NOT_IF_INPUTS_ARE_NOT) and positive.issuperset(node.inputs)


def fold(rewriter: Rewriter, node: Node, positive: set[str]) -> tuple[Op, tuple[str, ...]] | None:
    """The operator that takes over the pad before it, and its inputs."""
    if not isinstance(node.op, (Conv2d, AvgPool2d, MaxPool2d)):
        return None
    before = rewriter.producer.get(node.inputs[0])
    if before is None or not isinstance(before.op, Pad) or before.op.mode != "constant":
        return None
    pad, source = before.op, before.inputs[0]
    if len(pad.pads) != 4 or pad.pads[:2] != ((0, 0), (0, 0)):
        return None
    if min(*pad.pads[2], *pad.pads[3]) < 0:
        return None
    op = padded(node.op, pad, source in positive)
    return (op, (source, *node.inputs[1:])) if op else None


def padded(op: Conv2d | AvgPool2d | MaxPool2d, pad: Pad, is_positive: bool) -> Op | None:
    """The operator with the pad in its own padding, or None."""
    rows, columns = (
        (own[0] + more[0], own[1] + more[1])
        for own, more in zip(op.padding, pad.pads[2:], strict=True)
    )
    padding: Padding = (rows, columns)
    match op:
        case Conv2d():
            return replace(op, padding=padding) if pad.value == 0 else None
        case AvgPool2d():
            counts = op.count_include_pad or op.padding == ((0, 0), (0, 0))
            fits = counts and pad.value == 0
            return replace(op, padding=padding, count_include_pad=True) if fits else None
        case MaxPool2d():
            if pad.value == -math.inf:
                return replace(op, padding=padding)
            inside = op.dilation == (1, 1) and all(max(padding[d]) < op.kernel[d] for d in range(2))
            fits = pad.value == 0 and is_positive and inside
            return replace(op, padding=padding) if fits else None
