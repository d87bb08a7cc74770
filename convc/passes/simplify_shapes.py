"""Removes movements of elements that do nothing and merges those that follow each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.graph.op import Op
from convc.ops.base import axes_of
from convc.ops.reduce import Reduction, reduced_shape
from convc.ops.shape import Broadcast, Concat, Pad, Reshape, Slice, Transpose
from convc.passes.rewriter import Rewriter
from convc.passes.sink_transposes import only_moves_ones
from convc.types import Shape


@dataclass(frozen=True)
class SimplifyShapes:
    """Reshapes and broadcasts to the same shape, identity transposes, empty pads, whole slices and joins of one go;
    transposes, reshapes and constant pads that follow their like become one; a transpose that only
    moves dimensions of extent 1 becomes a reshape, unless `keep_transposes`; a reduction reshaped to keep its axes
    keeps them.

    before:
        graph g(x: float32[N, 2, 1, 3]) -> (y) {
          a = transpose(x) {perm=(0, 2, 3, 1)}
          b = transpose(a) {perm=(0, 1, 3, 2)}
          c = reshape(b) {shape=(N, 6)}
          d = reshape(c) {shape=(N, 3, 2)}
          e = pad(d) {pads=((0, 0), (0, 0), (0, 0))}
          f = slice(e) {starts=(0, 0, 0), ends=(none, none, none), steps=(1, 1, 1)}
          y = concat(f)
        }
    after:
        graph g(x: float32[N, 2, 1, 3]) -> (y) {
          y = reshape(x) {shape=(N, 3, 2)}
        }
    """

    name: ClassVar[str] = "simplify-shapes"
    keep_transposes: bool = False

    def __call__(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            simplify(rewriter, node, self.keep_transposes)
        return rewriter.done()


def simplify(rewriter: Rewriter, node: Node, keep_transposes: bool) -> None:
    """Keeps a node, or replaces it by its input or by one operator on an earlier value."""
    new = rewriter.resolve(node)
    if len(new.inputs) != 1 or not isinstance(
        new.op, (Broadcast, Concat, Pad, Reshape, Slice, Transpose)
    ):
        rewriter.keep(node)
        return
    x = new.inputs[0]
    shape = rewriter.graph.types[node.outputs[0]].shape
    if is_whole(new.op, rewriter.types[x].shape, shape):
        rewriter.replace(node.outputs[0], x)
        return
    op, source = merged(rewriter, new.op, x, shape)
    before = rewriter.types[source].shape
    if not keep_transposes and isinstance(op, Transpose) and only_moves_ones(op.perm, before):
        op, source = merged(rewriter, Reshape(shape), source, shape)
    if rewriter.types[source].shape == shape and is_whole(op, shape, shape):
        rewriter.replace(node.outputs[0], source)
        return
    if op == new.op and source == x:
        rewriter.keep(node)
    else:
        rewriter.apply(op, (source,), node)


def is_whole(op: Op, x: Shape, y: Shape) -> bool:
    """Whether an operator from shape x to shape y copies its one operand."""
    match op:
        case Concat():
            return True
        case Reshape() | Broadcast():
            return x == y
        case Transpose():
            return op.perm == tuple(range(len(x)))
        case Pad():
            return all(pair == (0, 0) for pair in op.pads)
        case Slice():
            return x == y and all(step == 1 for step in op.steps)
    return False


def merged(rewriter: Rewriter, op: Op, x: str, shape: Shape) -> tuple[Op, str]:
    """The operator that does both what `op` does and what the operator before it does, and its input."""
    while (before := rewriter.producer.get(x)) is not None:
        both = combined(before.op, op, rewriter.types[before.inputs[0]].shape, shape)
        if both is None or isinstance(both, Reduction) and rewriter.uses[x] > 1:
            break
        op, x = both, before.inputs[0]
    return op, x


def combined(first: Op, second: Op, x: Shape, y: Shape) -> Op | None:
    """One operator from shape x to shape y for two in a row, or None."""
    match first, second:
        case Transpose(), Transpose():
            return Transpose(tuple(first.perm[d] for d in second.perm))
        case Reshape(), Reshape():
            return Reshape(y)
        case Reduction(), Reshape() if not first.keepdims:
            kept = replace(first, keepdims=True)
            return kept if reduced_shape(x, axes_of(first, first.axes, len(x)), True) == y else None
        case Pad(), Pad() if first.mode == second.mode == "constant":
            pairs = zip(first.pads, second.pads, strict=True)
            sums = tuple((a[0] + b[0], a[1] + b[1]) for a, b in pairs)
            grows = all(min(pair) >= 0 for pair in (*first.pads, *second.pads))
            same = repr(first.value) == repr(second.value)
            return Pad(sums, "constant", first.value) if same and grows else None
    return None
