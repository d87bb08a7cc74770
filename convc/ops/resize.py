"""Resizing of images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Cast, Expr, const, index, maximum, minimum, select
from convc.ops.base import (
    ZERO,
    Array,
    Gradients,
    Names,
    Pair,
    Types,
    accumulator,
    cast,
    computable,
    expect_at_least,
    expect_float,
    expect_rank,
    expect_shape,
    fail,
    numbers,
    total,
    widened,
)
from convc.types import DType, Extent, Shape, TensorType


@register
@dataclass(frozen=True)
class Resize2d(Op):
    """x[n, c, h, w] at another size, with half-pixel centres and without antialiasing.

    Either `scale` (whole factors of rows and columns) or `size` (output rows and columns) is given.
    Output i samples at (i + 1/2) * in / out - 1/2; "nearest" takes the pixel that holds this point,
    "bilinear" interpolates and repeats the edge.
    """

    scale: Pair | None = None
    size: Pair | None = None
    mode: str = "nearest"

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        if self.mode not in ("nearest", "bilinear"):
            raise fail(self, f"mode expects nearest or bilinear, got {self.mode!r}")
        if (self.scale is None) == (self.size is None):
            raise fail(
                self, f"expects either scale or size, got scale={self.scale}, size={self.size}"
            )
        expect_at_least(self, "scale" if self.scale else "size", self.scale or self.size or (), 1)
        if self.mode == "bilinear":
            expect_float(self, "x", x)
        height, width = (self.extent(d, x.shape[2 + d]) for d in range(2))
        return (TensorType(x.dtype, (*x.shape[:2], height, width)),)

    def extent(self, d: int, size: Extent) -> Extent:
        """Output rows (d = 0) or columns (d = 1)."""
        if self.size is not None:
            return self.size[d]
        assert self.scale is not None
        return size * self.scale[d]

    def reference(self, x: Array) -> Array:
        y = x.astype(accumulator(DType.of(x.dtype)).numpy) if self.mode == "bilinear" else x
        for d in range(2):
            extent, size = self.extent(d, x.shape[2 + d]), x.shape[2 + d]
            assert isinstance(extent, int)
            point = (np.arange(extent) + 0.5) * size / extent
            if self.mode == "nearest":
                y = np.take(y, np.floor(point).astype(np.int64), axis=2 + d)
                continue
            low = np.floor(point - 0.5)
            weight = (point - 0.5 - low).astype(y.dtype).reshape(-1, *[1] * (1 - d))
            first, second = (
                np.take(y, np.clip(low + k, 0, size - 1).astype(np.int64), axis=2 + d)
                for k in range(2)
            )
            y = first * (1 - weight) + second * weight
        return y.astype(x.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        size = builder.types[inputs[0]].shape[2:]
        return (builder.add(Resize2dGradient(size, self.mode, self.scale), *output_gradients),)

    def formula(self, x: Tensor) -> At:
        def at(n: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
            if self.mode == "nearest":
                return x(n, c, self.nearest(0, x, i), self.nearest(1, x, j))
            top, bottom, down = self.neighbours(0, x, i)
            left, right, along = self.neighbours(1, x, j)

            def row(k: Expr) -> Expr:
                return mixed(computable(x(n, c, k, left)), computable(x(n, c, k, right)), along)

            return cast(mixed(row(top), row(bottom), down), x.dtype)

        return at

    def ratio(self, d: int, x: Tensor) -> tuple[Extent, Extent]:
        """in / out as a fraction."""
        if self.scale is not None:
            return 1, self.scale[d]
        return x.shape[2 + d], self.extent(d, x.shape[2 + d])

    def nearest(self, d: int, x: Tensor, i: Expr) -> Expr:
        """The input position of output i."""
        size, extent = self.ratio(d, x)
        if isinstance(size, int) and isinstance(extent, int) and extent % size == 0:
            return i // (extent // size)
        return (i * 2 + 1) * index(size) // index(extent * 2)

    def neighbours(self, d: int, x: Tensor, i: Expr) -> tuple[Expr, Expr, Expr]:
        """The two input positions around output i and the weight of the second."""
        size, extent = self.ratio(d, x)
        position, parts = (i * 2 + 1) * index(size) - index(extent), index(extent * 2)
        low, last = position // parts, index(x.shape[2 + d] - 1)
        dtype = accumulator(x.dtype)
        weight = Cast(position % parts, dtype) / Cast(parts, dtype)
        return maximum(low, 0), minimum(low + 1, last), weight


def mixed(a: Expr, b: Expr, weight: Expr) -> Expr:
    """a * (1 - weight) + b * weight."""
    return a * (1 - weight) + b * weight


@register
@dataclass(frozen=True)
class Resize2dGradient(Op):
    """The gradient of a resizing's input, whose height and width are `size`, from its output's.

    `scale` and `mode` are those of the resizing; without a scale, the output's size says it.
    """

    size: Shape = ()
    mode: str = "nearest"
    scale: Pair | None = None

    def infer(self, dy: TensorType) -> Types:
        expect_rank(self, "dy", dy, 4)
        expect_float(self, "dy", dy)
        if len(self.size) != 2:
            raise fail(self, f"size expects a height and a width, got {self.size}")
        x = TensorType(dy.dtype, (*dy.shape[:2], *self.size))
        expect_shape(self, "dy", dy, self.forward(dy.shape).infer(x)[0].shape)
        return (x,)

    def forward(self, shape: Shape) -> Resize2d:
        """The resizing, whose output has a shape."""
        if self.scale is not None:
            return Resize2d(self.scale, mode=self.mode)
        rows, columns = numbers(shape[2:])
        return Resize2d(size=(rows, columns), mode=self.mode)

    def reference(self, dy: Array) -> Array:
        """The transposed matrices of rows and columns, each of which is the resizing of a unit matrix."""
        height, width = numbers(self.size)
        forward = self.forward(dy.shape)
        extents = numbers((forward.extent(0, height), forward.extent(1, width)))
        down = replace(forward, scale=None, size=(extents[0], height))
        along = replace(forward, scale=None, size=(width, extents[1]))
        rows = down.reference(np.eye(height)[None, None])[0, 0]
        columns = along.reference(np.eye(width)[None, None])[0, 0]
        result: Array = rows.T @ dy.astype(np.float64) @ columns.T
        return result.astype(dy.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        forward = self.forward(builder.types[inputs[0]].shape)
        return (builder.add(forward, *output_gradients),)

    def formula(self, dy: Tensor) -> At:
        forward = self.forward(dy.shape)
        x = Tensor(dy.dtype, (*dy.shape[:2], *self.size), dy.at)

        def at(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
            def term(r: Expr, s: Expr) -> Expr:
                i, row_inside, down = self.reached(forward, 0, x, h, r)
                j, column_inside, along = self.reached(forward, 1, x, w, s)
                value = widened(dy(n, c, i, j)) * down * along
                return select(row_inside & column_inside, value, const(0, value.dtype))

            taps = [self.reach(forward, d, x) for d in range(2)]
            return cast(total("sum", "r s", taps, term), dy.dtype)

        return at

    def reach(self, forward: Resize2d, d: int, x: Tensor) -> int:
        """How many outputs at most read an input: those whose point is less than a pixel away."""
        size, extent = numbers(forward.ratio(d, x))
        return 2 * extent // size + 2

    def reached(
        self, forward: Resize2d, d: int, x: Tensor, h: Expr, r: Expr
    ) -> tuple[Expr, Expr, Expr]:
        """The r-th output that may read input h, whether there is one, and h's weight in it."""
        size, extent = numbers(forward.ratio(d, x))
        dtype = accumulator(x.dtype)
        i = ((h * 2 - 1) * extent - size) // (2 * size) + r
        inside = (i >= ZERO) & (i < index(forward.extent(d, x.shape[2 + d])))
        one, zero = const(1, dtype), const(0, dtype)
        if self.mode == "nearest":
            return i, inside & forward.nearest(d, x, i).eq(h), one
        low, high, weight = forward.neighbours(d, x, i)
        share = select(low.eq(h), 1 - weight, zero) + select(high.eq(h), weight, zero)
        return i, inside, share
