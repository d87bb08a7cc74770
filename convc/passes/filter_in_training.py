"""Winograd's minimal filtering in a training step: for a convolution, its input's and its filter's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.ops.base import Padding, Pair, numbers
from convc.ops.conv import Conv2d, Conv2dWeightGradient, ConvTranspose2d
from convc.ops.matmul import MatMul
from convc.ops.shape import Concat, Reshape, Slice, Transpose
from convc.ops.winograd import WinogradInput, WinogradOutput
from convc.ops.winograd_training import (
    WinogradFilter,
    WinogradFilterGradient,
    WinogradGradientTiles,
    WinogradImage,
    WinogradSums,
    WinogradTiles,
)
from convc.passes.rewriter import Rewriter
from convc.types import DType, symbols_of

# Tiles (rows, columns) that are worth a look, by the filter's size. A layer's error, relative to its largest output, is
# 3e-6 for (4, 4) on 3x3 and 5e-6 on 5x5, where the formula itself has 1e-6; a filter's gradient has 1e-5 and 3e-5.
TILES: dict[Pair, tuple[Pair, ...]] = {(3, 3): ((2, 2), (4, 4)), (5, 5): ((2, 2), (4, 4))}

# What a transformed element costs in multiply-adds at the peak rate, and a filter's: per step, thus a share of it per
# image. Measured on one core of AMD Zen 5 with 2 MiB of second-level and 32 MiB of last-level cache.
_PER_ELEMENT = 25
_IMAGES = 32
# Tiles from which on an image has a product of its own: 64 -> 32 channels at 28 x 28, batch 128, take 8 % less.
_MANY_TILES = 32

# A transformed filter, and the sums for its gradient, are made in parts of at most so many bytes, one after the other
# in the same memory: 512 channels by 512 take 38 MB, more than a last-level cache has.
_LARGEST = 12 << 20

_GAIN = 1.1  # an estimate has to win by this much


@dataclass(frozen=True)
class Correlation:
    """What a node computes: a correlation of images with filters, or the sum of one over all images.

    `channels` and `outputs` are those that the transformed tiles have before and after the products; of a filter's
    gradient, those of x and of dy. `height` and `width` are those of what the tiles cover: the output, or dy.
    """

    kernel: Pair
    padding: Padding
    channels: int
    outputs: int
    height: int
    width: int
    direct: int
    """Multiply-adds of the formula for one image."""

    def tiles(self, tile: Pair) -> int:
        """How many tiles an image has."""
        return -(-self.height // tile[0]) * -(-self.width // tile[1])

    def parts(self, channels: int, tile: Pair) -> list[tuple[int, int]]:
        """Ranges of `channels`, alike, in which a transformed filter, or the sums for its gradient, is made."""
        high, wide = (m + k - 1 for m, k in zip(tile, self.kernel, strict=True))
        size = high * wide * self.channels * self.outputs * DType.float32.itemsize
        enough = (n for n in range(1, channels) if channels % n == 0 and size <= n * _LARGEST)
        count = next(enough, channels)
        each = channels // count
        return [(first, first + each) for first in range(0, channels, each)]

    def cost(self, tile: Pair) -> float:
        """Estimated time of the transforms and products for one image, in multiply-adds at the peak rate."""
        high, wide = (m + k - 1 for m, k in zip(tile, self.kernel, strict=True))
        tiles = self.tiles(tile)
        pairs = self.channels * self.outputs
        elements = tiles * (self.channels + self.outputs) + pairs / _IMAGES
        return high * wide * (tiles * pairs + _PER_ELEMENT * elements)


@dataclass(frozen=True)
class FilterInTraining:
    """Convolutions of stride 1 and their gradients become Winograd's where an estimate says that it wins.

    That is what `choose-algorithm` does with constant filters. Few channels stay, as their transforms cost more than
    they save:

    before:
        graph g(x: float32[N, 2, 8, 8], w: float32[3, 2, 3, 3]) -> (y) {
          y = conv2d(x, w) {padding=((1, 1), (1, 1))}
        }
    after:
        graph g(x: float32[N, 2, 8, 8], w: float32[3, 2, 3, 3]) -> (y) {
          y = conv2d(x, w) {padding=((1, 1), (1, 1))}
        }
    """

    name: ClassVar[str] = "filter-in-training"
    forced: Pair | None = None
    """A tile to take wherever it can be."""

    def __call__(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            found = correlation_of(node, graph)
            tile = None if found is None else self.tile_for(found)
            if found is None or tile is None:
                rewriter.keep(node)
            else:
                emit(rewriter, rewriter.resolve(node), found, tile)
        return rewriter.done()

    def tile_for(self, found: Correlation) -> Pair | None:
        """The cheapest tile, or None if the formula is cheaper."""
        if self.forced is not None:
            return self.forced
        best = min(TILES[found.kernel], key=found.cost)
        return best if found.cost(best) * _GAIN < found.direct else None


def correlation_of(node: Node, graph: Graph) -> Correlation | None:
    """What a node computes, if Winograd's algorithm can."""
    if not isinstance(node.op, Conv2d | ConvTranspose2d | Conv2dWeightGradient):
        return None
    a, b = (graph.types[n] for n in node.inputs)
    y = graph.types[node.outputs[0]]
    weight = y if isinstance(node.op, Conv2dWeightGradient) else b
    plain = node.op.stride == (1, 1) and node.op.dilation == (1, 1) and node.op.groups == 1
    spatial = (*a.shape[2:], *b.shape[2:], *y.shape[2:])
    if not plain or weight.dtype is not DType.float32 or symbols_of(spatial):
        return None
    outputs, inputs, *kernel = numbers(weight.shape)
    sizes = (kernel[0], kernel[1])
    if sizes not in TILES:
        return None
    height, width = numbers((b if isinstance(node.op, Conv2dWeightGradient) else y).shape[2:])
    direct = outputs * inputs * kernel[0] * kernel[1] * height * width
    padding = node.op.padding
    if isinstance(node.op, ConvTranspose2d):
        full = full_padding(node.op, sizes)
        if full is None:
            return None
        padding, inputs, outputs = full, outputs, inputs
    return Correlation(sizes, padding, inputs, outputs, height, width, direct)


def full_padding(op: ConvTranspose2d, kernel: Pair) -> Padding | None:
    """The padding of the convolution with the filter turned round; None if it would crop."""
    rows, columns = (
        (k - 1 - before, k - 1 - after)
        for k, (before, after) in zip(kernel, op.padding, strict=True)
    )
    return None if op.output_padding != (0, 0) or min(*rows, *columns) < 0 else (rows, columns)


def part(rewriter: Rewriter, name: str, axis: int, first: int, stop: int) -> str:
    """A value from one index to another along an axis."""
    shape = rewriter.types[name].shape
    if (first, stop) == (0, shape[axis]):
        return name
    starts = tuple(first if d == axis else None for d in range(len(shape)))
    ends = tuple(stop if d == axis else None for d in range(len(shape)))
    return rewriter.add(Slice(starts, ends, (1,) * len(shape)), name)


def together(rewriter: Rewriter, parts: list[str], axis: int) -> str:
    """Values one after the other along an axis."""
    return parts[0] if len(parts) == 1 else rewriter.add(Concat(axis), *parts)


def emit(rewriter: Rewriter, node: Node, found: Correlation, tile: Pair) -> None:
    """The transforms and the products in a node's place.

    The tiles of all images stand in rows. Large images have tiles enough for products of their own: the rows of an
    image lie closer together than those of a tap. Large filters are transformed in parts, by outputs, and the sums for
    their gradients are made in parts, by channels: none ever stands whole in memory.
    """
    rewriter.layer = node.layer
    a, b = node.inputs
    if isinstance(node.op, Conv2dWeightGradient):
        v = rewriter.add(WinogradTiles(tile, found.kernel, found.padding), a)
        d = rewriter.add(WinogradGradientTiles(tile, found.kernel), b)
        counts = (-(-found.height // tile[0]), -(-found.width // tile[1]))
        gradients = []
        for first, stop in found.parts(found.channels, tile):
            g = rewriter.add(WinogradSums(counts), part(rewriter, v, 2, first, stop), d)
            gradients.append(rewriter.add(WinogradFilterGradient(tile, found.kernel), g))
        rewriter.replace(node.outputs[0], together(rewriter, gradients, 1))
        return
    flipped = isinstance(node.op, ConvTranspose2d)

    def filters(first: int, stop: int) -> str:
        """The transformed filters of some outputs."""
        weight = part(rewriter, b, 1 if flipped else 0, first, stop)
        if flipped:
            weight = rewriter.add(Transpose((1, 0, 2, 3)), weight)
        return rewriter.add(WinogradFilter(tile, flipped), weight)

    if found.tiles(tile) >= _MANY_TILES:
        u = filters(0, found.outputs)
        apart = rewriter.add(WinogradInput(tile, found.kernel, found.padding), a)
        taps, inputs, outputs = rewriter.types[u].shape
        m = rewriter.add(MatMul(), apart, rewriter.add(Reshape((taps, 1, inputs, outputs)), u))
        image = WinogradOutput(tile, found.kernel, found.height, found.width)
        rewriter.apply(image, (m,), node)
        return
    v = rewriter.add(WinogradTiles(tile, found.kernel, found.padding), a)
    products = [rewriter.add(MatMul(), v, filters(*p)) for p in found.parts(found.outputs, tile)]
    m = together(rewriter, products, 2)
    rewriter.apply(WinogradImage(tile, found.kernel, found.height, found.width), (m,), node)
