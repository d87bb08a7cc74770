"""Integer arithmetic: division towards zero, bits and shifts; and what asks a float for its kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.op import no_gradient, register, unsupported_gradient
from convc.loops.formula import At, Tensor
from convc.loops.ir import Expr, binary, call, fma, select
from convc.ops.base import Array, Types, computable, fail
from convc.ops.broadcasting import Broadcasting
from convc.ops.elementwise import Elementwise
from convc.types import DType, TensorType


@dataclass(frozen=True)
class Integer(Broadcasting):
    """Base: an operator on two integers of one dtype."""

    gradient = no_gradient

    def infer(self, *types: TensorType) -> Types:
        self.expect_operands(types)
        for name, type in zip(self.operands, types, strict=True):
            if not type.dtype.is_integer:
                raise fail(self, f"{name} expects an integer dtype, got {type.dtype.value}")
        return super().infer(*types)


@register
class TruncDiv(Integer):
    """x / y rounded towards zero."""

    def reference(self, x: Array, y: Array) -> Array:
        quotient = np.floor_divide(x, y)
        inexact = (quotient * y != x) & ((x < 0) != (y < 0))
        return np.asarray(np.where(inexact, quotient + 1, quotient), x.dtype)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        if not x.dtype.is_signed:
            return x // y
        quotient = x // y
        inexact = (x % y).ne(0) & binary("^", x < 0, y < 0)
        return select(inexact, quotient + 1, quotient)


@register
class Remainder(Broadcasting):
    """x - y * trunc(x / y): the remainder with the sign of x, as C's fmod."""

    def reference(self, x: Array, y: Array) -> Array:
        return np.asarray(np.fmod(x, y))

    gradient = unsupported_gradient

    def scalar(self, x: Expr, y: Expr) -> Expr:
        if x.dtype.is_integer:
            rest = x % y
            if not x.dtype.is_signed:
                return rest
            other = rest.ne(0) & binary("^", x < 0, y < 0)
            return select(other, rest - y, rest)
        quotient = call("trunc", x / y)
        rest = fma(quotient * -1, y, x)
        # The quotient's rounding can carry it one too far; then the remainder has the wrong sign.
        size = call("abs", y)
        toward = select(x < 0, rest + size * -1, rest + size)
        above = rest.ne(0) & binary("^", x < 0, rest < 0)
        infinite = size.eq(np.inf) & (call("abs", x) < np.inf)
        return select(infinite, x, select(above, toward, rest))


@register
class BitAnd(Integer):
    def reference(self, x: Array, y: Array) -> Array:
        return np.bitwise_and(x, y)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x & y


@register
class BitOr(Integer):
    def reference(self, x: Array, y: Array) -> Array:
        return np.bitwise_or(x, y)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x | y


@register
class BitXor(Integer):
    def reference(self, x: Array, y: Array) -> Array:
        return np.bitwise_xor(x, y)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return binary("^", x, y)


@register
class ShiftLeft(Integer):
    """x * 2**y without the bits past the dtype; 0 where y is its width or more."""

    def reference(self, x: Array, y: Array) -> Array:
        width = x.dtype.itemsize * 8
        inside = (y >= 0) & (y < width)
        return np.asarray(np.where(inside, np.left_shift(x, np.where(inside, y, 0)), 0), x.dtype)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return shifted("<<", x, y)


@register
class ShiftRight(Integer):
    """x // 2**y; the sign alone where y is the dtype's width or more (or negative, as in numpy)."""

    def reference(self, x: Array, y: Array) -> Array:
        width = x.dtype.itemsize * 8
        inside = (y >= 0) & (y < width)
        sign = np.where(x < 0, -1, 0)
        return np.where(inside, np.right_shift(x, np.where(inside, y, 0)), sign).astype(x.dtype)

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return shifted(">>", x, y)


def shifted(op: str, x: Expr, y: Expr) -> Expr:
    """A shift that is defined for every y."""
    inside = y < x.dtype.itemsize * 8
    if y.dtype.is_signed:
        inside = inside & (y >= 0)
    gone = select(x < 0, x * 0 - 1, 0) if op == ">>" and x.dtype.is_signed else 0
    return select(inside, binary(op, x, select(inside, y, 0)), gone)


@register
class BitNot(Elementwise):
    accepts = "number"
    gradient = no_gradient

    def infer(self, x: TensorType) -> Types:
        if not x.dtype.is_integer:
            raise fail(self, f"x expects an integer dtype, got {x.dtype.value}")
        return (x,)

    def numpy(self, x: Array) -> Array:
        return np.bitwise_not(x)

    def scalar(self, x: Expr) -> Expr:
        return binary("^", x, -1 if x.dtype.is_signed else (1 << 8 * x.dtype.itemsize) - 1)


# ---------------------------------------------------------------- kinds of floats


@dataclass(frozen=True)
class FloatTest(Elementwise):
    """Base: a question about a float; the result is bool."""

    gradient = no_gradient

    def infer(self, x: TensorType) -> Types:
        (same,) = super().infer(x)
        return (TensorType(DType.bool, same.shape),)

    def reference(self, x: Array) -> Array:
        return np.asarray(self.numpy(x.astype(np.float64)))

    def formula(self, x: Tensor) -> At:
        return lambda *index: self.scalar(computable(x(*index)))


@register
class IsNan(FloatTest):
    def numpy(self, x: Array) -> Array:
        return np.isnan(x)

    def scalar(self, x: Expr) -> Expr:
        return call("isnan", x)


@register
@dataclass(frozen=True)
class IsInf(FloatTest):
    """Whether x is an infinity of one of the signs asked for."""

    negative: bool = True
    positive: bool = True

    def numpy(self, x: Array) -> Array:
        return (np.isposinf(x) & self.positive) | (np.isneginf(x) & self.negative)

    def scalar(self, x: Expr) -> Expr:
        positive, negative = x.eq(np.inf), x.eq(-np.inf)
        if self.positive and self.negative:
            return positive | negative
        if not self.positive and not self.negative:
            return x.ne(x) & x.eq(x)
        return positive if self.positive else negative
