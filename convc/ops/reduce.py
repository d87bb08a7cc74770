"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Cast, Expr, index, select
from convc.ops.base import (
    ZERO,
    Array,
    Gradients,
    Names,
    Types,
    accumulator,
    axes_of,
    axis_of,
    cast,
    expect_float,
    expect_number,
    fail,
    reciprocal,
    sum_dtype,
    total,
    widened,
)
from convc.ops.values import Value, values
from convc.types import DType, Extent, Shape, TensorType, evaluate, size_of


def reduced_shape(shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Shape:
    """The shape without the reduced axes, or with 1 in their place."""
    if keepdims:
        return tuple(1 if d in axes else e for d, e in enumerate(shape))
    return tuple(e for d, e in enumerate(shape) if d not in axes)


@dataclass(frozen=True)
class Reduction(Op):
    """Base: combines the elements along `axes` (no axes: nothing is combined)."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    combiner: ClassVar[str]
    pullback: ClassVar[Callable[..., Value]]
    """`pullback(self, x, y, dy)`: x's gradient, before it is repeated; y and dy have 1 for the reduced axes."""

    def infer(self, x: TensorType) -> Types:
        expect_number(self, "x", x)
        axes = axes_of(self, self.axes, x.rank)
        return (TensorType(self.result(x.dtype), reduced_shape(x.shape, axes, self.keepdims)),)

    def result(self, dtype: DType) -> DType:
        """The output's dtype."""
        return sum_dtype(dtype) if self.combiner in ("sum", "prod") else dtype

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, y, dy = values(builder, (*inputs, *outputs, *output_gradients))
        kept = reduced_shape(x.shape, axes_of(self, self.axes, x.rank), True)
        dx = self.pullback(x, y.reshape(kept), dy.reshape(kept))
        return (dx.broadcast(x.shape).name,)

    def formula(self, x: Tensor) -> At:
        def at(*out: Expr) -> Expr:
            return cast(self.combined(x, out), self.result(x.dtype))

        return at

    def combined(self, x: Tensor, out: tuple[Expr, ...]) -> Expr:
        """The reduction's expression, in the accumulator's dtype."""
        axes = axes_of(self, self.axes, x.rank)

        def term(*k: Expr) -> Expr:
            reduced, kept = dict(zip(axes, k, strict=True)), iter(out)
            at = []
            for d in range(x.rank):
                outer = next(kept) if d not in reduced or self.keepdims else ZERO
                at.append(reduced.get(d, outer))
            element = x(*at)
            return widened(element) if self.combiner in ("sum", "prod") else element

        names = "k" if len(axes) == 1 else " ".join(f"k{n}" for n in range(len(axes)))
        return total(self.combiner, names, [x.shape[a] for a in axes], term)

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        if x.rank != len(perm) or not self.keepdims:
            return None
        axes = tuple(perm.index(a) for a in axes_of(self, self.axes, x.rank))
        return type(self)(axes, self.keepdims)


@register
@dataclass(frozen=True)
class ReduceSum(Reduction):
    combiner = "sum"

    def reference(self, x: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        summed: Array = np.sum(wide, axis=self.axes, keepdims=self.keepdims, dtype=wide.dtype)
        return summed.astype(self.result(DType.of(x.dtype)).numpy)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy


@register
@dataclass(frozen=True)
class ReduceProd(Reduction):
    combiner = "prod"

    def reference(self, x: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        product: Array = np.prod(wide, axis=self.axes, keepdims=self.keepdims, dtype=wide.dtype)
        return product.astype(self.result(DType.of(x.dtype)).numpy)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        """dy times the product of the others: y / x, but where one factor is 0, the product without it."""
        is_zero = x.equal(0)
        zeros = is_zero.cast(x.dtype).sum(self.axes, True)
        rest = is_zero.where(1, x)
        others = rest.apply("reduce_prod", axes=self.axes, keepdims=True)
        at_zero = zeros.equal(1).where(others, 0)
        return dy * is_zero.where(at_zero, zeros.equal(0).where(others / rest, 0))


@register
@dataclass(frozen=True)
class ReduceMean(Reduction):
    """The sum times 1 / count."""

    combiner = "sum"

    def infer(self, x: TensorType) -> Types:
        expect_float(self, "x", x)
        return super().infer(x)

    def reference(self, x: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        mean: Array = np.mean(wide, axis=self.axes, keepdims=self.keepdims)
        return mean.astype(x.dtype)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy / x.count(self.axes)

    def combined(self, x: Tensor, out: tuple[Expr, ...]) -> Expr:
        summed = super().combined(x, out)
        count = size_of(x.shape[a] for a in self.axes)
        return summed if count == 1 else summed * reciprocal(count, summed.dtype)


@register
@dataclass(frozen=True)
class ReduceMax(Reduction):
    """The largest element; NaN if there is one."""

    combiner = "max"

    def reference(self, x: Array) -> Array:
        return np.asarray(np.max(x, axis=self.axes, keepdims=self.keepdims))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        """Equal elements share it, as in TensorFlow."""
        hit = x.equal(y).cast(x.dtype)
        return hit * (dy / hit.sum(self.axes, True))


@register
@dataclass(frozen=True)
class ReduceMin(Reduction):
    """The smallest element; NaN if there is one."""

    combiner = "min"

    def reference(self, x: Array) -> Array:
        return np.asarray(np.min(x, axis=self.axes, keepdims=self.keepdims))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        """Equal elements share it, as in TensorFlow."""
        hit = x.equal(y).cast(x.dtype)
        return hit * (dy / hit.sum(self.axes, True))


# ---------------------------------------------------------------- positions


@register
@dataclass(frozen=True)
class ArgMax(Op):
    """The first position (int64) of the largest element, or of a NaN, along an axis."""

    axis: int = -1
    keepdims: bool = False

    def infer(self, x: TensorType) -> Types:
        expect_number(self, "x", x)
        axis = axis_of(self, self.axis, x.rank)
        if x.shape[axis] == 0:
            raise fail(self, f"axis {self.axis} expects at least one element, got {x}")
        return (TensorType(DType.int64, reduced_shape(x.shape, (axis,), self.keepdims)),)

    def reference(self, x: Array) -> Array:
        return np.asarray(np.argmax(x, axis=self.axis, keepdims=self.keepdims), np.int64)

    gradient = no_gradient

    def decompose(self, builder: Builder, x: str) -> tuple[str]:
        largest = builder.add(ReduceMax((self.axis,), True), x)
        return (builder.add(FirstEqual(self.axis, self.keepdims), x, largest),)

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        if x.rank != len(perm) or not self.keepdims:
            return None
        return ArgMax(perm.index(axis_of(self, self.axis, x.rank)), True)


@register
@dataclass(frozen=True)
class FirstEqual(Op):
    """The first position (int64) along an axis where x equals y, of extent 1 there, or is NaN.

    The axis's extent where there is no such position.
    """

    axis: int = -1
    keepdims: bool = False

    def infer(self, x: TensorType, y: TensorType) -> Types:
        axis = axis_of(self, self.axis, x.rank)
        expected = TensorType(x.dtype, reduced_shape(x.shape, (axis,), True))
        if y != expected:
            raise fail(self, f"y expects {expected}, got {y}")
        return (TensorType(DType.int64, reduced_shape(x.shape, (axis,), self.keepdims)),)

    def reference(self, x: Array, y: Array) -> Array:
        hits = (x == y) | (x != x)
        first = np.argmax(hits, axis=self.axis, keepdims=self.keepdims)
        found = np.any(hits, axis=self.axis, keepdims=self.keepdims)
        return np.asarray(np.where(found, first, x.shape[self.axis]), np.int64)

    gradient = no_gradient

    def formula(self, x: Tensor, y: Tensor) -> At:
        axis = axis_of(self, self.axis, x.rank)
        extent: Extent = x.shape[axis]

        def at(*out: Expr) -> Expr:
            before = out[:axis]
            after = out[axis + 1 :] if self.keepdims else out[axis:]

            def position(k: Expr) -> Expr:
                element = x(*before, k, *after)
                hit = element.eq(y(*before, ZERO, *after))
                if x.dtype.is_float:
                    hit = hit | element.ne(element)
                return select(hit, k, index(extent))

            return total("min", "k", (extent,), position)

        return at


@register
@dataclass(frozen=True)
class Count(Op):
    """The number of elements of x along axes, as a scalar of x's dtype: what means over a batch divide by."""

    axes: tuple[int, ...] = ()

    def infer(self, x: TensorType) -> Types:
        expect_number(self, "x", x)
        axes_of(self, self.axes, x.rank)
        return (TensorType(x.dtype, ()),)

    def reference(self, x: Array) -> Array:
        count = evaluate(size_of(x.shape[a] for a in self.axes), {})
        return np.asarray(count).astype(x.dtype)

    gradient = no_gradient

    def formula(self, x: Tensor) -> At:
        count = index(size_of(x.shape[a] for a in self.axes))
        return lambda: Cast(count, x.dtype)
