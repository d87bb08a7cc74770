"""Two-dimensional pooling on logical NCHW tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.op import Op, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Cast, Expr, const
from convc.ops.base import (
    Array,
    Padding,
    Pair,
    Types,
    accumulator,
    cast,
    expect_float,
    expect_number,
    expect_rank,
    total,
    widened,
)
from convc.ops.windows import Window, lowest, patches, tap, windows
from convc.types import DType, TensorType


@dataclass(frozen=True)
class Pool(Op):
    """Base: each output element is made of a window of one channel."""

    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_number(self, "x", x)
        rows, columns = self.windows(x)
        return (TensorType(x.dtype, (*x.shape[:2], rows.extent, columns.extent)),)

    def windows(self, x: TensorType | Tensor) -> tuple[Window, Window]:
        """The windows of rows and columns."""
        return windows(self, x.shape[2:], self.kernel, self.stride, self.padding, self.dilation)

    def patches(self, x: Array, value: float) -> list[Array]:
        """One array [n, c, oh, ow] per tap."""
        taps = patches(x, self.kernel, self.stride, self.padding, self.dilation, value)
        return list(taps.values())


@register
@dataclass(frozen=True)
class MaxPool2d(Pool):
    """The largest element of each window; padding never wins."""

    def reference(self, x: Array) -> Array:
        result: Array = np.maximum.reduce(self.patches(x, lowest(DType.of(x.dtype))))
        return result

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

    def formula(self, x: Tensor) -> At:
        rows, columns = self.windows(x)
        kh, kw = self.kernel

        def at(n: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
            def element(r: Expr, s: Expr) -> Expr:
                return widened(tap(x, rows, columns, (n, c, i, j), r, s, 0))

            summed = total("sum", "r s", self.kernel, element)
            if self.count_include_pad or not (rows.is_padded or columns.is_padded):
                return cast(summed * (1 / (kh * kw)), x.dtype)
            height = rows.count(i) if rows.is_padded else const(kh, DType.int64)
            width = columns.count(j) if columns.is_padded else const(kw, DType.int64)
            return cast(summed / Cast(height * width, summed.dtype), x.dtype)

        return at
