"""Images under affine maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.loops.formula import Nest, Put, Tensor
from convc.loops.ir import (
    INDEX,
    Block,
    Cast,
    Expr,
    For,
    If,
    Let,
    Stmt,
    Var,
    call,
    const,
    index,
    maximum,
    minimum,
    select,
)
from convc.ops.base import (
    ZERO,
    Array,
    Gradients,
    Names,
    Pair,
    Types,
    accumulator,
    cast,
    expect_float,
    expect_number,
    expect_rank,
    expect_shape,
    fail,
)
from convc.ops.values import values
from convc.types import DType, Extent, TensorType

FILL_MODES = ("constant", "nearest", "reflect", "wrap", "grid-constant", "grid-wrap")
Element = Callable[[Expr, Expr], Expr]
"""A pixel's channel at a row and a column."""
REAL = DType.float64
"""Of coordinates: a source pixel mustn't depend on how x is rounded."""


@dataclass(frozen=True)
class Warp(Op):
    """Base: images of x[n, …] seen through matrix[n, 2, 3], and what lies outside of them; AffineWarp says how."""

    axes: Pair = (1, 2)
    interpolation: str = "bilinear"
    fill_mode: str = "nearest"
    fill_value: float = 0.0

    def check(self, x: TensorType, matrix: TensorType) -> None:
        """OpError for operands that don't fit, and attributes that aren't known."""
        expect_rank(self, "x", x, 4)
        expect_number(self, "x", x)
        expect_float(self, "matrix", matrix)
        expect_shape(self, "matrix", matrix, (x.shape[0], 2, 3))
        if self.axes not in ((1, 2), (2, 3)):
            raise fail(self, f"axes expects (1, 2) or (2, 3), got {self.axes}")
        if self.interpolation not in ("nearest", "bilinear"):
            raise fail(
                self, f"interpolation expects nearest or bilinear, got {self.interpolation!r}"
            )
        if self.fill_mode not in FILL_MODES:
            raise fail(
                self, f"fill_mode expects one of {', '.join(FILL_MODES)}, got {self.fill_mode!r}"
            )

    def np_points(self, matrix: Array, extents: tuple[int, ...]) -> tuple[list[Array], Array]:
        """Rows and columns [n, i, j] of the input's points, and which of them lie outside of it."""
        i, j = np.meshgrid(*(np.arange(e, dtype=np.float64) for e in extents), indexing="ij")
        m = matrix.astype(np.float64)[..., None, None]
        points = [m[:, d, 2] + m[:, d, 0] * i + m[:, d, 1] * j for d in range(2)]
        outside = np.zeros(points[0].shape, bool)
        for point, extent in zip(points, extents, strict=True):
            outside |= (point < 0) | (point > extent - 1)
        return points, outside

    def np_mapped(self, point: Array, extent: int) -> Array:
        """Coordinates brought back into the image: within half a pixel of it, of which the border repeats."""
        with np.errstate(divide="ignore", invalid="ignore"):
            match self.fill_mode:
                case "reflect":
                    folded = np.mod(point, 2 * extent)
                    return np.where(folded < extent, folded, 2 * extent - 1 - folded)
                case "wrap" if extent > 1:
                    period = extent - 1
                    below = point + period * (np.floor(-point / period) + 1)
                    above = point - period * np.floor(point / period)
                    return np.where(point < 0, below, np.where(point > period, above, point))
                case "grid-wrap":
                    return np.mod(point, extent)
                case "grid-constant":
                    return np.clip(point, -1, extent)
                case _:
                    return np.clip(point, 0, extent - 1)

    def started(self, matrix: Tensor, n: Expr, i: Expr, d: int) -> Expr:
        """The coordinate d of the point for the first pixel of row i."""
        return part(matrix, n, d, 2) + part(matrix, n, d, 0) * Cast(i, REAL)

    def mapped(self, point: Expr, size: Extent) -> Expr:
        """`np_mapped` as an expression."""
        extent = Cast(index(size), REAL)
        last = extent - 1
        match self.fill_mode:
            case "reflect":
                folded = point - extent * 2 * call("floor", point / (extent * 2))
                return select(folded < extent, folded, extent * 2 - 1 - folded)
            case "wrap":
                period = maximum(last, 1)  # of a single pixel too
                below = point + period * (call("floor", -point / period) + 1)
                above = point - period * call("floor", point / period)
                wrapped = select(point < 0, below, select(last < point, above, point))
                return minimum(wrapped, last)
            case "grid-wrap":
                return point - extent * call("floor", point / extent)
            case "grid-constant":
                return minimum(maximum(point, -1), extent)
            case _:
                return minimum(maximum(point, 0), last)

    def nearest(self, tap: Expr, size: Extent) -> Expr:
        """The pixel of an integer position, which may be one outside."""
        extent = index(size)
        if self.fill_mode == "grid-wrap":
            tap = select(tap < extent, tap, tap - extent)
        return minimum(maximum(tap, ZERO), extent - 1)

    def taps(
        self, points: list[Expr], sizes: tuple[Extent, Extent], dtype: DType
    ) -> tuple[list[Let], list[list[Expr]]]:
        """For rows and for columns: the two pixels around a point and the second's weight, or the closest pixel."""
        lets: list[Let] = []
        found: list[list[Expr]] = []
        for d, (point, size) in enumerate(zip(points, sizes, strict=True)):
            shifted = point + 0.5 if self.interpolation == "nearest" else point
            below, (low,) = named(f"f{d}", [call("floor", shifted)])
            position = Cast(low, INDEX)
            taps: list[Expr] = [position]
            if self.interpolation != "nearest":
                taps.append(position + 1)
            if self.fill_mode != "grid-constant":
                taps = [self.nearest(t, size) for t in taps]
            more, places = named(f"k{d}", taps)
            weights, weight = named(f"w{d}", [cast(point - low, dtype)])
            lets += [*below, *more, *weights]
            found.append([*places, *weight])
        return lets, found


@register
@dataclass(frozen=True)
class AffineWarp(Warp):
    """Each image of x[n, …] seen through an affine map of its own: y at (i, j) is x at matrix[n] @ (i, j, 1).

    matrix[n, 2, 3] maps output rows and columns to the input's. `axes` are those of rows and columns; the third axis
    besides the batch holds channels. Integers give `dtype`. Between pixels, "nearest" takes the closest one (halves go
    up) and "bilinear" interpolates. Outside of the centres of the border's pixels, `fill_mode` is as in
    scipy.ndimage.affine_transform: "constant" gives `fill_value`, "nearest" the border (a a | a b c | c c), "reflect"
    the image mirrored at its edge (b a | a b c | c b), "wrap" the image again, first and last pixels falling together
    (a b | c a b c | a b). "grid-wrap" gives the image again beside itself (b c | a b c | a b), and "grid-constant"
    continues it by pixels of `fill_value`, with which it interpolates.
    """

    dtype: DType = DType.float32

    def infer(self, x: TensorType, matrix: TensorType) -> Types:
        self.check(x, matrix)
        if not self.dtype.is_float:
            raise fail(self, f"dtype expects a float dtype, got {self.dtype.value}")
        return (TensorType(x.dtype if x.dtype.is_float else self.dtype, x.shape),)

    def reference(self, x: Array, matrix: Array) -> Array:
        images = np.moveaxis(x, self.axes, (1, 2))
        extents = images.shape[1:3]
        points, outside = self.np_points(matrix, extents)
        mapped = [self.np_mapped(p, e) for p, e in zip(points, extents, strict=True)]
        given = DType.of(x.dtype)
        dtype = given if given.is_float else self.dtype
        result = self.np_sampled(images.astype(accumulator(dtype).numpy), mapped)
        if self.fill_mode == "constant":  # not so the grid of constants, which np_sampled has
            result = np.where(outside[..., None], self.fill_value, result)
        return np.moveaxis(result, (1, 2), self.axes).astype(dtype.numpy)

    def np_sampled(self, images: Array, points: list[Array]) -> Array:
        """images[n, h, w, c] at points of shape [n, i, j]."""
        n = np.arange(len(images))[:, None, None]

        def at(*shifts: float) -> Array:
            rows, columns = (np.floor(p + s) for p, s in zip(points, shifts, strict=True))
            height, width = images.shape[1:3]
            if self.fill_mode == "grid-wrap":
                rows, columns = rows % height, columns % width
            i, j = (np.clip(k, 0, e - 1) for k, e in ((rows, height), (columns, width)))
            found: Array = images[n, i.astype(np.int64), j.astype(np.int64)]
            if self.fill_mode == "grid-constant":
                return np.where(((rows == i) & (columns == j))[..., None], found, self.fill_value)
            return found

        if self.interpolation == "nearest":
            return at(0.5, 0.5)
        down, along = ((p - np.floor(p)).astype(images.dtype)[..., None] for p in points)
        top = at(0, 0) + (at(0, 1) - at(0, 0)) * along
        bottom = at(1, 0) + (at(1, 1) - at(1, 0)) * along
        return np.asarray(top + (bottom - top) * down)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, matrix, dy = values(builder, (*inputs, *output_gradients))
        how: dict[str, Any] = {
            "axes": self.axes, "interpolation": self.interpolation, "fill_mode": self.fill_mode
        }  # fmt: skip
        wide = dy.cast(accumulator(dy.dtype))
        dx = None
        if x.dtype.is_float:
            dx = wide.apply("affine_warp_gradient", matrix, **how).cast(x.dtype).name
        if self.interpolation == "nearest":
            return (dx, None)
        how["fill_value"] = self.fill_value
        moved = x.cast(wide.dtype).apply("affine_warp_matrix_gradient", wide, matrix, **how)
        return (dx, moved.cast(matrix.dtype).name)

    def loops(self, put: Put, x: Tensor, matrix: Tensor) -> Nest:
        n, i, j, c = (Var(v) for v in ("n", "i", "j", "c"))
        (output,) = self.infer(TensorType(x.dtype, x.shape), TensorType(matrix.dtype, matrix.shape))
        wide = accumulator(output.dtype)
        sizes = (x.shape[self.axes[0]], x.shape[self.axes[1]])
        channels = next(d for d in (1, 3) if d not in self.axes)
        row_lets, starts = named("a", [self.started(matrix, n, i, d) for d in range(2)])
        lets, points = named(
            "p", [s + part(matrix, n, d, 1) * Cast(j, REAL) for d, s in enumerate(starts)]
        )

        def at(row: Expr, column: Expr) -> tuple[Expr, ...]:
            places: list[Expr] = [n, c, c, c]
            places[self.axes[0]], places[self.axes[1]] = row, column
            return tuple(places)

        def stored(value: Expr) -> Stmt:
            put_at = put(at(i, j), cast(value, output.dtype))
            return For("c", index(x.shape[channels]), (put_at,))

        def element(row: Expr, column: Expr) -> Expr:
            return cast(x(*at(row, column)), wide)

        names, value = self.anywhere(points, sizes, element, wide)
        elsewhere: Block = (*names, stored(value))
        names, value = self.well_inside(points, element, wide)
        pixel = If(self.is_well_inside(points, sizes), (*names, stored(value)), elsewhere)
        pixels = For("j", index(sizes[1]), (*lets, pixel))
        return Nest((("n", x.shape[0]), ("i", sizes[0])), (*row_lets, pixels))

    def is_well_inside(self, points: list[Expr], sizes: tuple[Extent, Extent]) -> Expr:
        """Whether a point lies on the image: between pixels of it where these are interpolated."""
        (p, q), (rows, columns) = points, sizes
        if self.interpolation == "nearest":
            return inside(p, rows) & inside(q, columns)
        last = [Cast(index(e) - 1, REAL) for e in sizes]
        zero = const(0, REAL)
        return (zero <= p) & (p < last[0]) & ((zero <= q) & (q < last[1]))

    def well_inside(
        self, points: list[Expr], element: Element, dtype: DType
    ) -> tuple[list[Let], Expr]:
        """The value at such a point: no fill mode changes it, and nothing is clamped."""
        lets: list[Let] = []
        taps: list[list[Expr]] = []
        for d, point in enumerate(points):
            if self.interpolation == "nearest":
                below, places = named(f"m{d}", [Cast(point + 0.5, INDEX)])
                lets += below
                taps.append(places)
                continue
            below, (low,) = named(f"m{d}", [Cast(point, INDEX)])
            weights, (weight,) = named(f"v{d}", [cast(point - Cast(low, REAL), dtype)])
            lets += [*below, *weights]
            taps.append([low, low + 1, weight])
        return lets, self.sampled(element, *taps)

    def anywhere(
        self, points: list[Expr], sizes: tuple[Extent, Extent], element: Element, dtype: DType
    ) -> tuple[list[Let], Expr]:
        """The value at any point, as the fill mode has it."""
        rows, columns = sizes
        more, mapped = named("q", [self.mapped(p, e) for p, e in zip(points, sizes, strict=True)])
        names, taps = self.taps(mapped, sizes, dtype)

        def filled(row: Expr, column: Expr) -> Expr:
            i, j = self.nearest(row, rows), self.nearest(column, columns)
            found = element(i, j)
            return select(row.eq(i) & column.eq(j), found, const(self.fill_value, found.dtype))

        value = self.sampled(filled if self.fill_mode == "grid-constant" else element, *taps)
        if self.fill_mode == "constant":
            here = inside(points[0], rows) & inside(points[1], columns)
            value = select(here, value, const(self.fill_value, value.dtype))
        return [*more, *names], value

    def sampled(self, element: Element, rows: list[Expr], columns: list[Expr]) -> Expr:
        """The value between (or at) pixels, by `taps`."""
        if self.interpolation == "nearest":
            return element(rows[0], columns[0])
        (top, bottom, down), (left, right, along) = rows, columns
        first, second = (between(element(k, left), element(k, right), along) for k in (top, bottom))
        return between(first, second, down)


def part(matrix: Tensor, n: Expr, row: int, column: int) -> Expr:
    return cast(matrix(n, row, column), REAL)


def inside(point: Expr, size: Extent) -> Expr:
    return (const(0, REAL) <= point) & (point <= Cast(index(size) - 1, REAL))


def between(a: Expr, b: Expr, weight: Expr) -> Expr:
    return a + (b - a) * weight


def named(prefix: str, values: list[Expr]) -> tuple[list[Let], list[Expr]]:
    """Values computed once, by names."""
    lets = [Let(f"{prefix}_{k}", value) for k, value in enumerate(values)]
    return lets, [Var(let.name, let.value.dtype) for let in lets]
