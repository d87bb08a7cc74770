"""Convolutions in three dimensions on logical NCDHW tensors."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
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
    Pair,
    Types,
    accumulator,
    cast,
    expect_at_least,
    expect_dtype,
    expect_number,
    expect_rank,
    fail,
    numbers,
    sum_dtype,
    total,
    widened,
)
from convc.ops.conv import (
    convolution_gradients,
    divided,
    sums_of_taps,
    transposed_gradients,
    weight_gradient_gradients,
)
from convc.ops.values import values
from convc.ops.windows import Spread, Window, check_extent
from convc.types import DType, Extent, Shape, TensorType

Triple = tuple[int, int, int]
Triples = tuple[Pair, Pair, Pair]
AXES = ("depth", "height", "width")


def check_operands(op: Op, x: TensorType, weight: TensorType, groups: int) -> None:
    """Rank 5 both, one dtype, and static channels and kernel."""
    expect_rank(op, "x", x, 5)
    expect_rank(op, "weight", weight, 5)
    expect_number(op, "x", x)
    expect_dtype(op, "weight", weight, x.dtype)
    if not all(isinstance(e, int) for e in (x.shape[1], *weight.shape)):
        raise fail(op, f"channels and kernel must be numbers, got x {x} and weight {weight}")
    expect_at_least(op, "groups", (groups,), 1)


def windows(
    op: Op, size: Shape, kernel: Sequence[int], stride: Triple, padding: Triples, dilation: Triple
) -> list[Window]:
    """The windows of depth, rows and columns; an OpError where an attribute or an output extent is out of range."""
    for name, given in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        expect_at_least(op, name, given, 1)
    expect_at_least(op, "padding", (p for pair in padding for p in pair), 0)
    found = [Window(size[d], kernel[d], stride[d], dilation[d], *padding[d]) for d in range(3)]
    for name, window in zip(AXES, found, strict=True):
        check_extent(op, name, window)
    return found


def patches(x: Array, found: Sequence[Window]) -> dict[Triple, Array]:
    """For each tap, the array [n, c, depth, rows, columns] of the elements that it meets (a reference's view)."""
    padded = np.pad(x, ((0, 0), (0, 0), *((w.before, w.after) for w in found)))
    extents = numbers(tuple(w.extent for w in found))
    result = {}
    for q, r, s in itertools.product(*(range(w.kernel) for w in found)):
        firsts = (t * w.dilation for t, w in zip((q, r, s), found, strict=True))
        where: tuple[Any, ...] = tuple(
            slice(f, f + w.stride * (e - 1) + 1, w.stride)
            for f, w, e in zip(firsts, found, extents, strict=True)
        )
        result[q, r, s] = padded[:, :, *where]
    return result


def padded_at(
    x: Tensor, found: Sequence[Window], lead: Sequence[Expr], out: Sequence[Expr],
    taps: Sequence[Expr],
) -> Expr:  # fmt: skip
    """x at those taps of the windows of output `out`, zero where that lies in the padding; `lead` is (n, c)."""
    each = list(zip(found, out, taps, strict=True))
    inside = functools.reduce(operator.and_, (w.inside(i, r) for w, i, r in each))
    return select(inside, x(*lead, *(w.at(i, r) for w, i, r in each)), const(0, x.dtype))


def three(extents: Sequence[Extent]) -> Triple:
    """Three extents that are numbers whatever the symbols."""
    deep, rows, columns = numbers(tuple(extents))
    return deep, rows, columns


@register
@dataclass(frozen=True)
class Conv3d(Op):
    """Cross-correlation y[n, o, d, i, j] of x[n, c, d, h, w] with weight[o, c / groups, q, r, s]."""

    stride: Triple = (1, 1, 1)
    padding: Triples = ((0, 0), (0, 0), (0, 0))
    dilation: Triple = (1, 1, 1)
    groups: int = 1

    def infer(self, x: TensorType, weight: TensorType) -> Types:
        check_operands(self, x, weight, self.groups)
        divided(self, "output", weight.shape[0], self.groups)
        if weight.shape[1] != divided(self, "input", x.shape[1], self.groups):
            raise fail(self, f"weight {weight} doesn't fit x {x} in {self.groups} groups")
        found = self.windows(x.shape, weight.shape)
        shape = (x.shape[0], weight.shape[0], *(w.extent for w in found))
        return (TensorType(sum_dtype(x.dtype), shape),)

    def windows(self, x: Shape, weight: Shape) -> list[Window]:
        """The windows of the three dimensions."""
        return windows(self, x[2:], numbers(weight[2:]), self.stride, self.padding, self.dilation)

    def reference(self, x: Array, weight: Array) -> Array:
        n = x.shape[0]
        outputs, per_group = weight.shape[:2]
        wide = accumulator(DType.of(x.dtype)).numpy
        found = patches(x.astype(wide), self.windows(x.shape, weight.shape))
        matrices = np.moveaxis(weight, (0, 1), (-2, -1)).astype(wide)
        parts = [
            matrices[tap].reshape(self.groups, outputs // self.groups, per_group)
            @ patch.reshape(n, self.groups, per_group, math.prod(patch.shape[2:]))
            for tap, patch in found.items()
        ]
        y: Array = np.sum(parts, axis=0).reshape(n, outputs, *found[0, 0, 0].shape[2:])
        return y.astype(sum_dtype(DType.of(x.dtype)).numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return convolution_gradients(
            self, Conv3dWeightGradient, values(builder, (*inputs, *output_gradients))
        )

    def transposed(self, x: TensorType, weight: TensorType) -> ConvTranspose3d:
        """The convolution that maps the output's gradient to that of x; slices, rows and columns that no window
        reached are its output padding."""
        rest = [
            w.size + w.before + w.after - ((w.extent - 1) * w.stride + w.reach)
            for w in self.windows(x.shape, weight.shape)
        ]
        return ConvTranspose3d(self.stride, self.padding, three(rest), self.dilation, self.groups)

    def formula(self, x: Tensor, weight: Tensor) -> At:
        outputs, per_group, *kernel = numbers(weight.shape)
        found = self.windows(x.shape, weight.shape)
        group_size = outputs // self.groups

        def at(n: Expr, o: Expr, *out: Expr) -> Expr:
            first = o // group_size * per_group if self.groups > 1 else ZERO

            def term(c: Expr, *taps: Expr) -> Expr:
                element = padded_at(x, found, (n, first + c), out, taps)
                return widened(element) * widened(weight(o, c, *taps))

            product = total("sum", "c q r s", (per_group, *kernel), term)
            return cast(product, sum_dtype(x.dtype))

        return at


@register
@dataclass(frozen=True)
class ConvTranspose3d(Op):
    """Transposed convolution of x[n, c, d, h, w] with weight[c, o / groups, q, r, s].

    `padding` is cropped from the full output, of (d - 1) * stride + dilation * (q - 1) + 1 slices;
    `output_padding` is added at the end of each dimension.
    """

    stride: Triple = (1, 1, 1)
    padding: Triples = ((0, 0), (0, 0), (0, 0))
    output_padding: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    groups: int = 1

    def infer(self, x: TensorType, weight: TensorType) -> Types:
        check_operands(self, x, weight, self.groups)
        for name in ("stride", "dilation"):
            expect_at_least(self, name, getattr(self, name), 1)
        expect_at_least(self, "kernel", numbers(weight.shape[2:]), 1)
        divided(self, "input", x.shape[1], self.groups)
        if weight.shape[0] != x.shape[1]:
            raise fail(self, f"weight expects {weight.shape[0]} input channels, x has {x.shape[1]}")
        found = self.spreads(x.shape, weight.shape)
        for name, spread in zip(AXES, found, strict=True):
            if isinstance(spread.extent, int) and spread.extent <= 0:
                raise fail(
                    self, f"padding leaves nothing of {spread.full} output elements ({name})"
                )
        shape = (x.shape[0], weight.shape[1] * self.groups, *(s.extent for s in found))
        return (TensorType(sum_dtype(x.dtype), shape),)

    def spreads(self, x: Shape, weight: Shape) -> list[Spread]:
        """Where the elements of the three dimensions go."""
        kernel = numbers(weight[2:])
        return [
            Spread(x[2 + d], kernel[d], self.stride[d], self.dilation[d], *self.padding[d],
                   self.output_padding[d])
            for d in range(3)
        ]  # fmt: skip

    def reference(self, x: Array, weight: Array) -> Array:
        n, channels, *sizes = x.shape
        per_group = weight.shape[1]
        wide = accumulator(DType.of(x.dtype)).numpy
        found = self.spreads(x.shape, weight.shape)
        extents = numbers(tuple(s.extent for s in found))
        # The full scatter, with room for the output padding and for a crop that is negative in effect.
        room = [
            s.before + e + s.kernel * s.dilation + size * s.stride
            for s, e, size in zip(found, extents, sizes, strict=True)
        ]
        y = np.zeros((n, per_group * self.groups, *room), wide)
        columns = x.astype(wide).reshape(n, self.groups, channels // self.groups, math.prod(sizes))
        for tap in itertools.product(*(range(s.kernel) for s in found)):
            matrix = np.moveaxis(weight, (0, 1), (-2, -1))[tap].astype(wide)
            matrix = matrix.reshape(self.groups, -1, per_group).swapaxes(1, 2)
            where: tuple[Any, ...] = tuple(
                slice(t * s.dilation, t * s.dilation + size * s.stride, s.stride)
                for t, s, size in zip(tap, found, sizes, strict=True)
            )
            y[:, :, *where] += (matrix @ columns).reshape(n, y.shape[1], *sizes)
        kept: tuple[Any, ...] = tuple(
            slice(s.before, s.before + e) for s, e in zip(found, extents, strict=True)
        )
        return y[:, :, *kept].astype(sum_dtype(DType.of(x.dtype)).numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return transposed_gradients(
            self, Conv3d, Conv3dWeightGradient, values(builder, (*inputs, *output_gradients))
        )

    def formula(self, x: Tensor, weight: Tensor) -> At:
        channels, per_group, *_ = numbers(weight.shape)
        group_channels = channels // self.groups
        found = self.spreads(x.shape, weight.shape)

        def at(n: Expr, o: Expr, *out: Expr) -> Expr:
            first = o // per_group * group_channels if self.groups > 1 else ZERO
            output = o % per_group if self.groups > 1 else o

            def term(c: Expr, *taps: Expr) -> Expr:
                sources = [s.source(i, u) for s, i, u in zip(found, out, taps, strict=True)]
                places, chosen, insides = zip(*sources, strict=True)
                inside = functools.reduce(operator.and_, insides)
                element = select(inside, x(n, first + c, *places), const(0, x.dtype))
                return widened(element) * widened(weight(first + c, output, *chosen))

            extents = (group_channels, *(s.taps for s in found))
            return cast(total("sum", "c q r s", extents, term), sum_dtype(x.dtype))

        return at


@register
@dataclass(frozen=True)
class Conv3dWeightGradient(Op):
    """The gradient of a convolution's weight[o, c / groups, q, r, s], from its x[n, c, d, h, w] and dy[n, o, k, i, j].

    The attributes are those of the convolution, and its kernel's extents.
    """

    stride: Triple = (1, 1, 1)
    padding: Triples = ((0, 0), (0, 0), (0, 0))
    dilation: Triple = (1, 1, 1)
    groups: int = 1
    kernel: Triple = (1, 1, 1)

    def infer(self, x: TensorType, dy: TensorType) -> Types:
        check_operands(self, x, TensorType(dy.dtype, (*dy.shape[1:2], 1, 1, 1, 1)), self.groups)
        expect_rank(self, "dy", dy, 5)
        per_group = divided(self, "input", x.shape[1], self.groups)
        divided(self, "output", dy.shape[1], self.groups)
        extents = (w.extent for w in self.windows(x.shape))
        expected = TensorType(x.dtype, (x.shape[0], dy.shape[1], *extents))
        if dy != expected:
            raise fail(self, f"dy expects {expected}, got {dy}")
        return (TensorType(sum_dtype(x.dtype), (dy.shape[1], per_group, *self.kernel)),)

    def windows(self, x: Shape) -> list[Window]:
        """The windows of the three dimensions."""
        return windows(self, x[2:], self.kernel, self.stride, self.padding, self.dilation)

    def reference(self, x: Array, dy: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        taps = patches(wide, self.windows(x.shape))
        found = sums_of_taps(taps, wide, dy, self.groups, self.kernel)
        return found.astype(sum_dtype(DType.of(x.dtype)).numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return weight_gradient_gradients(
            self, Conv3d, values(builder, (*inputs, *output_gradients))
        )

    def formula(self, x: Tensor, dy: Tensor) -> At:
        outputs, channels = numbers((dy.shape[1], x.shape[1]))
        group_size, per_group = outputs // self.groups, channels // self.groups
        found = self.windows(x.shape)

        def at(o: Expr, c: Expr, *taps: Expr) -> Expr:
            first = o // group_size * per_group if self.groups > 1 else ZERO

            def term(m: Expr, *out: Expr) -> Expr:
                element = padded_at(x, found, (m, first + c), out, taps)
                return widened(element) * widened(dy(m, o, *out))

            product = total("sum", "m t p q", (x.shape[0], *dy.shape[2:]), term)
            return cast(product, sum_dtype(x.dtype))

        return at
