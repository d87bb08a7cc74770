"""Moves transposes down, past operators that don't mind the order of dimensions, until they cancel out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from convc.graph.ir import Array, Graph, Node
from convc.graph.op import Op
from convc.ops.broadcasting import Broadcasting
from convc.ops.norm import BatchNorm, LayerNorm
from convc.ops.reduce import ArgMax, Reduction
from convc.ops.shape import Reshape, Transpose
from convc.passes.rewriter import Rewriter
from convc.program.deferred import is_deferred
from convc.types import Shape

Perm = tuple[int, ...]


@dataclass(frozen=True)
class SinkTransposes:
    """Transpose -> f -> Transpose back becomes f', the same operator in the other order (facet `permute`).

    Walking down, a transposed value is only remembered as a base and an order. An operator all of whose operands
    are transposed alike, or are constants that can be re-laid, or are cheaper to transpose than the others are to
    transpose back, is applied to the bases. What can't follow (a convolution, a reshape, an output) gets
    the transpose. So networks written for channels-last keep one transpose after the input and one
    before an output. A transpose that only moves dimensions of extent 1 is a reshape. A graph
    that would have more transposes afterwards stays as it is.

    before:
        graph g(x: float32[N, 4, 2, 3]) -> (y) {
          weight scale: float32[4] = [1.0, 2.0, 3.0, 4.0]
          a = transpose(x) {perm=(0, 2, 3, 1)}
          b = mul(a, scale)
          c = relu(b)
          y = transpose(c) {perm=(0, 3, 1, 2)}
        }
    after:
        graph g(x: float32[N, 4, 2, 3]) -> (y) {
          weight scale_1: float32[4, 1, 1] = [1.0, 2.0, 3.0, 4.0]
          b = mul(x, scale_1)
          y = relu(b)
        }
    """

    name: ClassVar[str] = "sink-transposes"

    def __call__(self, graph: Graph) -> Graph:
        if not count_transposes(graph):
            return graph
        sinker = _Sinker(graph)
        for node in graph.nodes:
            sinker.visit(node)
        result = sinker.finished()
        return result if count_transposes(result) <= count_transposes(graph) else graph


def count_transposes(graph: Graph) -> int:
    """The number of transposes in a graph."""
    return sum(isinstance(node.op, Transpose) for node in graph.nodes)


def inverse(perm: Perm) -> Perm:
    """The order that undoes an order."""
    return tuple(perm.index(d) for d in range(len(perm)))


def composed(first: Perm, second: Perm) -> Perm:
    """The order of a transpose by `first`, then by `second`."""
    return tuple(first[d] for d in second)


def is_identity(perm: Perm) -> bool:
    return perm == tuple(range(len(perm)))


def only_moves_ones(perm: Perm, shape: Shape) -> bool:
    """Whether a transpose keeps the order of all dimensions but those of extent 1."""
    rest = [d for d in perm if shape[d] != 1]
    return rest == sorted(rest)


@dataclass(frozen=True)
class View:
    """A value of the old graph: `base`, a value of the new one, transposed by `perm`."""

    base: str
    perm: Perm

    def toward(self, perm: Perm) -> View:
        """What becomes this view when transposed by `perm`."""
        return View(self.base, composed(self.perm, inverse(perm)))


@dataclass(frozen=True)
class Moved:
    """An operator on bases: its data operands come first and all follow the order; its output has another."""

    op: Op
    data: int
    perm: Perm


class _Sinker:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rewriter = Rewriter(graph)
        self.views: dict[str, View] = {}
        self.emitted: dict[View, str] = {}
        self.relaid: dict[tuple[View, bool], str] = {}

    def visit(self, node: Node) -> None:
        if isinstance(node.op, Transpose) and node.inputs[0] not in self.graph.weights:
            view = self.view(node.inputs[0])
            self.see(node.outputs[0], View(view.base, composed(view.perm, node.op.perm)))
        elif not any(i in self.views for i in node.inputs) or not self.sink(node):
            for name in node.inputs:
                self.settle(name)
            self.rewriter.keep(node)

    def finished(self) -> Graph:
        for name in self.graph.outputs:
            self.settle(name)
        return self.rewriter.done()

    def view(self, old: str) -> View:
        """An old value as a view of a new one."""
        rank = self.graph.types[old].rank
        return self.views.get(old) or View(self.rewriter.name_of(old), tuple(range(rank)))

    def see(self, old: str, view: View) -> None:
        """Remembers what an old value is."""
        if is_identity(view.perm):
            self.rewriter.replace(old, view.base)
        else:
            self.views[old] = view

    def settle(self, old: str) -> None:
        """Emits the transpose that a view stands for."""
        if old in self.views:
            self.rewriter.replace(old, self.emit(self.views[old], old))

    def emit(self, view: View, name: str) -> str:
        """The new value of a view, transposed or reshaped once for all its readers."""
        if is_identity(view.perm):
            return view.base
        if view not in self.emitted:
            shape = self.rewriter.types[view.base].shape
            op: Op = Transpose(view.perm)
            if only_moves_ones(view.perm, shape):
                op = Reshape(tuple(shape[d] for d in view.perm))
            free = name if name not in self.rewriter.types else self.rewriter.fresh(name)
            self.rewriter.emit(Node(op, (view.base,), (free,)))
            self.emitted[view] = free
        return self.emitted[view]

    # ------------------------------------------------------------ operators

    def sink(self, node: Node) -> bool:
        """Applies the operator to bases if that takes no more transposes than settling its operands."""
        best, least = None, self.cost(node.inputs, None)
        for perm in dict.fromkeys(self.views[i].perm for i in node.inputs if i in self.views):
            moved = self.moved(node, perm)
            if moved is None:
                continue
            cost = self.cost(node.inputs[: moved.data], perm)
            if cost < least or best is None and cost == least:
                best, least = (moved, perm), cost
        if best is None:
            return False
        self.apply(node, *best)
        return True

    def cost(self, names: tuple[str, ...], perm: Perm | None) -> float:
        """The transposes to emit so that operands follow an order (None: are as in the old graph)."""
        total = 0.0
        for name in dict.fromkeys(names):
            if self.is_free(name, perm):
                continue
            view = self.view(name).toward(perm) if perm else self.view(name)
            if is_identity(view.perm) or view in self.emitted:
                continue
            small = only_moves_ones(view.perm, self.rewriter.types[view.base].shape)
            total += 0.125 if small else 1
        return total

    def is_free(self, name: str, perm: Perm | None) -> bool:
        """Constants and single elements follow any order."""
        shape = self.graph.types[name].shape
        return name in self.graph.weights or perm is not None and len(shape) < len(perm)

    def moved(self, node: Node, perm: Perm) -> Moved | None:
        """The operator on operands whose transposes by `perm` are the old ones, or None."""
        types = [self.graph.types[i] for i in node.inputs]
        match node.op:
            case Broadcasting():
                fits = all(
                    t.rank == len(perm) or n in self.graph.weights or all(e == 1 for e in t.shape)
                    for n, t in zip(node.inputs, types, strict=True)
                )
                fits = fits and self.graph.types[node.outputs[0]].rank == len(perm)
                return Moved(node.op, len(types), perm) if fits else None
            case Reduction() | ArgMax() if not node.op.keepdims:
                return moved_reduction(node.op, perm)
        if node.op.permute is None or len(node.outputs) != 1:
            return None
        if types[0].rank != len(perm):
            return None
        op = node.op.permute(inverse(perm), *types)
        data = 1 if isinstance(node.op, (BatchNorm, LayerNorm)) else len(types)
        return Moved(op, data, perm) if op else None

    def apply(self, node: Node, moved: Moved, perm: Perm) -> None:
        """Emits the operator on bases; its output is a view of the result."""
        inputs = []
        for n, name in enumerate(node.inputs):
            if n >= moved.data:
                self.settle(name)
                inputs.append(self.rewriter.name_of(name))
            elif name in self.graph.weights:
                inputs.append(self.relay(name, perm, isinstance(moved.op, Broadcasting)))
            elif self.is_free(name, perm):
                inputs.append(self.rewriter.name_of(name))
            else:
                inputs.append(self.emit(self.view(name).toward(perm), name))
        output = node.outputs[0]
        if output in self.graph.outputs and not is_identity(moved.perm):
            output = self.rewriter.fresh(output)
        self.rewriter.emit(replace(node, op=moved.op, inputs=tuple(inputs), outputs=(output,)))
        self.see(node.outputs[0], View(output, moved.perm))

    def relay(self, name: str, perm: Perm, broadcasts: bool) -> str:
        """A weight in the order of the bases."""
        key = View(name, perm), broadcasts
        if key not in self.relaid:
            array = self.graph.weights[name]
            moved = relaid(array, perm, broadcasts)
            same = moved.shape == array.shape and only_moves_ones(perm, wide(array, perm).shape)
            self.relaid[key] = name if same else self.rewriter.weight(name, moved)
        return self.relaid[key]


def moved_reduction(op: Reduction | ArgMax, perm: Perm) -> Moved:
    """A reduction that drops its axes, on the base of a transpose: what is left may still be transposed."""
    axes = op.axes if isinstance(op, Reduction) else (op.axis,)
    gone = {a % len(perm) for a in axes}
    left = [perm[d] for d in range(len(perm)) if d not in gone]
    rest = tuple(sorted(left).index(d) for d in left)
    if isinstance(op, Reduction):
        return Moved(replace(op, axes=tuple(sorted(perm[d] for d in gone))), 1, rest)
    return Moved(replace(op, axis=perm[op.axis]), 1, rest)


def wide(array: Array, perm: Perm) -> Array:
    """The array with the rank of the order, by leading dimensions of extent 1."""
    return array.reshape((1,) * (len(perm) - array.ndim) + array.shape)


def relaid(array: Array, perm: Perm, broadcasts: bool) -> Array:
    """A constant operand in the order of the bases; where it broadcasts, without leading dimensions of extent 1."""
    moved = wide(array, perm).transpose(inverse(perm))
    if not is_deferred(moved):
        moved = np.ascontiguousarray(moved)
    shape = moved.shape
    while broadcasts and len(shape) > 0 and shape[0] == 1 and (len(shape) > 1 or array.ndim == 0):
        shape = shape[1:]
    return moved.reshape(shape)
