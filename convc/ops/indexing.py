"""Operators between positions and elements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Cast, Expr, const, index, maximum, minimum, select
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
    numbers,
    total,
    widened,
)
from convc.ops.values import values
from convc.types import DType, Extent, TensorType


@register
@dataclass(frozen=True)
class ScatterAdd(Op):
    """Zeros of `extent` slices along an axis, to which x's slices are added at integer indices: gather's gradient.

    x has the indices' dimensions in the place of the axis. Negative indices count from the end; an index outside
    takes the nearest slice in compiled code.
    """

    axis: int = 0
    extent: Extent = 0

    def infer(self, x: TensorType, indices: TensorType) -> Types:
        expect_number(self, "x", x)
        axis = axis_of(self, self.axis, x.rank - indices.rank + 1)
        if not indices.dtype.is_integer:
            raise fail(self, f"indices expects an integer dtype, got {indices.dtype.value}")
        if x.shape[axis : axis + indices.rank] != indices.shape:
            raise fail(self, f"indices {indices} do not fit x {x} at axis {axis}")
        shape = (*x.shape[:axis], self.extent, *x.shape[axis + indices.rank :])
        return (TensorType(x.dtype, shape),)

    def reference(self, x: Array, indices: Array) -> Array:
        axis, (extent,) = self.axis % (x.ndim - indices.ndim + 1), numbers((self.extent,))
        rows = np.where(indices < 0, indices + np.int64(extent), indices).reshape(-1)
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        flat = wide.reshape(*x.shape[:axis], rows.size, *x.shape[axis + indices.ndim :])
        result = np.zeros((*x.shape[:axis], extent, *x.shape[axis + indices.ndim :]), wide.dtype)
        np.add.at(np.moveaxis(result, axis, 0), rows, np.moveaxis(flat, axis, 0))
        return result.astype(x.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        dy, indices = values(builder, (*output_gradients, inputs[1]))
        return (dy.apply("gather", indices, axis=self.axis).name, None)

    def formula(self, x: Tensor, indices: Tensor) -> At:
        axis = axis_of(self, self.axis, x.rank - indices.rank + 1)
        extent = index(self.extent)

        def at(*out: Expr) -> Expr:
            def term(*k: Expr) -> Expr:
                chosen = indices(*k)
                row = chosen if chosen.dtype is DType.int64 else Cast(chosen, DType.int64)
                row = select(row < 0, row + extent, row)
                row = minimum(maximum(row, 0), extent - 1)
                value = widened(x(*out[:axis], *k, *out[axis + 1 :]))
                return select(row.eq(out[axis]), value, const(0, value.dtype))

            names = " ".join(f"k{d}" for d in range(indices.rank))
            return cast(total("sum", names, indices.shape, term), x.dtype)

        return at


@register
@dataclass(frozen=True)
class OneHot(Op):
    """For each index a row of `depth` bools, true at that index only; an index outside gives a row without."""

    depth: int = 1

    def infer(self, indices: TensorType) -> Types:
        if not indices.dtype.is_integer:
            raise fail(self, f"indices expects an integer dtype, got {indices.dtype.value}")
        if self.depth < 1:
            raise fail(self, f"depth expects a number from 1, got {self.depth}")
        return (TensorType(DType.bool, (*indices.shape, self.depth)),)

    def reference(self, indices: Array) -> Array:
        return np.asarray(indices[..., None] == np.arange(self.depth))

    gradient = no_gradient

    def formula(self, indices: Tensor) -> At:
        return lambda *at: cast(indices(*at[:-1]), DType.int64).eq(at[-1])
