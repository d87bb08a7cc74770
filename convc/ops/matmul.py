"""Matrix products."""

from __future__ import annotations

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Expr
from convc.ops.base import (
    ZERO,
    Array,
    Gradients,
    Names,
    Types,
    accumulator,
    broadcast_shapes,
    cast,
    expect_number,
    fail,
    sum_dtype,
    text,
    total,
    widened,
)
from convc.ops.values import values
from convc.types import DType, TensorType, size_of

NARROW = (DType.int8, DType.uint8)


@register
class MatMul(Op):
    """x[..., i, k] @ y[..., k, j], with the leading dimensions broadcast."""

    def infer(self, x: TensorType, y: TensorType) -> Types:
        for name, type in (("x", x), ("y", y)):
            expect_number(self, name, type)
            if type.rank < 2:
                raise fail(self, f"{name} expects rank 2 or more, got {type}")
        if x.dtype is not y.dtype and not (x.dtype in NARROW and y.dtype in NARROW):
            raise fail(self, f"y expects the dtype of x, {x.dtype.value}, got {y.dtype.value}")
        if x.shape[-1] != y.shape[-2]:
            raise fail(
                self, f"y expects {x.shape[-1]} rows, the columns of x {text(x.shape)}, got {y}"
            )
        batch = broadcast_shapes(self, x.shape[:-2], y.shape[:-2]) if x.rank + y.rank > 4 else ()
        return (TensorType(sum_dtype(x.dtype), (*batch, x.shape[-2], y.shape[-1])),)

    def reference(self, x: Array, y: Array) -> Array:
        wide = accumulator(DType.of(x.dtype)).numpy
        product: Array = np.matmul(x.astype(wide), y.astype(wide))
        return product.astype(sum_dtype(DType.of(x.dtype)).numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, y, dz = values(builder, (*inputs, *output_gradients))
        dx = dz.matmul(y.matrix_transposed()).summed_to(x.shape)
        if y.rank > 2 or x.rank == 2:
            return (dx.name, x.matrix_transposed().matmul(dz).summed_to(y.shape).name)
        # One product over all rows at once rather than one per batch element, summed.
        rows = size_of(x.shape[:-1])
        x, dz = (v.reshape((rows, v.shape[-1])) for v in (x, dz))
        return (dx.name, x.matrix_transposed().matmul(dz).name)

    def formula(self, x: Tensor, y: Tensor) -> At:
        def at(*index: Expr) -> Expr:
            *batch, i, j = index

            def term(k: Expr) -> Expr:
                return widened(x(*leading(x, batch), i, k)) * widened(y(*leading(y, batch), k, j))

            return cast(total("sum", "k", (x.shape[-1],), term), sum_dtype(x.dtype))

        return at


def leading(x: Tensor, batch: list[Expr]) -> list[Expr]:
    """The indices of an operand's leading dimensions for an output's."""
    tail = batch[len(batch) - (x.rank - 2) :]
    return [ZERO if e == 1 else i for i, e in zip(tail, x.shape[:-2], strict=True)]
