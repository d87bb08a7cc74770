"""Two-dimensional pooling on logical NCHW tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register, unsupported_gradient
from convc.loops.formula import At, Nest, Put, Tensor
from convc.loops.ir import INDEX, Cast, Expr, Let, Stmt, Var, const, select
from convc.ops.base import (
    Array,
    Gradients,
    Names,
    Padding,
    Pair,
    Types,
    accumulator,
    cast,
    expect_at_least,
    expect_dtype,
    expect_float,
    expect_number,
    expect_rank,
    expect_shape,
    fail,
    numbers,
    total,
    widened,
)
from convc.ops.broadcasting import Mul
from convc.ops.shape import Broadcast
from convc.ops.windows import Window, lowest, patches, tap, windows
from convc.types import DType, Shape, TensorType


@dataclass(frozen=True)
class Windowed(Op):
    """Base: windows of the rows and columns of x[n, c, h, w]."""

    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    def windows(self, x: TensorType | Tensor) -> tuple[Window, Window]:
        """The windows of rows and columns."""
        return windows(self, x.shape[2:], self.kernel, self.stride, self.padding, self.dilation)

    def patches(self, x: Array, value: float) -> list[Array]:
        """One array [n, c, oh, ow] per tap."""
        taps = patches(x, self.kernel, self.stride, self.padding, self.dilation, value)
        return list(taps.values())


@dataclass(frozen=True)
class Pool(Windowed):
    """Base: each output element is made of a window of one channel."""

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_number(self, "x", x)
        rows, columns = self.windows(x)
        return (TensorType(x.dtype, (*x.shape[:2], rows.extent, columns.extent)),)


@register
@dataclass(frozen=True)
class MaxPool2d(Pool):
    """The largest element of each window; padding never wins."""

    def reference(self, x: Array) -> Array:
        result: Array = np.maximum.reduce(self.patches(x, lowest(DType.of(x.dtype))))
        return result

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        """All of a window's gradient goes to its first maximum in row-major order, as in TensorFlow and torch."""
        if self.covers(builder.types[inputs[0]]):
            whole = MaxPool2dWholeGradient(self.kernel)
            return (builder.add(whole, *inputs, *outputs, *output_gradients),)
        position = builder.add(
            MaxPool2dPosition(self.kernel, self.stride, self.padding, self.dilation),
            *inputs, *outputs,
        )  # fmt: skip
        back = MaxPool2dGradient(
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            builder.types[inputs[0]].shape[2:],
        )
        return (builder.add(back, *output_gradients, position),)

    def covers(self, x: TensorType) -> bool:
        """Whether each element of x is in one window, and none beside it."""
        plain = self.kernel == self.stride and self.padding == ((0, 0), (0, 0))
        extents = zip(x.shape[2:], self.kernel, strict=True)
        return (
            plain
            and self.dilation == (1, 1)
            and all(isinstance(e, int) and e % k == 0 for e, k in extents)
        )

    def formula(self, x: Tensor) -> At:
        rows, columns = self.windows(x)

        def at(n: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
            def element(r: Expr, s: Expr) -> Expr:
                return tap(x, rows, columns, (n, c, i, j), r, s, lowest(x.dtype))

            return total("max", "r s", self.kernel, element)

        return at


@register
@dataclass(frozen=True)
class AvgPool2d(Pool):
    """The mean of each window, of its elements outside the padding unless `count_include_pad`."""

    count_include_pad: bool = False

    def infer(self, x: TensorType) -> Types:
        expect_float(self, "x", x)
        return super().infer(x)

    def reference(self, x: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        counted = np.ones((1, 1, *x.shape[2:]), wide.dtype)
        count = np.add.reduce(self.patches(counted, 1 if self.count_include_pad else 0))
        mean: Array = np.add.reduce(self.patches(wide, 0)) / count
        return mean.astype(x.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        back = AvgPool2dGradient(
            self.kernel, self.stride, self.padding, self.dilation, builder.types[inputs[0]].shape[2:],
            self.count_include_pad,
        )  # fmt: skip
        return (builder.add(back, *output_gradients),)

    def formula(self, x: Tensor) -> At:
        rows, columns = self.windows(x)
        kh, kw = self.kernel

        def at(n: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
            def element(r: Expr, s: Expr) -> Expr:
                return widened(tap(x, rows, columns, (n, c, i, j), r, s, 0))

            summed = total("sum", "r s", self.kernel, element)
            if self.count_include_pad or not (rows.is_padded or columns.is_padded):
                return cast(summed * (1 / (kh * kw)), x.dtype)
            return cast(summed / counted(rows, columns, i, j, summed.dtype), x.dtype)

        return at


def counted(rows: Window, columns: Window, i: Expr, j: Expr, dtype: DType) -> Expr:
    """How many elements of window (i, j) lie in the input."""
    height = rows.count(i) if rows.is_padded else const(rows.kernel, INDEX)
    width = columns.count(j) if columns.is_padded else const(columns.kernel, INDEX)
    return Cast(height * width, dtype)


# ---------------------------------------------------------------- gradients


@register
@dataclass(frozen=True)
class MaxPool2dPosition(Windowed):
    """Which tap (int32, row-major in the kernel) is the first of each window of x that equals y, or is NaN.

    y is the pooled x. The number of taps where there is no such element.
    """

    def infer(self, x: TensorType, y: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_number(self, "x", x)
        rows, columns = self.windows(x)
        expect_dtype(self, "y", y, x.dtype)
        expect_shape(self, "y", y, (*x.shape[:2], rows.extent, columns.extent))
        return (TensorType(DType.int32, y.shape),)

    def reference(self, x: Array, y: Array) -> Array:
        taps = np.stack(self.patches(x, 0))
        inside = np.stack(self.patches(np.ones(x.shape, np.bool_), 0))
        hits: Array = ((taps == y) | (taps != taps)) & inside
        found = np.where(hits.any(axis=0), hits.argmax(axis=0), len(taps))
        return np.asarray(found, np.int32)

    gradient = no_gradient

    def formula(self, x: Tensor, y: Tensor) -> At:
        rows, columns = self.windows(x)
        kh, kw = self.kernel

        def at(n: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
            def position(r: Expr, s: Expr) -> Expr:
                element = tap(x, rows, columns, (n, c, i, j), r, s, 0)
                hit = element.eq(y(n, c, i, j))
                if x.dtype.is_float:
                    hit = hit | element.ne(element)
                hit = rows.inside(i, r) & columns.inside(j, s) & hit
                return select(hit, cast(r * kw + s, DType.int32), kh * kw)

            return total("min", "r s", self.kernel, position)

        return at


@register
@dataclass(frozen=True)
class MaxPool2dWholeGradient(Op):
    """The gradient of a max pooling's input, of which each element is in one window: dy where x is its first maximum.

    From x[n, c, h, w], the pooled y and dy; a NaN passes for a maximum. `kernel` divides the height and the width.
    """

    kernel: Pair = (2, 2)

    def infer(self, x: TensorType, y: TensorType, dy: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_float(self, "x", x)
        expect_at_least(self, "kernel", self.kernel, 1)
        extents = zip(numbers(x.shape[2:]), self.kernel, strict=True)
        if any(e % k for e, k in extents):
            raise fail(
                self, f"x expects a height and a width in multiples of {self.kernel}, got {x}"
            )
        pooled = TensorType(x.dtype, (*x.shape[:2], *self.counts(x.shape)))
        for name, type in (("y", y), ("dy", dy)):
            if type != pooled:
                raise fail(self, f"{name} expects {pooled}, got {type}")
        return (x,)

    def counts(self, shape: Shape) -> Pair:
        """Rows and columns of windows."""
        height, width = numbers(shape[2:])
        return (height // self.kernel[0], width // self.kernel[1])

    def reference(self, x: Array, y: Array, dy: Array) -> Array:
        (kh, kw), (rows, columns) = self.kernel, self.counts(tuple(x.shape))
        taps = x.reshape(*x.shape[:2], rows, kh, columns, kw).transpose(0, 1, 2, 4, 3, 5)
        flat = taps.reshape(*y.shape, kh * kw)
        hits = (flat == y[..., None]) | (flat != flat)
        first = hits & (np.cumsum(hits, axis=-1) == 1)
        parts = np.where(first, dy[..., None], x.dtype.type(0)).reshape(taps.shape)
        return np.ascontiguousarray(parts.transpose(0, 1, 2, 4, 3, 5).reshape(x.shape))

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        """Each dy goes to one element, the first maximum: its gradient is that element's."""
        x, y, dy = inputs
        one = builder.weight("one", np.ones((), builder.types[dy].dtype.numpy))
        ones = builder.add(Broadcast(builder.types[dy].shape), one)
        chosen = builder.add(MaxPool2dWholeGradient(self.kernel), x, y, ones)
        kept = builder.add(Mul(), *output_gradients, chosen)
        mean = builder.add(AvgPool2d(self.kernel, self.kernel), kept)
        count = builder.weight(
            "count", np.array(self.kernel[0] * self.kernel[1], builder.types[dy].dtype.numpy)
        )
        return None, None, builder.add(Mul(), mean, count)

    def loops(self, put: Put, x: Tensor, y: Tensor, dy: Tensor) -> Nest:
        n, c, i, j = (Var(v) for v in ("n", "o", "i", "j"))
        largest, slope = Var("largest", x.dtype), Var("slope", x.dtype)
        body: list[Stmt] = [Let("largest", y(n, c, i, j)), Let("slope", dy(n, c, i, j))]
        found: Expr | None = None
        for k in range(self.kernel[0] * self.kernel[1]):
            row, column = divmod(k, self.kernel[1])
            at = (n, c, i * self.kernel[0] + row, j * self.kernel[1] + column)
            body.append(Let(f"x{k}", x(*at)))
            tap = Var(f"x{k}", x.dtype)
            body.append(Let(f"hit{k}", tap.eq(largest) | tap.ne(tap)))
            hit: Expr = Var(f"hit{k}", DType.bool)
            first = hit if found is None else select(found, const(False, DType.bool), hit)
            body.append(put(at, select(first, slope, const(0, x.dtype))))
            found = hit if found is None else found | hit
        rows, columns = self.counts(x.shape)
        loops = (("n", x.shape[0]), ("i", rows), ("j", columns), ("o", x.shape[1]))
        return Nest(loops, tuple(body))


@dataclass(frozen=True)
class PoolGradient(Windowed):
    """Base: the gradient of a pooling's input, whose height and width are `size`, from its output's."""

    size: Shape = ()

    def result(self, dy: TensorType) -> TensorType:
        """The type of the input; an OpError where dy does not fit it."""
        expect_rank(self, "dy", dy, 4)
        expect_float(self, "dy", dy)
        if len(self.size) != 2:
            raise fail(self, f"size expects a height and a width, got {self.size}")
        rows, columns = self.windows(TensorType(dy.dtype, (*dy.shape[:2], *self.size)))
        expect_shape(self, "dy", dy, (*dy.shape[:2], rows.extent, columns.extent))
        return TensorType(dy.dtype, (*dy.shape[:2], *self.size))

    def scattered(self, parts: list[Array]) -> Array:
        """The input's gradient from one array [n, c, oh, ow] per tap (a reference's loop)."""
        (top, bottom), (left, right) = self.padding
        height, width = numbers(self.size)
        (n, c, oh, ow), (sh, sw) = parts[0].shape, self.stride
        result = np.zeros((n, c, height + top + bottom, width + left + right), parts[0].dtype)
        for k, part in enumerate(parts):
            i, j = k // self.kernel[1] * self.dilation[0], k % self.kernel[1] * self.dilation[1]
            result[:, :, i : i + oh * sh : sh, j : j + ow * sw : sw][:, :, :oh, :ow] += part
        return result[:, :, top : top + height, left : left + width]

    def gathered(self, dy: Tensor, at: tuple[Expr, Expr, Expr, Expr], term: Term) -> Expr:
        """The sum of `term` over the windows that read element `at` of the input."""
        n, c, h, w = at
        rows, columns = self.windows(Tensor(dy.dtype, (*dy.shape[:2], *self.size), dy.at))
        zero = const(0, accumulator(dy.dtype))
        if rows.is_disjoint and columns.is_disjoint:
            (i, r, row_inside), (j, s, column_inside) = rows.cell(h), columns.cell(w)
            return select(row_inside & column_inside, term((n, c, i, j), r, s), zero)

        def one(r: Expr, s: Expr) -> Expr:
            (i, row_inside), (j, column_inside) = rows.source(h, r), columns.source(w, s)
            return select(row_inside & column_inside, term((n, c, i, j), r, s), zero)

        return total("sum", "r s", self.kernel, one)


Term = Callable[[tuple[Expr, Expr, Expr, Expr], Expr, Expr], Expr]
"""`term(output, r, s)`: what an output's gradient gives to the input element at its tap (r, s)."""


@register
@dataclass(frozen=True)
class MaxPool2dGradient(PoolGradient):
    """The gradient of a max pooling's input, from its output's and the tap of each window that was the maximum."""

    gradient = unsupported_gradient

    def infer(self, dy: TensorType, position: TensorType) -> Types:
        expected = TensorType(DType.int32, dy.shape)
        if position != expected:
            raise fail(self, f"position expects {expected}, got {position}")
        return (self.result(dy),)

    def reference(self, dy: Array, position: Array) -> Array:
        wide = dy.astype(accumulator(DType.of(dy.dtype)).numpy)
        taps = range(self.kernel[0] * self.kernel[1])
        return self.scattered([np.where(position == k, wide, 0) for k in taps]).astype(dy.dtype)

    def formula(self, dy: Tensor, position: Tensor) -> At:
        def term(at: tuple[Expr, Expr, Expr, Expr], r: Expr, s: Expr) -> Expr:
            here = position(*at).eq(cast(r * self.kernel[1] + s, DType.int32))
            value = widened(dy(*at))
            return select(here, value, const(0, value.dtype))

        return lambda *at: cast(self.gathered(dy, at, term), dy.dtype)


@register
@dataclass(frozen=True)
class AvgPool2dGradient(PoolGradient):
    """The gradient of an average pooling's input, from its output's."""

    count_include_pad: bool = False

    def infer(self, dy: TensorType) -> Types:
        return (self.result(dy),)

    def reference(self, dy: Array) -> Array:
        wide = dy.astype(accumulator(DType.of(dy.dtype)).numpy)
        ones = np.ones((1, 1, *numbers(self.size)), wide.dtype)
        count = np.add.reduce(self.patches(ones, 1 if self.count_include_pad else 0))
        parts = [wide / count] * (self.kernel[0] * self.kernel[1])
        return self.scattered(parts).astype(dy.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        pool = AvgPool2d(
            self.kernel, self.stride, self.padding, self.dilation, self.count_include_pad
        )
        return (builder.add(pool, *output_gradients),)

    def formula(self, dy: Tensor) -> At:
        rows, columns = self.windows(Tensor(dy.dtype, (*dy.shape[:2], *self.size), dy.at))
        partial = not self.count_include_pad and (rows.is_padded or columns.is_padded)

        def term(at: tuple[Expr, Expr, Expr, Expr], r: Expr, s: Expr) -> Expr:
            value = widened(dy(*at))
            if partial:
                return value / counted(rows, columns, at[2], at[3], value.dtype)
            return value * (1 / (self.kernel[0] * self.kernel[1]))

        return lambda *at: cast(self.gathered(dy, at, term), dy.dtype)
