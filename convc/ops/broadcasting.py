"""Operators of several operands, element by element, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Expr, binary, call, fma, maximum, minimum, select
from convc.ops.base import (
    Array,
    Gradients,
    Names,
    Types,
    broadcast_at,
    broadcast_shapes,
    cast,
    computable,
    expect_bool,
    expect_dtype,
    expect_float,
    expect_number,
    fail,
)
from convc.ops.values import Value, values
from convc.types import DType, TensorType

Pullback = tuple[Value | None, ...]


@dataclass(frozen=True)
class Broadcasting(Op):
    """Base: `scalar(self, *xs)` is one output element of the elements that broadcasting pairs.

    `pullback(self, *xs, out, dy)` is a gradient per operand, or None, before the sums over what was repeated.
    """

    scalar: ClassVar[Callable[..., Expr]]
    pullback: ClassVar[Callable[..., Pullback]]
    accepts: ClassVar[str] = "number"  # or "float", "bool", "any"
    operands: ClassVar[tuple[str, ...]] = ("x", "y")

    def infer(self, *types: TensorType) -> Types:
        self.expect_operands(types)
        for name, type in zip(self.operands, types, strict=True):
            match self.accepts:
                case "float":
                    expect_float(self, name, type)
                case "number":
                    expect_number(self, name, type)
                case "bool":
                    expect_bool(self, name, type)
            expect_dtype(self, name, type, types[0].dtype)
        shape = broadcast_shapes(self, *(t.shape for t in types))
        return (TensorType(self.result(types[0].dtype), shape),)

    def expect_operands(self, types: tuple[TensorType, ...]) -> None:
        if len(types) != len(self.operands):
            raise fail(self, f"expects {len(self.operands)} inputs, got {len(types)}")

    def result(self, dtype: DType) -> DType:
        """The output's dtype."""
        return dtype

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        xs = values(builder, inputs)
        found = self.pullback(*xs, *values(builder, (*outputs, *output_gradients)))
        return tuple(
            g.summed_to(x.shape).name if g is not None else None
            for x, g in zip(xs, found, strict=True)
        )

    def formula(self, *xs: Tensor) -> At:
        def at(*index: Expr) -> Expr:
            value = self.scalar(*(computable(broadcast_at(x, index)) for x in xs))
            return cast(value, self.result(xs[-1].dtype))

        return at

    def permute(self, perm: tuple[int, ...], *types: TensorType) -> Op | None:
        """Itself where every operand but scalars has the rank of the output."""
        return self if all(t.rank in (0, len(perm)) for t in types) else None


# ---------------------------------------------------------------- arithmetic


@register
class Add(Broadcasting):
    def reference(self, x: Array, y: Array) -> Array:
        return x + y

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        return dy, dy

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x + y


@register
class Sub(Broadcasting):
    def reference(self, x: Array, y: Array) -> Array:
        return x - y

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        return dy, -dy

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x - y


@register
class Mul(Broadcasting):
    def reference(self, x: Array, y: Array) -> Array:
        return x * y

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        return dy * y, dy * x

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x * y


@register
class Div(Broadcasting):
    """The quotient of floats (for integers there is floor_div)."""

    accepts = "float"

    def reference(self, x: Array, y: Array) -> Array:
        return x / y

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        dx = dy / y
        return dx, -dx * out

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x / y


@register
class Pow(Broadcasting):
    accepts = "float"

    def reference(self, x: Array, y: Array) -> Array:
        return np.power(x, y)

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        """For y, x counts where it is positive: elsewhere there is no logarithm."""
        dx = dy * y * x.apply("pow", y - 1)
        return dx, dy * (x > 0).where(x.log(), 0) * out

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return call("pow", x, y)


def divided(x: Expr, y: Expr) -> tuple[Expr, Expr, Expr]:
    """For floats: a candidate of floor(x / y), its remainder, and whether the candidate is one too large.

    The quotient's rounding can only carry it up to the next integer; then the remainder, exact by fma,
    has the wrong sign. An infinite y leaves x as the remainder.
    """
    quotient = call("floor", x / y)
    infinite = call("abs", y).eq(np.inf) & (call("abs", x) < np.inf)
    remainder = select(infinite, x, fma(quotient * -1, y, x))
    return quotient, remainder, remainder.ne(0) & binary("^", remainder < 0, y < 0)


@register
class FloorDiv(Broadcasting):
    """The largest integer not above x / y."""

    def reference(self, x: Array, y: Array) -> Array:
        return np.floor_divide(x, y)

    gradient = no_gradient

    def scalar(self, x: Expr, y: Expr) -> Expr:
        if x.dtype.is_integer:
            return x // y
        quotient, _, above = divided(x, y)
        floor = select(above, quotient - 1, quotient)
        # As in numpy, an infinite x has no floor quotient by a number.
        return select(call("abs", x).eq(np.inf) & y.ne(0), np.nan, floor)


@register
class Mod(Broadcasting):
    """x - y * floor(x / y): the remainder with the sign of y."""

    def reference(self, x: Array, y: Array) -> Array:
        return np.mod(x, y)

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        return dy, -dy * x.apply("floor_div", y)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        if x.dtype.is_integer:
            return x % y
        _, remainder, above = divided(x, y)
        return select(above, remainder + y, remainder)


@register
class Maximum(Broadcasting):
    """The larger operand; NaN if either is."""

    def reference(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        """Of equal operands the first takes it all, as in TensorFlow."""
        first = x >= y
        return first.where(dy, 0), first.where(0, dy)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return maximum(x, y)


@register
class Minimum(Broadcasting):
    """The smaller operand; NaN if either is."""

    def reference(self, x: Array, y: Array) -> Array:
        return np.minimum(x, y)

    def pullback(self, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        """Of equal operands the first takes it all, as in TensorFlow."""
        first = x <= y
        return first.where(dy, 0), first.where(0, dy)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return minimum(x, y)


@register
class PRelu(Broadcasting):
    """x, times slope where x < 0."""

    accepts = "float"
    operands = ("x", "slope")

    def reference(self, x: Array, slope: Array) -> Array:
        return np.where(x < 0, x * slope, x)

    def pullback(self, x: Value, slope: Value, out: Value, dy: Value) -> Pullback:
        positive = x > 0
        return positive.where(dy, dy * slope), positive.where(0, dy * x)

    def scalar(self, x: Expr, slope: Expr) -> Expr:
        return select(x < 0, x * slope, x)


# ---------------------------------------------------------------- comparisons


@dataclass(frozen=True)
class Comparison(Broadcasting):
    """Base: a comparison operator of the loop IR; the result is bool."""

    gradient = no_gradient

    def result(self, dtype: DType) -> DType:
        return DType.bool


@register
class Less(Comparison):
    def reference(self, x: Array, y: Array) -> Array:
        return x < y

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x < y


@register
class LessEqual(Comparison):
    def reference(self, x: Array, y: Array) -> Array:
        return x <= y

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x <= y


@register
class Greater(Comparison):
    def reference(self, x: Array, y: Array) -> Array:
        return x > y

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x > y


@register
class GreaterEqual(Comparison):
    def reference(self, x: Array, y: Array) -> Array:
        return x >= y

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x >= y


@register
class Equal(Comparison):
    accepts = "any"

    def reference(self, x: Array, y: Array) -> Array:
        return np.equal(x, y)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x.eq(y)


@register
class NotEqual(Comparison):
    accepts = "any"

    def reference(self, x: Array, y: Array) -> Array:
        return np.not_equal(x, y)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x.ne(y)


# ---------------------------------------------------------------- logic


@register
class And(Broadcasting):
    accepts = "bool"

    def reference(self, x: Array, y: Array) -> Array:
        return np.logical_and(x, y)

    gradient = no_gradient

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x & y


@register
class Or(Broadcasting):
    accepts = "bool"

    def reference(self, x: Array, y: Array) -> Array:
        return np.logical_or(x, y)

    gradient = no_gradient

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x | y


@register
class Xor(Broadcasting):
    accepts = "bool"

    def reference(self, x: Array, y: Array) -> Array:
        return np.logical_xor(x, y)

    gradient = no_gradient

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return binary("^", x, y)


@register
class Where(Broadcasting):
    """x where the condition holds, else y."""

    accepts = "any"
    operands = ("condition", "x", "y")

    def infer(self, *types: TensorType) -> Types:
        self.expect_operands(types)
        condition, x, y = types
        expect_bool(self, "condition", condition)
        if x.dtype is not y.dtype:
            raise fail(self, f"y expects the dtype of x, {x.dtype.value}, got {y.dtype.value}")
        return (TensorType(x.dtype, broadcast_shapes(self, *(t.shape for t in types))),)

    def reference(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    def pullback(self, condition: Value, x: Value, y: Value, out: Value, dy: Value) -> Pullback:
        return None, condition.where(dy, 0), condition.where(0, dy)

    def scalar(self, condition: Expr, x: Expr, y: Expr) -> Expr:
        return select(condition, x, y)
