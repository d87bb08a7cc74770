"""Values of a graph under construction, with arithmetic that emits nodes: what gradients and losses are written in.

Operators are looked up by their names: the gradients of every family use operators of the others, and imports of their
classes would go round in circles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import OPERATORS, Op
from convc.types import DType, Shape, TensorType, size_of

Number = int | float


@dataclass(frozen=True, eq=False)
class Value:
    """A value by its name. `x * y` emits a multiplication; a number is a constant of the value's dtype."""

    builder: Builder
    name: str

    @property
    def type(self) -> TensorType:
        return self.builder.types[self.name]

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank

    def constant(self, number: Number) -> Value:
        """A number as a scalar of this value's dtype."""
        array = np.array(number, self.dtype.numpy)
        return Value(self.builder, self.builder.weight("constant", array))

    def operand(self, other: Value | Number) -> Value:
        return other if isinstance(other, Value) else self.constant(other)

    def apply(self, operator: str, *others: Value | Number, **attributes: Any) -> Value:
        """The operator of that name on this value and others."""
        inputs = (self.name, *(self.operand(o).name for o in others))
        return Value(self.builder, self.builder.add(operator_of(operator, **attributes), *inputs))

    # ------------------------------------------------------------ arithmetic

    def __add__(self, other: Value | Number) -> Value:
        return self.apply("add", other)

    def __radd__(self, other: Number) -> Value:
        return self.constant(other) + self

    def __sub__(self, other: Value | Number) -> Value:
        return self.apply("sub", other)

    def __rsub__(self, other: Number) -> Value:
        return self.constant(other) - self

    def __mul__(self, other: Value | Number) -> Value:
        return self.apply("mul", other)

    def __rmul__(self, other: Number) -> Value:
        return self.constant(other) * self

    def __truediv__(self, other: Value | Number) -> Value:
        return self.apply("div", other)

    def __rtruediv__(self, other: Number) -> Value:
        return self.constant(other) / self

    def __neg__(self) -> Value:
        return self.apply("neg")

    def __lt__(self, other: Value | Number) -> Value:
        return self.apply("less", other)

    def __le__(self, other: Value | Number) -> Value:
        return self.apply("less_equal", other)

    def __gt__(self, other: Value | Number) -> Value:
        return self.apply("greater", other)

    def __ge__(self, other: Value | Number) -> Value:
        return self.apply("greater_equal", other)

    def __and__(self, other: Value) -> Value:
        return self.apply("and", other)

    def equal(self, other: Value | Number) -> Value:
        return self.apply("equal", other)

    def where(self, then: Value | Number, otherwise: Value | Number) -> Value:
        """`then` where this (a bool) holds, else `otherwise`; one of them is a value."""
        typed = then if isinstance(then, Value) else otherwise
        assert isinstance(typed, Value)
        return self.apply("where", typed.operand(then), typed.operand(otherwise))

    # ------------------------------------------------------------ functions

    def exp(self) -> Value:
        return self.apply("exp")

    def log(self) -> Value:
        return self.apply("log")

    def sqrt(self) -> Value:
        return self.apply("sqrt")

    def square(self) -> Value:
        return self.apply("square")

    def abs(self) -> Value:
        return self.apply("abs")

    def sigmoid(self) -> Value:
        return self.apply("sigmoid")

    def tanh(self) -> Value:
        return self.apply("tanh")

    def maximum(self, other: Value | Number) -> Value:
        return self.apply("maximum", other)

    def minimum(self, other: Value | Number) -> Value:
        return self.apply("minimum", other)

    def cast(self, dtype: DType) -> Value:
        return self if self.dtype is dtype else self.apply("cast", dtype=dtype)

    # ------------------------------------------------------------ axes and shapes

    def sum(self, axes: Iterable[int], keepdims: bool = False) -> Value:
        return self.apply("reduce_sum", axes=tuple(axes), keepdims=keepdims)

    def mean(self, axes: Iterable[int], keepdims: bool = False) -> Value:
        return self.apply("reduce_mean", axes=tuple(axes), keepdims=keepdims)

    def reshape(self, shape: Shape) -> Value:
        return self if self.shape == shape else self.apply("reshape", shape=shape)

    def broadcast(self, shape: Shape) -> Value:
        return self if self.shape == shape else self.apply("broadcast", shape=shape)

    def transpose(self, perm: Iterable[int]) -> Value:
        perm = tuple(perm)
        return self if perm == tuple(range(self.rank)) else self.apply("transpose", perm=perm)

    def matrix_transposed(self) -> Value:
        """The last two axes exchanged."""
        return self.transpose((*range(self.rank - 2), self.rank - 1, self.rank - 2))

    def matmul(self, other: Value) -> Value:
        return self.apply("mat_mul", other)

    def count(self, axes: Iterable[int]) -> Value | int:
        """How many elements the axes hold: a number, or a scalar of the value's dtype where a symbol decides."""
        axes = tuple(axes)
        extent = size_of(self.shape[a] for a in axes)
        return extent if isinstance(extent, int) else self.apply("count", axes=axes)

    def summed_to(self, shape: Shape) -> Value:
        """The sum over what numpy's broadcasting repeats of a tensor of that shape: broadcasting's gradient."""
        offset = self.rank - len(shape)
        axes = tuple(
            d
            for d, extent in enumerate(self.shape)
            if d < offset or (shape[d - offset] == 1 and extent != 1)
        )
        return (self.sum(axes) if axes else self).reshape(shape)


def operator_of(name: str, **attributes: Any) -> Op:
    """The operator registered under a name."""
    cls: Any = OPERATORS[name]
    operator: Op = cls(**attributes)
    return operator


def values(builder: Builder, names: Iterable[str]) -> tuple[Value, ...]:
    """Values of a builder by their names."""
    return tuple(Value(builder, name) for name in names)
