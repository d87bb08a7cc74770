"""Winograd's minimal filtering: a 3x3 convolution as a transform of tiles, one matrix product per tap, and a transform back.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). The matrices come from the Toom-Cook
construction over given points (Blahut, "Fast Algorithms for Signal Processing", chapter 5), in exact fractions.
A pass puts these operators in a convolution's place; no front end emits them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from convc.graph.op import Op, register, unsupported_gradient
from convc.loops.formula import Nest, Put, Tensor
from convc.loops.ir import Expr, If, Let, Stmt, Var, binary, const, fma, index, select
from convc.ops.base import Array, Padding, Types, expect_float, expect_rank, fail, numbers
from convc.types import DType, TensorType

Matrix = tuple[tuple[Fraction, ...], ...]

TAPS = 3
# Points of the interpolation besides infinity: small numbers in reciprocal and opposite pairs round least.
_POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2)),
}
TILES = tuple(_POINTS)


@functools.cache
def matrices(tile: int) -> tuple[Matrix, Matrix, Matrix]:
    """(A^T, G, B^T) with y = A^T ((G g) * (B^T d)) for `tile` outputs of a 3-tap correlation."""
    points = _POINTS[tile]
    size = tile + TAPS - 1
    rest = [[p - q for q in points if q != p] for p in points]
    scale = [functools.reduce(lambda x, y: x * y, r, Fraction(1)) for r in rest]
    infinity = Fraction(1)
    zero = Fraction(0)
    a = tuple(
        (*(p**i for p in points), infinity if i == tile - 1 else zero) for i in range(tile)
    )
    g = (
        *(tuple(p**k / f for k in range(TAPS)) for p, f in zip(points, scale, strict=True)),
        (zero, zero, infinity),
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
    return tuple([*row, *[Fraction(0)] * (size - len(row))])


def array_of(matrix: Matrix) -> Array:
    return np.array([[float(x) for x in row] for row in matrix])


def combination(coefficients: Sequence[Fraction], values: Sequence[Expr]) -> Expr:
    """The sum of coefficient x value without the zeros, plain additions first."""
    terms = sorted(
        ((c, v) for c, v in zip(coefficients, values, strict=True) if c), key=lambda t: (abs(t[0]) != 1, t[0] != 1)
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


class _Names:
    """Straight-line code: each value gets a name."""

    def __init__(self) -> None:
        self.statements: list[Stmt] = []

    def name(self, prefix: str, value: Expr) -> Expr:
        name = f"{prefix}{len(self.statements)}"
        self.statements.append(Let(name, value))
        return Var(name, value.dtype)


@register
@dataclass(frozen=True)
class WinogradInput(Op):
    """v[n, t, i, j, c]: tap t = (row, column) of the transformed tile (i, j) of x[n, c, h, w]."""

    tile: int = 4
    padding: Padding = ((1, 1), (1, 1))

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_float(self, "x", x)
        if self.tile not in TILES:
            raise fail(self, f"tile expects one of {TILES}, got {self.tile}")
        rows, columns = (tile_count(x, d, self.padding[d], self.tile) for d in range(2))
        taps = (self.tile + TAPS - 1) ** 2
        return (TensorType(x.dtype, (x.shape[0], taps, rows, columns, x.shape[1])),)

    def reference(self, x: Array) -> Array:
        _, _, b = (array_of(m).astype(x.dtype) for m in matrices(self.tile))
        size = self.tile + TAPS - 1
        type = TensorType(DType.of(x.dtype), tuple(x.shape))
        rows, columns = (tile_count(type, d, self.padding[d], self.tile) for d in range(2))
        (top, _), (left, _) = self.padding
        padded = np.zeros(
            (*x.shape[:2], rows * self.tile + size, columns * self.tile + size), x.dtype
        )
        padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
        result = np.empty((x.shape[0], size * size, rows, columns, x.shape[1]), x.dtype)
        for i in range(rows):
            for j in range(columns):
                at = (slice(i * self.tile, i * self.tile + size), slice(j * self.tile, j * self.tile + size))
                d = padded[:, :, at[0], at[1]]
                v = np.einsum("ua,ncab,vb->nuvc", b, d, b)
                result[:, :, i, j, :] = v.reshape(x.shape[0], size * size, x.shape[1])
        return result

    gradient = unsupported_gradient

    def loops(self, put: Put, x: Tensor) -> Nest:
        n, i, j, c = (Var(v) for v in ("n", "i", "j", "o"))
        size = self.tile + TAPS - 1
        _, _, b = matrices(self.tile)
        (output,) = self.infer(TensorType(x.dtype, x.shape))
        names = _Names()
        half: list[list[Expr]] = [[] for _ in range(size)]
        for column in range(size):
            taps = [
                names.name("d", self._element(x, n, c, i * self.tile + row, j * self.tile + column))
                for row in range(size)
            ]
            for u in range(size):
                half[u].append(names.name("h", combination(b[u], taps)))
        for u in range(size):
            for v in range(size):
                at = (n, index(u * size + v), i, j, c)
                names.statements.append(put(at, combination(b[v], half[u])))
        shape = output.shape
        loops = (("n", shape[0]), ("i", shape[2]), ("j", shape[3]), ("o", shape[4]))
        return Nest(loops, tuple(names.statements))

    def _element(self, x: Tensor, n: Expr, c: Expr, row: Expr, column: Expr) -> Expr:
        (top, _), (left, _) = self.padding
        h, w = row - top, column - left
        inside = (index(0) <= h) & (h < index(x.shape[2])) & (index(0) <= w) & (w < index(x.shape[3]))
        return select(inside, x(n, c, h, w), const(0, x.dtype))


@register
@dataclass(frozen=True)
class WinogradOutput(Op):
    """y[n, o, h, w], `height` x `width`, from the products m[n, t, i, j, o] of the transformed tiles."""

    tile: int = 4
    height: int = 0
    width: int = 0

    def infer(self, m: TensorType) -> Types:
        expect_rank(self, "m", m, 5)
        expect_float(self, "m", m)
        return (TensorType(m.dtype, (m.shape[0], m.shape[4], self.height, self.width)),)

    def reference(self, m: Array) -> Array:
        a = array_of(matrices(self.tile)[0]).astype(m.dtype)
        n, _, rows, columns, outputs = m.shape
        size = self.tile + TAPS - 1
        taps = m.reshape(n, size, size, rows, columns, outputs)
        y = np.einsum("ku,nuvijo,lv->noikjl", a, taps, a)
        whole = y.reshape(n, outputs, rows * self.tile, columns * self.tile)
        return np.ascontiguousarray(whole[:, :, : self.height, : self.width])

    gradient = unsupported_gradient

    def loops(self, put: Put, m: Tensor) -> Nest:
        n, i, j, o = (Var(v) for v in ("n", "i", "j", "o"))
        size = self.tile + TAPS - 1
        a, _, _ = matrices(self.tile)
        names = _Names()
        half: list[list[Expr]] = [[] for _ in range(self.tile)]
        for v in range(size):
            taps = [names.name("m", m(n, index(u * size + v), i, j, o)) for u in range(size)]
            for k in range(self.tile):
                half[k].append(names.name("h", combination(a[k], taps)))
        for k in range(self.tile):
            for column in range(self.tile):
                value = names.name("y", combination(a[column], half[k]))
                at = (n, o, i * self.tile + k, j * self.tile + column)
                inside = (at[2] < index(self.height)) & (at[3] < index(self.width))
                names.statements.append(If(inside, (put(at, value),)))
        shape = m.shape
        rows, columns = numbers(shape[2:4])
        loops = (("n", shape[0]), ("i", rows), ("j", columns), ("o", shape[4]))
        return Nest(loops, tuple(names.statements))


def tile_count(x: TensorType, dim: int, padding: tuple[int, int], tile: int) -> int:
    """Tiles along the height (0) or the width (1)."""
    extent = x.shape[2 + dim]
    assert isinstance(extent, int)
    return -(-(extent + sum(padding) - TAPS + 1) // tile)


def transformed_weights(weight: Array, tile: int) -> Array:
    """u[t, 0, c, o] of weight[o, c, 3, 3], computed in float64."""
    g = array_of(matrices(tile)[1])
    outputs, inputs = weight.shape[:2]
    both = np.kron(g, g).astype(np.float64)  # taps of the tile x taps of the filter
    filters = weight.reshape(outputs * inputs, TAPS * TAPS).astype(np.float64)
    u = (both @ filters.T).astype(weight.dtype)
    return u.reshape(-1, 1, outputs, inputs).transpose(0, 1, 3, 2)
