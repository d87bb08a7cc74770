"""Operators that look along a whole axis for each element: running sums, ranks, positions.

Each output element scans the axis, so the work grows with the square of its extent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Call, Expr, const, index, maximum, minimum, select
from convc.ops.base import (
    Array,
    Gradients,
    Names,
    Types,
    accumulator,
    axis_of,
    cast,
    expect_number,
    fail,
    total,
    widened,
)
from convc.ops.values import Value, values
from convc.types import DType, Extent, TensorType, size_of


@dataclass(frozen=True)
class Running(Op):
    """Base: what combines an element with all those before it along an axis (after it, if `reverse`).

    `exclusive` leaves the element itself out.
    """

    axis: int = 0
    exclusive: bool = False
    reverse: bool = False
    combiner: ClassVar[str]

    def back(self, dy: Value) -> Value:
        """For each element the sum of what it is a part of."""
        return dy.apply(
            "cum_sum", axis=self.axis, exclusive=self.exclusive, reverse=not self.reverse
        )

    def infer(self, x: TensorType) -> Types:
        expect_number(self, "x", x)
        axis_of(self, self.axis, x.rank)
        return (x,)

    def reference(self, x: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        moved = np.moveaxis(wide, self.axis, 0)
        moved = moved[::-1] if self.reverse else moved
        neutral = 0 if self.combiner == "sum" else 1
        apply = np.cumsum if self.combiner == "sum" else np.cumprod
        result = apply(moved, axis=0, dtype=wide.dtype)
        if self.exclusive:
            result = np.concatenate([np.full_like(moved[:1], neutral), result[:-1]])
        result = result[::-1] if self.reverse else result
        return np.asarray(np.moveaxis(result, 0, self.axis), x.dtype)

    def formula(self, x: Tensor) -> At:
        axis = axis_of(self, self.axis, x.rank)
        neutral = 0 if self.combiner == "sum" else 1

        def at(*out: Expr) -> Expr:
            def term(k: Expr) -> Expr:
                first, second = (out[axis], k) if self.reverse else (k, out[axis])
                inside = first < second if self.exclusive else first <= second
                value = widened(x(*out[:axis], k, *out[axis + 1 :]))
                return select(inside, value, const(neutral, value.dtype))

            return cast(total(self.combiner, "k", (x.shape[axis],), term), x.dtype)

        return at


@register
@dataclass(frozen=True)
class CumSum(Running):
    combiner = "sum"

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        return (self.back(dy).name,)


@register
@dataclass(frozen=True)
class CumProd(Running):
    combiner = "prod"

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        """NaN where x is 0, as in TensorFlow and JAX."""
        x, y, dy = values(builder, (*inputs, *outputs, *output_gradients))
        return ((self.back(dy * y) / x).name,)


@register
@dataclass(frozen=True)
class Rank(Op):
    """The place (int64) of each element if its axis were sorted, equal elements in their order, a NaN largest."""

    axis: int = -1
    descending: bool = False

    def infer(self, x: TensorType) -> Types:
        expect_number(self, "x", x)
        axis_of(self, self.axis, x.rank)
        return (TensorType(DType.int64, x.shape),)

    def reference(self, x: Array) -> Array:
        moved = np.moveaxis(x, self.axis, -1)
        flipped = np.flip(moved, -1) if self.descending else moved
        order = np.argsort(flipped, axis=-1, kind="stable")
        order = np.flip(moved.shape[-1] - 1 - order, -1) if self.descending else order
        ranks = np.argsort(order, axis=-1, kind="stable")
        return np.asarray(np.moveaxis(ranks, -1, self.axis), np.int64)

    gradient = no_gradient

    def formula(self, x: Tensor) -> At:
        axis = axis_of(self, self.axis, x.rank)

        def at(*out: Expr) -> Expr:
            mine = x(*out)

            def term(k: Expr) -> Expr:
                other = x(*out[:axis], k, *out[axis + 1 :])
                before = self.before(other, mine) | (same(other, mine) & (k < out[axis]))
                return select(before, const(1, DType.int64), const(0, DType.int64))

            return total("sum", "k", (x.shape[axis],), term)

        return at

    def before(self, a: Expr, b: Expr) -> Expr:
        first, second = (b, a) if self.descending else (a, b)
        return less(first, second)


def less(a: Expr, b: Expr) -> Expr:
    """a < b, with a NaN above all numbers."""
    return a < b if not a.dtype.is_float else (a < b) | (b.ne(b) & a.eq(a))


def same(a: Expr, b: Expr) -> Expr:
    return a.eq(b) if not a.dtype.is_float else a.eq(b) | (a.ne(a) & b.ne(b))


@register
@dataclass(frozen=True)
class LastPosition(Op):
    """For each p < extent the last k (int64) with indices[..., k, ...] = p along an axis, or -1."""

    axis: int = 0
    extent: Extent = 1

    def infer(self, indices: TensorType) -> Types:
        axis = axis_of(self, self.axis, indices.rank)
        if indices.dtype is not DType.int64:
            raise fail(self, f"indices expects dtype int64, got {indices.dtype.value}")
        shape = (*indices.shape[:axis], self.extent, *indices.shape[axis + 1 :])
        return (TensorType(DType.int64, shape),)

    def reference(self, indices: Array) -> Array:
        assert isinstance(self.extent, int)
        moved = np.moveaxis(indices, self.axis, 0)
        hits = moved[None] == np.arange(self.extent).reshape((-1, *[1] * moved.ndim))
        order = np.arange(moved.shape[0]).reshape((1, -1, *[1] * (moved.ndim - 1)))
        last = np.max(np.where(hits, order, -1), axis=1, initial=-1)
        return np.asarray(np.moveaxis(last, 0, self.axis), np.int64)

    gradient = no_gradient

    def formula(self, indices: Tensor) -> At:
        axis = axis_of(self, self.axis, indices.rank)

        def at(*out: Expr) -> Expr:
            def term(k: Expr) -> Expr:
                hit = indices(*out[:axis], k, *out[axis + 1 :]).eq(out[axis])
                return select(hit, k, const(-1, DType.int64))

            return total("max", "k", (indices.shape[axis],), term)

        return at


@register
@dataclass(frozen=True)
class GatherElements(Op):
    """y[i, j, …] = x[indices[i, j, …], j, …] along an axis; negative indices count from the end.

    The other dimensions of the indices are at most those of x. An index outside takes the nearest element in
    compiled code.
    """

    axis: int = 0

    def infer(self, x: TensorType, indices: TensorType) -> Types:
        axis = axis_of(self, self.axis, x.rank)
        if not indices.dtype.is_integer or indices.rank != x.rank:
            raise fail(self, f"indices expects integers of rank {x.rank}, got {indices}")
        for d, (wide, narrow) in enumerate(zip(x.shape, indices.shape, strict=True)):
            numbers = isinstance(wide, int) and isinstance(narrow, int)
            if d != axis and narrow != wide and not (numbers and narrow < wide):  # type: ignore[operator]
                raise fail(self, f"dimension {d} of indices {indices} does not fit x {x}")
        return (TensorType(x.dtype, indices.shape),)

    def reference(self, x: Array, indices: Array) -> Array:
        where = [slice(0, e) for e in indices.shape]
        where[self.axis % x.ndim] = slice(None)
        part = x[tuple(where)]
        rows = np.where(indices < 0, indices + x.shape[self.axis], indices).astype(np.int64)
        rows = np.clip(rows, 0, max(0, x.shape[self.axis] - 1))
        return np.asarray(np.take_along_axis(part, rows, self.axis))

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, indices, dy = values(builder, (*inputs, *output_gradients))
        axis = axis_of(self, self.axis, x.rank)
        others = [d for d in range(x.rank) if d != axis]
        # The axis first, the others in one.
        rows, perm = known(self, x.shape[axis]), (axis, *others)
        width = size_of(indices.shape[d] for d in others)
        at = indices.cast(DType.int64)
        at = (at < 0).where(at + rows, at)
        at = at.transpose(perm).reshape((indices.shape[axis], width))
        zeros = dy.constant(0).broadcast((rows, width))
        updates = dy.transpose(perm).reshape((indices.shape[axis], width))
        found = zeros.apply("scatter", at, updates, reduction="add")
        found = found.reshape((rows, *(indices.shape[d] for d in others)))
        found = found.transpose(perm.index(d) for d in range(x.rank))
        missing = tuple((0, known(self, w - n)) for w, n in zip(x.shape, found.shape, strict=True))
        found = found.apply("pad", pads=missing) if any(b for _, b in missing) else found
        return (found.name, None)

    def formula(self, x: Tensor, indices: Tensor) -> At:
        axis = axis_of(self, self.axis, x.rank)
        extent = index(x.shape[axis])

        def at(*out: Expr) -> Expr:
            i = cast(indices(*out), DType.int64)
            i = select(i < 0, i + extent, i)
            inside = minimum(maximum(i, 0), extent - 1)
            return x(*out[:axis], inside, *out[axis + 1 :])

        return at


def known(op: Op, extent: Extent) -> int:
    """An extent that must be a number."""
    if not isinstance(extent, int):
        raise fail(op, f"the gradient expects an axis of known extent, got {extent}")
    return extent


@register
@dataclass(frozen=True)
class BitCast(Op):
    """The same bits as another dtype of the same size."""

    dtype: DType = DType.int32

    def infer(self, x: TensorType) -> Types:
        if x.dtype.itemsize != self.dtype.itemsize or DType.bool in (x.dtype, self.dtype):
            raise fail(
                self, f"x expects a dtype of {self.dtype.itemsize} bytes, got {x.dtype.value}"
            )
        return (TensorType(self.dtype, x.shape),)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x).view(self.dtype.numpy).reshape(x.shape)

    gradient = no_gradient

    def formula(self, x: Tensor) -> At:
        return lambda *at: Call("bitcast", (x(*at),), self.dtype)
