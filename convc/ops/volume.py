"""Convolution in three dimensions on logical NCDHW tensors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.graph.op import Op, register, unsupported_gradient
from convc.loops.formula import At, Tensor
from convc.loops.ir import Expr, const, select
from convc.ops.base import (
    ZERO,
    Array,
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
from convc.ops.conv import divided
from convc.ops.windows import TRUE, Window, check_extent
from convc.types import DType, Shape, TensorType

Triple = tuple[int, int, int]


@register
@dataclass(frozen=True)
class Conv3d(Op):
    """Cross-correlation y[n, o, d, i, j] of x[n, c, d, h, w] with weight[o, c / groups, q, r, s]."""

    stride: Triple = (1, 1, 1)
    padding: tuple[Pair, Pair, Pair] = ((0, 0), (0, 0), (0, 0))
    dilation: Triple = (1, 1, 1)
    groups: int = 1

    def infer(self, x: TensorType, weight: TensorType) -> Types:
        expect_rank(self, "x", x, 5)
        expect_rank(self, "weight", weight, 5)
        expect_number(self, "x", x)
        expect_dtype(self, "weight", weight, x.dtype)
        if not all(isinstance(e, int) for e in (x.shape[1], *weight.shape)):
            raise fail(self, f"channels and kernel must be numbers, got x {x} and weight {weight}")
        expect_at_least(self, "groups", (self.groups,), 1)
        divided(self, "output", weight.shape[0], self.groups)
        if weight.shape[1] != divided(self, "input", x.shape[1], self.groups):
            raise fail(self, f"weight {weight} doesn't fit x {x} in {self.groups} groups")
        found = self.windows(x.shape, weight.shape)
        for name, window in zip(("depth", "height", "width"), found, strict=True):
            check_extent(self, name, window)
        shape = (x.shape[0], weight.shape[0], *(w.extent for w in found))
        return (TensorType(sum_dtype(x.dtype), shape),)

    def windows(self, x: Shape, weight: Shape) -> list[Window]:
        """The windows of the three dimensions."""
        kernel = numbers(weight[2:])
        for name, values in (
            ("kernel", kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
        ):
            expect_at_least(self, name, values, 1)
        return [
            Window(x[2 + d], kernel[d], self.stride[d], self.dilation[d], *self.padding[d])
            for d in range(3)
        ]

    def reference(self, x: Array, weight: Array) -> Array:
        n = x.shape[0]
        outputs, per_group, *kernel = weight.shape
        wide = accumulator(DType.of(x.dtype)).numpy
        padded = np.pad(x.astype(wide), ((0, 0), (0, 0), *self.padding))
        extents = numbers(tuple(w.extent for w in self.windows(x.shape, weight.shape)))
        y = np.zeros((n, outputs, *extents), wide)
        for tap in itertools.product(*map(range, kernel)):
            where: tuple[Any, ...] = tuple(
                slice(t * d, t * d + s * (e - 1) + 1, s)
                for t, d, s, e in zip(tap, self.dilation, self.stride, extents, strict=True)
            )
            patch = padded[:, :, *where]
            columns = patch.reshape(n, self.groups, per_group, -1)
            matrices = np.moveaxis(weight, (0, 1), (-2, -1))[tap].astype(wide)
            matrices = matrices.reshape(self.groups, outputs // self.groups, per_group)
            y += (matrices @ columns).reshape(y.shape)
        return y.astype(sum_dtype(DType.of(x.dtype)).numpy)

    gradient = unsupported_gradient

    def formula(self, x: Tensor, weight: Tensor) -> At:
        outputs, per_group, *kernel = numbers(weight.shape)
        found = self.windows(x.shape, weight.shape)
        group_size = outputs // self.groups

        def at(n: Expr, o: Expr, *out: Expr) -> Expr:
            first = o // group_size * per_group if self.groups > 1 else ZERO

            def term(c: Expr, *taps: Expr) -> Expr:
                inside: Expr = TRUE
                for window, i, r in zip(found, out, taps, strict=True):
                    inside = inside & window.inside(i, r)
                places = (w.at(i, r) for w, i, r in zip(found, out, taps, strict=True))
                element = select(inside, x(n, first + c, *places), const(0, x.dtype))
                return widened(element) * widened(weight(o, c, *taps))

            product = total("sum", "c q r s", (per_group, *kernel), term)
            return cast(product, sum_dtype(x.dtype))

        return at
