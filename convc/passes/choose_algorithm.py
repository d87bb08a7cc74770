"""Which algorithm computes each convolution: the formula itself, or Winograd's minimal filtering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.ops.base import Pair, numbers
from convc.ops.conv import Conv2d
from convc.ops.matmul import MatMul
from convc.ops.winograd import WinogradInput, WinogradOutput, transformed_weights
from convc.passes.rewriter import Rewriter
from convc.types import DType, TensorType, symbols_of

# What a byte costs in multiply-adds at the peak rate (58 of them per ns, 80 GB/s through the caches, 20 GB/s for
# weights that no cache keeps: on a machine of twice the rate as many networks take the same time with twice this price,
# and ResNet-50's weights 144 MB instead of 176), and how many operations a transform takes per element.
_PER_BYTE = 0.7
_PER_WEIGHT_BYTE = 3.0
_CACHED_WEIGHTS = 512 << 10
_TRANSFORM = 8
_GAIN = 1.1  # an estimate has to win by this much

# Tiles (rows, columns) that are worth a look, by the filter's size. Larger ones round too much: a layer's error,
# relative to its largest output, is 1.0e-6 for (4, 4) on 3x3 and 1.2e-6 for 2 outputs of 7 taps, where the formula
# itself has 1.3e-6; 4 outputs of 7 taps would be 7e-6.
TILES: dict[Pair, tuple[Pair, ...]] = {
    (3, 3): ((2, 2), (4, 4)),
    (1, 3): ((1, 2), (1, 4)),
    (3, 1): ((2, 1), (4, 1)),
    (1, 7): ((1, 2),),
    (7, 1): ((2, 1),),
}


@dataclass(frozen=True)
class Algorithm:
    """How a convolution is computed: directly, or with one of Winograd's tiles.

    `strip` are the bytes of transforms per strip of rows, 0 for the whole map at once; None leaves that to an estimate.
    """

    tile: Pair | None = None
    strip: int | None = None

    def __str__(self) -> str:
        if self.tile is None:
            return "direct"
        strips = {None: "", 0: ", whole"}.get(
            self.strip, f", strips of {(self.strip or 0) >> 10} KiB"
        )
        return f"Winograd F({self.tile[0]}x{self.tile[1]}){strips}"


DIRECT = Algorithm()

Algorithms = tuple[tuple[str, Algorithm], ...]
"""Algorithms that were chosen in place of estimates, by `convolution_key`."""


@dataclass(frozen=True)
class ChooseAlgorithm:
    """Convolutions of stride 1 become Winograd's where an estimate of work and memory traffic says that it wins.

    That is a transform of the input's tiles, one matrix product per tap, and a transform back; the filter is
    transformed here. A convolution of few channels stays, since the transforms would cost more than they save:

    before:
        graph g(x: float32[N, 1, 8, 8]) -> (y) {
          weight w: float32[1, 1, 3, 3] = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0]
          y = conv2d(x, w) {padding=((1, 1), (1, 1))}
        }
    after:
        graph g(x: float32[N, 1, 8, 8]) -> (y) {
          weight w: float32[1, 1, 3, 3] = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0]
          y = conv2d(x, w) {padding=((1, 1), (1, 1))}
        }
    """

    name: ClassVar[str] = "choose-algorithm"
    growth: float = math.inf
    """How many times as large as the filter a transformed one may be."""
    chosen: Algorithms = ()

    def __call__(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            tile = self.tile_for(node, graph)
            if tile is None:
                rewriter.keep(node)
            else:
                self.filter(rewriter, rewriter.resolve(node), tile)
        return rewriter.done()

    def tile_for(self, node: Node, graph: Graph) -> Pair | None:
        """Winograd's tile for a convolution, or None if it is best computed as it is, or has to be."""
        tiles = self.tiles_for(node, graph)
        if not tiles:
            return None
        weight, output = graph.types[node.inputs[1]], graph.types[node.outputs[0]]
        chosen = dict(self.chosen).get(key_of(node, graph)) if self.chosen else None
        if chosen is not None and chosen.tile in (None, *tiles):
            return chosen.tile
        costs = {tile: cost(weight, output, tile) for tile in tiles}
        best = min(costs, key=lambda t: costs[t])
        if costs[best] * _GAIN >= cost(weight, output, None):
            return None
        return best

    def tiles_for(self, node: Node, graph: Graph) -> list[Pair]:
        """Winograd's tiles that a node can be computed with; none for what is no such convolution."""
        if not isinstance(node.op, Conv2d) or node.inputs[1] not in graph.weights:
            return []
        weight, output = graph.types[node.inputs[1]], graph.types[node.outputs[0]]
        plain = node.op.stride == (1, 1) and node.op.dilation == (1, 1) and node.op.groups == 1
        if not plain or weight.dtype is not DType.float32 or symbols_of(output.shape[2:]):
            return []
        _, _, height, width = numbers(weight.shape)
        limit = height * width * self.growth
        return [
            (high, wide)
            for high, wide in TILES.get((height, width), ())
            if (high + height - 1) * (wide + width - 1) <= limit
        ]

    def filter(self, rewriter: Rewriter, node: Node, tile: Pair) -> None:
        """Emits the transforms and the products in a convolution's place."""
        assert isinstance(node.op, Conv2d)
        x, w = node.inputs
        rewriter.layer = node.layer
        array = rewriter.array(w)
        assert array is not None
        kernel = (array.shape[2], array.shape[3])
        u = rewriter.weight(f"{w}_winograd", transformed_weights(array, tile))
        v = rewriter.add(WinogradInput(tile, kernel, node.op.padding), x)
        m = rewriter.add(MatMul(), v, u)
        height, width = numbers(rewriter.graph.types[node.outputs[0]].shape[2:])
        rewriter.apply(WinogradOutput(tile, kernel, height, width), (m,), node)


def key_of(node: Node, graph: Graph) -> str:
    """The `convolution_key` of a convolution that Winograd's algorithm could compute."""
    assert isinstance(node.op, Conv2d)
    x, w = (graph.types[name] for name in node.inputs)
    outputs, _, *kernel = numbers(w.shape)
    return convolution_key(x, outputs, (kernel[0], kernel[1]), node.op.padding)


def convolution_key(x: TensorType, outputs: int, kernel: Pair, padding: tuple[Pair, Pair]) -> str:
    """What a convolution of stride 1 computes, whichever algorithm does: its input, filters and padding."""
    return f"conv2d {x} by {outputs} of {kernel[0]}x{kernel[1]}, padding {padding}"


def cost(weight: TensorType, output: TensorType, tile: Pair | None) -> float:
    """Estimated time of a convolution for one image, in multiply-adds at the peak rate."""
    outputs, inputs, *kernel = numbers(weight.shape)
    height, width = numbers(output.shape[2:])
    if tile is None:
        taps = kernel[0] * kernel[1]
        return taps * inputs * outputs * height * width + _weight_cost(taps * inputs * outputs * 4)
    sizes = [t + k - 1 for t, k in zip(tile, kernel, strict=True)]
    taps = sizes[0] * sizes[1]
    tiles = -(-height // tile[0]) * -(-width // tile[1])
    products = taps * tiles * inputs * outputs
    elements = taps * tiles * (inputs + outputs)
    traffic = _PER_BYTE * 2 * 4 * elements
    return products + _TRANSFORM * elements + traffic + _weight_cost(taps * inputs * outputs * 4)


def _weight_cost(size: int) -> float:
    return _PER_WEIGHT_BYTE * size if size > _CACHED_WEIGHTS else 0.0
