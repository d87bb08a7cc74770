"""Winograd's minimal filtering where the filter changes from step to step, and the gradients of what it computes.

The transformed tiles of all images stand in rows, v[t, p, c] with p = (image * rows + i) * columns + j: what a product
per tap reads and writes then doesn't depend on how many images there are. A filter is transformed in the step itself.

A filter's gradient is a correlation too, of a tile of x with a tile of dy, and has few results: with F(m, r) for the
convolution, F(r, m) gives it with as many products, summed over all tiles before anything is transformed back (Lavin
and Gray, 2016, section 4.3, who do it with F(3x3, 2x2)). A pass puts these operators in a convolution's place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.form import Form, Forms
from convc.graph.op import Op, register, unsupported_gradient
from convc.loops.formula import At, Nest, Put, Tensor
from convc.loops.ir import Expr, Var, const, index, select
from convc.ops.base import (
    Array,
    Pair,
    Types,
    expect_at_least,
    expect_float,
    expect_rank,
    fail,
    numbers,
    total,
)
from convc.ops.winograd import (
    POINTS,
    Matrix,
    Names,
    WinogradInput,
    WinogradOutput,
    array_of,
    combination,
    matrices,
)
from convc.types import Extent, Shape, TensorType


def row_of(n: Expr, tile: tuple[Expr, Expr], counts: Pair) -> Expr:
    """The row in which tile (i, j) of image n stands."""
    return n * (counts[0] * counts[1]) + tile[0] * counts[1] + tile[1]


def expect_rows(op: Op, name: str, rows: Extent, each: int) -> Extent:
    """The images whose tiles stand in so many rows, `each` of one image."""
    try:
        if isinstance(rows, int) and rows % each:
            raise ValueError
        return rows // each
    except ValueError:
        raise fail(op, f"{name} expects rows in multiples of {each} tiles, got {rows}") from None


@register
@dataclass(frozen=True)
class WinogradTiles(WinogradInput):
    """v[t, p, c]: tap t = (row, column) of the transformed tile p of x[n, c, h, w]; all attributes as there."""

    forms = Forms((Form.image,), (Form.tile_rows,))

    def infer(self, x: TensorType) -> Types:
        (apart,) = super().infer(x)
        n, taps, i, j, c = apart.shape
        return (TensorType(x.dtype, (taps, n * i * j, c)),)

    def reference(self, x: Array) -> Array:
        return rows_from_tiles(super().reference(x))

    def place(
        self, n: Expr, tap: Expr, tile: tuple[Expr, Expr], counts: Pair, c: Expr
    ) -> tuple[Expr, ...]:
        return (tap, row_of(n, tile, counts), c)


def rows_from_tiles(v: Array) -> Array:
    """v[n, t, i, j, c] as v[t, p, c]."""
    moved = v.transpose(1, 0, 2, 3, 4)
    return np.ascontiguousarray(moved.reshape(v.shape[1], -1, v.shape[4]))


@register
@dataclass(frozen=True)
class WinogradImage(WinogradOutput):
    """y[n, o, h, w], `height` x `width`, from the products m[t, p, o] of the transformed tiles."""

    forms = Forms((Form.tile_rows,), (Form.image,))

    @property
    def counts(self) -> Pair:
        """The rows and columns of an image's tiles."""
        return (-(-self.height // self.tile[0]), -(-self.width // self.tile[1]))

    def infer(self, m: TensorType) -> Types:
        expect_rank(self, "m", m, 3)
        expect_float(self, "m", m)
        expect_at_least(self, "tile", self.tile, 1)
        (images, outputs), _ = self.sizes(m.shape)
        return (TensorType(m.dtype, (images, outputs, self.height, self.width)),)

    def sizes(self, m: Shape) -> tuple[tuple[Extent, Extent], Pair]:
        rows, columns = self.counts
        return (expect_rows(self, "m", m[1], rows * columns), m[2]), (rows, columns)

    def reference(self, m: Array) -> Array:
        apart = m.reshape(m.shape[0], -1, *self.counts, m.shape[2])
        return super().reference(apart.transpose(1, 0, 2, 3, 4))

    def place(
        self, n: Expr, tap: Expr, tile: tuple[Expr, Expr], counts: Pair, o: Expr
    ) -> tuple[Expr, ...]:
        return (tap, row_of(n, tile, counts), o)


def both_sides(rows: Matrix, columns: Matrix, values: list[list[Expr]], names: Names) -> list[Expr]:
    """rows @ values @ columns^T in straight-line code, row by row."""
    half: list[list[Expr]] = [[] for _ in rows]
    for column in range(len(values[0])):
        taps = [line[column] for line in values]
        for k, row in enumerate(rows):
            half[k].append(names.named("h", combination(row, taps)))
    return [combination(column, line) for line in half for column in columns]


@register
@dataclass(frozen=True)
class WinogradFilter(Op):
    """u[t, c, o]: tap t of the transformed filter w[o, c, r, s]; of the filter turned round, if it is `flipped`."""

    tile: Pair = (4, 4)
    flipped: bool = False

    forms = Forms((Form.filter,), (Form.filter_taps,))

    def infer(self, w: TensorType) -> Types:
        expect_rank(self, "w", w, 4)
        expect_float(self, "w", w)
        outputs, inputs, *kernel = numbers(w.shape)
        high, wide = (m + r - 1 for m, r in zip(self.tile, kernel, strict=True))
        if max(high, wide) > len(POINTS) + 1:
            raise fail(self, f"expects at most {len(POINTS) + 1} taps, got {(high, wide)}")
        return (TensorType(w.dtype, (high * wide, inputs, outputs)),)

    def transforms(self, w: Shape) -> tuple[Matrix, Matrix]:
        """G for rows and for columns."""
        high, wide = numbers(w[2:])
        return matrices(self.tile[0], high)[1], matrices(self.tile[1], wide)[1]

    def reference(self, w: Array) -> Array:
        rows, columns = (array_of(g).astype(w.dtype) for g in self.transforms(w.shape))
        turned = w[:, :, ::-1, ::-1] if self.flipped else w
        u = np.einsum("ur,ocrs,vs->uvco", rows, turned, columns)
        return np.ascontiguousarray(u.reshape(-1, *u.shape[2:]))

    gradient = unsupported_gradient

    def loops(self, put: Put, w: Tensor) -> Nest:
        c, o = Var("c"), Var("o")
        names = Names()
        high, wide = numbers(w.shape[2:])
        step = -1 if self.flipped else 1
        taps = [
            [names.name("g", w(o, c, index(r), index(s))) for s in range(wide)[::step]]
            for r in range(high)[::step]
        ]
        for t, value in enumerate(both_sides(*self.transforms(w.shape), taps, names)):
            names.statements.append(put((index(t), c, o), value))
        return Nest((("c", w.shape[1]), ("o", w.shape[0])), tuple(names.statements))


@register
@dataclass(frozen=True)
class WinogradGradientTiles(Op):
    """d[t, p, o]: tap t of the transformed tile p of dy[n, o, i, j], as the filter's gradient wants it.

    The tiles don't overlap; `tile` and `kernel` are those of the convolution.
    """

    tile: Pair = (4, 4)
    kernel: Pair = (3, 3)

    forms = Forms((Form.image,), (Form.tile_rows,))

    def infer(self, dy: TensorType) -> Types:
        expect_rank(self, "dy", dy, 4)
        expect_float(self, "dy", dy)
        expect_at_least(self, "tile", self.tile, 1)
        rows, columns = self.counts(dy.shape)
        high, wide = (m + r - 1 for m, r in zip(self.tile, self.kernel, strict=True))
        shape = (high * wide, dy.shape[0] * rows * columns, dy.shape[1])
        return (TensorType(dy.dtype, shape),)

    def counts(self, shape: Shape) -> Pair:
        """The rows and columns of an image's tiles."""
        height, width = numbers(shape[2:])
        return (-(-height // self.tile[0]), -(-width // self.tile[1]))

    def transforms(self) -> tuple[Matrix, Matrix]:
        """The G of F(kernel, tile) for rows and for columns."""
        high, wide = zip(self.kernel, self.tile, strict=True)
        return matrices(*high)[1], matrices(*wide)[1]

    def reference(self, dy: Array) -> Array:
        rows, columns = (array_of(g).astype(dy.dtype) for g in self.transforms())
        (high, wide), (down, across) = self.tile, self.counts(dy.shape)
        whole = np.zeros((*dy.shape[:2], down * high, across * wide), dy.dtype)
        whole[:, :, : dy.shape[2], : dy.shape[3]] = dy
        tiles = whole.reshape(*dy.shape[:2], down, high, across, wide)
        d = np.einsum("ua,noiajb,vb->nuvijo", rows, tiles, columns)
        return rows_from_tiles(d.reshape(dy.shape[0], -1, down, across, dy.shape[1]))

    gradient = unsupported_gradient

    def loops(self, put: Put, dy: Tensor) -> Nest:
        n, i, j, o = (Var(v) for v in ("n", "i", "j", "o"))
        names = Names()
        counts = self.counts(dy.shape)

        def element(k: int, m: int) -> Expr:
            row, column = i * self.tile[0] + k, j * self.tile[1] + m
            inside = (row < index(dy.shape[2])) & (column < index(dy.shape[3]))
            return select(inside, dy(n, o, row, column), const(0, dy.dtype))

        taps = [
            [names.name("d", element(k, m)) for m in range(self.tile[1])]
            for k in range(self.tile[0])
        ]
        for t, value in enumerate(both_sides(*self.transforms(), taps, names)):
            names.statements.append(put((index(t), row_of(n, (i, j), counts), o), value))
        loops = (("n", dy.shape[0]), ("i", counts[0]), ("j", counts[1]), ("o", dy.shape[1]))
        return Nest(loops, tuple(names.statements))


@register
@dataclass(frozen=True)
class WinogradSums(Op):
    """g[t, c, o]: the sums of v[t, p, c] * d[t, p, o] over all p; `counts` are the rows and columns of tiles."""

    counts: Pair = (1, 1)

    def infer(self, v: TensorType, d: TensorType) -> Types:
        expect_rank(self, "v", v, 3)
        expect_float(self, "v", v)
        expect_at_least(self, "counts", self.counts, 1)
        expected = TensorType(v.dtype, (*v.shape[:2], *d.shape[2:]))
        if d != expected:
            raise fail(self, f"d expects {v.shape[0]} taps and {v.shape[1]} rows, got {d}")
        expect_rows(self, "v", v.shape[1], self.counts[0] * self.counts[1])
        return (TensorType(v.dtype, (v.shape[0], v.shape[2], d.shape[2])),)

    def reference(self, v: Array, d: Array) -> Array:
        sums: Array = np.matmul(v.transpose(0, 2, 1), d)
        return sums

    gradient = unsupported_gradient

    def formula(self, v: Tensor, d: Tensor) -> At:
        rows, columns = self.counts
        images = v.shape[1] // (rows * columns)

        def at(t: Expr, c: Expr, o: Expr) -> Expr:
            def term(m: Expr, p: Expr, q: Expr) -> Expr:
                row = row_of(m, (p, q), self.counts)
                return v(t, row, c) * d(t, row, o)

            return total("sum", "m p q", (images, rows, columns), term)

        return at


@register
@dataclass(frozen=True)
class WinogradFilterGradient(Op):
    """dw[o, c, r, s] from the sums g[t, c, o]; `tile` and `kernel` are those of the convolution."""

    tile: Pair = (4, 4)
    kernel: Pair = (3, 3)

    forms = Forms(outputs=(Form.filter_gradient,))

    def infer(self, g: TensorType) -> Types:
        expect_rank(self, "g", g, 3)
        expect_float(self, "g", g)
        taps, inputs, outputs = numbers(g.shape)
        high, wide = (m + r - 1 for m, r in zip(self.tile, self.kernel, strict=True))
        if taps != high * wide:
            raise fail(self, f"g expects {high * wide} taps, got {g}")
        return (TensorType(g.dtype, (outputs, inputs, *self.kernel)),)

    def transforms(self) -> tuple[Matrix, Matrix]:
        """The A^T of F(kernel, tile) for rows and for columns."""
        high, wide = zip(self.kernel, self.tile, strict=True)
        return matrices(*high)[0], matrices(*wide)[0]

    def reference(self, g: Array) -> Array:
        rows, columns = (array_of(a).astype(g.dtype) for a in self.transforms())
        apart = g.reshape(rows.shape[1], columns.shape[1], *g.shape[1:])
        dw: Array = np.einsum("ru,uvco,sv->ocrs", rows, apart, columns)
        return dw

    gradient = unsupported_gradient

    def loops(self, put: Put, g: Tensor) -> Nest:
        c, o = Var("c"), Var("o")
        names = Names()
        rows, columns = self.transforms()
        wide = len(columns[0])
        taps = [
            [names.name("m", g(index(u * wide + v), c, o)) for v in range(wide)]
            for u in range(len(rows[0]))
        ]
        for k, value in enumerate(both_sides(rows, columns, taps, names)):
            at = (o, c, index(k // self.kernel[1]), index(k % self.kernel[1]))
            names.statements.append(put(at, value))
        return Nest((("c", g.shape[1]), ("o", g.shape[2])), tuple(names.statements))
