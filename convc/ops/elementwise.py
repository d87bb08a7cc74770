"""Operators of one operand, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Expr, call, maximum, minimum, select
from convc.ops import base
from convc.ops.base import (
    Array,
    Gradients,
    Names,
    Types,
    computable,
    expect_bool,
    expect_float,
    expect_number,
    fail,
)
from convc.ops.values import Value, values
from convc.types import DType, TensorType


@dataclass(frozen=True)
class Elementwise(Op):
    """Base: `scalar(self, x)` is one output element of one input element; `numpy(self, x)` is all of them.

    Both meet 16-bit floats as float32. `pullback(self, x, y, dy)` is the gradient of x, given y's; one that needs
    only y lets x live no longer than the kernel that makes y of it.
    """

    scalar: ClassVar[Callable[..., Expr]]
    numpy: ClassVar[Callable[..., Any]]
    pullback: ClassVar[Callable[..., Value]]
    accepts: ClassVar[str] = "float"  # or "number", "bool", "any"

    def infer(self, x: TensorType) -> Types:
        match self.accepts:
            case "float":
                expect_float(self, "x", x)
            case "number":
                expect_number(self, "x", x)
            case "bool":
                expect_bool(self, "x", x)
        return (x,)

    def reference(self, x: Array) -> Array:
        half = DType.of(x.dtype) in (DType.float16, DType.bfloat16)
        return np.asarray(self.numpy(x.astype(np.float32) if half else x)).astype(x.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, y, dy = values(builder, (*inputs, *outputs, *output_gradients))
        return (self.pullback(x, y, dy).name,)

    def formula(self, x: Tensor) -> At:
        def at(*index: Expr) -> Expr:
            return base.cast(self.scalar(computable(x(*index))), x.dtype)

        return at

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        return self if x.rank == len(perm) else None


def sigmoid(x: Expr) -> Expr:
    return 1 / (1 + call("exp", negated(x)))


def softplus(x: Expr) -> Expr:
    """log(1 + e**x) without overflow."""
    return maximum(x, 0) + call("log1p", call("exp", negated(call("abs", x))))


def negated(x: Expr) -> Expr:
    """-x, which is -0 for the float 0."""
    return x * -1 if x.dtype.is_float else 0 - x


# ---------------------------------------------------------------- arithmetic


@register
class Identity(Elementwise):
    accepts = "any"

    def numpy(self, x: Array) -> Any:
        return x

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy

    def scalar(self, x: Expr) -> Expr:
        return x


@register
@dataclass(frozen=True)
class Dropout(Elementwise):
    """Training's random zeroing of a share `rate` of the elements; the identity at inference."""

    rate: float = 0.5
    accepts = "any"

    def numpy(self, x: Array) -> Any:
        return x

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy

    def scalar(self, x: Expr) -> Expr:
        return x


@register
class StopGradient(Elementwise):
    """x, which the gradient takes for a constant."""

    accepts = "any"

    def numpy(self, x: Array) -> Any:
        return x

    gradient = no_gradient

    def scalar(self, x: Expr) -> Expr:
        return x


@register
@dataclass(frozen=True)
class Cast(Op):
    """Conversion to a dtype: towards zero and saturating from float to integer, `x != 0` to bool."""

    dtype: DType = DType.float32

    def infer(self, x: TensorType) -> Types:
        return (TensorType(self.dtype, x.shape),)

    def reference(self, x: Array) -> Array:
        if self.dtype.is_integer and DType.of(x.dtype).is_float:
            return saturated(x, self.dtype)
        return x.astype(self.dtype.numpy)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, dy = values(builder, (*inputs, *output_gradients))
        return (dy.cast(x.dtype).name if x.dtype.is_float and self.dtype.is_float else None,)

    def formula(self, x: Tensor) -> At:
        def at(*index: Expr) -> Expr:
            value = x(*index)
            if self.dtype is DType.bool and x.dtype is not DType.bool:
                return value.ne(0)
            return base.cast(value, self.dtype)

        return at

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        return self if x.rank == len(perm) else None


def saturated(x: Array, dtype: DType) -> Array:
    """Floats as integers: truncated, limited to the dtype's range, NaN as 0."""
    limits = np.iinfo(dtype.numpy)
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = (whole > limits.min) & (whole < limits.max)
    limited = np.where(whole <= limits.min, limits.min, limits.max).astype(dtype.numpy)
    return np.where(inside, np.where(inside, whole, 0).astype(dtype.numpy), limited)


@register
class Neg(Elementwise):
    accepts = "number"

    def numpy(self, x: Array) -> Any:
        return np.negative(x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return -dy

    def scalar(self, x: Expr) -> Expr:
        return negated(x)


@register
class Abs(Elementwise):
    accepts = "number"

    def numpy(self, x: Array) -> Any:
        return np.abs(x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * x.apply("sign")

    def scalar(self, x: Expr) -> Expr:
        if x.dtype.is_float:
            return call("abs", x)
        return maximum(x, 0 - x) if x.dtype.is_signed else x


@register
class Sign(Elementwise):
    accepts = "number"

    def numpy(self, x: Array) -> Any:
        return np.sign(x)

    gradient = no_gradient

    def scalar(self, x: Expr) -> Expr:
        positive = select(x > 0, 1, x)
        return select(x < 0, -1, positive) if x.dtype.is_signed else positive


@register
class Square(Elementwise):
    accepts = "number"

    def numpy(self, x: Array) -> Any:
        return np.square(x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * x * 2

    def scalar(self, x: Expr) -> Expr:
        return x * x


@register
class Reciprocal(Elementwise):
    def numpy(self, x: Array) -> Any:
        return np.reciprocal(x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return -dy * y.square()

    def scalar(self, x: Expr) -> Expr:
        return 1 / x


@register
class Rsqrt(Elementwise):
    """1 / sqrt(x), rounded as a square root and a division."""

    def numpy(self, x: Array) -> Any:
        return np.reciprocal(np.sqrt(x))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * y.square() * y * -0.5

    def scalar(self, x: Expr) -> Expr:
        return 1 / call("sqrt", x)


@register
class Not(Elementwise):
    accepts = "bool"

    def numpy(self, x: Array) -> Any:
        return np.logical_not(x)

    gradient = no_gradient

    def scalar(self, x: Expr) -> Expr:
        return x.eq(False)


@register
@dataclass(frozen=True)
class Clip(Elementwise):
    """x limited to min … max; None is no limit."""

    min: float | None = None
    max: float | None = None
    accepts = "number"

    def infer(self, x: TensorType) -> Types:
        for name, limit in (("min", self.min), ("max", self.max)):
            if limit is not None and x.dtype.is_integer and not float(limit).is_integer():
                raise fail(self, f"{name} expects an integer as x is {x.dtype.value}, got {limit}")
        return super().infer(x)

    def numpy(self, x: Array) -> Any:
        if self.min is not None:
            x = np.maximum(x, self.min)
        return x if self.max is None else np.minimum(x, self.max)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        """The limits count as inside."""
        tests = [x >= self.min] if self.min is not None else []
        tests += [x <= self.max] if self.max is not None else []
        if not tests:
            return dy
        inside = tests[0] & tests[1] if len(tests) == 2 else tests[0]
        return inside.where(dy, 0)

    def scalar(self, x: Expr) -> Expr:
        if self.min is not None:
            x = maximum(x, self.min)
        return x if self.max is None else minimum(x, self.max)


# ---------------------------------------------------------------- functions


@dataclass(frozen=True)
class Function(Elementwise):
    """Base: a function of the loop IR that numpy has too."""

    function: ClassVar[str]
    ufunc: ClassVar[Callable[..., Any]]

    def numpy(self, x: Array) -> Any:
        return type(self).ufunc(x)

    def scalar(self, x: Expr) -> Expr:
        return call(self.function, x)


@register
class Exp(Function):
    function, ufunc = "exp", np.exp

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * y


@register
class Expm1(Function):
    function, ufunc = "expm1", np.expm1

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (y + 1)


@register
class Log(Function):
    function, ufunc = "log", np.log

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy / x


@register
class Log1p(Function):
    function, ufunc = "log1p", np.log1p

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy / (x + 1)


@register
class Sqrt(Function):
    function, ufunc = "sqrt", np.sqrt

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * 0.5 / y


@register
class Sin(Function):
    function, ufunc = "sin", np.sin

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * x.apply("cos")


@register
class Cos(Function):
    function, ufunc = "cos", np.cos

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return -dy * x.apply("sin")


@register
class Tan(Function):
    function, ufunc = "tan", np.tan

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (y.square() + 1)


@register
class Asin(Function):
    function, ufunc = "asin", np.arcsin

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (1 - x.square()).apply("rsqrt")


@register
class Acos(Function):
    function, ufunc = "acos", np.arccos

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return -dy * (1 - x.square()).apply("rsqrt")


@register
class Atan(Function):
    function, ufunc = "atan", np.arctan

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy / (x.square() + 1)


@register
class Sinh(Function):
    function, ufunc = "sinh", np.sinh

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * x.apply("cosh")


@register
class Cosh(Function):
    function, ufunc = "cosh", np.cosh

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * x.apply("sinh")


@register
class Tanh(Function):
    function, ufunc = "tanh", np.tanh

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (1 - y.square())


@register
class Asinh(Function):
    function, ufunc = "asinh", np.arcsinh

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (x.square() + 1).apply("rsqrt")


@register
class Acosh(Function):
    function, ufunc = "acosh", np.arccosh

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (x.square() - 1).apply("rsqrt")


@register
class Atanh(Function):
    function, ufunc = "atanh", np.arctanh

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy / (1 - x.square())


@register
class Floor(Function):
    function, ufunc = "floor", np.floor
    gradient = no_gradient


@register
class Ceil(Function):
    function, ufunc = "ceil", np.ceil
    gradient = no_gradient


@register
class Round(Function):
    """To the nearest integer, halves to even."""

    function, ufunc = "round", np.round
    gradient = no_gradient


def erf(x: Array) -> Array:
    """The error function, element by element in float64."""
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)


@register
class Erf(Function):
    function, ufunc = "erf", erf

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (-x.square()).exp() * (2 / math.sqrt(math.pi))
