"""Operators between positions and elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import At, Memory, Tensor
from convc.loops.ir import INDEX, Block, Expr, For, Let, Stmt, Var, index, maximum, minimum, select
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
    widened,
)
from convc.ops.sorting import each, runs
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

    def workspace(self, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:
        """The sums, where their dtype is wider than the result's."""
        (y,) = self.infer(x, indices)
        wide = accumulator(y.dtype)
        return () if wide is y.dtype else (TensorType(wide, y.shape),)

    def procedure(self, y: Memory, space: Sequence[Memory], x: Tensor, indices: Tensor) -> Block:
        """In line with x and the result: each slice is added where it belongs, one after the other."""
        axis = axis_of(self, self.axis, x.rank - indices.rank + 1)
        sums, shape = (space or (y,))[0], y.buffer.shape
        before: list[Expr] = [Var(f"b{d}") for d in range(axis)]
        k: list[Expr] = [Var(f"k{d}") for d in range(indices.rank)]
        row, p, extent = Var("row"), Var("p"), index(self.extent)

        def add(*behind: Expr) -> Stmt:
            value = widened(x(*before, *k, *behind))
            return sums.put(sums(*before, row, *behind) + value, *before, row, *behind)

        def clear(*behind: Expr) -> Stmt:
            return sums.put(0, *before, p, *behind)

        def narrow(*behind: Expr) -> Stmt:
            return y.put(cast(sums(*before, p, *behind), y.buffer.dtype), *before, p, *behind)

        rest = shape[axis + 1 :]
        chosen = cast(indices(*k), INDEX)
        wrapped = select(chosen < 0, chosen + extent, chosen)
        added = (Let("row", minimum(maximum(wrapped, 0), extent - 1)), *runs(rest, add))
        steps: Block = (
            For("p", extent, runs(rest, clear)),
            *each([f"k{d}" for d in range(indices.rank)], indices.shape, added),
        )
        if space:
            steps = (*steps, For("p", extent, runs(rest, narrow)))
        return each([f"b{d}" for d in range(axis)], shape[:axis], steps)


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
