"""Two-dimensional convolutions on logical NCHW tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Expr, const, select
from convc.ops.base import (
    ZERO,
    Array,
    Gradients,
    Names,
    Padding,
    Pair,
    Types,
    accumulator,
    cast,
    expect_at_least,
    expect_number,
    expect_rank,
    fail,
    numbers,
    sum_dtype,
    total,
    widened,
)
from convc.ops.values import Value, values
from convc.ops.windows import Spread, Window, patches, tap, windows
from convc.types import DType, Extent, TensorType

NARROW = (DType.int8, DType.uint8)


def check_operands(op: Op, x: TensorType, weight: TensorType, groups: int) -> None:
    """Rank 4 both, one dtype (or a mix of int8 and uint8), and static channels and kernel."""
    expect_rank(op, "x", x, 4)
    expect_rank(op, "weight", weight, 4)
    expect_number(op, "x", x)
    if x.dtype is not weight.dtype and not (x.dtype in NARROW and weight.dtype in NARROW):
        raise fail(op, f"weight expects the dtype of x, {x.dtype.value}, got {weight.dtype.value}")
    if not all(isinstance(e, int) for e in (x.shape[1], *weight.shape)):
        raise fail(op, f"channels and kernel must be numbers, got x {x} and weight {weight}")
    expect_at_least(op, "groups", (groups,), 1)


def divided(op: Op, what: str, channels: Extent, groups: int) -> int:
    """Channels per group."""
    assert isinstance(channels, int)
    if channels % groups:
        raise fail(op, f"{what} channels must be a multiple of groups = {groups}, got {channels}")
    return channels // groups


def numbers_pair(extents: list[Extent]) -> Pair:
    """Two extents that are numbers whatever the symbols."""
    rows, columns = numbers(tuple(extents))
    return rows, columns


@register
@dataclass(frozen=True)
class Conv2d(Op):
    """Cross-correlation y[n, o, i, j] of x[n, c, h, w] with weight[o, c / groups, r, s]."""

    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    def infer(self, x: TensorType, weight: TensorType) -> Types:
        check_operands(self, x, weight, self.groups)
        per_group = divided(self, "input", x.shape[1], self.groups)
        divided(self, "output", weight.shape[0], self.groups)
        if weight.shape[1] != per_group:
            groups = f"{self.groups} group{'s' if self.groups > 1 else ''}"
            raise fail(
                self,
                f"weight expects {weight.shape[1]} input channels per group, "
                f"x has {x.shape[1]} channels / {groups}",
            )
        rows, columns = self.windows(x, weight)
        shape = (x.shape[0], weight.shape[0], rows.extent, columns.extent)
        return (TensorType(sum_dtype(x.dtype), shape),)

    def windows(self, x: TensorType | Tensor, weight: TensorType | Tensor) -> tuple[Window, Window]:
        """The windows of rows and columns."""
        kh, kw = numbers(weight.shape[2:])
        return windows(self, x.shape[2:], (kh, kw), self.stride, self.padding, self.dilation)

    def reference(self, x: Array, weight: Array) -> Array:
        n = x.shape[0]
        outputs, per_group, kh, kw = weight.shape
        wide = accumulator(DType.of(x.dtype)).numpy
        y: Array = np.zeros((), wide)
        taps = patches(x.astype(wide), (kh, kw), self.stride, self.padding, self.dilation, 0)
        for (r, s), patch in taps.items():
            oh, ow = patch.shape[2:]
            columns = patch.reshape(n, self.groups, per_group, oh * ow)
            matrices = weight[:, :, r, s].reshape(self.groups, outputs // self.groups, per_group)
            y = y + (matrices.astype(wide) @ columns).reshape(n, outputs, oh, ow)
        return y.astype(sum_dtype(DType.of(x.dtype)).numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return convolution_gradients(
            self, Conv2dWeightGradient, values(builder, (*inputs, *output_gradients))
        )

    def transposed(self, x: TensorType, weight: TensorType) -> ConvTranspose2d:
        """The convolution that maps the output's gradient to that of x; rows that no window reached are its
        output padding."""
        rest = []
        for window in self.windows(x, weight):
            span = (window.extent - 1) * window.stride + window.reach
            rest.append(window.size + window.before + window.after - span)
        return ConvTranspose2d(
            self.stride, self.padding, numbers_pair(rest), self.dilation, self.groups
        )

    def formula(self, x: Tensor, weight: Tensor) -> At:
        outputs, per_group, kh, kw = numbers(weight.shape)
        rows, columns = self.windows(x, weight)
        group_size = outputs // self.groups

        def at(n: Expr, o: Expr, i: Expr, j: Expr) -> Expr:
            first = o // group_size * per_group if self.groups > 1 else ZERO

            def term(c: Expr, r: Expr, s: Expr) -> Expr:
                element = tap(x, rows, columns, (n, first + c, i, j), r, s, 0)
                return widened(element) * widened(weight(o, c, r, s))

            product = total("sum", "c r s", (per_group, kh, kw), term)
            return cast(product, sum_dtype(x.dtype))

        return at


@register
@dataclass(frozen=True)
class ConvTranspose2d(Op):
    """Transposed convolution of x[n, c, h, w] with weight[c, o / groups, r, s].

    `padding` is cropped from the full output, of (h - 1) * stride + dilation * (r - 1) + 1 rows;
    `output_padding` rows and columns are added at the bottom and the right.
    """

    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def infer(self, x: TensorType, weight: TensorType) -> Types:
        check_operands(self, x, weight, self.groups)
        expect_at_least(self, "stride", self.stride, 1)
        expect_at_least(self, "dilation", self.dilation, 1)
        expect_at_least(self, "kernel", numbers(weight.shape[2:]), 1)
        divided(self, "input", x.shape[1], self.groups)
        if weight.shape[0] != x.shape[1]:
            raise fail(self, f"weight expects {weight.shape[0]} input channels, x has {x.shape[1]}")
        oh, ow = (self.extent(d, x.shape[2 + d], weight.shape[2 + d]) for d in range(2))
        shape = (x.shape[0], weight.shape[1] * self.groups, oh, ow)
        return (TensorType(sum_dtype(x.dtype), shape),)

    def extent(self, d: int, size: Extent, kernel: Extent) -> Extent:
        """Output rows (d = 0) or columns (d = 1)."""
        assert isinstance(kernel, int)
        spread = self.spread(d, size, kernel)
        extent = spread.extent
        if isinstance(extent, int) and extent <= 0:
            raise fail(
                self, f"padding {self.padding[d]} leaves nothing of {spread.full} output elements"
            )
        return extent

    def spread(self, d: int, size: Extent, kernel: int) -> Spread:
        """Where elements of rows (d = 0) or columns (d = 1) go."""
        return Spread(
            size, kernel, self.stride[d], self.dilation[d], *self.padding[d], self.output_padding[d]
        )

    def reference(self, x: Array, weight: Array) -> Array:
        n, channels, h, w = x.shape
        _, per_group, kh, kw = weight.shape
        wide = accumulator(DType.of(x.dtype)).numpy
        outputs = per_group * self.groups
        (top, _), (left, _) = self.padding
        oh, ow = numbers((self.extent(0, h, kh), self.extent(1, w, kw)))
        # The full scatter, with room for the output padding and for a crop that is negative in effect.
        y = np.zeros((n, outputs, top + oh + kh * self.dilation[0] + h * self.stride[0],
                      left + ow + kw * self.dilation[1] + w * self.stride[1]), wide)  # fmt: skip
        columns = x.astype(wide).reshape(n, self.groups, channels // self.groups, h * w)
        for r in range(kh):
            for s in range(kw):
                matrix = weight[:, :, r, s].reshape(self.groups, -1, per_group).swapaxes(1, 2)
                part = (matrix.astype(wide) @ columns).reshape(n, outputs, h, w)
                i, j = r * self.dilation[0], s * self.dilation[1]
                rows = slice(i, i + h * self.stride[0], self.stride[0])
                y[:, :, rows, j : j + w * self.stride[1] : self.stride[1]] += part
        cropped = y[:, :, top : top + oh, left : left + ow]
        return cropped.astype(sum_dtype(DType.of(x.dtype)).numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return transposed_gradients(
            self, Conv2d, Conv2dWeightGradient, values(builder, (*inputs, *output_gradients))
        )

    def formula(self, x: Tensor, weight: Tensor) -> At:
        channels, per_group, kh, kw = numbers(weight.shape)
        group_channels = channels // self.groups
        rows, columns = self.spread(0, x.shape[2], kh), self.spread(1, x.shape[3], kw)

        def at(n: Expr, o: Expr, i: Expr, j: Expr) -> Expr:
            first = o // per_group * group_channels if self.groups > 1 else ZERO
            output = o % per_group if self.groups > 1 else o

            def term(c: Expr, u: Expr, v: Expr) -> Expr:
                row, r, row_inside = rows.source(i, u)
                column, s, column_inside = columns.source(j, v)
                inside = row_inside & column_inside
                element = select(inside, x(n, first + c, row, column), const(0, x.dtype))
                return widened(element) * widened(weight(first + c, output, r, s))

            product = total("sum", "c r s", (group_channels, rows.taps, columns.taps), term)
            return cast(product, sum_dtype(x.dtype))

        return at


def convolution_gradients(
    op: Any, weight_gradient: type[Op], operands: Sequence[Value]
) -> Gradients:
    """Those of a convolution's x and weight, of any rank; operands are x, weight and the output's gradient."""
    x, weight, dy = operands
    kernel = numbers(weight.shape[2:])
    dx = op.transposed(x.type, weight.type)
    dweight = weight_gradient(op.stride, op.padding, op.dilation, op.groups, kernel)  # type: ignore[call-arg]
    add = x.builder.add
    return add(dx, dy.name, weight.name), add(dweight, x.name, dy.name)


def transposed_gradients(
    op: Any, forward: type[Op], weight_gradient: type[Op], operands: Sequence[Value]
) -> Gradients:
    """Those of a transposed convolution's x and weight: a convolution's output and its weight's gradient."""
    x, weight, dy = operands
    dy, padding = without_output_padding(dy, op.padding, op.output_padding)
    shared, kernel = (op.stride, tuple(padding), op.dilation, op.groups), numbers(weight.shape[2:])
    dx, dweight = forward(*shared), weight_gradient(*shared, kernel)  # type: ignore[call-arg]
    add = x.builder.add
    return add(dx, dy.name, weight.name), add(dweight, dy.name, x.name)


def weight_gradient_gradients(op: Any, forward: type[Op], operands: Sequence[Value]) -> Gradients:
    """Those of a weight gradient's x and dy: it is linear in both, as the convolution is in x and in the weight."""
    x, dy, dweight = operands
    convolution: Any = forward(op.stride, op.padding, op.dilation, op.groups)  # type: ignore[call-arg]
    back = convolution.transposed(x.type, dweight.type)
    add = x.builder.add
    return add(back, dy.name, dweight.name), add(convolution, x.name, dweight.name)


def sums_of_taps(
    taps: Mapping[Any, Array], x: Array, dy: Array, groups: int, kernel: Sequence[int]
) -> Array:
    """For each tap, the products of dy[n, o, …] and the patch of x that it meets, summed over images and pixels.

    The weight's gradient [o, c / groups, *kernel] in x's dtype (a reference).
    """
    (n, channels), outputs, pixels = x.shape[:2], dy.shape[1], math.prod(dy.shape[2:])
    rows = dy.astype(x.dtype).reshape(n, groups, outputs // groups, pixels)
    found = np.zeros((outputs, channels // groups, *kernel), x.dtype)
    for place, patch in taps.items():
        columns = patch.reshape(n, groups, channels // groups, pixels)
        product = np.einsum("ngop,ngcp->goc", rows, columns)
        found[:, :, *place] = product.reshape(outputs, -1)
    return found


def without_output_padding(
    dy: Value, padding: Sequence[Pair], added: Sequence[int]
) -> tuple[Value, list[Pair]]:
    """The gradient dy[n, o, …] of a transposed convolution's output, and the padding of the convolution it transposes.

    Outputs that the transposed one left out at the end pass for less padding; others are cut off, since the
    convolution would see one window more.
    """
    kept, cut = [], []
    for (before, after), more in zip(padding, added, strict=True):
        kept.append((max(0, before), max(0, after - more)))
        cut.append((min(0, before), min(0, after - more)))
    if any(pair != (0, 0) for pair in cut):
        dy = dy.apply("pad", pads=((0, 0), (0, 0), *cut))
    return dy, kept


@register
@dataclass(frozen=True)
class Conv2dWeightGradient(Op):
    """The gradient of a convolution's weight[o, c / groups, r, s], from its x[n, c, h, w] and dy[n, o, i, j].

    The attributes are those of the convolution and its kernel's rows and columns.
    """

    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    kernel: Pair = (1, 1)

    def infer(self, x: TensorType, dy: TensorType) -> Types:
        check_operands(self, x, TensorType(dy.dtype, (*dy.shape[1:2], 1, 1, 1)), self.groups)
        expect_rank(self, "dy", dy, 4)
        per_group = divided(self, "input", x.shape[1], self.groups)
        divided(self, "output", dy.shape[1], self.groups)
        rows, columns = self.windows(x)
        expected = TensorType(x.dtype, (x.shape[0], dy.shape[1], rows.extent, columns.extent))
        if dy != expected:
            raise fail(self, f"dy expects {expected}, got {dy}")
        return (TensorType(sum_dtype(x.dtype), (dy.shape[1], per_group, *self.kernel)),)

    def windows(self, x: TensorType | Tensor) -> tuple[Window, Window]:
        """The windows of rows and columns."""
        return windows(self, x.shape[2:], self.kernel, self.stride, self.padding, self.dilation)

    def reference(self, x: Array, dy: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        taps = patches(wide, self.kernel, self.stride, self.padding, self.dilation, 0)
        found = sums_of_taps(taps, wide, dy, self.groups, self.kernel)
        return found.astype(sum_dtype(DType.of(x.dtype)).numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return weight_gradient_gradients(
            self, Conv2d, values(builder, (*inputs, *output_gradients))
        )

    def formula(self, x: Tensor, dy: Tensor) -> At:
        rows, columns = self.windows(x)
        (outputs, channels) = numbers((dy.shape[1], x.shape[1]))
        group_size, per_group = outputs // self.groups, channels // self.groups

        def at(o: Expr, c: Expr, r: Expr, s: Expr) -> Expr:
            first = o // group_size * per_group if self.groups > 1 else ZERO

            def term(m: Expr, p: Expr, q: Expr) -> Expr:
                element = tap(x, rows, columns, (m, first + c, p, q), r, s, 0)
                return widened(element) * widened(dy(m, o, p, q))

            product = total("sum", "m p q", (x.shape[0], *dy.shape[2:]), term)
            return cast(product, sum_dtype(x.dtype))

        return at
