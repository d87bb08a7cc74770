"""Winograd's minimal filtering: a convolution as a transform of tiles, a matrix product per tap, a transform back.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). The matrices come from the Toom-Cook
construction over given points (Blahut, "Fast Algorithms for Signal Processing", chapter 5), in exact fractions.
Rows and columns have a tile of their own: a 1x7 filter is transformed along its columns only.
A pass puts these operators in a convolution's place; no front end emits them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from convc.graph.form import Form, Forms
from convc.graph.op import Op, register, unsupported_gradient
from convc.loops.formula import Nest, Put, Tensor
from convc.loops.ir import Expr, If, Let, Stmt, Var, binary, const, fma, index, select
from convc.ops.base import (
    Array,
    Padding,
    Pair,
    Types,
    expect_at_least,
    expect_float,
    expect_rank,
    fail,
    numbers,
)
from convc.program.deferred import Filtered, as_array, filtered, is_deferred
from convc.types import Extent, Shape, TensorType

Matrix = tuple[tuple[Fraction, ...], ...]

# Points of the interpolation besides infinity, in the order in which they are taken: small numbers in opposite and
# reciprocal pairs round least. Ten taps are as far as float32 carries.
POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "2", "-1/2", "1/2", "-2", "3", "-1/3"))


@functools.cache
def matrices(tile: int, taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """(A^T, G, B^T) with y = A^T ((G g) * (B^T d)) for `tile` outputs of a correlation with `taps` taps."""
    one, zero = Fraction(1), Fraction(0)
    size = tile + taps - 1
    if size == 1:
        return ((one,),), ((one,),), ((one,),)
    points = POINTS[: size - 1]
    rest = [[p - q for q in points if q != p] for p in points]
    scale = [functools.reduce(lambda x, y: x * y, r, one) for r in rest]
    a = tuple((*(p**i for p in points), one if i == tile - 1 else zero) for i in range(tile))
    g = (
        *(tuple(p**k / f for k in range(taps)) for p, f in zip(points, scale, strict=True)),
        (*[zero] * (taps - 1), one),
    )
    b = [_polynomial([q for q in points if q != p], size) for p in points]
    b.append(_polynomial(points, size))
    return a, g, tuple(b)


def _polynomial(roots: Sequence[Fraction], size: int) -> tuple[Fraction, ...]:
    """Coefficients of the product of (x - root), lowest first, as a row of `size`."""
    row = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *row]
        row = [s - root * r for s, r in zip(shifted, [*row, Fraction(0)], strict=True)]
    return (*row, *[Fraction(0)] * (size - len(row)))


def array_of(matrix: Matrix) -> Array:
    return np.array([[float(x) for x in row] for row in matrix])


def combination(coefficients: Sequence[Fraction], values: Sequence[Expr]) -> Expr:
    """The sum of coefficient x value without the zeros, plain additions first."""
    terms = sorted(
        ((c, v) for c, v in zip(coefficients, values, strict=True) if c),
        key=lambda t: (abs(t[0]) != 1, t[0] != 1),
    )
    total: Expr | None = None
    for c, value in terms:
        if total is None:
            total = value if c == 1 else value * float(c)
        elif abs(c) == 1:
            total = binary("+" if c == 1 else "-", total, value)
        else:
            total = fma(value, const(float(c), value.dtype), total)
    assert total is not None
    return total


class Names:
    """Straight-line code: each value gets a name."""

    def __init__(self) -> None:
        self.statements: list[Stmt] = []

    def name(self, prefix: str, value: Expr) -> Expr:
        name = f"{prefix}{len(self.statements)}"
        self.statements.append(Let(name, value))
        return Var(name, value.dtype)

    def named(self, prefix: str, value: Expr) -> Expr:
        """The value by a name, unless it has one already."""
        return value if isinstance(value, Var) else self.name(prefix, value)


@register
@dataclass(frozen=True)
class WinogradInput(Op):
    """v[n, t, i, j, c]: tap t = (row, column) of the transformed tile (i, j) of x[n, c, h, w].

    `tile` is how many outputs a tile gives and `kernel` the filter's size, each for rows and columns.
    """

    tile: Pair = (4, 4)
    kernel: Pair = (3, 3)
    padding: Padding = ((1, 1), (1, 1))

    forms = Forms((Form.image,), (Form.tiles,))

    @property
    def sizes(self) -> Pair:
        """Input rows and columns of a tile."""
        return (self.tile[0] + self.kernel[0] - 1, self.tile[1] + self.kernel[1] - 1)

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_float(self, "x", x)
        expect_at_least(self, "tile", self.tile, 1)
        expect_at_least(self, "kernel", self.kernel, 1)
        if max(self.sizes) > len(POINTS) + 1:
            raise fail(
                self, f"tile and kernel expect at most {len(POINTS) + 1} taps, got {self.sizes}"
            )
        rows, columns = self.tiles(x.shape)
        taps = self.sizes[0] * self.sizes[1]
        return (TensorType(x.dtype, (x.shape[0], taps, rows, columns, x.shape[1])),)

    def tiles(self, shape: Shape) -> Pair:
        """How many tiles there are along the height and the width."""
        counts = []
        for extent, padding, kernel, tile in zip(
            numbers(shape[2:]), self.padding, self.kernel, self.tile, strict=True
        ):
            counts.append(-(-(extent + sum(padding) - kernel + 1) // tile))
        return (counts[0], counts[1])

    def reference(self, x: Array) -> Array:
        rows_b, columns_b = (
            array_of(matrices(m, r)[2]).astype(x.dtype)
            for m, r in zip(self.tile, self.kernel, strict=True)
        )
        (high, wide), (th, tw) = self.sizes, self.tile
        rows, columns = self.tiles(tuple(x.shape))
        (top, _), (left, _) = self.padding
        extents = (
            max(rows * th + high, top + x.shape[2]), max(columns * tw + wide, left + x.shape[3]),
        )  # fmt: skip
        padded = np.zeros((*x.shape[:2], *extents), x.dtype)
        padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
        result = np.empty((x.shape[0], high * wide, rows, columns, x.shape[1]), x.dtype)
        for i in range(rows):
            for j in range(columns):
                d = padded[:, :, i * th : i * th + high, j * tw : j * tw + wide]
                v = np.einsum("ua,ncab,vb->nuvc", rows_b, d, columns_b)
                result[:, :, i, j, :] = v.reshape(x.shape[0], high * wide, x.shape[1])
        return result

    gradient = unsupported_gradient

    def loops(self, put: Put, x: Tensor) -> Nest:
        n, i, j, c = (Var(v) for v in ("n", "i", "j", "o"))
        (high, wide), (th, tw) = self.sizes, self.tile
        rows_b, columns_b = (matrices(m, r)[2] for m, r in zip(self.tile, self.kernel, strict=True))
        names = Names()
        half: list[list[Expr]] = [[] for _ in range(high)]
        for column in range(wide):
            taps = [
                names.name("d", self._element(x, n, c, i * th + row, j * tw + column))
                for row in range(high)
            ]
            for u in range(high):
                half[u].append(names.named("h", combination(rows_b[u], taps)))
        rows, columns = self.tiles(x.shape)
        for u in range(high):
            for v in range(wide):
                at = self.place(n, index(u * wide + v), (i, j), (rows, columns), c)
                names.statements.append(put(at, combination(columns_b[v], half[u])))
        loops = (("n", x.shape[0]), ("i", rows), ("j", columns), ("o", x.shape[1]))
        return Nest(loops, tuple(names.statements))

    def place(
        self, n: Expr, tap: Expr, tile: tuple[Expr, Expr], counts: Pair, c: Expr
    ) -> tuple[Expr, ...]:
        """The index of an output element."""
        return (n, tap, *tile, c)

    def _element(self, x: Tensor, n: Expr, c: Expr, row: Expr, column: Expr) -> Expr:
        (top, _), (left, _) = self.padding
        h, w = row - top, column - left
        inside = (
            (index(0) <= h) & (h < index(x.shape[2])) & (index(0) <= w) & (w < index(x.shape[3]))
        )
        return select(inside, x(n, c, h, w), const(0, x.dtype))


@register
@dataclass(frozen=True)
class WinogradOutput(Op):
    """y[n, o, h, w], `height` x `width`, from the products m[n, t, i, j, o] of the transformed tiles."""

    tile: Pair = (4, 4)
    kernel: Pair = (3, 3)
    height: int = 0
    width: int = 0

    forms = Forms((Form.tiles,), (Form.image,))

    def infer(self, m: TensorType) -> Types:
        expect_rank(self, "m", m, 5)
        expect_float(self, "m", m)
        return (TensorType(m.dtype, (m.shape[0], m.shape[4], self.height, self.width)),)

    def reference(self, m: Array) -> Array:
        rows_a, columns_a = (
            array_of(matrices(t, r)[0]).astype(m.dtype)
            for t, r in zip(self.tile, self.kernel, strict=True)
        )
        n, _, rows, columns, outputs = m.shape
        taps = m.reshape(n, rows_a.shape[1], columns_a.shape[1], rows, columns, outputs)
        y = np.einsum("ku,nuvijo,lv->noikjl", rows_a, taps, columns_a)
        whole = y.reshape(n, outputs, rows * self.tile[0], columns * self.tile[1])
        return np.ascontiguousarray(whole[:, :, : self.height, : self.width])

    gradient = unsupported_gradient

    def loops(self, put: Put, m: Tensor) -> Nest:
        n, i, j, o = (Var(v) for v in ("n", "i", "j", "o"))
        rows_a, columns_a = (matrices(t, r)[0] for t, r in zip(self.tile, self.kernel, strict=True))
        high, wide = len(rows_a[0]), len(columns_a[0])
        (images, outputs), (rows, columns) = self.sizes(m.shape)
        names = Names()
        half: list[list[Expr]] = [[] for _ in rows_a]
        for v in range(wide):
            taps = [
                names.name("m", m(*self.place(n, index(u * wide + v), (i, j), (rows, columns), o)))
                for u in range(high)
            ]
            for k, row in enumerate(rows_a):
                half[k].append(names.named("h", combination(row, taps)))
        for k in range(self.tile[0]):
            for column in range(self.tile[1]):
                value = names.name("y", combination(columns_a[column], half[k]))
                at = (n, o, i * self.tile[0] + k, j * self.tile[1] + column)
                inside = (at[2] < index(self.height)) & (at[3] < index(self.width))
                names.statements.append(If(inside, (put(at, value),)))
        loops = (("n", images), ("i", rows), ("j", columns), ("o", outputs))
        return Nest(loops, tuple(names.statements))

    def sizes(self, m: Shape) -> tuple[tuple[Extent, Extent], Pair]:
        """Images and channels, and the rows and columns of tiles."""
        rows, columns = numbers(m[2:4])
        return (m[0], m[4]), (rows, columns)

    def place(
        self, n: Expr, tap: Expr, tile: tuple[Expr, Expr], counts: Pair, o: Expr
    ) -> tuple[Expr, ...]:
        """The index of an element of m."""
        return (n, tap, *tile, o)


def transformed_weights(weight: Array, tile: Pair) -> Array:
    """u[t, 0, c, o] of weight[o, c, r, s], computed in float64."""
    rows_g, columns_g = (
        array_of(matrices(m, r)[1]) for m, r in zip(tile, weight.shape[2:], strict=True)
    )
    both = np.kron(rows_g, columns_g)  # taps of the tile x taps of the filter
    if is_deferred(weight):
        return as_array(Filtered(weight, both))
    return filtered(weight, both)
