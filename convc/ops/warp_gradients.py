"""The gradients of images under affine maps: of the images, and of the maps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from convc.graph.op import register, unsupported_gradient
from convc.loops.formula import Memory, Tensor
from convc.loops.ir import Block, Cast, Const, Expr, For, Let, Stmt, Var, call, const, index, select
from convc.ops.base import (
    Array,
    Types,
    accumulator,
    cast,
    expect_dtype,
    expect_float,
    expect_shape,
    fail,
)
from convc.ops.warp import REAL, Warp, inside, named, part
from convc.types import DType, Extent, TensorType

Sizes = tuple[Extent, Extent]


class WarpGradient(Warp):
    """What both gradients share: the loops over the output's pixels, and where each of them came from."""

    gradient = unsupported_gradient

    def check_gradient(self, dy: TensorType, matrix: TensorType) -> None:
        self.check(dy, matrix)
        expect_float(self, "dy", dy)
        if accumulator(dy.dtype) is not dy.dtype:
            raise fail(self, f"dy expects float32 or float64, got {dy.dtype.value}")

    def sizes(self, dy: Tensor) -> Sizes:
        """Rows and columns."""
        return dy.shape[self.axes[0]], dy.shape[self.axes[1]]

    def channels(self, dy: Tensor, block: Block) -> For:
        """A loop over the channels."""
        axis = next(d for d in (1, 3) if d not in self.axes)
        return For("c", index(dy.shape[axis]), block)

    def at(self, row: Expr, column: Expr) -> tuple[Expr, ...]:
        """The index of the channel c of a pixel of image n."""
        places: list[Expr] = [Var("n"), Var("c"), Var("c"), Var("c")]
        places[self.axes[0]], places[self.axes[1]] = row, column
        return tuple(places)

    def pixels(self, dy: Tensor, matrix: Tensor, pixel: Block) -> For:
        """For each pixel (i, j) of image n its point (p_0, p_1) in the input, then the statements."""
        i, j, (rows, columns) = Var("i"), Var("j"), self.sizes(dy)
        row_lets, starts = named("a", [self.started(matrix, Var("n"), i, d) for d in range(2)])
        lets, _ = named(
            "p", [s + part(matrix, Var("n"), d, 1) * Cast(j, REAL) for d, s in enumerate(starts)]
        )
        return For("i", index(rows), (*row_lets, For("j", index(columns), (*lets, *pixel))))

    def sources(self, sizes: Sizes, dtype: DType) -> tuple[Block, list[list[Expr]]]:
        """`taps` of the point (p_0, p_1)."""
        points: list[Expr] = [Var("p_0", REAL), Var("p_1", REAL)]
        mapped, found = named("q", [self.mapped(p, e) for p, e in zip(points, sizes, strict=True)])
        lets, taps = self.taps(found, sizes, dtype)
        return (*mapped, *lets), taps

    def seen(self, row: Expr, column: Expr, sizes: Sizes) -> tuple[Expr, Expr, Expr]:
        """The pixel that a tap reads, and whether it is one: fill values have no pixel."""
        p, q = Var("p_0", REAL), Var("p_1", REAL)
        i, j = self.nearest(row, sizes[0]), self.nearest(column, sizes[1])
        match self.fill_mode:
            case "constant":
                return row, column, inside(p, sizes[0]) & inside(q, sizes[1])
            case "grid-constant":
                return i, j, row.eq(i) & column.eq(j)
            case _:
                return row, column, Const(True, DType.bool)

    def np_taps(self, matrix: Array, extents: tuple[int, ...]) -> Iterator[tuple[Array, ...]]:
        """For each tap rows, columns, weights, and whether it reads a pixel, each [n, i, j]."""
        points, outside = self.np_points(matrix, extents)
        mapped = [self.np_mapped(p, e) for p, e in zip(points, extents, strict=True)]
        steps = (0.5,) if self.interpolation == "nearest" else (0, 1)
        for shifts in itertools.product(steps, steps):
            places, weight = [], np.ones(outside.shape)
            counts = ~outside if self.fill_mode == "constant" else np.ones(outside.shape, bool)
            for point, extent, shift in zip(mapped, extents, shifts, strict=True):
                place = np.floor(point + shift)
                if self.interpolation == "bilinear":
                    upper = point - np.floor(point)
                    weight = weight * (upper if shift else 1 - upper)
                place = place % extent if self.fill_mode == "grid-wrap" else place
                near = np.clip(place, 0, extent - 1)
                if self.fill_mode == "grid-constant":
                    counts = counts & (near == place)
                places.append(near.astype(np.int64))
            yield (*places, weight, counts)


@register
@dataclass(frozen=True)
class AffineWarpGradient(WarpGradient):
    """The gradient of AffineWarp's x from that of its output: each element's goes to the pixels it came from."""

    def infer(self, dy: TensorType, matrix: TensorType) -> Types:
        self.check_gradient(dy, matrix)
        return (dy,)

    def reference(self, dy: Array, matrix: Array) -> Array:
        given = np.moveaxis(dy, self.axes, (1, 2))
        found = np.zeros(given.shape)
        n = np.arange(len(given))[:, None, None]
        for rows, columns, weight, counts in self.np_taps(matrix, given.shape[1:3]):
            np.add.at(found, (n, rows, columns), given * (weight * counts)[..., None])
        return np.moveaxis(found, (1, 2), self.axes).astype(dy.dtype)

    def procedure(self, y: Memory, space: Sequence[Memory], dy: Tensor, matrix: Tensor) -> Block:
        i, j, sizes = Var("i"), Var("j"), self.sizes(dy)
        zero = self.channels(dy, (y.put(0, *self.at(i, j)),))
        zeros = For("i", index(sizes[0]), (For("j", index(sizes[1]), (zero,)),))
        lets, (rows, columns) = self.sources(sizes, dy.dtype)
        shares: list[Stmt] = []
        for k, ((row, a), (column, b)) in enumerate(
            itertools.product(weighted(rows, dy.dtype), weighted(columns, dy.dtype))
        ):
            pixel_row, pixel_column, counts = self.seen(row, column, sizes)
            share = Var(f"s{k}", dy.dtype)
            place = self.at(pixel_row, pixel_column)
            added = y(*place) + dy(*self.at(i, j)) * share
            shares.append(Let(share.name, select(counts, a * b, const(0, dy.dtype))))
            shares.append(self.channels(dy, (y.put(added, *place),)))
        image: Block = (zeros, self.pixels(dy, matrix, (*lets, *shares)))
        return (For("n", index(dy.shape[0]), image),)


def weighted(taps: list[Expr], dtype: DType) -> list[tuple[Expr, Expr]]:
    """The positions of an axis with their weights: (low, high, the second's weight), or the closest alone."""
    one = const(1, dtype)
    if len(taps) < 3:
        return [(taps[0], one)]
    low, high, upper = taps
    return [(low, one - upper), (high, upper)]


@register
@dataclass(frozen=True)
class AffineWarpMatrixGradient(WarpGradient):
    """The gradient of AffineWarp's matrix, float64[n, 2, 3], from its x and its output's dy. Bilinear only."""

    def infer(self, x: TensorType, dy: TensorType, matrix: TensorType) -> Types:
        self.check_gradient(dy, matrix)
        expect_dtype(self, "x", x, dy.dtype)
        expect_shape(self, "x", x, dy.shape)
        if self.interpolation != "bilinear":
            raise fail(self, f"interpolation expects bilinear, got {self.interpolation!r}")
        return (TensorType(REAL, (x.shape[0], 2, 3)),)

    def reference(self, x: Array, dy: Array, matrix: Array) -> Array:
        images, given = (np.moveaxis(a, self.axes, (1, 2)).astype(np.float64) for a in (x, dy))
        extents = images.shape[1:3]
        points, _ = self.np_points(matrix, extents)
        n = np.arange(len(images))[:, None, None]
        a, b, e, f = (
            np.where(counts[..., None], images[n, rows, columns], self.fill_value)
            for rows, columns, _, counts in self.np_taps(matrix, extents)
        )
        mapped = [self.np_mapped(p, s) for p, s in zip(points, extents, strict=True)]
        down, along = ((p - np.floor(p))[..., None] for p in mapped)
        slopes = [
            (e + (f - e) * along) - (a + (b - a) * along),
            (b - a) * (1 - down) + (f - e) * down,
        ]
        i, j = np.meshgrid(*(np.arange(s, dtype=np.float64) for s in extents), indexing="ij")
        found = np.zeros((len(images), 2, 3))
        for d, (slope, point, extent) in enumerate(zip(slopes, points, extents, strict=True)):
            moved = (slope * given).sum(-1) * self.np_slope(point, extent)
            for k, basis in enumerate((i, j, np.ones_like(i))):
                found[:, d, k] = (moved * basis).sum((1, 2))
        return found

    def np_slope(self, point: Array, extent: int) -> Array:
        """How `np_mapped` moves with the point."""
        match self.fill_mode:
            case "reflect":
                return np.where(np.mod(point, 2 * extent) < extent, 1.0, -1.0)
            case "wrap" | "grid-wrap":
                return np.full(point.shape, float(extent > 1 or self.fill_mode == "grid-wrap"))
            case "grid-constant":
                return np.where((point >= -1) & (point <= extent), 1.0, 0.0)
            case _:
                return np.where((point >= 0) & (point <= extent - 1), 1.0, 0.0)

    def procedure(
        self, y: Memory, space: Sequence[Memory], x: Tensor, dy: Tensor, matrix: Tensor
    ) -> Block:
        n, i, j, sizes = Var("n"), Var("i"), Var("j"), self.sizes(dy)
        d, k = Var("d"), Var("k")
        zeros = For("d", index(2), (For("k", index(3), (y.put(0, n, d, k),)),))
        lets, (rows, columns) = self.sources(sizes, dy.dtype)
        values, down, along = self.values(x, rows, columns, sizes), rows[2], columns[2]
        a, b, e, f = (Var(f"v_{v}", dy.dtype) for v in range(4))
        slopes: list[Expr] = [
            (e + (f - e) * along) - (a + (b - a) * along),
            (b - a) * (const(1, dy.dtype) - down) + (f - e) * down,
        ]
        mine, bases = dy(*self.at(i, j)), (Cast(i, REAL), Cast(j, REAL), const(1, REAL))
        sums: list[Stmt] = []
        for row, (slope, size) in enumerate(zip(slopes, sizes, strict=True)):
            moved = Var(f"g_{row}", REAL)
            point = self.slope(Var(f"p_{row}", REAL), size)
            sums.append(Let(moved.name, cast(mine * slope, REAL) * point))
            sums += [
                y.put(y(n, row, at) + moved * basis, n, row, at) for at, basis in enumerate(bases)
            ]
        pixel = self.channels(dy, (*values, *sums))
        return (For("n", index(dy.shape[0]), (zeros, self.pixels(dy, matrix, (*lets, pixel)))),)

    def values(self, x: Tensor, rows: list[Expr], columns: list[Expr], sizes: Sizes) -> list[Let]:
        """v_0, …, v_3: the four pixels around a point, or the fill value."""
        found: list[Expr] = []
        for row, column in itertools.product(rows[:2], columns[:2]):
            i, j, counts = self.seen(row, column, sizes)
            found.append(select(counts, x(*self.at(i, j)), const(self.fill_value, x.dtype)))
        return named("v", found)[0]

    def slope(self, point: Expr, size: Extent) -> Expr:
        """`np_slope` as an expression."""
        extent = Cast(index(size), REAL)
        one, none = const(1, REAL), const(0, REAL)
        match self.fill_mode:
            case "reflect":
                folded = point - extent * 2 * call("floor", point / (extent * 2))
                return select(folded < extent, one, const(-1, REAL))
            case "wrap":
                return select(none < extent - 1, one, none)
            case "grid-wrap":
                return one
            case "grid-constant":
                return select((const(-1, REAL) <= point) & (point <= extent), one, none)
            case _:
                return select(inside(point, size), one, none)
