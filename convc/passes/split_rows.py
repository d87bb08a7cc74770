"""Large maps go through Winograd's algorithm in strips of rows, so that its transforms stay in a cache."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.graph.op import Op
from convc.ops.base import numbers
from convc.ops.broadcasting import Broadcasting
from convc.ops.elementwise import Elementwise
from convc.ops.matmul import MatMul
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.shape import Concat, Slice
from convc.ops.winograd import WinogradInput, WinogradOutput
from convc.passes.choose_algorithm import Algorithms, convolution_key
from convc.passes.rewriter import Rewriter
from convc.types import TensorType

# Transforms of more bytes than this leave the last-level cache between their kernels. Measured on one core with 1 MiB
# of second-level and 32 MiB of last-level cache: U-Net at 256 x 256 takes 76 ms whole, VGG16 74, and 55 and 59 ms in
# strips of 4 MiB; strips of 1 and 2 MiB are no faster, and many.
_WHOLE_BYTES = 16 << 20
_STRIP_BYTES = 4 << 20
_ROWS = 2  # the dimension of images' rows


@dataclass(frozen=True)
class Chain:
    """A convolution by Winograd's algorithm and what follows it row by row: pointwise nodes, then perhaps a pooling."""

    first: Node
    product: Node
    last: Node
    tail: tuple[Node, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self.first, self.product, self.last, *self.tail)

    @property
    def output(self) -> str:
        return self.nodes[-1].outputs[0]


@dataclass(frozen=True)
class SplitRows:
    """Winograd convolutions whose transforms outgrow the caches run once per strip of rows, with what follows them.

    Neighbouring strips read the same few input rows. The transforms of all strips share their memory. Small maps stay:

    before:
        graph g(x: float32[N, 1, 8, 8]) -> (y) {
          weight u: float32[4, 1, 1, 1] = [1.0, 2.0, 1.0, 2.0]
          v = winograd_input(x) {tile=(2, 1), kernel=(3, 1), padding=((1, 1), (0, 0))}
          m = mat_mul(v, u)
          y = winograd_output(m) {tile=(2, 1), kernel=(3, 1), height=8, width=8}
        }
    after:
        graph g(x: float32[N, 1, 8, 8]) -> (y) {
          weight u: float32[4, 1, 1, 1] = [1.0, 2.0, 1.0, 2.0]
          v = winograd_input(x) {tile=(2, 1), kernel=(3, 1), padding=((1, 1), (0, 0))}
          m = mat_mul(v, u)
          y = winograd_output(m) {tile=(2, 1), kernel=(3, 1), height=8, width=8}
        }
    """

    name: ClassVar[str] = "split-rows"
    whole: int = _WHOLE_BYTES
    strip: int = _STRIP_BYTES
    chosen: Algorithms = ()

    def __call__(self, graph: Graph) -> Graph:
        chains = [c for node in graph.nodes if (c := chain_from(graph, node)) is not None]
        heights = {c.output: self.height(graph, c) for c in chains}
        split = {c.output: c for c in chains if heights[c.output] is not None}
        inside = {id(n) for c in split.values() for n in c.nodes}
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            chain = split.get(node.outputs[0])
            height = heights.get(node.outputs[0])
            if chain is not None and height is not None:
                emit_strips(rewriter, chain, height)
            elif id(node) not in inside:
                rewriter.keep(node)
        return rewriter.done()

    def height(self, graph: Graph, chain: Chain) -> int | None:
        """The convolution's output rows per strip, or None if it is best computed as a whole."""
        v, m = (graph.types[n.outputs[0]] for n in (chain.first, chain.product))
        assert isinstance(chain.last.op, WinogradOutput)
        row = bytes_per_row(v) + bytes_per_row(m)
        rows = numbers(v.shape[1:])[1]
        strip = self.chosen_strip(graph, chain)
        if strip is None:
            strip = self.strip
            weights = graph.weights[chain.product.inputs[1]].nbytes
            if row * rows <= self.whole or weights > strip:
                return None
        if strip == 0:
            return None
        unit = math.lcm(chain.last.op.tile[0], *(pool_stride(n.op) for n in chain.tail))
        units = -(-rows * chain.last.op.tile[0] // unit)
        each = max(1, strip // (row * unit // chain.last.op.tile[0]))
        strips = -(-units // each)
        return -(-units // strips) * unit if strips > 1 else None

    def chosen_strip(self, graph: Graph, chain: Chain) -> int | None:
        """The bytes of a strip that were chosen for a chain's convolution, if any were."""
        if not self.chosen:
            return None
        first, (outputs,) = chain.first, numbers(graph.types[chain.product.outputs[0]].shape[-1:])
        assert isinstance(first.op, WinogradInput)
        x = graph.types[first.inputs[0]]
        key = convolution_key(x, outputs, first.op.kernel, first.op.padding)
        found = dict(self.chosen).get(key)
        return found.strip if found is not None and found.tile == first.op.tile else None


def bytes_per_row(type: TensorType) -> int:
    """The bytes of one row of transformed tiles of v[n, tap, i, j, c]."""
    taps, _, columns, channels = numbers(type.shape[1:])
    return taps * columns * channels * type.dtype.itemsize


def chain_from(graph: Graph, node: Node) -> Chain | None:
    """The chain that begins with a transform of an input whose size is known."""
    if not isinstance(node.op, WinogradInput):
        return None
    product = only_reader(graph, node)
    last = only_reader(graph, product) if product is not None else None
    if product is None or last is None:
        return None
    if not isinstance(product.op, MatMul) or not isinstance(last.op, WinogradOutput):
        return None
    if product.inputs[0] != node.outputs[0] or product.inputs[1] not in graph.weights:
        return None
    tail: list[Node] = []
    reader = only_reader(graph, last)
    while reader is not None and runs_by_row(graph, reader, (tail or [last])[-1].outputs[0]):
        tail.append(reader)
        reader = None if pool_stride(reader.op) > 1 else only_reader(graph, reader)
    return Chain(node, product, last, tuple(tail))


def only_reader(graph: Graph, node: Node) -> Node | None:
    """The one node that reads a node's output, once; None if others do, or the caller."""
    (name,) = node.outputs
    readers = graph.consumers()[name]
    if name in graph.outputs or len(readers) != 1 or readers[0].inputs.count(name) != 1:
        return None
    return readers[0] if len(readers[0].outputs) == 1 else None


def runs_by_row(graph: Graph, node: Node, source: str) -> bool:
    """True if rows of a node's output need the same rows of its operands only (or `stride` times as many of one)."""
    types = graph.types
    if isinstance(node.op, MaxPool2d | AvgPool2d):
        stride, (rows,) = pool_stride(node.op), numbers(types[source].shape[_ROWS : _ROWS + 1])
        return stride > 1 and rows % stride == 0
    if not isinstance(node.op, Elementwise | Broadcasting):
        return False
    same = types[node.outputs[0]].shape == types[source].shape
    return same and all(
        types[i].rank < 2 or types[i].shape[-2] in (1, types[source].shape[_ROWS])
        for i in node.inputs
    )


def pool_stride(op: Op) -> int:
    """The rows of one window of a pooling whose windows neither overlap nor leave rows out; else 1."""
    if not isinstance(op, MaxPool2d | AvgPool2d):
        return 1
    plain = op.padding[0] == (0, 0) and op.dilation[0] == 1 and op.kernel[0] == op.stride[0]
    return op.kernel[0] if plain else 1


def emit_strips(rewriter: Rewriter, chain: Chain, height: int) -> None:
    """The chain's output as strips, one after the other, and their concatenation."""
    assert isinstance(chain.last.op, WinogradOutput)
    strips = [
        emit_strip(rewriter, chain, start, min(start + height, chain.last.op.height))
        for start in range(0, chain.last.op.height, height)
    ]
    rewriter.apply(Concat(_ROWS), tuple(strips), chain.nodes[-1])


def emit_strip(rewriter: Rewriter, chain: Chain, start: int, stop: int) -> str:
    """The output rows that come of the convolution's rows from `start` to `stop`."""
    first, last = chain.first.op, chain.last.op
    assert isinstance(first, WinogradInput)
    assert isinstance(last, WinogradOutput)
    rewriter.layer = chain.first.layer
    source = rewriter.name_of(chain.first.inputs[0])
    (extent,) = numbers(rewriter.types[source].shape[_ROWS : _ROWS + 1])
    (top, _), columns = first.padding
    begin, end = start - top, stop + first.kernel[0] - 1 - top
    padding = ((max(0, -begin), max(0, end - extent)), columns)
    part = rows_of(rewriter, source, max(0, begin), min(extent, end))
    v = rewriter.add(replace(first, padding=padding), part)
    m = rewriter.add(MatMul(), v, chain.product.inputs[1])
    value = rewriter.add(replace(last, height=stop - start), m)
    previous = chain.last.outputs[0]
    for node in chain.tail:
        operands = (
            value if i == previous else broadcast_rows(rewriter, i, start, stop)
            for i in node.inputs
        )
        rewriter.layer = node.layer
        value = rewriter.add(node.op, *operands)
        previous = node.outputs[0]
    return value


def broadcast_rows(rewriter: Rewriter, old: str, start: int, stop: int) -> str:
    """An operand's rows from `start` to `stop`, or all of it if it is the same for every row."""
    name = rewriter.name_of(old)
    type = rewriter.types[name]
    if type.rank < 2 or type.shape[-2] == 1:
        return name
    return rows_of(rewriter, name, start, stop)


def rows_of(rewriter: Rewriter, name: str, start: int, stop: int) -> str:
    """x[:, :, start:stop, :]"""
    type = rewriter.types[name]
    if (start, stop) == (0, type.shape[-2]):
        return name
    around = (None,) * (type.rank - 2)
    op = Slice((*around, start, None), (*around, stop, None), (1,) * type.rank)
    return rewriter.add(op, name)
